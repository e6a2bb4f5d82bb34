//! [`stored_type`]: the type that a column of a relation has.

use arrow::datatypes::{DataType, TimeUnit};

use super::UUID;

/// The type in which a value of `data_type` is kept in a relation.
///
/// Functions may give views of text, unsigned numbers or timestamps in other units; relations
/// have one form of each, so that equal values are equal bytes everywhere.
pub fn stored_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::FixedSizeBinary(16) => UUID,
        DataType::BinaryView | DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::Dictionary(_, value) => stored_type(value),
        DataType::Int8 | DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 | DataType::UInt64 => DataType::Int64,
        DataType::Float16 => DataType::Float32,
        DataType::Null => DataType::Utf8,
        DataType::Date64 => DataType::Date32,
        DataType::Time32(_) | DataType::Time64(_) => DataType::Time64(TimeUnit::Microsecond),
        DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_one_form_of_text_and_time() {
        assert_eq!(stored_type(&DataType::Utf8View), DataType::Utf8);
        let nanos = DataType::Timestamp(TimeUnit::Nanosecond, None);
        assert_eq!(stored_type(&nanos), DataType::Timestamp(TimeUnit::Microsecond, None));
        assert_eq!(stored_type(&DataType::Int64), DataType::Int64);
    }
}
