//! [`Materialize`]: keeps a view's rows, or those of a table without a primary key.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::{Operator, Output};
use crate::change::{ChangeBatch, concat, consolidate};
use crate::error::Result;
use crate::state::{Arrangement, Identity, RowsSnapshot, StateDelta, StateTable};

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
        let identity = match (is_append_only, upsert_key) {
            (true, _) => Identity::Appended { writer },
            (false, Some(key)) => Identity::Key(key),
            (false, None) => Identity::WholeRow,
        };
        let rows = Arrangement::try_new(schema, identity)?;
        Ok(Self { rows, pending: Vec::new(), is_append_only })
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

    fn on_epoch_end(&mut self, out: &mut Output) -> Result<()> {
        let pending = std::mem::take(&mut self.pending);
        if pending.is_empty() {
            return Ok(());
        }
        let schema = self.rows.schema().clone();
        if self.is_append_only {
            self.rows.apply(&concat(schema, pending)?)?;
        } else {
            let changes = consolidate(schema, pending)?;
            self.rows.apply(&changes)?;
            out.push(changes);
        }
        self.rows.maintain()
    }

    fn state_tables(&self) -> Vec<StateTable> {
        vec![self.rows.state_table()]
    }

    fn checkpoint(&mut self) -> Result<Vec<StateDelta>> {
        Ok(vec![self.rows.delta(0)?])
    }

    fn restore(&mut self, _table: usize, rows: RecordBatch) -> Result<()> {
        self.rows.restore(&rows)
    }

    fn state_bytes(&self) -> usize {
        self.rows.state_bytes()
    }
}
