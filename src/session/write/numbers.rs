//! [`numbered`]: identity columns with numbers of their counters.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::LogicalPlan;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use tokio::runtime::Handle;

use crate::catalog::{Relation, RelationId};
use crate::error::Result;
use crate::functions::{NumberSource, with_source};
use crate::session::query_error;
use crate::session::shared::Shared;

/// Gives the numbers of a statement that runs on a thread of queries.
#[derive(Debug)]
struct Numbers {
    shared: Arc<Shared>,
}

impl NumberSource for Numbers {
    fn take(&self, table: u32, column: usize, count: usize) -> Result<i64> {
        let Shared { counters, engine, .. } = self.shared.as_ref();
        let taken = counters.take(engine, RelationId(table), column, count);
        // The statement's other tasks run on other threads meanwhile.
        tokio::task::block_in_place(|| Handle::current().block_on(taken))
    }
}

/// A plan of a write to a table, whose identity columns take their numbers from the counters.
pub(super) fn numbered(
    plan: LogicalPlan,
    table: &Relation,
    shared: &Arc<Shared>,
) -> Result<LogicalPlan> {
    if !table.definition.has_identity() {
        return Ok(plan);
    }
    let source: Arc<dyn NumberSource> = Arc::new(Numbers { shared: Arc::clone(shared) });
    let plan = plan.transform_up_with_subqueries(|node| {
        let names = NamePreserver::new(&node);
        node.map_expressions(|expr| {
            let name = names.save(&expr);
            let expr = expr.transform_up(|part| {
                Ok(match with_source(&part, &source) {
                    Some(call) => Transformed::yes(call),
                    None => Transformed::no(part),
                })
            })?;
            Ok(expr.update_data(|expr| name.restore(expr)))
        })
    });
    Ok(plan.map_err(query_error)?.data)
}
