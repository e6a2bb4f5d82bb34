//! Expressions that share a type: the items of a list, the results of CASE, the parts of BETWEEN.
//!
//! Floats stay floats beside decimals: a number with a point is a decimal, and the planner's types
//! of `f > 0.2` would make a decimal of a float, too: one that is too small for 1e16 and has no
//! NaN. PostgreSQL makes floats of both. A quoted literal has the type of the others, and a text
//! does not stand beside a value that is none.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, DataFusionError, ScalarValue};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, Union, cast};

use crate::error::{Error, ErrorKind, Result};
use crate::functions::{has_input, literal, refuse_texts_beside_others};
use crate::plan::{with_expressions, with_types};
use crate::types::JSONB;

type Planned<T> = datafusion::error::Result<T>;

/// Functions that give one of their arguments.
pub(super) const CHOOSING: [&str; 4] = ["coalesce", "greatest", "least", "nullif"];

/// The plan with decimals cast to floats wherever they meet a float, and quoted literals of the
/// type of what they meet.
///
/// # Errors
/// `UndefinedFunction` where a text meets something else, `InvalidValue` for a literal that is no
/// value of its type; what the planner says of the types.
pub(super) fn with_shared_types(plan: LogicalPlan) -> Result<LogicalPlan> {
    let plan = plan.transform_up_with_subqueries(|node| {
        let node = match node {
            LogicalPlan::Union(union) => LogicalPlan::Union(float_columns(union)?),
            other => other,
        };
        check_join(&node)?;
        check_order(&node)?;
        with_expressions(node, shared)
    })?;
    Ok(plan.data)
}

fn shared(mut expr: Expr, schema: &DFSchema) -> Planned<Transformed<Expr>> {
    check_subquery(&expr)?;
    let parts: Vec<&mut Expr> = match &mut expr {
        // Its literals have their types since it was planned.
        Expr::BinaryExpr(binary) => {
            let transformed = unify_floats(vec![&mut binary.left, &mut binary.right], schema);
            return Ok(Transformed::new_transformed(expr, transformed));
        }
        Expr::Between(between) => vec![&mut between.expr, &mut between.low, &mut between.high],
        Expr::InList(list) => std::iter::once(&mut *list.expr).chain(&mut list.list).collect(),
        Expr::Case(case) => {
            let branches = case.when_then_expr.iter_mut();
            let (whens, thens): (Vec<_>, Vec<_>) =
                branches.map(|(when, then)| (&mut **when, &mut **then)).unzip();
            let mut results = thens;
            results.extend(case.else_expr.as_deref_mut());
            let mut transformed = unify(results, schema)?;
            if let Some(base) = &mut case.expr {
                let compared = std::iter::once(&mut **base).chain(whens).collect();
                transformed |= unify(compared, schema)?;
            }
            return Ok(Transformed::new_transformed(expr, transformed));
        }
        Expr::ScalarFunction(call) if CHOOSING.contains(&call.func.name()) => {
            call.args.iter_mut().collect()
        }
        _ => return Ok(Transformed::no(expr)),
    };
    let transformed = unify(parts, schema)?;
    Ok(Transformed::new_transformed(expr, transformed))
}

/// Brings expressions to one type as far as the planner would not; true if it changed one.
fn unify(mut exprs: Vec<&mut Expr>, schema: &DFSchema) -> Planned<bool> {
    let is_literal = |expr: &Expr| matches!(expr, Expr::Literal(ScalarValue::Utf8(Some(_)), _));
    let types = exprs.iter().filter(|expr| !is_literal(expr));
    let types: Vec<_> = types.filter_map(|expr| expr.get_type(schema).ok()).collect();
    let mut types = types.iter().filter(|data_type| !data_type.is_null());
    let first = types.next().cloned();
    let external = |error| DataFusionError::External(Box::new(error));
    let mut transformed = false;
    if let Some(first) = first {
        types.try_for_each(|it| refuse_texts_beside_others(&first, it)).map_err(external)?;
        if has_input(&first) {
            for expr in exprs.iter_mut().filter(|expr| is_literal(expr)) {
                **expr = literal(std::mem::take(*expr), &first)?;
                transformed = true;
            }
        }
    }
    Ok(unify_floats(exprs, schema) || transformed)
}

