//! [`SnapshotTable`]: a table or view at one epoch, for batch queries.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::{DataFusionError, Statistics};
use datafusion::datasource::TableType;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::scalar::ScalarValue;

use crate::job::RelationSnapshot;

mod remote_scan;

use remote_scan::RemoteScan;

/// Keys that are looked up at most; a query that wants more scans.
const LOOKUPS_MAX: usize = 1024;

/// Reads one [`RelationSnapshot`]; knows its exact number of rows.
///
/// If a query binds all columns of the relation's key to constants, the rows are looked up instead
/// of scanned.
#[derive(Debug)]
pub(super) struct SnapshotTable {
    schema: SchemaRef,
    key: Vec<usize>,
    rows: RelationSnapshot,
}

impl SnapshotTable {
    /// A table of these rows, unique by `key` if that is known.
    pub(super) fn new(schema: SchemaRef, key: Option<Vec<usize>>, rows: RelationSnapshot) -> Self {
        Self { schema, key: key.unwrap_or_default(), rows }
    }

    /// True if a scan with these filters gives a few rows only.
    pub(super) fn gives_few(&self, filters: &[Expr]) -> bool {
        self.rows.row_count() <= LOOKUPS_MAX
            || matches!(wanted_keys(&self.schema, &self.key, filters), Ok(Some(_)))
    }

    /// The rows that the filters can be true for, or more; `None` if these are many that other
    /// processes have.
    async fn batches(
        &self,
        projection: Option<&[usize]>,
        filters: &[Expr],
    ) -> Result<Option<Vec<RecordBatch>>, DataFusionError> {
        let batches = match wanted_keys(&self.schema, &self.key, filters)? {
            Some(wanted) => self.rows.lookup(&self.key, &wanted, projection).await,
            None if self.rows.is_here() => self.rows.batches_here(projection),
            None => return Ok(None),
        };
        batches.map(Some).map_err(|error| DataFusionError::External(Box::new(error)))
    }
}

#[async_trait]
impl TableProvider for SnapshotTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn statistics(&self) -> Option<Statistics> {
        let mut statistics = Statistics::new_unknown(&self.schema);
        statistics.num_rows = Precision::Exact(self.rows.row_count());
        Some(statistics)
    }

    /// Filters on key columns help to find rows; all are evaluated again above the scan.
    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>, DataFusionError> {
        let helps = |filter: &&Expr| match constants(filter) {
            Some((name, _)) if self.key.iter().any(|at| self.schema.field(*at).name() == name) => {
                TableProviderFilterPushDown::Inexact
            }
            _ => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(helps).collect())
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        let schema = match projection {
            Some(columns) => Arc::new(self.schema.project(columns)?),
            None => Arc::clone(&self.schema),
        };
        let Some(batches) = self.batches(projection.map(Vec::as_slice), filters).await? else {
            return Ok(Arc::new(RemoteScan::new(self.rows.clone(), projection.cloned(), schema)));
        };
        let batches = batches
            .into_iter()
            .map(|batch| batch.with_schema(Arc::clone(&schema)))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(MemorySourceConfig::try_new_exec(&[batches], schema, None)?)
    }
}

/// The keys that filters leave, one column per key column; `None` if they leave keys open.
fn wanted_keys(
    schema: &SchemaRef,
    key: &[usize],
    filters: &[Expr],
) -> Result<Option<Vec<ArrayRef>>, DataFusionError> {
    if key.is_empty() {
        return Ok(None);
    }
    let mut bound: BTreeMap<&str, Vec<ScalarValue>> = BTreeMap::new();
    for (name, values) in filters.iter().filter_map(constants) {
        let value = |item: &Expr| match item {
            Expr::Literal(value, _) => Some(value.clone()),
            _ => None,
        };
        if let Some(values) = values.into_iter().map(value).collect() {
            // A second condition on a column only makes the result smaller.
            bound.entry(name).or_insert(values);
        }
    }
    let mut combinations: Vec<Vec<ScalarValue>> = vec![Vec::new()];
    for at in key {
        let field = schema.field(*at);
        let Some(values) = bound.get(field.name().as_str()) else { return Ok(None) };
        let fits =
            |value: &ScalarValue| value.data_type() == *field.data_type() && !value.is_null();
        if !values.iter().all(fits) || combinations.len() * values.len() > LOOKUPS_MAX {
            return Ok(None);
        }
        combinations = combinations
            .into_iter()
            .flat_map(|first| {
                values
                    .iter()
                    .map(move |value| [first.as_slice(), std::slice::from_ref(value)].concat())
            })
            .collect();
    }
    let columns = (0..key.len()).map(|column| {
        ScalarValue::iter_to_array(combinations.iter().map(|values| values[column].clone()))
    });
    columns.collect::<Result<Vec<_>, _>>().map(Some)
}

