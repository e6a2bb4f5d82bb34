//! [`plan`]: a logical plan's nodes to incremental ones.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::{SortOptions, concat};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::logical_expr::{
    Distinct, EmptyRelation, FetchType, Filter, Limit, LogicalPlan, Projection, SkipType, Sort,
    TableScan, Union, Values,
};
use datafusion::physical_expr::expressions::{CastExpr, Column};
use datafusion::physical_plan::PhysicalExpr;

use super::aggregate::{distinct, plan_aggregate};
use super::expression::{column_index, physical, physicals};
use super::join::plan_join;
use super::lower::{arrow_schema, columns, filtered, projected, refuse};
use super::rules::rewrite;
use super::{IncrementalPlan, Node, RelationSource, SortKey};
use crate::catalog::ChangelogMode;
use crate::error::{Error, Result};
use crate::types::stored_type;

/// Plans a query as one that is kept up.
///
/// # Errors
/// `Unsupported` with the node's name for what has no incremental operator.
pub fn plan(plan: &LogicalPlan) -> Result<IncrementalPlan> {
    Ok(with_stored_types(translate(&rewrite(plan)?)?))
}

fn translate(plan: &LogicalPlan) -> Result<IncrementalPlan> {
    match plan {
        LogicalPlan::TableScan(scan) => plan_scan(scan),
        LogicalPlan::Filter(filter) => plan_filter(filter),
        LogicalPlan::Projection(projection) => plan_projection(projection),
        LogicalPlan::SubqueryAlias(alias) => translate(&alias.input),
        LogicalPlan::Subquery(subquery) => translate(&subquery.subquery),
        LogicalPlan::Union(union) => plan_union(union),
        LogicalPlan::Join(join) => plan_join(join, translate(&join.left)?, translate(&join.right)?),
        LogicalPlan::Aggregate(aggregate) => {
            plan_aggregate(aggregate, translate(&aggregate.input)?)
        }
        LogicalPlan::Distinct(Distinct::All(input)) => Ok(distinct(translate(input)?)),
        // An order is nothing to a set of rows; only a limit over it is.
        LogicalPlan::Sort(Sort { input, fetch: None, .. }) => translate(input),
        LogicalPlan::Sort(Sort { input, expr, fetch: Some(limit) }) => {
            plan_top(expr, input, 0, *limit)
        }
        LogicalPlan::Limit(limit) => plan_limit(limit),
        LogicalPlan::Values(values) => plan_values(values),
        LogicalPlan::EmptyRelation(empty) => plan_empty(empty),
        LogicalPlan::Window(_) => Err(refuse(
            "a window function (OVER)",
            "join with an aggregate, or use ORDER BY … LIMIT for the first rows of all",
        )),
        LogicalPlan::RecursiveQuery(_) => {
            Err(refuse("WITH RECURSIVE", "read it with a SELECT instead of a view"))
        }
        LogicalPlan::Unnest(_) => Err(refuse("UNNEST", "read it with a SELECT instead of a view")),
        other => {
            let name = other.display().to_string();
            let name = name.split([':', ' ']).next().unwrap_or_default().to_string();
            Err(refuse(&name, "read it with a SELECT instead of a view"))
        }
    }
}

fn plan_scan(scan: &TableScan) -> Result<IncrementalPlan> {
    let Some(source) = scan.source.downcast_ref::<RelationSource>() else {
        return Err(refuse(
            &format!("table \"{}\"", scan.table_name),
            "only tables, sources and views of this engine can be read by a live view",
        ));
    };
    if !scan.filters.is_empty() || scan.fetch.is_some() {
        return Err(Error::internal("a scan was planned with filters"));
    }
    let upsert_key = source.upsert_key.as_ref().and_then(|key| match &scan.projection {
        None => Some(key.clone()),
        Some(kept) => {
            key.iter().map(|column| kept.iter().position(|index| index == column)).collect()
        }
    });
    Ok(IncrementalPlan {
        node: Node::Scan {
            relation: source.id,
            name: source.name.clone(),
            projection: scan.projection.clone(),
        },
        schema: arrow_schema(&scan.projected_schema),
        mode: source.mode,
        upsert_key,
    })
}

