//! [`Projection`]: the declared columns of a Nexmark table.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, SchemaRef};
use frazil_connector_api::{ConnectorError, Result};

use super::columns::Events;
use super::table::{NexmarkTable, nexmark_schema};

/// Columns by name, in the declared order, cast to the declared types.
#[derive(Debug, Clone)]
pub(crate) struct Projection {
    schema: SchemaRef,
}

impl Projection {
    pub(crate) fn try_new(table: NexmarkTable, declared: &SchemaRef) -> Result<Self> {
        let columns = nexmark_schema(table);
        for field in declared.fields() {
            let made = columns.field_with_name(field.name())?.data_type();
            if !is_castable(made, field.data_type()) {
                return Err(ConnectorError::config(format!(
                    "column \"{}\" is generated as {made}, which does not become {}",
                    field.name(),
                    field.data_type()
                )));
            }
        }
        Ok(Self { schema: Arc::clone(declared) })
    }

    /// The columns of `row_count` events.
    pub(crate) fn apply(&self, events: &Events, row_count: usize) -> Result<RecordBatch> {
        let strict = CastOptions { safe: false, ..CastOptions::default() };
        let columns: Result<Vec<_>> = self
            .schema
            .fields()
            .iter()
            .map(|field| {
                let column = events.column(field.name())?;
                if column.data_type() == field.data_type() {
                    return Ok(column);
                }
                Ok(cast_with_options(&column, field.data_type(), &strict)?)
            })
            .collect();
        let options = RecordBatchOptions::new().with_row_count(Some(row_count));
        let schema = Arc::clone(&self.schema);
        Ok(RecordBatch::try_new_with_options(schema, columns?, &options)?)
    }
}

/// Between kinds of numbers, of text and of times; not from one to another.
fn is_castable(from: &DataType, to: &DataType) -> bool {
    let is_text =
        |kind: &DataType| matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let is_time = |kind: &DataType| matches!(kind, DataType::Timestamp(_, _));
    (from.is_numeric() && to.is_numeric())
        || (is_text(from) && is_text(to))
        || (is_time(from) && is_time(to))
}
