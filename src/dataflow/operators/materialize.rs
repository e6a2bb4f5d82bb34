//! [`Materialize`]: keeps a view's rows, or those of a table without a primary key.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::{EpochInfo, Operator, Output};
use crate::change::{ChangeBatch, batch_bytes, consolidate_in_chunks};
use crate::env::Scratch;
use crate::error::Result;
use crate::state::{Arrangement, Identity, MovedRows, RowsSnapshot, StateDelta, StateTable};

/// Keeps the sum of all changes, readable as snapshots, and passes the changes on.
///
/// For input changes `dI` of an epoch it emits `consolidate(dI)` at the epoch's end and holds
/// `I`. Append-only changes pass at once and need no index.
///
/// Shape: the input's. State: one arrangement: appended rows if the input is AppendOnly, rows by
/// upsert key if there is one, else distinct rows with multiplicity.
///
/// # Errors
/// `Internal` if rows are retracted that are not there, or an upsert key comes twice.
#[derive(Debug)]
pub struct Materialize {
    rows: Arrangement,
    pending: Vec<ChangeBatch>,
    is_append_only: bool,
    /// Columns whose values tell rows apart: the upsert key, or all.
    key: Vec<usize>,
}

impl Materialize {
    /// An empty view or table.
    ///
    /// `writer` is a number unique among all workers of all processes that ever wrote this state
    /// (such as fence and worker); append-only rows are numbered under it.
    ///
    /// # Errors
    /// `Internal` for a type that Arrow's row format does not hold.
    pub fn try_new(
        schema: SchemaRef,
        is_append_only: bool,
        upsert_key: Option<Vec<usize>>,
        writer: u64,
    ) -> Result<Self> {
        let all_columns = || (0..schema.fields().len()).collect();
        let key = upsert_key.clone().unwrap_or_else(all_columns);
        let identity = match (is_append_only, upsert_key) {
            (true, _) => Identity::Appended { writer },
            (false, Some(key)) => Identity::Key(key),
            (false, None) => Identity::WholeRow,
        };
        let rows = Arrangement::try_new(schema, identity)?;
        Ok(Self { rows, pending: Vec::new(), is_append_only, key })
    }

    /// The rows as of the last finished epoch; call between epochs.
    pub fn snapshot(&self) -> RowsSnapshot {
        self.rows.snapshot()
    }
}

impl Operator for Materialize {
    fn name(&self) -> &'static str {
        "materialize"
    }

    fn on_changes(&mut self, _input: usize, changes: ChangeBatch, out: &mut Output) -> Result<()> {
        if self.is_append_only {
            out.push(changes.clone());
        }
        self.pending.push(changes);
        Ok(())
    }

    fn on_epoch_end(&mut self, _epoch: &EpochInfo, out: &mut Output) -> Result<()> {
        let pending = std::mem::take(&mut self.pending);
        if pending.is_empty() {
            return Ok(());
        }
        if self.is_append_only {
            // As they came: a large batch is a segment without a copy, small ones are merged.
            pending.iter().try_for_each(|changes| self.rows.apply(changes))?;
        } else {
            // A key's rows come and go in one chunk.
            for changes in consolidate_in_chunks(self.rows.schema(), pending, &self.key)? {
                self.rows.apply(&changes)?;
                out.push(changes);
            }
        }
        self.rows.maintain()
    }

    fn state_tables(&self) -> Vec<StateTable> {
        vec![self.rows.state_table()]
    }

    fn changed_rows(&self) -> usize {
        self.rows.changed_rows()
    }

    fn checkpoint(&mut self) -> Result<Vec<StateDelta>> {
        Ok(vec![self.rows.delta(0)?])
    }

    fn restore(&mut self, _table: usize, rows: RecordBatch) -> Result<()> {
        self.rows.restore(&rows)
    }

    fn move_cold(&mut self, wanted: usize, least: usize, to: &Scratch) -> Result<MovedRows> {
        self.rows.move_cold(wanted, least, to)
    }

    fn cold_bytes(&self) -> usize {
        self.rows.cold_bytes()
    }

    fn state_bytes(&self) -> usize {
        let pending = self.pending.iter().map(|changes| batch_bytes(changes.rows()));
        self.rows.state_bytes() + pending.sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::DataType;

    use super::*;
    use crate::dataflow::operators::testing::{Harness, assert_changes, schema};

    fn view(is_append_only: bool, key: Option<Vec<usize>>) -> Harness<Materialize> {
        let schema = schema(&[("k", DataType::Int64), ("a", DataType::Utf8)]);
        let view = Materialize::try_new(schema.clone(), is_append_only, key, 1).unwrap();
        Harness::new(view, &[schema])
    }

    fn stored(view: &Harness<Materialize>) -> Vec<ChangeBatch> {
        let batches = view.operator.snapshot().batches(None).unwrap();
        batches.into_iter().map(ChangeBatch::inserts).collect()
    }

    #[test]
    fn consolidates_and_expands_multiplicity() {
        let mut view = view(false, None);
        view.push(0, "+ 1 a\n - 2 b").push(0, "+2 2 b\n +2 1 a\n + 3 c\n - 3 c");
        assert_changes!(view.end(), "+3 1 a\n + 2 b");
        assert_changes!(stored(&view), "+ 1 a\n + 1 a\n + 1 a\n + 2 b");
        assert_eq!(view.operator.snapshot().row_count(), 4);
        view.push(0, "-2 1 a");
        view.end();
        assert_changes!(stored(&view), "+ 1 a\n + 2 b");
    }

    #[test]
    fn replaces_rows_by_key_and_old_snapshots_stay() {
        let mut view = view(false, Some(vec![0]));
        view.push(0, "+ 1 a\n + 2 b");
        view.end();
        let before = view.operator.snapshot();
        view.push(0, "+ 1 c\n - 1 a\n - 2 b");
        view.end();
        assert_changes!(stored(&view), "+ 1 c");
        assert_eq!(before.row_count(), 2);
    }

    #[test]
    fn refuses_to_retract_what_is_not_there() {
        for key in [None, Some(vec![0])] {
            let mut view = view(false, key);
            view.push(0, "- 1 a\n - 2 b");
            assert!(view.try_end().unwrap_err().message.starts_with("2 rows were retracted"));
        }
    }

    #[test]
    fn a_thousand_single_rows_do_not_make_a_thousand_segments() {
        for is_append_only in [true, false] {
            let mut view = view(is_append_only, None);
            for row in 0..1000 {
                view.push(0, &format!("+ {row} a"));
                view.end();
            }
            let batches = view.operator.snapshot().batches(Some(&[0])).unwrap();
            assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 1000);
            assert!(batches.len() < 40, "{} segments", batches.len());
        }
    }
}
