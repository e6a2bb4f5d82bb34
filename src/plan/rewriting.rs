//! How logical plans are rewritten: expressions in their places, columns in other types.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema};
use datafusion::error::Result;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast};
use datafusion::optimizer::analyzer::Analyzer;
use datafusion::optimizer::analyzer::type_coercion::TypeCoercion;

static COERCION: LazyLock<(Analyzer, ConfigOptions)> = LazyLock::new(|| {
    let rules = vec![Arc::new(TypeCoercion::new()) as _];
    (Analyzer::with_rules(rules), ConfigOptions::default())
});

/// Casts the operands of every expression to one type. Until then the planner says that
/// `CASE WHEN a THEN 1 ELSE 2.5 END` is an integer, as its first branch is, and that the columns of
/// a UNION are those of its first part.
///
/// Law: coercing a plan again changes nothing, so that later rules may do so.
///
/// # Errors
/// What the planner says of the types.
pub fn coerced(plan: LogicalPlan) -> Result<LogicalPlan> {
    let (analyzer, options) = &*COERCION;
    analyzer.execute_and_check(plan, options, |_, _| {})
}

/// A node whose expressions are rewritten from the leaves up, under the names that they had.
/// `rewrite` is told the columns that an expression may name.
///
/// # Errors
/// What `rewrite` and the planner say.
pub fn with_expressions(
    node: LogicalPlan,
    rewrite: impl Fn(Expr, &DFSchema) -> Result<Transformed<Expr>>,
) -> Result<Transformed<LogicalPlan>> {
    let mut schema = merge_schema(&node.inputs());
    if let LogicalPlan::TableScan(scan) = &node {
        schema.merge(&scan.projected_schema);
    }
    let names = NamePreserver::new(&node);
    let node = node.map_expressions(|expr| {
        let name = names.save(&expr);
        let expr = expr.transform_up(|expr| rewrite(expr, &schema))?;
        Ok(expr.update_data(|expr| name.restore(expr)))
    })?;
    // Also of a node that stays as it is: what it reads may have other types now.
    node.map_data(LogicalPlan::recompute_schema)
}

/// The rows of a plan with each column, by its number, cast to the type that is wanted of it.
///
/// # Errors
/// What the planner says.
pub fn with_types(
    plan: LogicalPlan,
    wanted: impl Fn(usize) -> Option<DataType>,
) -> Result<LogicalPlan> {
    let columns = plan.schema().iter().enumerate().map(|(at, (qualifier, field))| {
        let column = Expr::Column(Column::from((qualifier, field)));
        match wanted(at) {
            Some(data_type) => {
                cast(column, data_type).alias_qualified(qualifier.cloned(), field.name())
            }
            None => column,
        }
    });
    let columns: Vec<Expr> = columns.collect();
    LogicalPlanBuilder::from(plan).project(columns)?.build()
}
