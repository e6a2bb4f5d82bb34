//! [`FormatSpec`] and [`build_format`]: from SQL words to a format.

use std::str::FromStr;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use frazil_connector_api::{
    ConnectorError, ConnectorErrorKind, Decoder, Format, OnSchemaChange, OptionSpec, Options,
    Result,
};

use crate::all_or_nothing::all_or_nothing;
use crate::connect_schema::ColumnsAt;
use crate::debezium::{ReplicaIdentity, UpsertDecoder};
use crate::json::{Placeholder, PlaceholderRule, Rows};
use crate::message_key::MessageKey;
use crate::plain::PlainDecoder;
use crate::wire::{DecimalText, Wire, wires_from_options};
use crate::wrapper::Wrapper;

const SCHEMA_CHANGE_OPTION: &str = "schema.change.handling.mode";
const PLACEHOLDER_OPTION: &str = "unavailable.value.placeholder";

/// The options of `ENCODE JSON`, in parentheses behind it.
pub const OPTIONS: &[OptionSpec] = &[
    OptionSpec::with_default(
        "time.precision.mode",
        "adaptive",
        "the unit of integers in dates and times: `adaptive`, `adaptive_time_microseconds`, \
         `connect` (or `milliseconds`), `microseconds`, `nanoseconds`, `isostring`",
    ),
    OptionSpec::optional("time.precision.mode.*", "the same for one column"),
    OptionSpec::with_default(
        "decimal.handling.mode",
        "precise",
        "base64, digits or numbers: `precise`, `string`, `double`; FORMAT PLAIN has digits by \
         default",
    ),
    OptionSpec::optional("decimal.handling.mode.*", "the same for one column"),
    OptionSpec::with_default(
        "binary.handling.mode",
        "bytes",
        "the form of `BYTEA`: `bytes` (or `base64`), `base64-url-safe`, `hex`",
    ),
    OptionSpec::optional("binary.handling.mode.*", "the same for one column"),
    OptionSpec::with_default(
        "out.of.range.handling.mode",
        "error",
        "a value that the column cannot hold: `error`, `null`, `saturate`",
    ),
    OptionSpec::optional("out.of.range.handling.mode.*", "the same for one column"),
    OptionSpec::with_default(
        PLACEHOLDER_OPTION,
        "__debezium_unavailable_value",
        "stands for an unchanged TOAST value",
    ),
    OptionSpec::with_default(
        "unavailable.value.handling.mode",
        "error",
        "such a value of a row that is not stored: `error`, `null`",
    ),
    OptionSpec::with_default(
        "replica.identity",
        "default",
        "what events tell of old rows: `default`, `full`",
    ),
    OptionSpec::with_default(
        SCHEMA_CHANGE_OPTION,
        "warn",
        "a declared column that events do not have: `warn`, `fail`; FORMAT DEBEZIUM alone",
    ),
];

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
    /// The format's options and no others.
    pub options: Options,
    /// Of each column the number of fraction digits that its declaration gives, as the 3 of
    /// `TIMESTAMP(3)`; shorter than the columns if the last ones give none.
    pub precisions: Vec<Option<u8>>,
}

