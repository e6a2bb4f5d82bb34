//! GROUP BY and DISTINCT.

use std::sync::Arc;

use datafusion::common::DFSchema;
use datafusion::logical_expr::{Aggregate, Expr};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::PhysicalExpr;

use super::expression::{physical, physicals};
use super::lower::{arrow_schema, refuse};
use super::{AggregateCall, IncrementalPlan, Node};
use crate::catalog::ChangelogMode;
use crate::error::Result;
use crate::functions::INCREMENTAL_AGGREGATES;

/// Plans groups and aggregates over a planned input. The group columns are the upsert key; without
/// aggregates over an append-only input nothing is ever retracted.
pub(super) fn plan_aggregate(
    aggregate: &Aggregate,
    input: IncrementalPlan,
) -> Result<IncrementalPlan> {
    if aggregate.group_expr.iter().any(|expr| matches!(expr, Expr::GroupingSet(_))) {
        return Err(refuse(
            "GROUPING SETS, ROLLUP or CUBE",
            "write one GROUP BY for each set, with UNION ALL",
        ));
    }
    let schema = arrow_schema(&aggregate.schema);
    let group = physicals(&aggregate.group_expr, aggregate.input.schema())?;
    let fields = schema.fields().iter().skip(group.len());
    let aggregates = aggregate
        .aggr_expr
        .iter()
        .zip(fields)
        .map(|(expr, field)| {
            let mut call = call(expr, aggregate.input.schema())?;
            call.field = Arc::clone(field);
            Ok(call)
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(grouped(input, group, aggregates, schema))
}

/// Groups; `schema` has the group keys, then the aggregates.
pub(super) fn grouped(
    input: IncrementalPlan,
    group: Vec<Arc<dyn PhysicalExpr>>,
    aggregates: Vec<AggregateCall>,
    schema: arrow::datatypes::SchemaRef,
) -> IncrementalPlan {
    let append_only = aggregates.is_empty() && input.mode == ChangelogMode::AppendOnly;
    let mode = if append_only { ChangelogMode::AppendOnly } else { ChangelogMode::Retract };
    let upsert_key = Some((0..group.len()).collect());
    let node = Node::Aggregate { input: Box::new(input), group, aggregates };
    IncrementalPlan { node, schema, mode, upsert_key }
}

/// DISTINCT: groups by all columns.
pub(super) fn distinct(input: IncrementalPlan) -> IncrementalPlan {
    let schema = Arc::clone(&input.schema);
    let column = |(index, field): (usize, &arrow::datatypes::FieldRef)| -> Arc<dyn PhysicalExpr> {
        Arc::new(Column::new(field.name(), index))
    };
    let group = schema.fields().iter().enumerate().map(column).collect();
    grouped(input, group, Vec::new(), schema)
}

/// One aggregate; its output field is set by the caller.
fn call(expr: &Expr, schema: &DFSchema) -> Result<AggregateCall> {
    let (field_name, expr) = match expr {
        Expr::Alias(alias) => (alias.name.clone(), alias.expr.as_ref()),
        other => (other.schema_name().to_string(), other),
    };
    let Expr::AggregateFunction(call) = expr else {
        return Err(refuse(
            &format!("aggregate \"{field_name}\""),
            "use count, sum, avg, min, max",
        ));
    };
    let function = call.func.name().to_string();
    if !INCREMENTAL_AGGREGATES.contains(&function.as_str()) {
        return Err(refuse(
            &format!("aggregate \"{function}\""),
            &format!("aggregates of live views are {}", INCREMENTAL_AGGREGATES.join(", ")),
        ));
    }
    let params = &call.params;
    if !params.order_by.is_empty() || params.null_treatment.is_some() {
        return Err(refuse("an aggregate with ORDER BY or IGNORE NULLS", "leave it out"));
    }
    if params.args.len() > 1 {
        return Err(refuse("an aggregate of several columns", "aggregate one column"));
    }
    // `count(*)` comes as a count of a literal that is never NULL.
    let counts_rows = function == "count"
        && !params.distinct
        && matches!(params.args.as_slice(), [Expr::Literal(value, _)] if !value.is_null());
    let args = if counts_rows { Vec::new() } else { physicals(&params.args, schema)? };
    let filter = params.filter.as_deref().map(|filter| physical(filter, schema)).transpose()?;
    let field =
        Arc::new(arrow::datatypes::Field::new(field_name, arrow::datatypes::DataType::Null, true));
    Ok(AggregateCall { function, args, distinct: params.distinct, filter, field })
}
