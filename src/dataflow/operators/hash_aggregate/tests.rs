//! Tests of [`HashAggregate`](super::HashAggregate).

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, SchemaRef};

use super::{Aggregate, AggregateFunction, AggregateSpec, HashAggregate};
use crate::dataflow::operators::Operator;
use crate::dataflow::operators::testing::{Harness, Store, assert_changes, column, schema};
use crate::error::ErrorKind;

fn input(value: DataType) -> SchemaRef {
    schema(&[("k", DataType::Utf8), ("x", value)])
}

/// `SELECT k, <functions of x> GROUP BY k`, or without `k`.
fn aggregate(
    value: DataType,
    keys: usize,
    calls: &[(&str, bool, DataType)],
) -> Harness<HashAggregate> {
    let input = input(value);
    let mut fields = vec![("k", DataType::Utf8)];
    fields.truncate(keys);
    fields.extend(calls.iter().map(|(name, _, output)| (*name, output.clone())));
    let aggregates = calls.iter().map(|(name, distinct, output)| Aggregate {
        function: AggregateFunction::from_name(name).unwrap(),
        arg: Some(column(&input, 1)),
        distinct: *distinct,
        filter: None,
        field: Arc::new(Field::new(*name, output.clone(), true)),
    });
    let operator = HashAggregate::try_new(AggregateSpec {
        is_append_only: false,
        group: (0..keys).map(|key| column(&input, key)).collect(),
        aggregates: aggregates.collect(),
        schema: schema(&fields),
        emits_empty: true,
        input_schema: Arc::clone(&input),
    });
    Harness::new(operator.unwrap(), &[input])
}

fn sums() -> Harness<HashAggregate> {
    aggregate(DataType::Int64, 1, &[("sum", false, DataType::Int64)])
}

#[test]
fn emits_old_and_new_once_an_epoch() {
    let mut sums = sums();
    sums.push(0, "+ a 1\n + a 2").push(0, "+ b 5\n + NULL 7");
    assert_changes!(sums.end(), "+ a 3\n + b 5\n + NULL 7");
    sums.push(0, "+ a 4").push(0, "- a 1\n - b 5");
    assert_changes!(sums.end(), "- a 3\n + a 6\n - b 5");
}

#[test]
fn is_silent_when_nothing_changes() {
    let mut sums = sums();
    sums.push(0, "+ a 1");
    sums.end();
    sums.push(0, "- a 1\n + a 1\n + c 1\n - c 1");
    assert_changes!(sums.end(), "");
    assert_changes!(sums.end(), "");
}

#[test]
fn sum_of_no_values_is_null() {
    let mut sums = sums();
    sums.push(0, "+ a NULL");
    assert_changes!(sums.end(), "+ a NULL");
    sums.push(0, "+ a 2");
    assert_changes!(sums.end(), "- a NULL\n + a 2");
}

#[test]
fn refuses_a_sum_out_of_range_but_not_on_the_way() {
    let mut sums = sums();
    sums.push(0, "+ a 9223372036854775807\n + a 1\n - a 1");
    assert_changes!(sums.end(), "+ a 9223372036854775807");
    sums.push(0, "+ a 1");
    assert_eq!(sums.try_end().unwrap_err().kind, ErrorKind::OutOfRange);
}

#[test]
fn refuses_a_negative_row_count() {
    let mut sums = sums();
    sums.push(0, "- a 1");
    assert_eq!(sums.try_end().unwrap_err().kind, ErrorKind::Internal);
}

#[test]
fn has_one_row_without_keys() {
    let calls = [("count", false, DataType::Int64), ("max", false, DataType::Int64)];
    let mut global = aggregate(DataType::Int64, 0, &calls);
    assert_changes!(global.end(), "+ 0 NULL");
    assert_changes!(global.end(), "");
    global.push(0, "+ a 4");
    assert_changes!(global.end(), "- 0 NULL\n + 1 4");
    global.push(0, "- a 4");
    assert_changes!(global.end(), "- 1 4\n + 0 NULL");

    let mut store = Store::default();
    let deltas = global.operator.checkpoint().unwrap();
    store.apply(&global.operator, deltas);
    let mut again = aggregate(DataType::Int64, 0, &calls);
    store.restore(&mut again.operator);
    assert_changes!(again.end(), "");
}

#[test]
fn is_distinct_without_aggregates() {
    let mut distinct = aggregate(DataType::Int64, 1, &[]);
    distinct.push(0, "+ a 1\n + a 2\n + b 1");
    assert_changes!(distinct.end(), "+ a\n + b");
    distinct.push(0, "- a 1\n - b 1");
    assert_changes!(distinct.end(), "- b");
}

#[test]
fn cuts_off_a_decimal_average_like_the_batch_function() {
    let calls = [("avg", false, DataType::Decimal128(14, 6))];
    let mut averages = aggregate(DataType::Decimal128(10, 2), 1, &calls);
    averages.push(0, "+ a 0.01\n + a 0.01\n + a 0.00\n + b -0.02\n + b 0\n + b 0");
    assert_changes!(averages.end(), "+ a 0.006666\n + b -0.006666");
}

#[test]
fn float_sums_leave_nothing_behind() {
    let calls = [("sum", false, DataType::Float64), ("avg", false, DataType::Float64)];
    let mut floats = aggregate(DataType::Float64, 1, &calls);
    floats.push(0, "+ a 0.1\n + a 1e300\n + a inf\n + a NaN");
    assert_changes!(floats.end(), "+ a NaN NaN");
    floats.push(0, "- a NaN");
    assert_changes!(floats.end(), "- a NaN NaN\n + a inf inf");
    floats.push(0, "- a 1e300\n - a inf");
    assert_changes!(floats.end(), "- a inf inf\n + a 0.1 0.1");
}

#[test]
fn finds_the_next_minimum_when_one_goes() {
    let calls = [("min", false, DataType::Utf8), ("max", false, DataType::Utf8)];
    let mut ends = aggregate(DataType::Utf8, 1, &calls);
    ends.push(0, "+ a x\n + a y\n + a z\n + a z\n + b NULL");
    assert_changes!(ends.end(), "+ a x z\n + b NULL NULL");
    ends.push(0, "- a x\n - a z");
    assert_changes!(ends.end(), "- a x z\n + a y z");
}
