//! [`Wire`]: how the values of a column are written, where JSON does not say it.
//!
//! ```text
//! inline schema "name":"io.debezium.time.Timestamp"  ─┐ wins
//! options       time.precision.mode = 'connect'        ├─► Wire { unit: Millis, .. }
//! defaults      (below)                                ┘
//! ```
//!
//! | option | default DEBEZIUM | default PLAIN | meaning |
//! |---|---|---|---|
//! | `decimal.handling.mode` | `precise` | `string` | a decimal's text is base64 or digits |
//! | `time.precision.mode` | `adaptive` | `adaptive` | unit of integers in temporal columns |
//! | `binary.handling.mode` | `bytes` | `bytes` | base64, URL-safe base64 or hex |
//!
//! Under `adaptive` Debezium sends milliseconds for a precision up to 3 and microseconds above. The
//! column's own unit tells which: a second or millisecond column is read as milliseconds, all
//! others as microseconds. ISO texts and JSON numbers are understood under every mode.

use std::str::FromStr;

use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use frazil_connector_api::{ConnectorError, Options, Result};

/// Unit of an integer in a temporal column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Days,
    Millis,
    Micros,
    Nanos,
}

impl Unit {
    /// How many make a second; `None` for days.
    pub(crate) const fn per_second(self) -> Option<i64> {
        match self {
            Self::Days => None,
            Self::Millis => Some(1_000),
            Self::Micros => Some(1_000_000),
            Self::Nanos => Some(1_000_000_000),
        }
    }
}

/// What a string in a decimal column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DecimalText {
    /// Digits.
    Digits,
    /// Base64 of the unscaled integer; `None` is the column's own scale.
    Base64 { scale: Option<i32> },
}

/// What a string in a binary column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BytesText {
    Base64,
    Base64Url,
    Hex,
}

/// How the values of one column are written. The elements of a list share the list's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wire {
    pub(crate) unit: Unit,
    pub(crate) decimal: DecimalText,
    pub(crate) bytes: BytesText,
}

/// `time.precision.mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TimePrecision {
    Adaptive,
    Connect,
    Micros,
    Nanos,
}

impl FromStr for TimePrecision {
    type Err = ();

    fn from_str(text: &str) -> std::result::Result<Self, ()> {
        match text {
            "adaptive" | "adaptive_time_microseconds" | "isostring" => Ok(Self::Adaptive),
            "connect" => Ok(Self::Connect),
            "microseconds" => Ok(Self::Micros),
            "nanoseconds" => Ok(Self::Nanos),
            _ => Err(()),
        }
    }
}

impl FromStr for DecimalText {
    type Err = ();

    fn from_str(text: &str) -> std::result::Result<Self, ()> {
        match text {
            "precise" => Ok(Self::Base64 { scale: None }),
            "string" | "double" => Ok(Self::Digits),
            _ => Err(()),
        }
    }
}

impl FromStr for BytesText {
    type Err = ();

    fn from_str(text: &str) -> std::result::Result<Self, ()> {
        match text {
            "bytes" | "base64" => Ok(Self::Base64),
            "base64-url-safe" => Ok(Self::Base64Url),
            "hex" => Ok(Self::Hex),
            _ => Err(()),
        }
    }
}

/// Names of the options read here.
pub(crate) const OPTION_NAMES: [&str; 3] =
    ["decimal.handling.mode", "time.precision.mode", "binary.handling.mode"];

/// One [`Wire`] a column, from the options.
///
/// # Errors
/// `Config` naming an option with a value that is not known.
pub(crate) fn wires_from_options(
    schema: &SchemaRef,
    options: &mut Options,
    decimal_default: DecimalText,
) -> Result<Vec<Wire>> {
    let [decimal_name, time_name, bytes_name] = OPTION_NAMES;
    let decimal = mode(options, decimal_name, decimal_default, "precise, string or double")?;
    let time = mode(
        options,
        time_name,
        TimePrecision::Adaptive,
        "adaptive, adaptive_time_microseconds, connect, isostring, microseconds or nanoseconds",
    )?;
    let bytes =
        mode(options, bytes_name, BytesText::Base64, "bytes, base64, base64-url-safe or hex")?;
    let fields = schema.fields().iter();
    Ok(fields
        .map(|field| Wire { unit: unit_of(field.data_type(), time), decimal, bytes })
        .collect())
}

fn mode<T: FromStr>(options: &mut Options, name: &str, default: T, known: &str) -> Result<T> {
    let Some(text) = options.take(name) else { return Ok(default) };
    text.trim().to_lowercase().parse().map_err(|_| {
        ConnectorError::config(format!("option \"{name}\" has a bad value \"{text}\""))
            .with_hint(format!("use {known}"))
    })
}

fn unit_of(data_type: &DataType, precision: TimePrecision) -> Unit {
    match (data_type, precision) {
        (DataType::List(item), _) => unit_of(item.data_type(), precision),
        (DataType::Date32, _) => Unit::Days,
        (_, TimePrecision::Connect) => Unit::Millis,
        (_, TimePrecision::Micros) => Unit::Micros,
        (_, TimePrecision::Nanos) => Unit::Nanos,
        (DataType::Timestamp(TimeUnit::Second | TimeUnit::Millisecond, _), _) => Unit::Millis,
        (_, TimePrecision::Adaptive) => Unit::Micros,
    }
}
