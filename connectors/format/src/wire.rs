//! [`Wire`]: how the values of a column are written, where JSON does not say it.
//!
//! ```text
//! inline schema "name":"io.debezium.time.Timestamp"  ─┐ wins
//! options       time.precision.mode.at = 'connect'    │  of one column
//! options       time.precision.mode = 'connect'       ├─► Wire { unit: Millis, .. }
//! declaration   at TIMESTAMP(3)                       │
//! defaults      (below)                               ┘
//! ```
//!
//! | option | default DEBEZIUM | default PLAIN | meaning |
//! |---|---|---|---|
//! | `decimal.handling.mode` | `precise` | `string` | a decimal's text is base64 or digits |
//! | `time.precision.mode` | `adaptive` | `adaptive` | unit of integers in temporal columns |
//! | `binary.handling.mode` | `bytes` | `bytes` | base64, URL-safe base64 or hex |
//! | `out.of.range.handling.mode` | `error` | `error` | a value that the column cannot hold |
//!
//! Each of them with a column's name behind it, as `time.precision.mode.created_at`, holds for that
//! column alone.
//!
//! Under `adaptive` Debezium sends milliseconds for a precision up to 3 and microseconds above. The
//! precision in the column's declaration tells which: `TIMESTAMP(3)` and `TIME(0)` are read as
//! milliseconds, `TIMESTAMP(6)` and `TIMESTAMP` as microseconds. Under
//! `adaptive_time_microseconds` a `TIME` is always in microseconds. ISO texts and JSON numbers are
//! understood under every mode.
//!
//! **Invariant:** a form that nobody stated is assumed only where no other form is more likely: see
//! [`Wire::unit_is_assumed`] and [`Wire::decimal_is_assumed`].

use std::str::FromStr;

use arrow::datatypes::{DataType, SchemaRef};
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

/// What becomes of a value that the source can hold and the column cannot: `infinity`, `24:00:00`,
/// `NaN` of a numeric, too many digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OutOfRange {
    /// The message is bad.
    Error,
    /// NULL; in a column that is NOT NULL the message is bad.
    Null,
    /// The nearest value of the column; dates and timestamps stay within the years 1 to 9999.
    Saturate,
}

/// How the values of one column are written. The elements of a list share the list's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wire {
    pub(crate) unit: Unit,
    /// Neither an option nor a schema states the unit: a timestamp that is only plausible in
    /// another unit is refused.
    pub(crate) unit_is_assumed: bool,
    pub(crate) decimal: DecimalText,
    /// Neither an option nor a schema states the form: a whole number's digits are not taken for
    /// base64.
    pub(crate) decimal_is_assumed: bool,
    pub(crate) bytes: BytesText,
    pub(crate) out_of_range: OutOfRange,
}

/// `time.precision.mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TimePrecision {
    Adaptive,
    AdaptiveTimeMicros,
    Millis,
    Micros,
    Nanos,
}

impl FromStr for TimePrecision {
    type Err = ();

    fn from_str(text: &str) -> std::result::Result<Self, ()> {
        match text {
            "adaptive" | "isostring" => Ok(Self::Adaptive),
            "adaptive_time_microseconds" => Ok(Self::AdaptiveTimeMicros),
            "connect" | "milliseconds" => Ok(Self::Millis),
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

impl FromStr for OutOfRange {
    type Err = ();

    fn from_str(text: &str) -> std::result::Result<Self, ()> {
        match text {
            "error" => Ok(Self::Error),
            "null" => Ok(Self::Null),
            "saturate" => Ok(Self::Saturate),
            _ => Err(()),
        }
    }
}

/// One [`Wire`] per column, from the options and the declared numbers of fraction digits.
///
/// # Errors
/// `Config` naming an option with a value or a column that is not known.
pub(crate) fn wires_from_options(
    schema: &SchemaRef,
    precisions: &[Option<u8>],
    options: &mut Options,
    decimal_default: DecimalText,
) -> Result<Vec<Wire>> {
    let modes = ColumnModes { schema };
    let decimals = modes.take(options, "decimal.handling.mode", "precise, string or double")?;
    let times = modes.take(
        options,
        "time.precision.mode",
        "adaptive, adaptive_time_microseconds, connect, isostring, milliseconds, microseconds or \
         nanoseconds",
    )?;
    let bytes =
        modes.take(options, "binary.handling.mode", "bytes, base64, base64-url-safe or hex")?;
    let ranges = modes.take(options, "out.of.range.handling.mode", "error, null or saturate")?;
    let fields = schema.fields().iter().enumerate();
    Ok(fields
        .map(|(index, field)| {
            let precision = precisions.get(index).copied().flatten();
            let time: Option<TimePrecision> = times[index];
            Wire {
                unit: unit_of(field.data_type(), precision, time),
                unit_is_assumed: time.is_none(),
                decimal: decimals[index].unwrap_or(decimal_default),
                decimal_is_assumed: decimals[index].is_none(),
                bytes: bytes[index].unwrap_or(BytesText::Base64),
                out_of_range: ranges[index].unwrap_or(OutOfRange::Error),
            }
        })
        .collect())
}

/// Options that hold for all columns or, with a column's name behind them, for one.
struct ColumnModes<'a> {
    schema: &'a SchemaRef,
}

impl ColumnModes<'_> {
    /// The value of option `name` for each column; `None` where nothing is stated.
    fn take<T: FromStr + Copy>(
        &self,
        options: &mut Options,
        name: &str,
        known: &str,
    ) -> Result<Vec<Option<T>>> {
        let general = options.take(name).map(|text| parse(name, &text, known)).transpose()?;
        let fields = self.schema.fields();
        let mut modes = vec![general; fields.len()];
        for (column, text) in options.take_prefixed(&format!("{name}.")) {
            let name = format!("{name}.{column}");
            let mode = parse(&name, &text, known)?;
            // Names of options have lost their capitals.
            let is_meant = |field: &str| field.to_lowercase() == column;
            let mut found = false;
            for (index, field) in fields.iter().enumerate() {
                if is_meant(field.name()) {
                    modes[index] = Some(mode);
                    found = true;
                }
            }
            if !found {
                let message = format!("option \"{name}\" names no column of the table");
                return Err(ConnectorError::config(message));
            }
        }
        Ok(modes)
    }
}

fn parse<T: FromStr>(name: &str, text: &str, known: &str) -> Result<T> {
    text.trim()
        .to_lowercase()
        .parse()
        .map_err(|_| Options::bad_value(name, text).with_hint(format!("use {known}")))
}

/// `precision`: fraction digits of the declaration; none is PostgreSQL's default of 6.
fn unit_of(data_type: &DataType, precision: Option<u8>, mode: Option<TimePrecision>) -> Unit {
    match (data_type, mode.unwrap_or(TimePrecision::Adaptive)) {
        (DataType::List(item), _) => unit_of(item.data_type(), precision, mode),
        (DataType::Date32, _) => Unit::Days,
        (_, TimePrecision::Millis) => Unit::Millis,
        (_, TimePrecision::Micros) => Unit::Micros,
        (_, TimePrecision::Nanos) => Unit::Nanos,
        (DataType::Time64(_), TimePrecision::AdaptiveTimeMicros) => Unit::Micros,
        (_, TimePrecision::Adaptive | TimePrecision::AdaptiveTimeMicros) => match precision {
            Some(0..=3) => Unit::Millis,
            _ => Unit::Micros,
        },
    }
}
