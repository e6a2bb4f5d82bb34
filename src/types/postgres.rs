//! Postgres' names and numbers of Arrow types.

use arrow::datatypes::DataType;

/// Name and OID of the Postgres type that shows a value of `data_type`.
fn postgres_type(data_type: &DataType) -> (&'static str, u32) {
    match data_type {
        DataType::Boolean => ("boolean", 16),
        DataType::Int8 | DataType::UInt8 | DataType::Int16 => ("smallint", 21),
        DataType::UInt16 | DataType::Int32 => ("integer", 23),
        DataType::UInt32 | DataType::Int64 => ("bigint", 20),
        DataType::Float16 | DataType::Float32 => ("real", 700),
        DataType::Float64 => ("double precision", 701),
        DataType::UInt64
        | DataType::Decimal32(..)
        | DataType::Decimal64(..)
        | DataType::Decimal128(..)
        | DataType::Decimal256(..) => ("numeric", 1700),
        DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_) => ("bytea", 17),
        DataType::Date32 | DataType::Date64 => ("date", 1082),
        DataType::Time32(_) | DataType::Time64(_) => ("time without time zone", 1083),
        DataType::Timestamp(_, None) => ("timestamp without time zone", 1114),
        DataType::Timestamp(_, Some(_)) => ("timestamp with time zone", 1184),
        DataType::Interval(_) | DataType::Duration(_) => ("interval", 1186),
        DataType::Dictionary(_, value) => postgres_type(value),
        DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) => {
            ("text[]", 1009)
        }
        _ => ("text", 25),
    }
}

/// The name by which Postgres shows the type, such as `numeric(12,2)`.
pub fn postgres_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Decimal128(precision, scale) => format!("numeric({precision},{scale})"),
        other => postgres_type(other).0.to_string(),
    }
}

/// The OID of the type in Postgres.
pub fn postgres_oid(data_type: &DataType) -> u32 {
    postgres_type(data_type).1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_types_as_postgres_does() {
        assert_eq!(postgres_name(&DataType::Decimal128(12, 2)), "numeric(12,2)");
        assert_eq!(postgres_name(&DataType::Int64), "bigint");
        assert_eq!(postgres_oid(&DataType::Utf8), 25);
        let zone = DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, Some("UTC".into()));
        assert_eq!(postgres_oid(&zone), 1184);
    }
}
