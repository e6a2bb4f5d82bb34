//! [`CachedPlans`]: short statements with parameters, planned once and run often.
//!
//! ```text
//! text, types of parameters ─► optimised plan with $1, $2 … ─► values, rows in their places ─► run
//! ```

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::datatypes::{DataType, Field};
use chrono::{DateTime, Utc};
use datafusion::common::DataFusionError;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::expr::Placeholder;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Expr, LogicalPlan, TableSource};
use datafusion::scalar::ScalarValue;

use super::query_error;
use super::relation_schema::{RelationSchema, attached};
use crate::catalog::{Catalog, Relation};
use crate::error::{Error, Result};
use crate::functions::is_replacement;
use crate::plan::{BatchPlanner, with_expressions};
use crate::sql::{self, Bound, WriteKind};

/// Bytes of a text up to which its plan is kept.
const TEXT_BYTES_MAX: usize = 4 << 10;

/// Plans that are kept.
const PLANS_MAX: usize = 256;

/// Plans of statements for all sessions. They belong to one version of the catalog; a new one
/// begins with none.
///
/// To plan a statement by key costs several times what it costs to run it. Only plans are kept for
/// which the values of parameters decide nothing but the result: of columns, constants, parameters,
/// operators and casts.
///
/// **Law:** a kept plan, run with some values, gives the rows that a new plan of the statement
/// gives with these values.
#[derive(Debug, Default)]
pub(super) struct CachedPlans {
    plans: Mutex<Plans>,
}

#[derive(Debug, Default)]
struct Plans {
    catalog: Option<Arc<Catalog>>,
    count: usize,
    by_text: HashMap<String, Vec<(Vec<DataType>, Kept)>>,
}

/// `None` for a statement whose plan cannot be kept: nobody tries again.
type Kept = Option<Arc<CachedPlan>>;

/// The plan of a statement, over the binder's tables, which have no rows.
#[derive(Debug)]
pub(super) struct CachedPlan {
    pub(super) asked: Asked,
    plan: LogicalPlan,
}

/// What a statement does with the rows of its plan.
#[derive(Debug, Clone)]
pub(super) enum Asked {
    Query,
    Write(WriteKind, Arc<Relation>),
}

impl CachedPlans {
    fn lock(&self) -> MutexGuard<'_, Plans> {
        self.plans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The plan of a statement with parameters of these types, if it is kept.
    pub(super) fn get(
        &self,
        catalog: &Arc<Catalog>,
        text: &str,
        params: &[ScalarValue],
    ) -> Option<Arc<CachedPlan>> {
        self.lock().find(catalog, text, params)?.clone()
    }

    /// Keeps the plan of a statement with parameters, if it is one that can be kept, unless that
    /// was tried before.
    pub(super) fn keep(
        &self,
        catalog: &Arc<Catalog>,
        text: &str,
        params: &[ScalarValue],
        plan: impl FnOnce() -> Option<CachedPlan>,
    ) {
        let is_possible = !params.is_empty() && text.len() <= TEXT_BYTES_MAX;
        if !is_possible || self.lock().find(catalog, text, params).is_some() {
            return;
        }
        let plan = plan().map(Arc::new);
        let mut plans = self.lock();
        let is_current = plans.catalog.as_ref().is_some_and(|of| Arc::ptr_eq(of, catalog));
        if !is_current || plans.count >= PLANS_MAX {
            *plans = Plans { catalog: Some(Arc::clone(catalog)), ..Plans::default() };
        }
        let types = params.iter().map(ScalarValue::data_type).collect();
        plans.by_text.entry(text.to_string()).or_default().push((types, plan));
        plans.count += 1;
    }
}

impl Plans {
    fn find(&self, catalog: &Arc<Catalog>, text: &str, params: &[ScalarValue]) -> Option<&Kept> {
        self.catalog.as_ref().filter(|of| Arc::ptr_eq(of, catalog))?;
        let is_of = |types: &[DataType]| {
            types.len() == params.len()
                && std::iter::zip(types, params).all(|(data_type, it)| *data_type == it.data_type())
        };
        let found = self.by_text.get(text)?.iter().find(|(types, _)| is_of(types));
        found.map(|(_, plan)| plan)
    }
}

