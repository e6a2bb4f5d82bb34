//! Connector names to connectors: the one place where the engine meets the `connectors` crates, and
//! the connectors that a program adds with [`Env::with_connectors`].

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use frazil_connector_api::{
    Connectors, Format, Include, Including, Options, SinkCommitter, SinkConnector, SinkMode,
    Source, SourceConnector,
};
use frazil_format::{FormatSpec, build_format};
use uuid::Uuid;

use crate::catalog::{ColumnDef, Definition, ErrorsRetention, FormatDef, columns_schema};
use crate::env::Env;
use crate::error::{Error, Result};
use crate::functions::target_schema;

/// Connectors of sources that every engine has.
const SOURCES: [&dyn SourceConnector; 3] =
    [&frazil_kafka::Kafka, &frazil_files::Files, &frazil_generator::Generator];

/// Connectors of sinks that every engine has.
const SINKS: [&dyn SinkConnector; 1] = [&frazil_iceberg::Iceberg];

/// Makes the source that a table or source is fed by; `None` for other relations.
///
/// # Errors
/// `InvalidParameter` for a wrong option, `Unsupported` for an unknown connector or format.
pub fn build_source(env: &Env, of: &Definition) -> Result<Option<Arc<dyn Source>>> {
    let added = env.connectors();
    let source = match of {
        Definition::Table(table) => {
            let Some(options) = &table.connector else { return Ok(None) };
            source_of(added, options, table.format.as_ref(), &table.columns, &table.primary_key)?
        }
        Definition::Source(source) => {
            source_of(added, &source.connector, source.format.as_ref(), &source.columns, &[])?
        }
        _ => return Ok(None),
    };
    Ok(Some(source))
}

fn source_of(
    added: &Connectors,
    options: &Options,
    format: Option<&FormatDef>,
    columns: &[ColumnDef],
    key: &[usize],
) -> Result<Arc<dyn Source>> {
    let mut options = options.clone();
    // The engine's own.
    ErrorsRetention::take_from(&mut options)?;
    let connector = options.require("connector")?;
    let known = || SOURCES.into_iter().chain(added.sources());
    let connector = known()
        .find(|known| known.name() == connector)
        .ok_or_else(|| unknown(&connector, known().map(SourceConnector::name)))?;
    check_includes(connector, columns)?;
    let format = format.map(|def| decoder_of(def, columns, key)).transpose()?;
    Ok(connector.build(options, columns_schema(of_value(columns)), format)?)
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
fn check_includes(connector: &dyn SourceConnector, columns: &[ColumnDef]) -> Result<()> {
    let known = connector.includes();
    let included = columns.iter().filter_map(|column| column.include.as_ref());
    match included.map(Include::word).find(|word| !known.contains(word)) {
        None => Ok(()),
        Some(word) => {
            let message = format!("connector \"{}\" has no {word} to include", connector.name());
            Err(Error::unsupported(message).with_hint(format!("it has {}", known.join(", "))))
        }
    }
}

/// Makes a sink; it touches nothing outside before it is opened.
///
/// # Errors
/// As [`build_source`].
pub fn build_sink(
    env: &Env,
    options: &Options,
    schema: SchemaRef,
    mode: SinkMode,
    id: Uuid,
) -> Result<Box<dyn SinkCommitter>> {
    let mut options = options.clone();
    let connector = options.require("connector")?;
    let known = || SINKS.into_iter().chain(env.connectors().sinks());
    let connector = known()
        .find(|known| known.name() == connector)
        .ok_or_else(|| unknown(&connector, known().map(SinkConnector::name)))?;
    Ok(connector.build(options, target_schema(&schema), mode, id)?)
}

/// Checks the options of a lake catalog; it makes nothing.
///
/// # Errors
/// `InvalidParameter` for a wrong option, or a file that is no catalog.
pub async fn check_catalog(options: Options) -> Result<()> {
    Ok(frazil_iceberg::IcebergCatalog::check(options).await?)
}

fn unknown<'a>(connector: &str, known: impl Iterator<Item = &'a str>) -> Error {
    let names: Vec<_> = known.collect();
    Error::unsupported(format!("connector \"{connector}\" is not known"))
        .with_hint(format!("known here: {}", names.join(", ")))
}

#[cfg(test)]
mod tests;
