//! [`SinkCollect`]: gathers what a sink takes at the next checkpoint.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use arrow::datatypes::SchemaRef;
use frazil_connector_api::{ChangeBatch, SinkMode};

use super::operators::{EpochInfo, Operator, Output};
use crate::catalog::{Catalog, RelationId};
use crate::change::{batch_bytes, consolidate_in_chunks};
use crate::error::Result;
use crate::plan::{IncrementalPlan, Node};
use crate::state::StateDelta;

/// The last operator of a sink's fragment, on worker 0.
///
/// Law: at a checkpoint of epoch e, `ready` holds the sum of all changes since the checkpoint
/// before, up to e, oldest first. For an upsert sink, within an epoch, the changes of a key are in
/// one batch, or its retraction comes before its insertion: so the last change of a key tells
/// whether it has a row, and which.
///
/// It has no durable state: what is ready goes into the manifest's committables or into the sink's
/// log of pending changes.
///
/// Shape: any columns; emits nothing.
#[derive(Debug)]
pub(crate) struct SinkCollect {
    schema: SchemaRef,
    /// The sink's key if changes do not come in that order: those of an epoch are summed up then.
    summed_by: Option<Vec<usize>>,
    /// Changes of the open epoch that are to be summed up.
    epoch: Vec<ChangeBatch>,
    gathered: Vec<ChangeBatch>,
    /// Memory of `epoch` and `gathered`, kept up to date: it is asked for often.
    bytes: usize,
    ready: Rc<RefCell<Vec<ChangeBatch>>>,
}

impl SinkCollect {
    /// For a sink with this input.
    pub(crate) fn new(plan: &IncrementalPlan, mode: &SinkMode, catalog: &Catalog) -> Self {
        let summed_by = match mode {
            SinkMode::Upsert { key } if !is_in_order(plan, catalog) => Some(key.clone()),
            SinkMode::Upsert { .. } | SinkMode::AppendOnly => None,
        };
        let (schema, epoch) = (SchemaRef::clone(&plan.schema), Vec::new());
        Self { schema, summed_by, epoch, gathered: Vec::new(), bytes: 0, ready: Rc::default() }
    }

    /// Where the changes of the last checkpoint lie.
    pub(crate) fn ready(&self) -> Rc<RefCell<Vec<ChangeBatch>>> {
        Rc::clone(&self.ready)
    }
}

/// The relation that an upsert sink follows as it is, by the key of its rows: the sink needs no
/// former rows of it.
pub(crate) fn followed_by_key(
    plan: &IncrementalPlan,
    mode: &SinkMode,
    catalog: &Catalog,
) -> Option<RelationId> {
    let (Node::Scan { relation, .. }, SinkMode::Upsert { key }) = (&plan.node, mode) else {
        return None;
    };
    let own: BTreeSet<usize> = plan.upsert_key.iter().flatten().copied().collect();
    let is_by_key = !own.is_empty() && own == key.iter().copied().collect();
    (is_by_key && is_in_order(plan, catalog)).then_some(*relation)
}

/// True if the changes of a key come in order: tables and views with a key emit them so, and a
/// filter keeps the order. A projection could leave two equal rows of an update.
fn is_in_order(plan: &IncrementalPlan, catalog: &Catalog) -> bool {
    match &plan.node {
        Node::Scan { relation, projection, .. } => {
            let columns = catalog.by_id(*relation).map_or(0, |it| it.schema.fields().len());
            let is_whole = |kept: &Vec<usize>| kept.iter().copied().eq(0..columns);
            plan.upsert_key.is_some() && projection.as_ref().is_none_or(is_whole)
        }
        Node::Filter { input, .. } => is_in_order(input, catalog),
        _ => false,
    }
}

