//! [`in_target_types`]: rows in the types that connectors of sinks know.
//!
//! A connector knows Arrow's types, and not what PostgreSQL makes of them: UUID and JSONB leave the
//! engine as their texts.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;

use super::replacement::texts_of;
use crate::types::is_beyond_arrow;

/// The columns of [`in_target_types`].
pub fn target_schema(schema: &SchemaRef) -> SchemaRef {
    if !schema.fields().iter().any(|field| is_beyond_arrow(field.data_type())) {
        return Arc::clone(schema);
    }
    let fields = schema.fields().iter().map(|field| match is_beyond_arrow(field.data_type()) {
        true => Arc::new(Field::new(field.name(), DataType::Utf8, field.is_nullable())),
        false => Arc::clone(field),
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// The rows with UUID and JSONB as text; equal values have equal texts.
///
/// # Errors
/// None for rows of stored types.
pub fn in_target_types(rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let schema = target_schema(rows.schema_ref());
    let columns = rows.columns().iter().map(|column| match is_beyond_arrow(column.data_type()) {
        true => Ok(Arc::new(texts_of(column)?) as ArrayRef),
        false => Ok(Arc::clone(column)),
    });
    RecordBatch::try_new(schema, columns.collect::<Result<_, ArrowError>>()?)
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, FixedSizeBinaryArray, Int64Array, LargeBinaryArray};

    use super::*;

    #[test]
    fn only_uuid_and_jsonb_become_text() {
        let ids = FixedSizeBinaryArray::try_from_iter([[7_u8; 16]].into_iter()).unwrap();
        let columns: [(&str, ArrayRef); 3] = [
            ("n", Arc::new(Int64Array::from(vec![1]))),
            ("id", Arc::new(ids)),
            ("doc", Arc::new(LargeBinaryArray::from_iter_values([b"{\"a\": 1}"]))),
        ];
        let rows = in_target_types(&RecordBatch::try_from_iter(columns).unwrap()).unwrap();
        assert_eq!(rows.column(0).data_type(), &DataType::Int64);
        let texts = |at: usize| rows.column(at).as_string::<i32>().value(0).to_string();
        assert_eq!(texts(1), "07070707-0707-0707-0707-070707070707");
        assert_eq!(texts(2), "{\"a\": 1}");
    }
}
