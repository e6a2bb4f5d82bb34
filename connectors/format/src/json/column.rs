//! [`Column`]: an Arrow builder that can go back.
//!
//! Arrow's own builders only grow. A message that fails half-way must leave no trace, so a column
//! is a plain vector with a validity bitmap, cut back by [`Column::truncate`].

use std::mem;
use std::sync::Arc;

use arrow::array::ArrayData;
use arrow::array::{
    ArrayRef, ArrowPrimitiveType, BinaryArray, BooleanArray, BooleanBufferBuilder,
    FixedSizeBinaryArray, LargeBinaryArray, ListArray, NullBufferBuilder, PrimitiveArray,
    StringArray, make_array,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{
    ArrowNativeType, DataType, FieldRef, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    TimeUnit,
};
use frazil_connector_api::{ConnectorError, ConnectorErrorKind, Result};
use serde::Deserialize;

use super::cursor::Cursor;
use super::decimal::Unfit;
use super::fault::{Beyond, Fault};
use super::{canonical_json, decimal, read_uuid, temporal, token};
use crate::wire::{DecimalText, OutOfRange, Unit, Wire};

/// Values of one column with their validity.
pub(crate) struct Column {
    data_type: DataType,
    store: Store,
    nulls: NullBufferBuilder,
}

/// The values; a null has a zero or nothing here.
enum Store {
    Bool(BooleanBufferBuilder),
    Int16(Vec<i16>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Float32(Vec<f32>),
    Float64(Vec<f64>),
    Text(Slices),
    Bytes(Slices),
    /// Canonical texts of JSON values.
    Json(Slices),
    Uuid(Vec<[u8; 16]>),
    Date(Vec<i32>),
    Time(Vec<i64>, TimeUnit),
    Timestamp(Vec<i64>, TimeUnit, bool),
    Decimal(Vec<i128>, u8, i8),
    List(Vec<i32>, Box<Column>, bool),
}

/// Byte slices one after the other; `ends[i]` is where slice i ends, `ends` begins with 0.
struct Slices {
    ends: Vec<i32>,
    bytes: Vec<u8>,
}

impl Slices {
    fn new() -> Self {
        Self { ends: vec![0], bytes: Vec::new() }
    }

    /// Ends the slice that begins where the last one ended.
    fn close(&mut self) -> std::result::Result<(), Fault> {
        let end = i32::try_from(self.bytes.len())
            .map_err(|_| Fault::new("does not fit into a batch of 2 GiB"))?;
        self.ends.push(end);
        Ok(())
    }

    fn truncate(&mut self, rows: usize) {
        self.ends.truncate(rows + 1);
        self.bytes.truncate(self.ends.last().copied().unwrap_or_default().as_usize());
    }

    fn get(&self, row: usize) -> &[u8] {
        &self.bytes[self.ends[row].as_usize()..self.ends[row + 1].as_usize()]
    }

    fn finish(&mut self) -> (OffsetBuffer<i32>, Buffer) {
        let rows = self.ends.len();
        let ends = mem::replace(&mut self.ends, Vec::with_capacity(rows));
        self.ends.push(0);
        let capacity = self.bytes.len();
        let bytes = mem::replace(&mut self.bytes, Vec::with_capacity(capacity));
        (OffsetBuffer::new(ends.into()), Buffer::from_vec(bytes))
    }
}

impl Column {
    /// An empty column.
    ///
    /// # Errors
    /// `Unsupported` if no JSON value is defined for the type.
    pub(crate) fn new(data_type: &DataType) -> Result<Self> {
        let store = match data_type {
            DataType::Boolean => Store::Bool(BooleanBufferBuilder::new(0)),
            DataType::Int16 => Store::Int16(Vec::new()),
            DataType::Int32 => Store::Int32(Vec::new()),
            DataType::Int64 => Store::Int64(Vec::new()),
            DataType::Float32 => Store::Float32(Vec::new()),
            DataType::Float64 => Store::Float64(Vec::new()),
            DataType::Utf8 => Store::Text(Slices::new()),
            DataType::Binary => Store::Bytes(Slices::new()),
            DataType::LargeBinary => Store::Json(Slices::new()),
            DataType::FixedSizeBinary(16) => Store::Uuid(Vec::new()),
            DataType::Date32 => Store::Date(Vec::new()),
            DataType::Time64(unit) => Store::Time(Vec::new(), *unit),
            DataType::Timestamp(unit, zone) => Store::Timestamp(Vec::new(), *unit, zone.is_some()),
            DataType::Decimal128(precision, scale) => {
                Store::Decimal(Vec::new(), *precision, *scale)
            }
            DataType::List(item) => {
                let items = Self::new(item.data_type())?;
                Store::List(vec![0], Box::new(items), item.is_nullable())
            }
            other => {
                let message = format!("type {other} cannot be read from JSON");
                return Err(ConnectorError::new(ConnectorErrorKind::Unsupported, message)
                    .with_hint("declare the column as TEXT or leave it out"));
            }
        };
        Ok(Self { data_type: data_type.clone(), store, nulls: NullBufferBuilder::new(0) })
    }

    /// Number of values.
    pub(crate) fn len(&self) -> usize {
        self.nulls.len()
    }

    /// True if the value of `row` has been appended and is NULL.
    pub(crate) fn is_null(&self, row: usize) -> bool {
        row < self.nulls.len() && !self.nulls.is_valid(row)
    }

    /// Appends NULL.
    pub(crate) fn push_null(&mut self) {
        self.push_zero();
        self.nulls.append_null();
    }

    /// Appends a value that nobody will read, where NULL is not allowed.
    pub(crate) fn push_filler(&mut self) {
        self.push_zero();
        self.nulls.append_non_null();
    }

    fn push_zero(&mut self) {
        match &mut self.store {
            Store::Bool(values) => values.append(false),
            Store::Int16(values) => values.push(0),
            Store::Int32(values) | Store::Date(values) => values.push(0),
            Store::Int64(values) | Store::Time(values, _) | Store::Timestamp(values, ..) => {
                values.push(0);
            }
            Store::Float32(values) => values.push(0.0),
            Store::Float64(values) => values.push(0.0),
            Store::Text(slices) | Store::Bytes(slices) | Store::Json(slices) => {
                slices.ends.extend_from_within(last(&slices.ends))
            }
            Store::Uuid(values) => values.push([0; 16]),
            Store::Decimal(values, ..) => values.push(0),
            Store::List(ends, ..) => ends.extend_from_within(last(ends)),
        }
    }

    /// Appends the value of a token that is not `null`.
    ///
    /// After an error the column may hold a part of the value until it is truncated.
    pub(crate) fn push(&mut self, token: &str, wire: Wire) -> std::result::Result<(), Fault> {
        match &mut self.store {
            Store::Bool(values) => values.append(token::boolean(token)?),
            Store::Int16(values) => {
                let value = token::integer(token)?;
                values.push(i16::try_from(value).map_err(|_| Fault::past(value < 0))?);
            }
            Store::Int32(values) => {
                let value = token::integer(token)?;
                values.push(i32::try_from(value).map_err(|_| Fault::past(value < 0))?);
            }
            Store::Int64(values) => values.push(token::integer(token)?),
            Store::Float32(values) => {
                let value: f32 = token::float(token)?;
                values.push(finite(value, value.is_finite(), token)?);
            }
            Store::Float64(values) => {
                let value: f64 = token::float(token)?;
                values.push(finite(value, value.is_finite(), token)?);
            }
            Store::Text(slices) => {
                slices.bytes.extend_from_slice(token::text(token)?.as_bytes());
                slices.close()?;
            }
            Store::Bytes(slices) => {
                token::bytes(token, wire.bytes, &mut slices.bytes)?;
                slices.close()?;
            }
            Store::Json(slices) => {
                slices.bytes.extend_from_slice(json_value(token)?.as_bytes());
                slices.close()?;
            }
            Store::Uuid(values) => {
                values.push(read_uuid(&token::text(token)?).ok_or(Fault::new("is not a UUID"))?);
            }
            Store::Date(values) => {
                let value = match token::is_string(token) {
                    true => temporal::date_from_text(&token::text(token)?)?,
                    false => temporal::date_from_integer(token::integer(token)?, wire.unit)?,
                };
                values.push(match wire.out_of_range {
                    OutOfRange::Saturate => temporal::saturated_date(value),
                    _ => value,
                });
            }
            Store::Time(values, to) => values.push(match token::is_string(token) {
                true => temporal::time_from_text(&token::text(token)?, *to)?,
                false => temporal::time_from_integer(token::integer(token)?, wire.unit, *to)?,
            }),
            Store::Timestamp(values, to, zoned) => {
                let value = match token::is_string(token) {
                    true => temporal::timestamp_from_text(&token::text(token)?, *to, *zoned)?,
                    false => timestamp_from_integer(token::integer(token)?, wire, *to)?,
                };
                values.push(match wire.out_of_range {
                    OutOfRange::Saturate => temporal::saturated_timestamp(value, *to),
                    _ => value,
                });
            }
            Store::Decimal(values, precision, scale) => {
                values.push(decimal_value(token, wire, *precision, *scale)?);
            }
            Store::List(ends, items, nullable) => {
                push_items(token, items, *nullable, wire)?;
                ends.push(i32::try_from(items.len()).map_err(|_| Fault::HIGH)?);
            }
        }
        self.nulls.append_non_null();
        Ok(())
    }

    /// Appends the column's first or last value, for one that lies beyond.
    ///
    /// # Errors
    /// If the column has no such value.
    pub(crate) fn push_bound(&mut self, beyond: Beyond) -> std::result::Result<(), Fault> {
        let side = match beyond {
            Beyond::Low => 0,
            Beyond::High => 1,
            Beyond::Neither => return Err(Fault::out_of_range(beyond)),
        };
        match &mut self.store {
            Store::Int16(values) => values.push([i16::MIN, i16::MAX][side]),
            Store::Int32(values) => values.push([i32::MIN, i32::MAX][side]),
            Store::Int64(values) => values.push([i64::MIN, i64::MAX][side]),
            Store::Float32(values) => values.push([f32::MIN, f32::MAX][side]),
            Store::Float64(values) => values.push([f64::MIN, f64::MAX][side]),
            Store::Date(values) => {
                values.push(temporal::saturated_date([i32::MIN, i32::MAX][side]));
            }
            Store::Time(values, unit) => values.push(temporal::time_bounds(*unit)[side]),
            Store::Timestamp(values, unit, _) => {
                values.push(temporal::saturated_timestamp([i64::MIN, i64::MAX][side], *unit));
            }
            Store::Decimal(values, precision, _) => {
                values.push(decimal::bounds(*precision)[side]);
            }
            Store::Bool(_)
            | Store::Text(_)
            | Store::Bytes(_)
            | Store::Json(_)
            | Store::Uuid(_)
            | Store::List(..) => {
                return Err(Fault::out_of_range(beyond));
            }
        }
        self.nulls.append_non_null();
        Ok(())
    }

    /// Forgets all but the first `rows` values.
    pub(crate) fn truncate(&mut self, rows: usize) {
        match &mut self.store {
            Store::Bool(values) => values.truncate(rows),
            Store::Int16(values) => values.truncate(rows),
            Store::Int32(values) | Store::Date(values) => values.truncate(rows),
            Store::Int64(values) | Store::Time(values, _) | Store::Timestamp(values, ..) => {
                values.truncate(rows);
            }
            Store::Float32(values) => values.truncate(rows),
            Store::Float64(values) => values.truncate(rows),
            Store::Text(slices) | Store::Bytes(slices) | Store::Json(slices) => {
                slices.truncate(rows);
            }
            Store::Uuid(values) => values.truncate(rows),
            Store::Decimal(values, ..) => values.truncate(rows),
            Store::List(ends, items, _) => {
                ends.truncate(rows + 1);
                items.truncate(ends.last().copied().unwrap_or_default().as_usize());
            }
        }
        if self.nulls.len() > rows {
            self.nulls.truncate(rows);
        }
    }

    /// Whether two non-null values are the same, bit for bit.
    pub(crate) fn same(&self, left: usize, right: usize) -> bool {
        match &self.store {
            Store::Bool(values) => values.get_bit(left) == values.get_bit(right),
            Store::Int16(values) => values[left] == values[right],
            Store::Int32(values) | Store::Date(values) => values[left] == values[right],
            Store::Int64(values) | Store::Time(values, _) | Store::Timestamp(values, ..) => {
                values[left] == values[right]
            }
            Store::Float32(values) => values[left].to_bits() == values[right].to_bits(),
            Store::Float64(values) => values[left].to_bits() == values[right].to_bits(),
            Store::Text(slices) | Store::Bytes(slices) | Store::Json(slices) => {
                slices.get(left) == slices.get(right)
            }
            Store::Uuid(values) => values[left] == values[right],
            Store::Decimal(values, ..) => values[left] == values[right],
            Store::List(ends, items, _) => {
                let range = |row: usize| ends[row].as_usize()..ends[row + 1].as_usize();
                range(left).len() == range(right).len()
                    && range(left).zip(range(right)).all(|(left, right)| {
                        let valid = items.nulls.is_valid(left);
                        valid == items.nulls.is_valid(right) && (!valid || items.same(left, right))
                    })
            }
        }
    }

    /// Hands the values out as an array and starts anew.
    ///
    /// # Errors
    /// `Internal` only.
    pub(crate) fn finish(&mut self) -> Result<ArrayRef> {
        let rows = self.nulls.len();
        let nulls = self.nulls.finish();
        Ok(match &mut self.store {
            Store::Bool(values) => Arc::new(BooleanArray::new(values.finish(), nulls)),
            Store::Int16(values) => primitive::<Int16Type>(values, nulls),
            Store::Int32(values) => primitive::<Int32Type>(values, nulls),
            Store::Int64(values) => primitive::<Int64Type>(values, nulls),
            Store::Float32(values) => primitive::<Float32Type>(values, nulls),
            Store::Float64(values) => primitive::<Float64Type>(values, nulls),
            Store::Text(slices) => {
                let (ends, bytes) = slices.finish();
                Arc::new(StringArray::try_new(ends, bytes, nulls)?)
            }
            Store::Bytes(slices) => {
                let (ends, bytes) = slices.finish();
                Arc::new(BinaryArray::try_new(ends, bytes, nulls)?)
            }
            Store::Json(slices) => {
                let (ends, bytes) = slices.finish();
                let ends = ends.iter().map(|end| i64::from(*end)).collect::<Vec<_>>();
                Arc::new(LargeBinaryArray::try_new(OffsetBuffer::new(ends.into()), bytes, nulls)?)
            }
            Store::Uuid(values) => {
                let bytes = Buffer::from_vec(renew(values).into_flattened());
                Arc::new(FixedSizeBinaryArray::try_new(16, bytes, nulls)?)
            }
            Store::Date(values) => typed(&self.data_type, renew(values), rows, nulls)?,
            Store::Time(values, _) | Store::Timestamp(values, ..) => {
                typed(&self.data_type, renew(values), rows, nulls)?
            }
            Store::Decimal(values, ..) => typed(&self.data_type, renew(values), rows, nulls)?,
            Store::List(ends, items, _) => {
                let ends = OffsetBuffer::new(mem::replace(ends, vec![0]).into());
                let DataType::List(item) = &self.data_type else {
                    return Err(ConnectorError::internal("a list column without its item type"));
                };
                Arc::new(ListArray::try_new(FieldRef::clone(item), ends, items.finish()?, nulls)?)
            }
        })
    }
}

/// The range of the last element.
fn last(ends: &[i32]) -> std::ops::RangeFrom<usize> {
    ends.len() - 1..
}

/// Takes the values and leaves room for as many.
fn renew<T>(values: &mut Vec<T>) -> Vec<T> {
    let capacity = values.len();
    mem::replace(values, Vec::with_capacity(capacity))
}

fn primitive<T: ArrowPrimitiveType>(
    values: &mut Vec<T::Native>,
    nulls: Option<NullBuffer>,
) -> ArrayRef {
    Arc::new(PrimitiveArray::<T>::new(ScalarBuffer::from(renew(values)), nulls))
}

fn typed<T: ArrowNativeType>(
    data_type: &DataType,
    values: Vec<T>,
    rows: usize,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef> {
    let data = ArrayData::builder(data_type.clone())
        .len(rows)
        .nulls(nulls)
        .add_buffer(Buffer::from_vec(values))
        .build()?;
    Ok(make_array(data))
}

/// A number too large for the float is not infinity; only the string is.
fn finite<T>(value: T, is_finite: bool, token: &str) -> std::result::Result<T, Fault> {
    match is_finite || token::is_string(token) {
        true => Ok(value),
        false => Err(Fault::past(token.starts_with('-'))),
    }
}

/// The canonical text of a JSON value, which may come in a string.
fn json_value(token: &str) -> std::result::Result<String, Fault> {
    let mut canonical = String::new();
    let read = canonical_json(&token::text(token)?, &mut canonical);
    read.map(|()| canonical).map_err(|_| Fault::new("is not JSON"))
}

fn timestamp_from_integer(value: i64, wire: Wire, to: TimeUnit) -> std::result::Result<i64, Fault> {
    if wire.unit_is_assumed && temporal::is_doubtful(value, wire.unit) {
        return Err(match wire.unit {
            Unit::Millis => DOUBTFUL_MILLIS,
            _ => DOUBTFUL_MICROS,
        });
    }
    temporal::timestamp_from_integer(value, wire.unit, to)
}

const DOUBTFUL_MILLIS: Fault = Fault::with_hint(
    "is not likely to be in milliseconds, as a declared precision of 0 to 3 says",
    "declare the precision that the column has at the source, such as TIMESTAMP(6), or set \
     time.precision.mode (for one column: time.precision.mode.<column>)",
);
const DOUBTFUL_MICROS: Fault = Fault::with_hint(
    "is not likely to be in microseconds, as a declared precision of 4 to 6 or none says",
    "declare the precision that the column has at the source, such as TIMESTAMP(3), or (0) for \
     MySQL's DATETIME, or set time.precision.mode (for one column: time.precision.mode.<column>)",
);

/// Debezium's VariableScaleDecimal.
#[derive(Deserialize)]
struct VariableScale<'a> {
    scale: i32,
    #[serde(borrow)]
    value: std::borrow::Cow<'a, str>,
}

const NOT_A_DECIMAL: Fault = Fault::with_hint(
    "is not a decimal",
    "set decimal.handling.mode to what the source uses: precise, string or double",
);
const DIGITS_OR_BASE64: Fault = Fault::with_hint(
    "may be digits or base64",
    "set decimal.handling.mode to what the source uses: string for digits, precise for base64",
);

fn decimal_value(
    token: &str,
    wire: Wire,
    precision: u8,
    scale: i8,
) -> std::result::Result<i128, Fault> {
    let value = if token.starts_with('{') {
        let variable: VariableScale<'_> = serde_json::from_str(token).map_err(|_| NOT_A_DECIMAL)?;
        decimal::from_base64(&variable.value, variable.scale, scale)
    } else {
        let text = token::text(token)?;
        match wire.decimal {
            DecimalText::Base64 { scale: from } if token::is_string(token) => {
                let is_digits = text.bytes().all(|byte| byte.is_ascii_digit());
                if scale == 0 && wire.decimal_is_assumed && is_digits {
                    return Err(DIGITS_OR_BASE64);
                }
                match &*text {
                    // No base64 either: a source that sends digits has these.
                    "NaN" | "-Infinity" => decimal::from_text(&text, scale),
                    _ => decimal::from_base64(&text, from.unwrap_or(scale.into()), scale),
                }
            }
            _ => decimal::from_text(&text, scale),
        }
    };
    let [first, last] = decimal::bounds(precision);
    match value {
        Ok(value) if (first..=last).contains(&value) => Ok(value),
        Ok(value) => Err(Fault::past(value < 0)),
        Err(Unfit::Malformed) => Err(NOT_A_DECIMAL),
        Err(Unfit::Beyond(beyond)) => Err(Fault::out_of_range(beyond)),
    }
}

fn push_items(
    token: &str,
    items: &mut Column,
    nullable: bool,
    wire: Wire,
) -> std::result::Result<(), Fault> {
    let not_an_array = |_| Fault::new("is not an array");
    let mut cursor = Cursor::new(token);
    let mut array = cursor.array().map_err(not_an_array)?;
    while cursor.next_item(&mut array).map_err(not_an_array)? {
        match cursor.value().map_err(not_an_array)? {
            "null" if nullable => items.push_null(),
            token => items.push(token, wire)?,
        }
    }
    cursor.end().map_err(not_an_array)
}