/// A format that decodes into `schema`, the table's, with the primary key columns `key`.
///
/// Options, beside those of [`wire`](crate::wire): `unavailable.value.placeholder` as the source's
/// Debezium connector has it; `unavailable.value.handling.mode`: `error` (default) or `null`, for a
/// value that was not sent of a row that is not stored; `replica.identity`: `default` or `full`,
/// what the source tells of old rows; `schema.change.handling.mode`: `warn` (default) or `fail`,
/// for events of FORMAT DEBEZIUM that lack declared columns.
///
/// With a key the decoders give `Decoded::Upserts`, without one `Decoded::Changes`. The batches'
/// schema is the table's with every column outside the key nullable. A decoder of FORMAT PLAIN
/// without a key reads the lines of a JSON file as well.
///
/// # Errors
/// `Config` for a bad or unknown option, a key column that is not there, or FORMAT DEBEZIUM without
/// a key; `Unsupported` for a column type that JSON cannot give.
pub fn build_format(
    spec: FormatSpec,
    schema: SchemaRef,
    key: Vec<usize>,
) -> Result<Arc<dyn Format>> {
    let FormatSpec { format, encode: EncodeKind::Json, mut options, precisions } = spec;
    if let Some(index) = key.iter().find(|index| **index >= schema.fields().len()) {
        return Err(ConnectorError::config(format!("key column {index} is not in the table")));
    }
    if format == FormatKind::Debezium && key.is_empty() {
        return Err(ConnectorError::config("FORMAT DEBEZIUM needs a primary key")
            .with_hint("add PRIMARY KEY (…): the columns by which rows are replaced"));
    }
    let decimal_default = match format {
        FormatKind::Plain => DecimalText::Digits,
        FormatKind::Debezium => DecimalText::Base64 { scale: None },
    };
    let wires = wires_from_options(&schema, &precisions, &mut options, decimal_default)?;
    let placeholder = options.take(PLACEHOLDER_OPTION);
    let placeholder = Placeholder::new(placeholder.as_deref().unwrap_or(Placeholder::DEFAULT));
    let on_unavailable = word(
        &mut options,
        "unavailable.value.handling.mode",
        [("error", PlaceholderRule::Mark), ("null", PlaceholderRule::MarkOrNull)],
    )?;
    let identity = word(
        &mut options,
        "replica.identity",
        [("default", ReplicaIdentity::Key), ("full", ReplicaIdentity::Full)],
    )?;
    let on_schema_change = on_schema_change(&mut options, format)?;
    options.finish(OPTIONS)?;
    let placeholder_rule = match key.is_empty() {
        true => PlaceholderRule::Value,
        false => on_unavailable,
    };
    let json = JsonFormat {
        format,
        schema,
        key,
        wires,
        placeholder,
        placeholder_rule,
        identity,
        on_schema_change,
    };
    json.rows()?;
    Ok(Arc::new(json))
}

/// What the options say of events that lack declared columns. Rows of FORMAT PLAIN may leave
/// columns out.
fn on_schema_change(options: &mut Options, format: FormatKind) -> Result<OnSchemaChange> {
    let modes = [("warn", OnSchemaChange::Warn), ("fail", OnSchemaChange::Fail)];
    let mode = word(options, SCHEMA_CHANGE_OPTION, modes)?;
    if mode == OnSchemaChange::Fail && format == FormatKind::Plain {
        let message = format!("option \"{SCHEMA_CHANGE_OPTION}\" has no effect in FORMAT PLAIN");
        return Err(ConnectorError::config(message)
            .with_hint("rows of FORMAT PLAIN may leave columns out: declare them NOT NULL"));
    }
    Ok(mode)
}

/// The meaning of an option's word; the first one is the default.
fn word<T: Copy>(options: &mut Options, name: &str, words: [(&str, T); 2]) -> Result<T> {
    let Some(text) = options.take(name) else { return Ok(words[0].1) };
    let found = words.iter().find(|(word, _)| *word == text.trim().to_lowercase());
    found.map(|(_, meaning)| *meaning).ok_or_else(|| {
        Options::bad_value(name, &text).with_hint(format!("use {} or {}", words[0].0, words[1].0))
    })
}

/// A format of JSON messages.
#[derive(Debug)]
struct JsonFormat {
    format: FormatKind,
    schema: SchemaRef,
    key: Vec<usize>,
    wires: Vec<Wire>,
    placeholder: Placeholder,
    placeholder_rule: PlaceholderRule,
    identity: ReplicaIdentity,
    on_schema_change: OnSchemaChange,
}

impl JsonFormat {
    fn rows(&self) -> Result<Rows> {
        Rows::new(&self.schema, &self.key, self.placeholder.clone(), self.placeholder_rule)
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
        let identity = self.identity;
        Ok(match self.format {
            FormatKind::Plain => {
                let message_key = (!self.key.is_empty()).then_some(message_key);
                let row = self.wrapper(ColumnsAt::Top);
                all_or_nothing(PlainDecoder::new(row, message_key, identity, rows))
            }
            FormatKind::Debezium => {
                let event = self.wrapper(ColumnsAt::Envelope);
                all_or_nothing(UpsertDecoder::new(event, message_key, identity, rows.watching()))
            }
        })
    }

    fn on_schema_change(&self) -> OnSchemaChange {
        self.on_schema_change
    }
}