fn plan_filter(filter: &Filter) -> Result<IncrementalPlan> {
    let input = translate(&filter.input)?;
    let predicate = physical(&filter.predicate, filter.input.schema())?;
    Ok(filtered(input, predicate))
}

fn plan_projection(projection: &Projection) -> Result<IncrementalPlan> {
    let schema = projection.input.schema();
    let exprs = physicals(&projection.expr, schema)?;
    if let LogicalPlan::EmptyRelation(EmptyRelation { produce_one_row: true, .. }) =
        projection.input.as_ref()
    {
        return constant_row(&exprs, arrow_schema(&projection.schema));
    }
    let input = translate(&projection.input)?;
    let sources: Vec<Option<usize>> =
        projection.expr.iter().map(|expr| column_index(expr, schema)).collect();
    Ok(projected(input, exprs, &sources, arrow_schema(&projection.schema)))
}

fn plan_union(union: &Union) -> Result<IncrementalPlan> {
    let schema = arrow_schema(&union.schema);
    let inputs = union
        .inputs
        .iter()
        .map(|input| Ok(of_schema(translate(input)?, &schema)))
        .collect::<Result<Vec<_>>>()?;
    let append_only = inputs.iter().all(|input| input.mode == ChangelogMode::AppendOnly);
    let mode = if append_only { ChangelogMode::AppendOnly } else { ChangelogMode::Retract };
    Ok(IncrementalPlan { node: Node::Union { inputs }, schema, mode, upsert_key: None })
}

/// Gives the columns of a union's input the names that they have in the union.
fn of_schema(input: IncrementalPlan, schema: &SchemaRef) -> IncrementalPlan {
    if input.schema == *schema {
        return input;
    }
    let all: Vec<usize> = (0..schema.fields().len()).collect();
    columns(input, &all, Arc::clone(schema))
}

fn plan_limit(limit: &Limit) -> Result<IncrementalPlan> {
    let literal = || Error::unsupported("LIMIT and OFFSET of a live view must be numbers");
    let SkipType::Literal(offset) = limit.get_skip_type()? else { return Err(literal()) };
    let FetchType::Literal(fetch) = limit.get_fetch_type()? else { return Err(literal()) };
    limit_over(&limit.input, offset, fetch)
}

/// Limits below projections, down to the order.
fn limit_over(plan: &LogicalPlan, offset: usize, fetch: Option<usize>) -> Result<IncrementalPlan> {
    match plan {
        LogicalPlan::Projection(projection) => {
            let input = limit_over(&projection.input, offset, fetch)?;
            let schema = projection.input.schema();
            let exprs = physicals(&projection.expr, schema)?;
            let sources: Vec<Option<usize>> =
                projection.expr.iter().map(|expr| column_index(expr, schema)).collect();
            Ok(projected(input, exprs, &sources, arrow_schema(&projection.schema)))
        }
        LogicalPlan::SubqueryAlias(alias) => limit_over(&alias.input, offset, fetch),
        LogicalPlan::Sort(sort) if sort.fetch.is_none() => {
            plan_top(&sort.expr, &sort.input, offset, fetch.unwrap_or(usize::MAX))
        }
        _ => {
            Err(refuse("LIMIT without ORDER BY", "add ORDER BY, so that the rows kept are defined"))
        }
    }
}

fn plan_top(
    order: &[datafusion::logical_expr::SortExpr],
    input: &LogicalPlan,
    offset: usize,
    limit: usize,
) -> Result<IncrementalPlan> {
    let order = order
        .iter()
        .map(|key| {
            let expr = physical(&key.expr, input.schema())?;
            let options = SortOptions { descending: !key.asc, nulls_first: key.nulls_first };
            Ok(SortKey { expr, options })
        })
        .collect::<Result<Vec<_>>>()?;
    let input = translate(input)?;
    Ok(IncrementalPlan {
        schema: Arc::clone(&input.schema),
        mode: ChangelogMode::Retract,
        upsert_key: input.upsert_key.clone(),
        node: Node::TopN { input: Box::new(input), order, offset, limit },
    })
}