/// The column that a condition binds to constants, and these: `k = 1`, `k IN (1, 2)`,
/// `k = 1 OR k = 2`. A parameter is a constant that comes later.
fn constants(filter: &Expr) -> Option<(&str, Vec<&Expr>)> {
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => {
            match (left.as_ref(), right.as_ref()) {
                (Expr::Column(column), value) | (value, Expr::Column(column))
                    if is_constant(value) =>
                {
                    Some((&column.name, vec![value]))
                }
                _ => None,
            }
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            let ((one, mut values), (other, more)) = (constants(left)?, constants(right)?);
            values.extend(more);
            (one == other).then_some((one, values))
        }
        Expr::InList(InList { expr, list, negated: false }) => {
            let Expr::Column(column) = expr.as_ref() else { return None };
            list.iter().all(is_constant).then(|| (column.name.as_str(), list.iter().collect()))
        }
        _ => None,
    }
}

fn is_constant(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(..) | Expr::Placeholder(_) => true,
        Expr::Cast(cast) => is_constant(&cast.expr),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::{DataType, Field, Int32Type, Schema};
    use datafusion::logical_expr::cast;
    use datafusion::logical_expr::expr::Placeholder;
    use datafusion::prelude::{col, lit};

    use super::*;

    fn wanted(filters: &[Expr]) -> Option<Vec<(i32, String)>> {
        let fields = [
            Field::new("v", DataType::Float64, true),
            Field::new("k", DataType::Int32, false),
            Field::new("t", DataType::Utf8, false),
        ];
        let columns = wanted_keys(&Arc::new(Schema::new(fields.to_vec())), &[1, 2], filters);
        let columns = columns.unwrap()?;
        let (ids, texts) = (columns[0].as_primitive::<Int32Type>(), columns[1].as_string::<i32>());
        let rows = (0..ids.len()).map(|row| (ids.value(row), texts.value(row).to_string()));
        Some(rows.collect())
    }

    #[test]
    fn finds_the_keys_that_conditions_leave() {
        let one = |k: i32, t: &str| (k, t.to_string());
        assert_eq!(
            wanted(&[col("k").eq(lit(1)), lit("x").eq(col("t")), col("v").eq(lit(0.5))]),
            Some(vec![one(1, "x")])
        );
        assert_eq!(
            wanted(&[
                col("k").in_list(vec![lit(1), lit(2)], false),
                col("t").eq(lit("x")).or(col("t").eq(lit("y"))),
            ]),
            Some(vec![one(1, "x"), one(1, "y"), one(2, "x"), one(2, "y")])
        );
    }

    #[test]
    fn a_parameter_is_a_constant_that_comes_later() {
        let parameter = || {
            let field = Some(Arc::new(Field::new("$1", DataType::Int64, true)));
            Expr::Placeholder(Placeholder::new_with_field("$1".to_string(), field))
        };
        for value in [parameter(), cast(parameter(), DataType::Int32)] {
            let filter = col("k").eq(value);
            assert_eq!(constants(&filter).map(|(column, _)| column), Some("k"));
            assert_eq!(wanted(&[filter, col("t").eq(lit("x"))]), None);
        }
        assert!(constants(&col("k").eq(parameter() + col("v"))).is_none());
    }

    #[test]
    fn scans_when_a_key_column_is_open_or_of_another_type() {
        let both = |k: Expr| [k, col("t").eq(lit("x"))];
        for filters in [
            both(col("k").gt(lit(1))),
            both(col("k").eq(lit(1_i64))),
            both(col("k").eq(lit(ScalarValue::Int32(None)))),
            both(col("k").in_list(vec![lit(1)], true)),
            both(col("k").eq(lit(1)).or(col("t").eq(lit("y")))),
            both(col("k").eq(lit(1)).or(col("k").gt(lit(5)))),
            both(col("k").in_list((0..2000).map(lit).collect(), false)),
        ] {
            assert_eq!(wanted(&filters), None, "{filters:?}");
        }
    }
}
