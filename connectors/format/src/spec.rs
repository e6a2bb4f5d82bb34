//! [`FormatSpec`] and [`build_format`]: from SQL words to a format.

use std::str::FromStr;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use frazil_connector_api::{ConnectorError, ConnectorErrorKind, Decoder, Format, Options, Result};

use crate::all_or_nothing::all_or_nothing;
use crate::connect_schema::ColumnsAt;
use crate::debezium::{RetractDecoder, UpsertDecoder};
use crate::json::{Placeholder, PlaceholderRule, Rows};
use crate::message_key::MessageKey;
use crate::plain::PlainDecoder;
use crate::wire::{DecimalText, OPTION_NAMES, Wire, wires_from_options};
use crate::wrapper::Wrapper;

const PLACEHOLDER_OPTION: &str = "unavailable.value.placeholder";

/// The word after FORMAT: what a message means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FormatKind {
    /// A message is a row.
    Plain,
    /// A message is a change event of Debezium.
    Debezium,
}

/// The word after ENCODE: how a message is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EncodeKind {
    /// JSON text.
    Json,
}

impl FromStr for FormatKind {
    type Err = ConnectorError;

    fn from_str(word: &str) -> Result<Self> {
        match word.to_uppercase().as_str() {
            "PLAIN" => Ok(Self::Plain),
            "DEBEZIUM" => Ok(Self::Debezium),
            "UPSERT" => Err(unsupported("FORMAT", word)
                .with_hint("FORMAT PLAIN upserts into a table with a primary key")),
            "DEBEZIUM_MONGO" | "MAXWELL" | "CANAL" | "NATIVE" | "NONE" => {
                Err(unsupported("FORMAT", word).with_hint("use PLAIN or DEBEZIUM"))
            }
            _ => Err(unknown("FORMAT", word).with_hint("use PLAIN or DEBEZIUM")),
        }
    }
}

impl FromStr for EncodeKind {
    type Err = ConnectorError;

    fn from_str(word: &str) -> Result<Self> {
        match word.to_uppercase().as_str() {
            "JSON" => Ok(Self::Json),
            "AVRO" | "PROTOBUF" | "CSV" | "PARQUET" | "BYTES" | "TEXT" | "TEMPLATE" | "NATIVE" => {
                Err(unsupported("ENCODE", word).with_hint("use JSON"))
            }
            _ => Err(unknown("ENCODE", word).with_hint("use JSON")),
        }
    }
}

fn unsupported(clause: &str, word: &str) -> ConnectorError {
    let message = format!("{clause} {} is not supported yet", word.to_uppercase());
    ConnectorError::new(ConnectorErrorKind::Unsupported, message)
}

fn unknown(clause: &str, word: &str) -> ConnectorError {
    ConnectorError::config(format!("{clause} \"{word}\" is not known"))
}

/// What a statement says about the messages of a source.
#[derive(Debug, Clone)]
pub struct FormatSpec {
    /// The word after FORMAT.
    pub format: FormatKind,
    /// The word after ENCODE.
    pub encode: EncodeKind,
    /// The format's options and no others; see [`take_options`].
    pub options: Options,
}

/// Takes the options that a format knows out of a WITH clause:
/// `decimal.handling.mode`, `time.precision.mode`, `binary.handling.mode` and
/// `unavailable.value.placeholder`, each as the source's Debezium connector has it.
pub fn take_options(all: &mut Options) -> Options {
    let names = OPTION_NAMES.iter().chain([&PLACEHOLDER_OPTION]);
    Options::new(names.filter_map(|name| Some((name.to_string(), all.take(name)?))))
}

/// A format that decodes into `schema`, the table's, with the primary key columns `key`.
///
/// With a key the decoders give `Decoded::Upserts`, without one `Decoded::Changes`. The batches'
/// schema is the table's with every column outside the key nullable. A decoder of FORMAT PLAIN
/// without a key reads the lines of a JSON file as well.
///
/// # Errors
/// `Config` for a bad or unknown option or a key column that is not there; `Unsupported` for a
/// column type that JSON cannot give.
pub fn build_format(
    spec: FormatSpec,
    schema: SchemaRef,
    key: Vec<usize>,
) -> Result<Arc<dyn Format>> {
    let FormatSpec { format, encode: EncodeKind::Json, mut options } = spec;
    if let Some(index) = key.iter().find(|index| **index >= schema.fields().len()) {
        return Err(ConnectorError::config(format!("key column {index} is not in the table")));
    }
    let decimal_default = match format {
        FormatKind::Plain => DecimalText::Digits,
        FormatKind::Debezium => DecimalText::Base64 { scale: None },
    };
    let wires = wires_from_options(&schema, &mut options, decimal_default)?;
    let placeholder = options.take(PLACEHOLDER_OPTION);
    let placeholder = Placeholder::new(placeholder.as_deref().unwrap_or(Placeholder::DEFAULT));
    options.finish()?;
    let json = JsonFormat { format, schema, key, wires, placeholder };
    json.rows()?;
    Ok(Arc::new(json))
}

/// A format of JSON messages.
#[derive(Debug)]
struct JsonFormat {
    format: FormatKind,
    schema: SchemaRef,
    key: Vec<usize>,
    wires: Vec<Wire>,
    placeholder: Placeholder,
}

impl JsonFormat {
    fn rows(&self) -> Result<Rows> {
        let rule = match (self.format, self.key.is_empty()) {
            (_, false) => PlaceholderRule::Mark,
            (FormatKind::Debezium, true) => PlaceholderRule::Refuse,
            (FormatKind::Plain, true) => PlaceholderRule::Value,
        };
        Rows::new(&self.schema, &self.key, self.placeholder.clone(), rule)
    }

    fn wrapper(&self, columns_at: ColumnsAt) -> Wrapper {
        let names = self.schema.fields().iter().map(|field| field.name().as_str().into());
        Wrapper::new(columns_at, names.collect(), self.wires.clone())
    }
}

impl Format for JsonFormat {
    fn decoder(&self) -> Result<Box<dyn Decoder>> {
        let rows = self.rows()?;
        let message_key = MessageKey::new(self.wrapper(ColumnsAt::Top));
        let (row, event) = (self.wrapper(ColumnsAt::Top), self.wrapper(ColumnsAt::Envelope));
        Ok(match (self.format, self.key.is_empty()) {
            (FormatKind::Plain, true) => all_or_nothing(PlainDecoder::new(row, None, rows)),
            (FormatKind::Plain, false) => {
                all_or_nothing(PlainDecoder::new(row, Some(message_key), rows))
            }
            (FormatKind::Debezium, true) => all_or_nothing(RetractDecoder::new(event, rows)),
            (FormatKind::Debezium, false) => {
                all_or_nothing(UpsertDecoder::new(event, message_key, rows))
            }
        })
    }
}
