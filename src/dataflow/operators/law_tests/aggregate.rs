//! Law of [`HashAggregate`].

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use datafusion::logical_expr::Operator as BinaryOperator;
use datafusion::physical_expr::expressions::{BinaryExpr, lit};
use datafusion::physical_plan::PhysicalExpr;
use proptest::prelude::*;

use super::stream::{Rows, append_only, check, ints, steps};
use crate::dataflow::operators::testing::column;
use crate::dataflow::operators::{Aggregate, AggregateFunction, AggregateSpec, HashAggregate};

fn calls() -> Vec<(AggregateFunction, Option<usize>, bool, bool)> {
    use AggregateFunction::{Count, Max, Min, Sum};
    vec![
        (Count, None, false, false),
        (Count, Some(2), false, false),
        (Sum, Some(2), false, false),
        (Min, Some(2), false, false),
        (Max, Some(2), false, false),
        (Count, Some(2), true, false),
        (Sum, Some(2), true, false),
        (Count, None, false, true),
        (Sum, Some(2), false, true),
    ]
}

/// Groups by the first `keys` of columns a, b; aggregates c; the filter is `c > 0`.
fn aggregate(keys: usize, is_append_only: bool, instance: usize) -> HashAggregate {
    let input = ints(&["a", "b", "c"]);
    let positive: Arc<dyn PhysicalExpr> =
        Arc::new(BinaryExpr::new(column(&input, 2), BinaryOperator::Gt, lit(0_i64)));
    let aggregates = calls()
        .into_iter()
        .enumerate()
        .map(|(index, (function, arg, distinct, is_filtered))| Aggregate {
            function,
            arg: arg.map(|arg| column(&input, arg)),
            distinct,
            filter: is_filtered.then(|| Arc::clone(&positive)),
            field: Arc::new(Field::new(format!("x{index}"), DataType::Int64, true)),
        })
        .collect();
    HashAggregate::try_new(AggregateSpec {
        group: (0..keys).map(|key| column(&input, key)).collect(),
        input_schema: input,
        is_append_only,
        aggregates,
        schema: output(keys),
        emits_empty: instance == 0,
    })
    .unwrap()
}

fn output(keys: usize) -> arrow::datatypes::SchemaRef {
    let mut names = ["a", "b"][..keys].to_vec();
    names.extend(&["x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8"]);
    ints(&names)
}

fn reference(keys: usize, rows: &Rows) -> Vec<Vec<Option<i64>>> {
    let mut groups: BTreeMap<Vec<Option<i64>>, Vec<Option<i64>>> = BTreeMap::new();
    if keys == 0 {
        groups.insert(Vec::new(), Vec::new());
    }
    for row in &rows[0] {
        groups.entry(row[..keys].to_vec()).or_default().push(row[2]);
    }
    let sum = |values: &[i64]| (!values.is_empty()).then(|| values.iter().sum::<i64>());
    let results = groups.into_iter().map(|(key, all)| {
        let values: Vec<i64> = all.iter().flatten().copied().collect();
        let distinct: Vec<i64> =
            values.iter().collect::<BTreeSet<_>>().into_iter().copied().collect();
        let positive: Vec<i64> = values.iter().copied().filter(|value| *value > 0).collect();
        let results = [
            Some(all.len() as i64),
            Some(values.len() as i64),
            sum(&values),
            values.iter().min().copied(),
            values.iter().max().copied(),
            Some(distinct.len() as i64),
            sum(&distinct),
            Some(positive.len() as i64),
            sum(&positive),
        ];
        [key.as_slice(), &results].concat()
    });
    results.collect()
}

proptest! {
    #[test]
    fn aggregates_as_batch(
        steps in steps(1, 3),
        keys in 0..3_usize,
        instances in 1..4_usize,
        is_append_only: bool,
    ) {
        let steps = if is_append_only { append_only(&steps) } else { steps };
        let make = |instance| aggregate(keys, is_append_only, instance);
        let instances = if keys == 0 { 1 } else { instances };
        let partition = vec![(0..keys).collect()];
        let schemas = [ints(&["a", "b", "c"])];
        let expected = |rows: &Rows| reference(keys, rows);
        check(&steps, &schemas, &output(keys), &partition, instances, make, expected);
    }
}
