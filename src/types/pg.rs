//! Arrow types as Postgres types, and back: the one mapping of both.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, IntervalUnit, TimeUnit};
use tokio_postgres::types::{Kind, Type};

/// `UUID`: 16 bytes, ordered as PostgreSQL does.
pub const UUID: DataType = DataType::FixedSizeBinary(16);

/// `JSONB`: canonical JSON text.
pub const JSONB: DataType = DataType::LargeBinary;

/// Whether it is a type that Arrow's kernels take for bytes: they neither read nor write its texts.
pub fn is_beyond_arrow(data_type: &DataType) -> bool {
    *data_type == UUID || *data_type == JSONB
}

/// The Postgres type of a value, the type of its arrays, and its SQL name; `None` if Postgres has
/// none, or no array of it.
fn scalar(data_type: &DataType) -> Option<(Type, Type, &'static str)> {
    Some(match data_type {
        DataType::Boolean => (Type::BOOL, Type::BOOL_ARRAY, "boolean"),
        DataType::Int8 | DataType::UInt8 | DataType::Int16 => {
            (Type::INT2, Type::INT2_ARRAY, "smallint")
        }
        DataType::UInt16 | DataType::Int32 => (Type::INT4, Type::INT4_ARRAY, "integer"),
        DataType::UInt32 | DataType::Int64 => (Type::INT8, Type::INT8_ARRAY, "bigint"),
        DataType::Float16 | DataType::Float32 => (Type::FLOAT4, Type::FLOAT4_ARRAY, "real"),
        DataType::Float64 => (Type::FLOAT8, Type::FLOAT8_ARRAY, "double precision"),
        DataType::UInt64 | DataType::Decimal128(..) => {
            (Type::NUMERIC, Type::NUMERIC_ARRAY, "numeric")
        }
        // A column of nothing but NULLs is text to a client, as in PostgreSQL.
        DataType::Null | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            (Type::TEXT, Type::TEXT_ARRAY, "text")
        }
        DataType::LargeBinary => (Type::JSONB, Type::JSONB_ARRAY, "jsonb"),
        DataType::FixedSizeBinary(16) => (Type::UUID, Type::UUID_ARRAY, "uuid"),
        DataType::Binary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            (Type::BYTEA, Type::BYTEA_ARRAY, "bytea")
        }
        DataType::Date32 | DataType::Date64 => (Type::DATE, Type::DATE_ARRAY, "date"),
        DataType::Time32(_) | DataType::Time64(_) => (Type::TIME, Type::TIME_ARRAY, "time"),
        DataType::Timestamp(_, None) => (Type::TIMESTAMP, Type::TIMESTAMP_ARRAY, "timestamp"),
        DataType::Timestamp(_, Some(_)) => {
            (Type::TIMESTAMPTZ, Type::TIMESTAMPTZ_ARRAY, "timestamptz")
        }
        DataType::Interval(_) | DataType::Duration(_) => {
            (Type::INTERVAL, Type::INTERVAL_ARRAY, "interval")
        }
        DataType::Dictionary(_, value) => return scalar(value),
        _ => return None,
    })
}

/// The type of a list's items.
fn item(data_type: &DataType) -> Option<&DataType> {
    match data_type {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            Some(item.data_type())
        }
        _ => None,
    }
}

/// The Postgres type of an Arrow type; `None` if there is none.
pub fn pg_type(data_type: &DataType) -> Option<Type> {
    match item(data_type) {
        Some(item) => scalar(item).map(|(_, array, _)| array),
        None => scalar(data_type).map(|(own, ..)| own),
    }
}

/// The Arrow type of the values that a Postgres type has, as far as Frazil has such values.
pub fn of_pg(pg: &Type) -> Option<DataType> {
    let micros =
        |zone: Option<&str>| DataType::Timestamp(TimeUnit::Microsecond, zone.map(Arc::from));
    Some(match *pg {
        Type::BOOL => DataType::Boolean,
        Type::INT2 => DataType::Int16,
        Type::INT4 => DataType::Int32,
        Type::INT8 | Type::OID => DataType::Int64,
        Type::FLOAT4 => DataType::Float32,
        Type::FLOAT8 => DataType::Float64,
        Type::NUMERIC => DataType::Decimal128(38, 16),
        Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::CHAR | Type::JSON => {
            DataType::Utf8
        }
        Type::BYTEA => DataType::Binary,
        Type::DATE => DataType::Date32,
        Type::TIME => DataType::Time64(TimeUnit::Microsecond),
        Type::TIMESTAMP => micros(None),
        Type::TIMESTAMPTZ => micros(Some("UTC")),
        Type::INTERVAL => DataType::Interval(IntervalUnit::MonthDayNano),
        Type::UUID => UUID,
        Type::JSONB => JSONB,
        _ => match pg.kind() {
            Kind::Array(item) => {
                DataType::List(Arc::new(Field::new_list_field(of_pg(item)?, true)))
            }
            _ => return None,
        },
    })
}

/// The name by which SQL shows a type, such as `numeric(12,2)` and `bigint[]`.
pub fn type_name(data_type: &DataType) -> String {
    match (data_type, item(data_type)) {
        (DataType::Decimal128(precision, scale), _) => format!("numeric({precision},{scale})"),
        (_, Some(item)) => format!("{}[]", type_name(item)),
        _ => scalar(data_type).map_or_else(|| data_type.to_string(), |(.., name)| name.to_string()),
    }
}

/// The name of a type in messages, as PostgreSQL's `format_type` gives it without a modifier.
pub fn pg_name(data_type: &DataType) -> String {
    if let Some(item) = item(data_type) {
        return format!("{}[]", pg_name(item));
    }
    match scalar(data_type) {
        None => data_type.to_string(),
        Some((.., "time")) => "time without time zone".to_string(),
        Some((.., "timestamp")) => "timestamp without time zone".to_string(),
        Some((.., "timestamptz")) => "timestamp with time zone".to_string(),
        Some((.., name)) => name.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_of_a_client_is_described_by_itself() {
        for pg in [
            Type::BOOL,
            Type::INT2,
            Type::INT4,
            Type::INT8,
            Type::FLOAT4,
            Type::FLOAT8,
            Type::NUMERIC,
            Type::TEXT,
            Type::BYTEA,
            Type::DATE,
            Type::TIME,
            Type::TIMESTAMP,
            Type::TIMESTAMPTZ,
            Type::INTERVAL,
            Type::UUID,
            Type::JSONB,
            Type::UUID_ARRAY,
            Type::NUMERIC_ARRAY,
            Type::JSONB_ARRAY,
        ] {
            assert_eq!(of_pg(&pg).and_then(|it| pg_type(&it)), Some(pg));
        }
        assert_eq!(of_pg(&Type::POINT), None);
    }

    #[test]
    fn types_have_the_names_of_postgres() {
        assert_eq!(type_name(&DataType::Decimal128(12, 2)), "numeric(12,2)");
        assert_eq!(type_name(&DataType::new_list(UUID, true)), "uuid[]");
        let zoned = of_pg(&Type::TIMESTAMPTZ).unwrap();
        assert_eq!(type_name(&zoned), "timestamptz");
        assert_eq!(pg_name(&zoned), "timestamp with time zone");
        assert_eq!(pg_name(&DataType::Decimal128(12, 2)), "numeric");
    }
}