fn plan_values(values: &Values) -> Result<IncrementalPlan> {
    let schema = arrow_schema(&values.schema);
    let one = one_row(&Arc::new(Schema::empty()))?;
    let empty = datafusion::common::DFSchema::empty();
    let mut columns: Vec<Vec<ArrayRef>> = vec![Vec::new(); schema.fields().len()];
    for row in &values.values {
        for ((expr, column), field) in row.iter().zip(&mut columns).zip(schema.fields()) {
            let value = physical(expr, &empty)?.evaluate(&one)?.into_array(1)?;
            column.push(arrow::compute::cast(&value, field.data_type())?);
        }
    }
    let arrays = columns
        .iter()
        .map(|column| {
            let parts: Vec<_> = column.iter().map(AsRef::as_ref).collect();
            Ok(concat(&parts)?)
        })
        .collect::<Result<Vec<_>>>()?;
    constant(RecordBatch::try_new(schema, arrays)?)
}

fn plan_empty(empty: &EmptyRelation) -> Result<IncrementalPlan> {
    let schema = arrow_schema(&empty.schema);
    constant(match empty.produce_one_row {
        true => one_row(&schema)?,
        false => RecordBatch::new_empty(schema),
    })
}

fn one_row(schema: &SchemaRef) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(1));
    let nulls = schema.fields().iter();
    let nulls = nulls.map(|field| arrow::array::new_null_array(field.data_type(), 1)).collect();
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), nulls, &options)?)
}

/// The row of a SELECT without FROM.
fn constant_row(exprs: &[Arc<dyn PhysicalExpr>], schema: SchemaRef) -> Result<IncrementalPlan> {
    let one = one_row(&Arc::new(Schema::empty()))?;
    let arrays = exprs
        .iter()
        .map(|expr| Ok(expr.evaluate(&one)?.into_array(1)?))
        .collect::<Result<Vec<_>>>()?;
    constant(RecordBatch::try_new(schema, arrays)?)
}

fn constant(rows: RecordBatch) -> Result<IncrementalPlan> {
    Ok(IncrementalPlan {
        schema: rows.schema(),
        node: Node::Values { rows },
        mode: ChangelogMode::AppendOnly,
        upsert_key: None,
    })
}

/// Casts columns to the types that relations keep.
fn with_stored_types(plan: IncrementalPlan) -> IncrementalPlan {
    let stored = |field: &Arc<Field>| -> Arc<Field> {
        let data_type = stored_type(field.data_type());
        Arc::new(Field::new(field.name(), data_type, field.is_nullable()))
    };
    let fields: Vec<Arc<Field>> = plan.schema.fields().iter().map(stored).collect();
    let same = fields.iter().zip(plan.schema.fields()).all(|(a, b)| a.data_type() == b.data_type());
    if same {
        return plan;
    }
    let exprs = plan.schema.fields().iter().zip(&fields).enumerate().map(|(index, (from, to))| {
        let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(from.name(), index));
        if from.data_type() == to.data_type() {
            column
        } else {
            Arc::new(CastExpr::new(column, to.data_type().clone(), None)) as _
        }
    });
    let exprs = exprs.collect();
    // Of two keys that differ in nanoseconds alone one would be left.
    let kept = |(index, from): (usize, &Arc<Field>)| {
        let nanosecond = TimeUnit::Nanosecond;
        let is_cut = match from.data_type() {
            DataType::Timestamp(unit, _) | DataType::Time64(unit) => *unit == nanosecond,
            _ => false,
        };
        (!is_cut).then_some(index)
    };
    let sources: Vec<Option<usize>> = plan.schema.fields().iter().enumerate().map(kept).collect();
    projected(plan, exprs, &sources, Arc::new(Schema::new(fields)))
}
