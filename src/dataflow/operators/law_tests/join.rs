//! Law of [`HashJoin`].

use std::sync::Arc;

use datafusion::logical_expr::Operator as BinaryOperator;
use datafusion::physical_expr::expressions::BinaryExpr;
use datafusion::physical_plan::PhysicalExpr;
use proptest::prelude::*;

use super::stream::{Rows, append_only, check, ints, steps};
use crate::dataflow::operators::testing::column;
use crate::dataflow::operators::{HashJoin, InputKind, JoinInput, JoinSpec};

const KINDS: [InputKind; 3] = [InputKind::AppendOnly, InputKind::Unique, InputKind::Retracting];

#[derive(Debug, Clone, Copy)]
struct Shape {
    keys: usize,
    is_left: bool,
    is_filtered: bool,
    kind: InputKind,
}

fn join(shape: Shape, instance: usize) -> HashJoin {
    let (left, right) = (ints(&["a", "b", "c"]), ints(&["d", "e", "f"]));
    let schema = ints(&["a", "b", "c", "d", "e", "f"]);
    let filter: Arc<dyn PhysicalExpr> =
        Arc::new(BinaryExpr::new(column(&schema, 2), BinaryOperator::LtEq, column(&schema, 5)));
    let input = |schema| JoinInput {
        keys: (0..shape.keys).map(|key| column(&schema, key)).collect(),
        schema,
        kind: shape.kind,
    };
    HashJoin::try_new(JoinSpec {
        left: input(left),
        right: input(right),
        filter: shape.is_filtered.then_some(filter),
        is_left: shape.is_left,
        schema,
        writer: instance as u64,
    })
    .unwrap()
}

fn reference(shape: Shape, rows: &Rows) -> Vec<Vec<Option<i64>>> {
    let mut joined = Vec::new();
    for left in &rows[0] {
        let mut is_matched = false;
        for right in &rows[1] {
            let keys = 0..shape.keys;
            let equal = keys.into_iter().all(|key| left[key].is_some() && left[key] == right[key]);
            let fits = left[2].zip(right[2]).is_some_and(|(left, right)| left <= right);
            if equal && (fits || !shape.is_filtered) {
                is_matched = true;
                joined.push([left.as_slice(), right].concat());
            }
        }
        if shape.is_left && !is_matched {
            joined.push([left.as_slice(), &[None, None, None]].concat());
        }
    }
    joined
}

proptest! {
    #[test]
    fn joins_as_batch(
        steps in steps(2, 3),
        keys in 1..3_usize,
        instances in 1..4_usize,
        is_left: bool,
        is_filtered: bool,
        // Rows come several times, also where they are said to be unique: that is but for speed.
        kind in prop::sample::select(KINDS.to_vec()),
    ) {
        let shape = Shape { keys, is_left, is_filtered, kind };
        // Each restart is a new writer, as a new process is.
        let writers = std::cell::Cell::new(0);
        let make = |_| join(shape, writers.replace(writers.get() + 1));
        let is_append_only = kind == InputKind::AppendOnly;
        let steps = if is_append_only { append_only(&steps) } else { steps };
        let partition: Vec<Vec<usize>> = vec![(0..keys).collect(); 2];
        let schemas = [ints(&["a", "b", "c"]), ints(&["d", "e", "f"])];
        let output = ints(&["a", "b", "c", "d", "e", "f"]);
        let expected = |rows: &Rows| reference(shape, rows);
        check(&steps, &schemas, &output, &partition, instances, make, expected);
    }
}
