//! Rows of a query as rows of a table.

use std::sync::Arc;

use arrow::array::{Array, BooleanArray, RecordBatch};
use arrow::compute::{CastOptions, cast_with_options, concat_batches, filter_record_batch};
use arrow::datatypes::SchemaRef;
use futures::StreamExt;

use crate::catalog::Relation;
use crate::change::{batch_bytes, runs_by_bytes};
use crate::error::{Error, ErrorKind, Result};
use crate::session::query::Planned;
use crate::session::query_error;
use crate::state::KeyTable;

/// Number of rows of batches.
pub(super) fn row_count(rows: &[RecordBatch]) -> usize {
    rows.iter().map(RecordBatch::num_rows).sum()
}

/// Columns and all rows of a query, in batches of bounded size.
pub(super) async fn all_rows(planned: Planned) -> Result<(SchemaRef, Vec<RecordBatch>)> {
    let (columns, mut stream) = planned.run().await?;
    let mut batches = Vec::new();
    while let Some(batch) = stream.next().await {
        let batch = batch.map_err(query_error)?;
        if batch.num_rows() > 0 {
            batches.push(batch);
        }
    }
    Ok((columns, combined(&batches)?))
}

/// Small batches put together.
pub(super) fn combined(batches: &[RecordBatch]) -> Result<Vec<RecordBatch>> {
    let runs = runs_by_bytes(batches.len(), |at| batch_bytes(&batches[at]));
    let combined = runs.into_iter().map(|run| match &batches[run] {
        [only] => Ok(only.clone()),
        run => Ok(concat_batches(&run[0].schema(), run)?),
    });
    combined.collect()
}

/// The first of the rows that begin with the same key of the table.
pub(super) fn first_of_keys(
    batches: Vec<RecordBatch>,
    table: &Relation,
) -> Result<Vec<RecordBatch>> {
    let key = table.upsert_key.clone().unwrap_or_default();
    let types = key.iter().map(|column| table.schema.field(*column).data_type().clone());
    let mut keys = KeyTable::try_new(&types.collect::<Vec<_>>())?;
    let (mut slots, mut is_seen) = (Vec::new(), Vec::new());
    let firsts = batches.into_iter().map(|batch| {
        let columns: Vec<_> = key.iter().map(|column| Arc::clone(batch.column(*column))).collect();
        keys.intern(&columns, batch.num_rows(), &mut slots)?;
        is_seen.resize(keys.slot_count(), false);
        let is_first = |slot: &u32| !std::mem::replace(&mut is_seen[*slot as usize], true);
        let is_first: Vec<bool> = slots.iter().map(is_first).collect();
        Ok(filter_record_batch(&batch, &BooleanArray::from(is_first))?)
    });
    firsts.collect()
}

/// Some columns of a batch, as rows of the table.
pub(super) fn part(
    both: &RecordBatch,
    start: usize,
    width: usize,
    table: &Relation,
) -> Result<RecordBatch> {
    let columns: Vec<usize> = (start..start + width).collect();
    with_schema(&both.project(&columns)?, table)
}

/// The rows under the table's own schema.
///
/// # Errors
/// `NotNullViolation`.
pub(super) fn with_schema(rows: &RecordBatch, table: &Relation) -> Result<RecordBatch> {
    let schema = Arc::clone(&table.schema);
    for (field, column) in schema.fields().iter().zip(rows.columns()) {
        if !field.is_nullable() && column.null_count() > 0 {
            let (column, table) = (field.name(), &table.name);
            return Err(Error::new(
                ErrorKind::NotNullViolation,
                format!(
                    "null value in column \"{column}\" of relation \"{table}\" violates \
                     not-null constraint"
                ),
            ));
        }
    }
    // A parameter comes in the client's own type.
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let columns = schema.fields().iter().zip(rows.columns());
    let columns = columns.map(|(field, column)| match column.data_type() {
        own if own == field.data_type() => Ok(Arc::clone(column)),
        _ => cast_with_options(column, field.data_type(), &options),
    });
    let columns = columns.collect::<std::result::Result<Vec<_>, _>>()?;
    Ok(RecordBatch::try_new(schema, columns)?)
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, AsArray, StringArray};

    use super::*;
    use crate::change::BATCH_BYTES_MAX;

    /// A column of text has 32-bit offsets: one batch of all rows would hold 2 GiB at most.
    #[test]
    fn batches_are_put_together_up_to_the_bound() {
        let text = |row: usize| row.to_string().repeat(20);
        let batch = |row| {
            let column = Arc::new(StringArray::from_iter_values([text(row)])) as ArrayRef;
            RecordBatch::try_from_iter([("t", column)]).unwrap()
        };
        let batches: Vec<_> = (0..20).map(batch).collect();
        let combined = combined(&batches).unwrap();
        assert!(combined.len() > 1 && combined.len() < batches.len());
        assert!(combined.iter().all(|batch| batch_bytes(batch) <= BATCH_BYTES_MAX));
        let texts = combined.iter().flat_map(|batch| batch.column(0).as_string::<i32>().iter());
        assert!(texts.flatten().eq((0..20).map(text)));
        assert_eq!(row_count(&combined), 20);
    }
}
