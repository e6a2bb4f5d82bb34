//! Words: primitive columns of up to 64 bits as `u64`, in the order of their values.
//!
//! ```text
//! Int32  -1, 0, 1   ->  0x7fff…, 0x8000…, 0x8000…01   (sign bit flipped)
//! Float  total order: -NaN < -inf < … < -0.0 < 0.0 < … < inf < NaN
//! ```
//!
//! **Invariant:** `decode(encode(x)) == x`, and `encode(a) < encode(b)` iff `a < b`. NULLs are not
//! encoded: their word is 0 and the caller looks at the null buffer.

use std::sync::Arc;

use arrow::array::{Array, ArrayData, ArrayRef, make_array};
use arrow::buffer::{Buffer, NullBuffer};
use arrow::datatypes::{ArrowNativeType, DataType};

use crate::error::{Error, Result};

/// How a type is laid out in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
    F32,
    F64,
}

fn layout(data_type: &DataType) -> Option<Layout> {
    Some(match data_type {
        DataType::Int8 => Layout::I8,
        DataType::Int16 => Layout::I16,
        DataType::Int32 | DataType::Date32 | DataType::Time32(_) => Layout::I32,
        DataType::Decimal32(_, _) => Layout::I32,
        DataType::Int64 | DataType::Date64 | DataType::Time64(_) => Layout::I64,
        DataType::Timestamp(_, _) | DataType::Duration(_) => Layout::I64,
        DataType::Decimal64(_, _) => Layout::I64,
        DataType::UInt8 => Layout::U8,
        DataType::UInt16 => Layout::U16,
        DataType::UInt32 => Layout::U32,
        DataType::UInt64 => Layout::U64,
        DataType::Float32 => Layout::F32,
        DataType::Float64 => Layout::F64,
        _ => return None,
    })
}

/// Whether values of the type are words.
pub fn is_word(data_type: &DataType) -> bool {
    layout(data_type).is_some()
}

const SIGN: u64 = 1 << 63;

fn signed(value: i64) -> u64 {
    value.cast_unsigned() ^ SIGN
}

fn unsigned_to_signed(word: u64) -> i64 {
    (word ^ SIGN).cast_signed()
}

fn float(bits: u64) -> u64 {
    if bits & SIGN == 0 { bits | SIGN } else { !bits }
}

fn word_to_float(word: u64) -> u64 {
    if word & SIGN == 0 { !word } else { word & !SIGN }
}

/// The words of a column; `None` if its type has none.
pub fn encode(array: &dyn Array) -> Option<Vec<u64>> {
    let layout = layout(array.data_type())?;
    let data = array.to_data();
    Some(match layout {
        Layout::I8 => map::<i8>(&data, |value| signed(value.into())),
        Layout::I16 => map::<i16>(&data, |value| signed(value.into())),
        Layout::I32 => map::<i32>(&data, |value| signed(value.into())),
        Layout::I64 => map::<i64>(&data, signed),
        Layout::U8 => map::<u8>(&data, u64::from),
        Layout::U16 => map::<u16>(&data, u64::from),
        Layout::U32 => map::<u32>(&data, u64::from),
        Layout::U64 => map::<u64>(&data, |value| value),
        Layout::F32 => map::<f32>(&data, |value| float(f64::from(value).to_bits())),
        Layout::F64 => map::<f64>(&data, |value| float(value.to_bits())),
    })
}

fn map<T: ArrowNativeType>(data: &ArrayData, word: impl Fn(T) -> u64) -> Vec<u64> {
    let values = &data.buffer::<T>(0)[..data.len()];
    let nulls = data.nulls().filter(|nulls| nulls.null_count() > 0);
    match nulls {
        None => values.iter().map(|value| word(*value)).collect(),
        Some(nulls) => values
            .iter()
            .zip(nulls.iter())
            .map(|(value, valid)| if valid { word(*value) } else { 0 })
            .collect(),
    }
}

/// The column whose words are given.
///
/// # Errors
/// `Internal` if the type has no words or the lengths differ.
pub fn decode(
    words: impl Iterator<Item = u64>,
    nulls: Option<NullBuffer>,
    data_type: &DataType,
) -> Result<ArrayRef> {
    let layout = layout(data_type)
        .ok_or_else(|| Error::internal(format!("type {data_type} is not held in words")))?;
    #[expect(clippy::cast_possible_truncation, reason = "the word was made from that width")]
    let (len, buffer) = match layout {
        Layout::I8 => collect(words.map(|word| unsigned_to_signed(word) as i8)),
        Layout::I16 => collect(words.map(|word| unsigned_to_signed(word) as i16)),
        Layout::I32 => collect(words.map(|word| unsigned_to_signed(word) as i32)),
        Layout::I64 => collect(words.map(unsigned_to_signed)),
        Layout::U8 => collect(words.map(|word| word as u8)),
        Layout::U16 => collect(words.map(|word| word as u16)),
        Layout::U32 => collect(words.map(|word| word as u32)),
        Layout::U64 => collect(words),
        Layout::F32 => collect(words.map(|word| f64::from_bits(word_to_float(word)) as f32)),
        Layout::F64 => collect(words.map(|word| f64::from_bits(word_to_float(word)))),
    };
    let data =
        ArrayData::builder(data_type.clone()).len(len).add_buffer(buffer).nulls(nulls).build()?;
    Ok(Arc::clone(&make_array(data)))
}

fn collect<T: ArrowNativeType>(values: impl Iterator<Item = T>) -> (usize, Buffer) {
    let values: Vec<T> = values.collect();
    (values.len(), Buffer::from_vec(values))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float32Array, Float64Array, Int8Array, TimestampMicrosecondArray};

    use super::*;

    #[test]
    fn keep_values_and_their_order() {
        let inf = f64::INFINITY;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int8Array::from(vec![-128, -1, 0, 1, 127])),
            Arc::new(Float32Array::from(vec![f32::NEG_INFINITY, -0.0, 0.0, 0.1, f32::NAN])),
            Arc::new(Float64Array::from(vec![-inf, -1.5, -0.0, 0.0, inf])),
            Arc::new(TimestampMicrosecondArray::from(vec![-5, 0, 7]).with_timezone("UTC")),
        ];
        for column in columns {
            let words = encode(&column).unwrap();
            assert!(words.is_sorted_by(|low, high| low < high), "{column:?}");
            let decoded = decode(words.into_iter(), None, column.data_type()).unwrap();
            assert_eq!(format!("{decoded:?}"), format!("{column:?}"));
        }
    }
}
