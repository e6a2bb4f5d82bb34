//! [`hash_rows`]: a stable hash of rows by columns.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Decimal128Type, Float32Type, Float64Type};
use arrow::row::{RowConverter, SortField};

use super::words;
use crate::error::Result;

const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
const NULL: u64 = 0xd6e8_feb8_6659_fd93;
const MULTIPLIER: u64 = 0xa076_1d64_78bd_642f;

/// Mixes two words into one: the folded 128-bit product.
#[inline]
pub fn mix(left: u64, right: u64) -> u64 {
    let product = u128::from(left ^ MULTIPLIER) * u128::from(right ^ SEED);
    #[expect(clippy::cast_possible_truncation, reason = "folds both halves")]
    let folded = (product as u64) ^ ((product >> 64) as u64);
    folded
}

/// Hash of bytes: the same in every process and build.
#[inline]
pub fn hash_bytes(seed: u64, bytes: &[u8]) -> u64 {
    let mut hash = seed ^ bytes.len() as u64;
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        hash = mix(hash, u64::from_le_bytes(*word));
    }
    if !rest.is_empty() {
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        hash = mix(hash, u64::from_le_bytes(last));
    }
    // Not with SEED, which `mix` takes to 0.
    mix(hash, NULL)
}

/// One hash a row over all columns.
///
/// Equal rows have equal hashes in every process; NULL is a value like others, all NaNs are one
/// value, and -0.0 is 0.0. Without columns every row has the same hash.
///
/// # Errors
/// `Internal` for a type that Arrow's row format does not hold.
pub fn hash_rows(columns: &[ArrayRef], row_count: usize) -> Result<Vec<u64>> {
    let mut hashes = vec![SEED; row_count];
    for column in columns {
        hash_column(column, &mut hashes)?;
    }
    Ok(hashes)
}

fn hash_column(column: &ArrayRef, hashes: &mut [u64]) -> Result<()> {
    match column.data_type() {
        DataType::Float32 => {
            let values = column.as_primitive::<Float32Type>();
            combine(column, hashes, |hash, row| {
                mix(hash, float_bits(f64::from(values.value(row))))
            });
        }
        DataType::Float64 => {
            let values = column.as_primitive::<Float64Type>();
            combine(column, hashes, |hash, row| mix(hash, float_bits(values.value(row))));
        }
        DataType::Utf8 => {
            let values = column.as_string::<i32>();
            combine(column, hashes, |hash, row| hash_bytes(hash, values.value(row).as_bytes()));
        }
        DataType::Utf8View => {
            let values = column.as_string_view();
            combine(column, hashes, |hash, row| hash_bytes(hash, values.value(row).as_bytes()));
        }
        DataType::Binary => {
            let values = column.as_binary::<i32>();
            combine(column, hashes, |hash, row| hash_bytes(hash, values.value(row)));
        }
        DataType::LargeBinary => {
            let values = column.as_binary::<i64>();
            combine(column, hashes, |hash, row| hash_bytes(hash, values.value(row)));
        }
        DataType::FixedSizeBinary(_) => {
            let values = column.as_fixed_size_binary();
            combine(column, hashes, |hash, row| hash_bytes(hash, values.value(row)));
        }
        DataType::Decimal128(_, _) => {
            let values = column.as_primitive::<Decimal128Type>();
            #[expect(clippy::cast_possible_truncation, reason = "takes both halves")]
            combine(column, hashes, |hash, row| {
                let value = values.value(row).cast_unsigned();
                mix(mix(hash, value as u64), (value >> 64) as u64)
            });
        }
        _ => hash_other(column, hashes)?,
    }
    Ok(())
}

fn hash_other(column: &ArrayRef, hashes: &mut [u64]) -> Result<()> {
    if let Some(words) = words::encode(column) {
        combine(column, hashes, |hash, row| mix(hash, words[row]));
        return Ok(());
    }
    let converter = RowConverter::new(vec![SortField::new(column.data_type().clone())])?;
    let rows = converter.convert_columns(std::slice::from_ref(column))?;
    combine(column, hashes, |hash, row| hash_bytes(hash, rows.row(row).data()));
    Ok(())
}

fn combine(column: &ArrayRef, hashes: &mut [u64], hash_of: impl Fn(u64, usize) -> u64) {
    let nulls = column.logical_nulls().filter(|nulls| nulls.null_count() > 0);
    for (row, hash) in hashes.iter_mut().enumerate() {
        let is_null = nulls.as_ref().is_some_and(|nulls| nulls.is_null(row));
        *hash = if is_null { mix(*hash, NULL) } else { hash_of(*hash, row) };
    }
}

fn float_bits(value: f64) -> u64 {
    if value.is_nan() {
        f64::NAN.to_bits()
    } else if value == 0.0 {
        0
    } else {
        value.to_bits()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float64Array, Int64Array, StringArray};

    use super::*;

    #[test]
    fn normalises_floats_and_tells_null_from_zero() {
        let column: ArrayRef = Arc::new(Float64Array::from(vec![
            Some(0.0),
            Some(-0.0),
            Some(f64::NAN),
            Some(-f64::NAN),
            None,
        ]));
        let hashes = hash_rows(&[column], 5).unwrap();
        assert_eq!(hashes[0], hashes[1]);
        assert_eq!(hashes[2], hashes[3]);
        assert_ne!(hashes[0], hashes[4]);
    }

    #[test]
    fn never_changes_between_builds() {
        let ints: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["a", "longer than eight"]));
        let hashes = hash_rows(&[ints, texts], 2).unwrap();
        assert_eq!(hashes, [16_337_959_925_371_505_901, 4_811_114_462_789_666_391]);
    }
}
