//! [`BinaryValues`]: values in Postgres' binary form, as columns.

use arrow::array::builder::{
    BinaryBuilder, BooleanBuilder, Date32Builder, FixedSizeBinaryBuilder, Float32Builder,
    Float64Builder, Int16Builder, Int32Builder, Int64Builder, IntervalMonthDayNanoBuilder,
    StringBuilder, Time64MicrosecondBuilder, TimestampMicrosecondBuilder,
};
use arrow::array::{ArrayBuilder, ArrayRef};
use arrow::datatypes::{DataType, IntervalMonthDayNano, IntervalUnit, TimeUnit};

use super::utf8::text;
use crate::error::{Error, ErrorKind, Result};
use crate::session::numeric_text;

/// From PostgreSQL's first day to that of Unix.
const DAYS: i32 = 10_957;
const MICROSECONDS: i64 = DAYS as i64 * 86_400_000_000;

/// Values of one type that are read from their binary form.
#[derive(Debug)]
pub(super) enum BinaryValues {
    Bool(BooleanBuilder),
    Int2(Int16Builder),
    Int4(Int32Builder),
    Int8(Int64Builder),
    Float4(Float32Builder),
    Float8(Float64Builder),
    Text(StringBuilder),
    Numeric(StringBuilder),
    Json(StringBuilder),
    Uuid(FixedSizeBinaryBuilder),
    Bytes(BinaryBuilder),
    Date(Date32Builder),
    Time(Time64MicrosecondBuilder),
    Timestamp(TimestampMicrosecondBuilder),
    Interval(IntervalMonthDayNanoBuilder),
}

impl BinaryValues {
    /// # Errors
    /// `Unsupported` for a type whose binary form is not read.
    pub(super) fn of(data_type: &DataType) -> Result<Self> {
        Ok(match data_type {
            DataType::Boolean => Self::Bool(BooleanBuilder::new()),
            DataType::Int16 => Self::Int2(Int16Builder::new()),
            DataType::Int32 => Self::Int4(Int32Builder::new()),
            DataType::Int64 => Self::Int8(Int64Builder::new()),
            DataType::Float32 => Self::Float4(Float32Builder::new()),
            DataType::Float64 => Self::Float8(Float64Builder::new()),
            DataType::Utf8 => Self::Text(StringBuilder::new()),
            DataType::Decimal128(..) => Self::Numeric(StringBuilder::new()),
            DataType::LargeBinary => Self::Json(StringBuilder::new()),
            DataType::FixedSizeBinary(16) => Self::Uuid(FixedSizeBinaryBuilder::new(16)),
            DataType::Binary => Self::Bytes(BinaryBuilder::new()),
            DataType::Date32 => Self::Date(Date32Builder::new()),
            DataType::Time64(TimeUnit::Microsecond) => Self::Time(Time64MicrosecondBuilder::new()),
            DataType::Timestamp(TimeUnit::Microsecond, zone) => {
                Self::Timestamp(TimestampMicrosecondBuilder::new().with_timezone_opt(zone.clone()))
            }
            DataType::Interval(IntervalUnit::MonthDayNano) => {
                Self::Interval(IntervalMonthDayNanoBuilder::new())
            }
            other => {
                let message = format!("the binary form of type {other} is not read");
                return Err(Error::unsupported(message).with_hint("send it as text"));
            }
        })
    }

    fn builder(&mut self) -> &mut dyn ArrayBuilder {
        match self {
            Self::Bool(values) => values,
            Self::Int2(values) => values,
            Self::Int4(values) => values,
            Self::Int8(values) => values,
            Self::Float4(values) => values,
            Self::Float8(values) => values,
            Self::Text(values) | Self::Numeric(values) | Self::Json(values) => values,
            Self::Uuid(values) => values,
            Self::Bytes(values) => values,
            Self::Date(values) => values,
            Self::Time(values) => values,
            Self::Timestamp(values) => values,
            Self::Interval(values) => values,
        }
    }

    /// The values: numerics and JSON as texts, which are cast as others are.
    pub(super) fn finish(&mut self) -> ArrayRef {
        self.builder().finish()
    }

    pub(super) fn append_null(&mut self) {
        match self {
            Self::Bool(values) => values.append_null(),
            Self::Int2(values) => values.append_null(),
            Self::Int4(values) => values.append_null(),
            Self::Int8(values) => values.append_null(),
            Self::Float4(values) => values.append_null(),
            Self::Float8(values) => values.append_null(),
            Self::Text(values) | Self::Numeric(values) | Self::Json(values) => values.append_null(),
            Self::Uuid(values) => values.append_null(),
            Self::Bytes(values) => values.append_null(),
            Self::Date(values) => values.append_null(),
            Self::Time(values) => values.append_null(),
            Self::Timestamp(values) => values.append_null(),
            Self::Interval(values) => values.append_null(),
        }
    }

    /// # Errors
    /// `InvalidBinary`, `InvalidEncoding`, `OutOfRange`.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<()> {
        match self {
            Self::Bool(values) => values.append_value(u8::from_be_bytes(fixed(bytes)?) != 0),
            Self::Int2(values) => values.append_value(i16::from_be_bytes(fixed(bytes)?)),
            Self::Int4(values) => values.append_value(i32::from_be_bytes(fixed(bytes)?)),
            Self::Int8(values) => values.append_value(i64::from_be_bytes(fixed(bytes)?)),
            Self::Float4(values) => values.append_value(f32::from_be_bytes(fixed(bytes)?)),
            Self::Float8(values) => values.append_value(f64::from_be_bytes(fixed(bytes)?)),
            Self::Text(values) => values.append_value(text(bytes)?),
            Self::Numeric(values) => {
                values.append_value(numeric_text(bytes).ok_or_else(incorrect)?);
            }
            // Behind the version of its form.
            Self::Json(values) => match bytes {
                [1, json @ ..] => values.append_value(text(json)?),
                _ => return Err(incorrect()),
            },
            Self::Uuid(values) => values.append_value(fixed::<16>(bytes)?)?,
            Self::Bytes(values) => values.append_value(bytes),
            Self::Date(values) => {
                let days = i32::from_be_bytes(fixed(bytes)?);
                // The least one is -infinity.
                let days = days.checked_add(DAYS).filter(|_| days != i32::MIN);
                values.append_value(days.ok_or_else(out_of_range)?);
            }
            Self::Time(values) => values.append_value(i64::from_be_bytes(fixed(bytes)?)),
            Self::Timestamp(values) => {
                let at = i64::from_be_bytes(fixed(bytes)?);
                // The least one is -infinity.
                let at = at.checked_add(MICROSECONDS).filter(|_| at != i64::MIN);
                values.append_value(at.ok_or_else(out_of_range)?);
            }
            Self::Interval(values) => {
                let bytes: [u8; 16] = fixed(bytes)?;
                let microseconds = i64::from_be_bytes(fixed(&bytes[..8])?);
                let nanoseconds = microseconds.checked_mul(1000).ok_or_else(out_of_range)?;
                let days = i32::from_be_bytes(fixed(&bytes[8..12])?);
                let months = i32::from_be_bytes(fixed(&bytes[12..])?);
                values.append_value(IntervalMonthDayNano::new(months, days, nanoseconds));
            }
        }
        Ok(())
    }
}

/// The bytes of a value of fixed length.
fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N]> {
    bytes.try_into().map_err(|_| incorrect())
}

fn incorrect() -> Error {
    Error::new(ErrorKind::InvalidBinary, "incorrect binary data format")
}

fn out_of_range() -> Error {
    Error::new(ErrorKind::OutOfRange, "date or timestamp out of range")
}
