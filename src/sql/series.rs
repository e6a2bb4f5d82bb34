//! [`name_series`]: what the column of `generate_series` is called.

use std::ops::ControlFlow;

use sqlparser::ast::{self, TableFactor, VisitMut as _};

use super::parser::fold;

const SERIES: &str = "generate_series";

/// Gives the column of each `generate_series(…)` in a FROM the table's own name, as PostgreSQL
/// does.
pub(super) fn name_series(query: &mut ast::Query) {
    // The visitor never breaks off.
    let _ = query.visit(&mut Namer);
}

struct Namer;

impl ast::VisitorMut for Namer {
    type Break = ();

    fn pre_visit_table_factor(&mut self, table: &mut TableFactor) -> ControlFlow<()> {
        let TableFactor::Table { name, alias, args: Some(_), .. } = table else {
            return ControlFlow::Continue(());
        };
        let function = name.0.last().and_then(|part| part.as_ident()).map(fold);
        if function.is_some_and(|function| function == SERIES) {
            let alias = alias.get_or_insert_with(|| ast::TableAlias {
                explicit: true,
                name: ast::Ident::new(SERIES),
                columns: Vec::new(),
                at: None,
            });
            if alias.columns.is_empty() {
                let column = alias.name.clone();
                alias.columns.push(ast::TableAliasColumnDef { name: column, data_type: None });
            }
        }
        ControlFlow::Continue(())
    }
}