impl CachedPlan {
    /// Plans a bound statement with parameters; `None` if its plan cannot be kept. Its errors are
    /// left to the plan with values.
    pub(super) fn of(
        bound: &Bound,
        params: &[ScalarValue],
        planner: &BatchPlanner,
        tables: &RelationSchema,
        start: DateTime<Utc>,
    ) -> Option<Self> {
        let (asked, plan) = match bound {
            Bound::Query(plan) => (Asked::Query, plan),
            Bound::Write(write) if write.proposal.is_none() => {
                (Asked::Write(write.kind, Arc::clone(&write.table)), &write.plan)
            }
            _ => return None,
        };
        let mut sources: HashMap<String, Arc<dyn TableSource>> = HashMap::new();
        let mut is_plain = true;
        let checked = plan.apply_with_subqueries(|node| {
            if let LogicalPlan::TableScan(scan) = node {
                // A table of the lake or a function, which has rows already.
                is_plain &= source_as_provider(&scan.source).is_err();
                sources.insert(scan.table_name.to_string(), Arc::clone(&scan.source));
            }
            is_plain &= has_plain_values(node, params);
            node.apply_expressions(|expr| {
                is_plain &= !expr.exists(|part| Ok(!is_plain_part(part)))?;
                Ok(TreeNodeRecursion::Continue)
            })
        });
        checked.ok().filter(|_| is_plain)?;
        let plan = with_types_of(plan.clone(), params).ok()?;
        let plan = attached(plan, tables).and_then(sql::with_final_types).ok()?;
        let plan = planner.short_plan(&plan, start).ok()??;
        // A plan that is kept must not keep the rows of a snapshot.
        let plan = plan.transform_up(|node| match node {
            LogicalPlan::TableScan(mut scan) => {
                let source = sources.get(&scan.table_name.to_string());
                let lost = || internal("a table of a plan was not in the statement".to_string());
                scan.source = source.cloned().ok_or_else(lost)?;
                Ok(Transformed::yes(LogicalPlan::TableScan(scan)))
            }
            other => Ok(Transformed::no(other)),
        });
        Some(Self { asked, plan: plan.ok()?.data })
    }

    /// The plan with the rows of a snapshot and the values of parameters.
    ///
    /// # Errors
    /// `UndefinedTable` if a table has gone; `Internal` if a parameter has no value.
    pub(super) fn with(
        &self,
        tables: &RelationSchema,
        params: &[ScalarValue],
    ) -> Result<LogicalPlan> {
        let plan = attached(self.plan.clone(), tables)?.transform_up(|node| {
            let names = NamePreserver::new(&node);
            node.map_expressions(|expr| {
                let has_parameter = expr.exists(|part| Ok(matches!(part, Expr::Placeholder(_))))?;
                if !has_parameter {
                    return Ok(Transformed::no(expr));
                }
                let name = names.save(&expr);
                let expr = expr.transform_up(|part| match part {
                    Expr::Placeholder(Placeholder { id, .. }) => {
                        let value = value_of(&id, params).ok_or_else(|| no_value(&id))?;
                        Ok(Transformed::yes(Expr::Literal(value.clone(), None)))
                    }
                    other => Ok(Transformed::no(other)),
                })?;
                Ok(expr.update_data(|expr| name.restore(expr)))
            })
        });
        plan.map(|plan| plan.data).map_err(query_error)
    }
}

fn internal(message: String) -> DataFusionError {
    DataFusionError::External(Box::new(Error::internal(message)))
}

fn no_value(id: &str) -> DataFusionError {
    internal(format!("parameter {id} has no value"))
}

/// The value of `$1`, `$2` ….
fn value_of<'a>(id: &str, params: &'a [ScalarValue]) -> Option<&'a ScalarValue> {
    let number: usize = id.strip_prefix('$')?.parse().ok()?;
    params.get(number.checked_sub(1)?)
}

/// True for what the values of parameters decide nothing in.
fn is_plain_part(part: &Expr) -> bool {
    if let Expr::ScalarFunction(call) = part {
        return is_replacement(&call.func);
    }
    matches!(
        part,
        Expr::Column(_)
            | Expr::Literal(..)
            | Expr::Placeholder(_)
            | Expr::Alias(_)
            | Expr::BinaryExpr(_)
            | Expr::Cast(_)
            | Expr::Not(_)
            | Expr::IsNull(_)
            | Expr::IsNotNull(_)
            | Expr::Negative(_)
            | Expr::Between(_)
            | Expr::InList(_)
    )
}

/// True if the cells of VALUES that have parameters are such, of the types of their columns: the
/// types of a list that is computed follow from its values.
fn has_plain_values(node: &LogicalPlan, params: &[ScalarValue]) -> bool {
    let LogicalPlan::Values(values) = node else { return true };
    let is_plain = |cell: &Expr, field: &Field| match cell {
        Expr::Placeholder(Placeholder { id, .. }) => {
            value_of(id, params).is_some_and(|value| value.data_type() == *field.data_type())
        }
        cell => matches!(cell.exists(|part| Ok(matches!(part, Expr::Placeholder(_)))), Ok(false)),
    };
    let fields = values.schema.fields();
    values.values.iter().all(|row| std::iter::zip(row, fields).all(|(it, of)| is_plain(it, of)))
}

/// The plan with parameters of the types of these values.
fn with_types_of(plan: LogicalPlan, params: &[ScalarValue]) -> Result<LogicalPlan> {
    let plan = plan.transform_up(|node| {
        with_expressions(node, |expr, _| {
            let Expr::Placeholder(Placeholder { id, .. }) = expr else {
                return Ok(Transformed::no(expr));
            };
            let value = value_of(&id, params).ok_or_else(|| no_value(&id))?;
            let field = Arc::new(Field::new(&id, value.data_type(), true));
            Ok(Transformed::yes(Expr::Placeholder(Placeholder::new_with_field(id, Some(field)))))
        })
    });
    plan.map(|plan| plan.data).map_err(query_error)
}

#[cfg(test)]
mod tests;
