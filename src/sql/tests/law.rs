//! A plan means what its query means: each is run over the same rows, the plan by the plainest
//! reading of its nodes, the query by DataFusion.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray as _, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, filter_record_batch, take};
use arrow::datatypes::SchemaRef;
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::Transformed;
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::PhysicalExpr;
use datafusion::prelude::SessionContext;

use super::super::Bound;
use super::support::{apply, bound};
use crate::catalog::Catalog;
use crate::plan::{IncrementalPlan, JoinKind, Node, RelationSource, plan};

fn values(exprs: &[Arc<dyn PhysicalExpr>], rows: &RecordBatch) -> Vec<ArrayRef> {
    let count = rows.num_rows();
    exprs.iter().map(|expr| expr.evaluate(rows).unwrap().into_array(count).unwrap()).collect()
}

fn row(arrays: &[ArrayRef], index: usize) -> Vec<ScalarValue> {
    arrays.iter().map(|array| ScalarValue::try_from_array(array, index).unwrap()).collect()
}

fn keep(rows: &RecordBatch, predicate: &Arc<dyn PhysicalExpr>) -> RecordBatch {
    let mask = values(std::slice::from_ref(predicate), rows).remove(0);
    filter_record_batch(rows, mask.as_boolean()).unwrap()
}

fn join(plan: &IncrementalPlan, tables: &dyn Fn(&str) -> RecordBatch) -> RecordBatch {
    let Node::Join { left, right, kind, left_keys, right_keys, filter } = &plan.node else {
        panic!("not a join")
    };
    let (left, right) = (run(left, tables), run(right, tables));
    let (left_keys, right_keys) = (values(left_keys, &left), values(right_keys, &right));
    let pair = |pairs: &[(u32, Option<u32>)]| {
        let lefts = UInt32Array::from_iter_values(pairs.iter().map(|pair| pair.0));
        let rights = UInt32Array::from_iter(pairs.iter().map(|pair| pair.1));
        let one = left.columns().iter().map(|array| take(array, &lefts, None).unwrap());
        let other = right.columns().iter().map(|array| take(array, &rights, None).unwrap());
        RecordBatch::try_new(SchemaRef::clone(&plan.schema), one.chain(other).collect()).unwrap()
    };
    let mut pairs = Vec::new();
    for one in 0..left.num_rows() {
        let mut found = false;
        for other in 0..right.num_rows() {
            let (key, partner) = (row(&left_keys, one), row(&right_keys, other));
            let equal = key == partner && !key.iter().any(ScalarValue::is_null);
            let candidate = (one as u32, Some(other as u32));
            let passes = |filter| keep(&pair(&[candidate]), filter).num_rows() == 1;
            if equal && filter.as_ref().is_none_or(passes) {
                pairs.push(candidate);
                found = true;
            }
        }
        if *kind == JoinKind::Left && !found {
            pairs.push((one as u32, None));
        }
    }
    pair(&pairs)
}

fn run(plan: &IncrementalPlan, tables: &dyn Fn(&str) -> RecordBatch) -> RecordBatch {
    let schema = SchemaRef::clone(&plan.schema);
    match &plan.node {
        Node::Scan { name, projection: None, .. } => tables(name),
        Node::Scan { name, projection: Some(kept), .. } => tables(name).project(kept).unwrap(),
        Node::Values { rows } => rows.clone(),
        Node::Filter { input, predicate } => keep(&run(input, tables), predicate),
        Node::Project { input, exprs } => {
            RecordBatch::try_new(schema, values(exprs, &run(input, tables))).unwrap()
        }
        Node::Union { inputs } => {
            let inputs = inputs.iter().map(|input| run(input, tables));
            let inputs = inputs.map(|rows| {
                RecordBatch::try_new(SchemaRef::clone(&schema), rows.columns().to_vec()).unwrap()
            });
            concat_batches(&schema, &inputs.collect::<Vec<_>>()).unwrap()
        }
        Node::Join { .. } => join(plan, tables),
        Node::Aggregate { input, group, aggregates } => {
            let rows = run(input, tables);
            let keys = values(group, &rows);
            let mut groups: Vec<(Vec<ScalarValue>, u32, i64)> = Vec::new();
            for index in 0..rows.num_rows() {
                let key = row(&keys, index);
                match groups.iter_mut().find(|(other, ..)| *other == key) {
                    Some((.., count)) => *count += 1,
                    None => groups.push((key, index as u32, 1)),
                }
            }
            let first = UInt32Array::from_iter_values(groups.iter().map(|group| group.1));
            let mut arrays: Vec<ArrayRef> =
                keys.iter().map(|array| take(array, &first, None).unwrap()).collect();
            for call in aggregates {
                assert_eq!((call.function.as_str(), call.args.len()), ("count", 0));
                let counts = groups.iter().map(|group| group.2);
                arrays.push(Arc::new(Int64Array::from_iter_values(counts)));
            }
            RecordBatch::try_new(schema, arrays).unwrap()
        }
        Node::TopN { .. } => panic!("a top-N has an order of its own"),
    }
}

