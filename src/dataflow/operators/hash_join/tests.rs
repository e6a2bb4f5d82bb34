//! Tests of [`HashJoin`](super::HashJoin).

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::physical_expr::expressions::Literal;
use datafusion::physical_plan::PhysicalExpr;

use super::InputKind::{self, AppendOnly, Retracting, Unique};
use super::{HashJoin, JoinInput, JoinSpec};
use crate::change::{BATCH_BYTES_MAX, ChangeBatch, batch_bytes};
use crate::dataflow::operators::Operator;
use crate::dataflow::operators::testing::{Harness, Store, assert_changes, column, schema, zset};

fn join(is_left: bool, kind: InputKind) -> Harness<HashJoin> {
    let left = schema(&[("k", DataType::Int64), ("a", DataType::Utf8)]);
    let right = schema(&[("k", DataType::Int64), ("b", DataType::Utf8)]);
    join_of(&left, &right, is_left, kind)
}

fn join_of(
    left: &SchemaRef,
    right: &SchemaRef,
    is_left: bool,
    kind: InputKind,
) -> Harness<HashJoin> {
    let (left, right) = (SchemaRef::clone(left), SchemaRef::clone(right));
    let fields = [left.fields().to_vec(), right.fields().to_vec()].concat();
    let operator = HashJoin::try_new(JoinSpec {
        left: JoinInput { keys: vec![column(&left, 0)], schema: left.clone(), kind },
        right: JoinInput { keys: vec![column(&right, 0)], schema: right.clone(), kind },
        filter: None,
        is_left,
        schema: std::sync::Arc::new(arrow::datatypes::Schema::new(fields)),
        writer: 1,
    });
    Harness::new(operator.unwrap(), &[left, right])
}

#[test]
fn joins_within_and_across_epochs() {
    let mut join = join(false, Retracting);
    join.push(0, "+ 1 a\n + NULL n").push(1, "+ 1 x\n + NULL m");
    assert_changes!(join.end(), "+ 1 a 1 x");
    join.push(1, "+ 1 y").push(0, "- 1 a");
    assert_changes!(join.end(), "+ 1 a 1 y\n - 1 a 1 x\n - 1 a 1 y");
    join.push(1, "+ 1 z");
    assert_changes!(join.end(), "");
}

#[test]
fn weights_multiply() {
    let mut join = join(false, Retracting);
    join.push(0, "+2 1 a").push(1, "+3 1 x");
    assert_changes!(join.end(), "+6 1 a 1 x");
}

#[test]
fn repeats_rows_of_append_only_inputs() {
    let mut join = join(false, AppendOnly);
    join.push(0, "+2 1 a").push(1, "+ 1 x");
    assert_changes!(join.end(), "+ 1 a 1 x\n + 1 a 1 x");
}

#[test]
fn retracts_null_row_when_partner_arrives() {
    let mut join = join(true, Retracting);
    join.push(0, "+ 1 a\n + NULL n");
    assert_changes!(join.end(), "+ 1 a NULL NULL\n + NULL n NULL NULL");
    join.push(1, "+ 1 x");
    assert_changes!(join.end(), "+ 1 a 1 x\n - 1 a NULL NULL");
    join.push(1, "- 1 x");
    assert_changes!(join.end(), "- 1 a 1 x\n + 1 a NULL NULL");
    join.push(0, "- 1 a\n - NULL n");
    assert_changes!(join.end(), "- 1 a NULL NULL\n - NULL n NULL NULL");
}

#[test]
fn keeps_match_counts_across_a_restart() {
    let mut store = Store::default();
    let mut first = join(true, Retracting);
    first.push(0, "+ 1 a\n + 2 b").push(1, "+ 1 x");
    first.end();
    let deltas = first.operator.checkpoint().unwrap();
    store.apply(&first.operator, deltas);
    let mut second = join(true, Retracting);
    store.restore(&mut second.operator);
    second.push(1, "+ 2 y\n - 1 x");
    assert_changes!(second.end(), "+ 2 b 2 y\n - 2 b NULL NULL\n - 1 a 1 x\n + 1 a NULL NULL");
}

#[test]
fn rows_of_one_hash_are_told_apart() {
    let side = schema(&[("k", DataType::Int64), ("x", DataType::Float64)]);
    let output = schema(&["a", "b", "c", "d"].map(|name| (name, DataType::Float64)));
    for kind in [Unique, Retracting] {
        let mut join = join_of(&side, &side, false, kind);
        let end = |join: &mut Harness<HashJoin>| {
            let mut sums: Vec<(String, i64)> = zset(&output, join.end()).into_iter().collect();
            sums.sort();
            sums
        };
        let (zero, negative) = ("1 0.0 1 5.0".to_string(), "1 -0.0 1 5.0".to_string());
        // 0.0 and -0.0 have one hash and are two rows.
        join.push(0, "+ 1 0.0\n + 1 -0.0\n +2 1 -0.0\n + 1 0.0").push(1, "+ 1 5.0");
        assert_eq!(end(&mut join), [(negative.clone(), 3), (zero.clone(), 2)]);
        join.push(0, "- 1 0.0\n -3 1 -0.0");
        assert_eq!(end(&mut join), [(negative.clone(), -3), (zero.clone(), -1)]);
        join.push(0, "+ 1 -0.0\n - 1 0.0");
        assert_eq!(end(&mut join), [(negative, 1), (zero, -1)]);
    }
}