impl Operator for SinkCollect {
    fn name(&self) -> &'static str {
        "SinkCollect"
    }

    fn on_changes(&mut self, _input: usize, changes: ChangeBatch, _: &mut Output) -> Result<()> {
        self.bytes += batch_bytes(changes.rows());
        match self.summed_by {
            Some(_) => self.epoch.push(changes),
            None => self.gathered.push(changes),
        }
        Ok(())
    }

    fn on_epoch_end(&mut self, _epoch: &EpochInfo, _out: &mut Output) -> Result<()> {
        if let Some(key) = &self.summed_by {
            let epoch = std::mem::take(&mut self.epoch);
            let bytes = |batches: &[ChangeBatch]| -> usize {
                batches.iter().map(|changes| batch_bytes(changes.rows())).sum()
            };
            self.bytes -= bytes(&epoch);
            let summed = consolidate_in_chunks(&self.schema, epoch, key)?;
            self.bytes += bytes(&summed);
            self.gathered.extend(summed);
        }
        Ok(())
    }

    fn checkpoint(&mut self) -> Result<Vec<StateDelta>> {
        self.ready.borrow_mut().append(&mut self.gathered);
        self.bytes = 0;
        Ok(Vec::new())
    }

    fn state_bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::DataType;

    use super::*;
    use crate::catalog::ChangelogMode;
    use crate::change::latest_by_key;
    use crate::dataflow::operators::testing::{Harness, assert_changes, changes, schema};

    /// A sink of a query, whose changes are in no order.
    fn collect() -> (Harness<SinkCollect>, SchemaRef) {
        let schema = schema(&[("k", DataType::Int64), ("a", DataType::Utf8)]);
        let plan = IncrementalPlan {
            node: Node::Union { inputs: Vec::new() },
            schema: SchemaRef::clone(&schema),
            mode: ChangelogMode::Retract,
            upsert_key: Some(vec![0]),
        };
        let mode = SinkMode::Upsert { key: vec![0] };
        let operator = SinkCollect::new(&plan, &mode, &Catalog::default());
        (Harness::new(operator, &[SchemaRef::clone(&schema)]), schema)
    }

    /// Rows come and go within an epoch before the last one stays, and the retraction of an update
    /// comes last.
    #[test]
    fn the_last_change_of_a_key_is_the_row_after_the_epoch() {
        let (mut sink, schema) = collect();
        sink.push(0, "+ 1 a\n + 2 b");
        sink.end();
        sink.push(0, "+ 1 x").push(0, "+ 1 c\n - 1 x").push(0, "- 1 a").push(0, "- 2 b");
        sink.end();
        sink.push(0, "+ 3 d").push(0, "- 3 d");
        sink.end();
        sink.operator.checkpoint().unwrap();
        let ready = sink.operator.ready().take();
        let latest = latest_by_key(&schema, &ready, &[0]).unwrap();
        assert_changes!([latest], "+ 1 c\n - 2 b");
    }

    #[test]
    fn a_table_with_the_sinks_key_is_followed_by_it() {
        let schema = schema(&[("k", DataType::Int64), ("a", DataType::Utf8)]);
        let scan = |projection, upsert_key| IncrementalPlan {
            node: Node::Scan { relation: RelationId(7), projection, name: String::new() },
            schema: SchemaRef::clone(&schema),
            mode: ChangelogMode::Retract,
            upsert_key,
        };
        let followed = |plan: &IncrementalPlan, mode: SinkMode| {
            followed_by_key(plan, &mode, &Catalog::default())
        };
        let by = |key: &[usize]| SinkMode::Upsert { key: key.to_vec() };
        assert_eq!(followed(&scan(None, Some(vec![0, 1])), by(&[1, 0])), Some(RelationId(7)));
        assert_eq!(followed(&scan(None, Some(vec![0])), by(&[1])), None);
        assert_eq!(followed(&scan(None, None), by(&[])), None);
        assert_eq!(followed(&scan(Some(vec![0]), Some(vec![0])), by(&[0])), None);
        assert_eq!(followed(&scan(None, Some(vec![0])), SinkMode::AppendOnly), None);
    }

    /// Chunks of a backfill are slices of a table's rows.
    #[test]
    fn slices_count_for_their_own_rows() {
        let (mut sink, schema) = collect();
        let rows: String = (0..1000).map(|row| format!("+ {row} abcdefgh\n")).collect();
        let whole = changes(&schema, &rows).into_parts().0;
        for start in (0..1000).step_by(10) {
            sink.push_batch(0, ChangeBatch::inserts(whole.slice(start, 10)));
        }
        let bytes = sink.operator.state_bytes();
        assert!(bytes < 2 * batch_bytes(&whole), "{bytes} bytes");
    }
}