fn sorted(batches: &[RecordBatch]) -> Vec<String> {
    let mut rows: Vec<String> = batches
        .iter()
        .flat_map(|rows| {
            (0..rows.num_rows()).map(|index| format!("{:?}", row(rows.columns(), index)))
        })
        .collect();
    rows.sort();
    rows
}

fn table(name: &str) -> RecordBatch {
    let pairs: &[(Option<i64>, Option<i64>)] = match name {
        "l" => &[(Some(1), Some(1)), (Some(2), Some(1)), (Some(3), None), (None, Some(4))],
        "r" => &[(Some(1), Some(7)), (Some(1), Some(8)), (None, Some(9)), (Some(5), None)],
        _ => panic!("no table {name}"),
    };
    let schema = Arc::clone(&shop().get(name).unwrap().schema);
    let one = Int64Array::from_iter(pairs.iter().map(|pair| pair.0));
    let other = Int64Array::from_iter(pairs.iter().map(|pair| pair.1));
    RecordBatch::try_new(schema, vec![Arc::new(one), Arc::new(other)]).unwrap()
}

fn shop() -> Catalog {
    let mut catalog = Catalog::default();
    apply(&mut catalog, "CREATE TABLE l (a BIGINT, b BIGINT); CREATE TABLE r (c BIGINT, d BIGINT)");
    catalog
}

/// Puts the rows in the place of the relations.
fn with_rows(plan: LogicalPlan) -> LogicalPlan {
    let plan = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::TableScan(mut scan) => {
            let rows = table(&scan.source.downcast_ref::<RelationSource>().unwrap().name);
            let provider = MemTable::try_new(rows.schema(), vec![vec![rows]])?;
            scan.source = provider_as_source(Arc::new(provider));
            Ok(Transformed::yes(LogicalPlan::TableScan(scan)))
        }
        other => Ok(Transformed::no(other)),
    });
    plan.unwrap().data
}

#[test]
fn plans_mean_what_their_queries_mean() {
    let queries = [
        "SELECT a + 1 AS x, b FROM l WHERE b IS NOT NULL",
        "SELECT a, d FROM l JOIN r ON b = c",
        "SELECT a, d FROM l LEFT JOIN r ON b = c AND d > 7",
        "SELECT a, d FROM l RIGHT JOIN r ON b = c AND a > 1",
        "SELECT a, d FROM l, r WHERE a < d",
        "SELECT a FROM l, r",
        "SELECT b, count(*) AS n FROM l GROUP BY b HAVING count(*) > 1",
        "SELECT DISTINCT c FROM r",
        "SELECT a FROM l UNION SELECT d FROM r",
        "SELECT a FROM l UNION ALL SELECT c FROM r",
        "SELECT a FROM l WHERE b IN (SELECT c FROM r)",
        "SELECT a, b FROM l WHERE EXISTS (SELECT 1 FROM r WHERE c = b)",
        "SELECT a, b FROM l WHERE NOT EXISTS (SELECT 1 FROM r WHERE c = b)",
        "SELECT a FROM l WHERE EXISTS (SELECT 1 FROM r WHERE d > 8)",
        "SELECT a FROM l WHERE NOT EXISTS (SELECT 1 FROM r WHERE d > 100)",
        "SELECT count(*) AS n FROM l, r",
        "SELECT count(*) AS n FROM (SELECT a FROM l UNION ALL SELECT c FROM r) u",
        "SELECT a FROM l WHERE a > (SELECT count(*) FROM r WHERE d > 8)",
        "SELECT x FROM (VALUES (1), (2)) AS t (x) WHERE x > 1",
        "SELECT 1 AS x, CAST(NULL AS TEXT) AS y, 'a' AS z",
    ];
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for text in queries {
        let Bound::Query(query) = bound(&shop(), text).unwrap() else { panic!("not a query") };
        let found = run(&plan(&query).unwrap(), &table);
        let frame = runtime.block_on(SessionContext::new().execute_logical_plan(with_rows(query)));
        let expected = runtime.block_on(frame.unwrap().collect()).unwrap();
        let names = |rows: &RecordBatch| rows.schema().fields().len();
        assert_eq!(sorted(std::slice::from_ref(&found)), sorted(&expected), "{text}");
        assert_eq!(Some(names(&found)), expected.first().map(names), "{text}");
    }
}