#[test]
fn restores_sides_without_columns() {
    let (none, one) = (schema(&[]), schema(&[("x", DataType::Int64)]));
    let constant =
        || -> Arc<dyn PhysicalExpr> { Arc::new(Literal::new(ScalarValue::Int64(Some(1)))) };
    for kind in [AppendOnly, Unique, Retracting] {
        let make = || {
            let operator = HashJoin::try_new(JoinSpec {
                left: JoinInput { schema: none.clone(), keys: vec![constant()], kind },
                right: JoinInput { schema: one.clone(), keys: vec![constant()], kind },
                filter: None,
                is_left: false,
                schema: SchemaRef::clone(&one),
                writer: 1,
            });
            Harness::new(operator.unwrap(), &[SchemaRef::clone(&none), SchemaRef::clone(&one)])
        };
        let rows = |count| {
            let options = RecordBatchOptions::new().with_row_count(Some(count));
            let columns = Vec::new();
            RecordBatch::try_new_with_options(SchemaRef::clone(&none), columns, &options).unwrap()
        };
        let (mut store, mut first) = (Store::default(), make());
        first.push_batch(0, ChangeBatch::inserts(rows(2)));
        first.end();
        let deltas = first.operator.checkpoint().unwrap();
        store.apply(&first.operator, deltas);
        let mut second = make();
        store.restore(&mut second.operator);
        second.push(1, "+ 7");
        let count: i64 = second
            .end()
            .iter()
            .flat_map(|out| (0..out.num_rows()).map(|row| out.weight(row)))
            .sum();
        assert_eq!(count, 2);
    }
}

#[test]
fn a_row_that_goes_and_comes_leaves_no_trace() {
    [Unique, Retracting].into_iter().for_each(goes_and_comes);
}

fn goes_and_comes(kind: InputKind) {
    let mut store = Store::default();
    let mut first = join(false, kind);
    first.push(0, "+ 1 a\n + 1 b").push(1, "+ 1 x");
    first.end();
    let deltas = first.operator.checkpoint().unwrap();
    store.apply(&first.operator, deltas);
    // Gone and back in a batch, in an epoch, and between two epochs.
    first.push(0, "+ 1 c\n - 1 c\n - 1 a").push(0, "+ 1 a\n - 1 b");
    first.end();
    first.push(0, "+ 1 b\n - 1 a");
    assert_changes!(first.end(), "+ 1 b 1 x\n - 1 a 1 x");
    first.push(0, "- 1 b\n + 1 d\n - 1 d");
    first.end();
    first.push(0, "+ 1 b");
    first.end();
    let deltas = first.operator.checkpoint().unwrap();
    store.apply(&first.operator, deltas);
    let mut second = join(false, kind);
    store.restore(&mut second.operator);
    for join in [&mut first, &mut second] {
        join.push(1, "+ 1 y");
        assert_changes!(join.end(), "+ 1 b 1 y");
    }
}

#[test]
fn refuses_to_store_a_row_that_was_only_retracted() {
    for kind in [Unique, Retracting] {
        let mut join = join(false, kind);
        join.push(0, "- 1 a");
        join.end();
        assert!(join.operator.checkpoint().unwrap_err().message.contains("1 rows"));
    }
}

#[test]
fn a_retraction_may_come_before_its_row() {
    let mut join = join(true, Unique);
    join.push(0, "+ 1 a").push(1, "+ 1 x");
    join.end();
    // A row goes before it comes, on both sides; a left one is padded in between.
    join.push(1, "- 1 y").push(0, "- 1 b").push(1, "- 1 x\n + 1 y").push(0, "+ 1 b");
    let schema = join.operator.schema.clone();
    let sums = zset(&schema, join.end());
    let expected = [("1 a 1 x".to_string(), -1), ("1 a NULL NULL".to_string(), 1)];
    assert_eq!(sums, expected.into());
    let deltas = join.operator.checkpoint().unwrap();
    assert_eq!(deltas.iter().map(|delta| delta.row_count()).sum::<usize>(), 1);
}

#[test]
fn cuts_output_into_chunks() {
    let mut join = join(false, Retracting);
    let lines: String = (0..300).map(|row| format!("+ 1 {row}\n")).collect();
    join.push(0, &lines).push(1, &lines);
    let output = join.end();
    let sizes: Vec<usize> = output.iter().map(|batch| batch_bytes(batch.rows())).collect();
    assert!(sizes.iter().all(|bytes| *bytes <= 2 * BATCH_BYTES_MAX), "{:?}", sizes.iter().max());
    assert_eq!(output.iter().map(ChangeBatch::num_rows).sum::<usize>(), 90_000);
}