/// A subquery that is compared gives one column.
fn check_subquery(expr: &Expr) -> Planned<()> {
    let plan = match expr {
        Expr::InSubquery(compared) => &compared.subquery.subquery,
        Expr::SetComparison(compared) => &compared.subquery.subquery,
        Expr::ScalarSubquery(subquery) => &subquery.subquery,
        _ => return Ok(()),
    };
    let message = match plan.schema().fields().len() {
        1 => return Ok(()),
        0 => "subquery has too few columns",
        _ => "subquery has too many columns",
    };
    let error = Error::new(ErrorKind::InvalidSql, message);
    Err(DataFusionError::External(Box::new(error)))
}

/// Tables are joined by columns of one kind.
fn check_join(node: &LogicalPlan) -> Planned<()> {
    let LogicalPlan::Join(join) = node else { return Ok(()) };
    for (left, right) in &join.on {
        let (left, right) =
            (left.get_type(join.left.schema())?, right.get_type(join.right.schema())?);
        refuse_texts_beside_others(&left, &right)
            .map_err(|error| DataFusionError::External(Box::new(error)))?;
    }
    Ok(())
}

/// JSONB has no order yet: PostgreSQL's is by the kinds of values.
fn check_order(node: &LogicalPlan) -> Planned<()> {
    let LogicalPlan::Sort(sort) = node else { return Ok(()) };
    for key in &sort.expr {
        if key.expr.get_type(sort.input.schema())? == JSONB {
            let error = Error::unsupported("ORDER BY of jsonb is not supported");
            let error = error.with_hint("order by a value of it, by ->>");
            return Err(DataFusionError::External(Box::new(error)));
        }
    }
    Ok(())
}

/// Casts the decimals among expressions if one of the others is a float; true if it did.
fn unify_floats(exprs: Vec<&mut Expr>, schema: &DFSchema) -> bool {
    // What has no type yet, such as a parameter, is left to the planner.
    let type_of = |expr: &Expr| expr.get_type(schema).ok();
    let has_float = exprs.iter().any(|expr| type_of(expr).is_some_and(|it| it.is_floating()));
    let mut transformed = false;
    for expr in exprs {
        if has_float && type_of(expr).is_some_and(|it| it.is_decimal()) {
            *expr = as_float(std::mem::take(expr));
            transformed = true;
        }
    }
    transformed
}

/// The union with a float in every input wherever one has it.
fn float_columns(union: Union) -> datafusion::error::Result<Union> {
    let types = |input: &LogicalPlan| {
        let fields = input.schema().fields().iter();
        fields.map(|field| field.data_type().clone()).collect::<Vec<_>>()
    };
    let types: Vec<_> = union.inputs.iter().map(|input| types(input)).collect();
    let of = |input: usize, at: usize| types.get(input).and_then(|types| types.get(at));
    let has_float = |at| (0..types.len()).any(|it| of(it, at).is_some_and(DataType::is_floating));
    let is_cast = |input, at| has_float(at) && of(input, at).is_some_and(DataType::is_decimal);
    let width = union.schema.fields().len();
    if !(0..types.len()).any(|input| (0..width).any(|at| is_cast(input, at))) {
        return Ok(union);
    }
    let inputs = union.inputs.iter().enumerate().map(|(number, input)| {
        let float = |at| is_cast(number, at).then_some(DataType::Float64);
        with_types(input.as_ref().clone(), float).map(Arc::new)
    });
    let inputs = inputs.collect::<datafusion::error::Result<_>>()?;
    Union::try_new_with_loose_types(inputs)
}

fn as_float(expr: Expr) -> Expr {
    if let Expr::Literal(value, metadata) = &expr
        && let Ok(float @ ScalarValue::Float64(_)) = value.cast_to(&DataType::Float64)
    {
        return Expr::Literal(float, metadata.clone());
    }
    cast(expr, DataType::Float64)
}
