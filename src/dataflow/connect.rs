//! Connector names to connectors: the one place where the engine meets the `connectors` crates.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use frazil_connector_api::{
    Format, Include, Including, OptionSpec, Options, Sink, SinkMode, Source,
};
use frazil_format::{FormatSpec, build_format};
use uuid::Uuid;

use crate::catalog::{ColumnDef, ErrorsRetention, FormatDef, columns_schema};
use crate::error::{Error, ErrorKind, Result};

/// Connectors of sources, with their options.
const SOURCES: [(&str, &[OptionSpec]); 3] = [
    ("kafka", frazil_kafka::OPTIONS),
    ("files", frazil_files::OPTIONS),
    ("generator", frazil_generator::OPTIONS),
];

/// What they know for INCLUDE.
const INCLUDES: [(&str, &[&str]); 3] = [
    ("kafka", frazil_kafka::INCLUDES),
    ("files", frazil_files::INCLUDES),
    ("generator", frazil_generator::INCLUDES),
];

/// Connectors of sinks.
const SINKS: [(&str, &[OptionSpec]); 1] = [("iceberg", frazil_iceberg::OPTIONS)];

/// Makes the source of a table or source.
///
/// # Errors
/// `InvalidParameter` for a wrong option, `Unsupported` for an unknown connector or format.
pub fn build_source(
    options: &Options,
    format: Option<&FormatDef>,
    columns: &[ColumnDef],
    key: &[usize],
) -> Result<Arc<dyn Source>> {
    let mut options = options.clone();
    // The engine's own.
    ErrorsRetention::take_from(&mut options)?;
    let connector = options.require("connector")?;
    check_includes(&connector, columns)?;
    let format = format.map(|def| decoder_of(def, columns, key)).transpose()?;
    let schema = columns_schema(of_value(columns));
    let source = match connector.as_str() {
        "generator" => frazil_generator::build_generator(options, schema, format)?,
        "files" => frazil_files::build_files(options, require(format, &connector)?)?,
        "kafka" => frazil_kafka::build_kafka(options, require(format, &connector)?)?,
        other => return Err(unknown(other, &SOURCES)),
    };
    Ok(source)
}

fn decoder_of(def: &FormatDef, columns: &[ColumnDef], key: &[usize]) -> Result<Arc<dyn Format>> {
    let own = of_value(columns);
    let spec = FormatSpec {
        format: def.format.parse()?,
        encode: def.encode.parse()?,
        options: def.options.clone(),
        precisions: own.iter().map(|column| column.precision).collect(),
    };
    let format = build_format(spec, columns_schema(own), key.to_vec())?;
    let included = columns.iter().filter_map(|column| {
        let include = column.include.clone()?;
        Some((column.name.clone(), include))
    });
    let included: Vec<_> = included.collect();
    Ok(if included.is_empty() { format } else { Arc::new(Including { format, included }) })
}

/// The columns of the message's value, which stand first.
fn of_value(columns: &[ColumnDef]) -> &[ColumnDef] {
    let end = columns.iter().position(|column| column.include.is_some());
    &columns[..end.unwrap_or(columns.len())]
}

/// Refuses what a connector does not know of its messages.
fn check_includes(connector: &str, columns: &[ColumnDef]) -> Result<()> {
    let known = INCLUDES.iter().find(|(name, _)| *name == connector).map_or(&[][..], |(_, it)| it);
    let included = columns.iter().filter_map(|column| column.include.as_ref());
    match included.map(Include::word).find(|word| !known.contains(word)) {
        None => Ok(()),
        Some(word) => {
            let message = format!("connector \"{connector}\" has no {word} to include");
            Err(Error::unsupported(message).with_hint(format!("it has {}", known.join(", "))))
        }
    }
}

fn require(format: Option<Arc<dyn Format>>, connector: &str) -> Result<Arc<dyn Format>> {
    format.ok_or_else(|| {
        Error::new(ErrorKind::InvalidParameter, format!("connector \"{connector}\" needs a format"))
            .with_hint("add FORMAT DEBEZIUM ENCODE JSON or FORMAT PLAIN ENCODE JSON")
    })
}

/// Makes a sink; it touches nothing outside before it is opened.
///
/// # Errors
/// As [`build_source`].
pub fn build_sink(
    options: &Options,
    schema: SchemaRef,
    mode: SinkMode,
    id: Uuid,
) -> Result<Box<dyn Sink>> {
    let mut options = options.clone();
    match options.require("connector")?.as_str() {
        "iceberg" => Ok(frazil_iceberg::build_iceberg_sink(options, schema, mode, id)?),
        other => Err(unknown(other, &SINKS)),
    }
}

/// Checks the options of a lake catalog; it makes nothing.
///
/// # Errors
/// `InvalidParameter` for a wrong option, or a file that is no catalog.
pub async fn check_catalog(options: Options) -> Result<()> {
    Ok(frazil_iceberg::IcebergCatalog::check(options).await?)
}

fn unknown(connector: &str, known: &[(&str, &[OptionSpec])]) -> Error {
    let names: Vec<_> = known.iter().map(|(name, _)| *name).collect();
    Error::unsupported(format!("connector \"{connector}\" is not known"))
        .with_hint(format!("known here: {}", names.join(", ")))
}

#[cfg(test)]
mod tests;
