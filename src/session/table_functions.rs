//! Functions that give a table, for queries that run once.

use std::sync::Arc;

use datafusion::catalog::TableFunctionArgs;
use datafusion::datasource::provider_as_source;
use datafusion::error::Result;
use datafusion::functions_table::generate_series;
use datafusion::logical_expr::{Expr, TableSource};
use datafusion::prelude::SessionContext;

/// The table that a call gives; `None` if there is no such function.
///
/// # Errors
/// As the outer one's `Some`: that the arguments do not fit.
pub(super) fn table_function(name: &str, args: &[Expr]) -> Option<Result<Arc<dyn TableSource>>> {
    if name != "generate_series" {
        return None;
    }
    let state = SessionContext::new().state();
    let call = TableFunctionArgs::new(args, &state);
    Some(generate_series().create_table_provider_with_args(call).map(provider_as_source))
}
