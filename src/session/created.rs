//! What a CREATE statement makes.

use crate::sql::{Name, Statement, StatementKind};

/// The name that a CREATE statement makes, and whether it says IF NOT EXISTS; `None` for other
/// statements.
pub fn created(statement: &Statement) -> Option<(&Name, bool)> {
    match &statement.kind {
        StatementKind::CreateTable(create) | StatementKind::CreateSource(create) => {
            Some((&create.name, create.if_not_exists))
        }
        StatementKind::CreateMaterializedView(create) | StatementKind::CreateView(create) => {
            Some((&create.name, create.if_not_exists))
        }
        StatementKind::CreateSink(create) => Some((&create.name, create.if_not_exists)),
        StatementKind::CreatePipeline(create) => Some((&create.name, create.if_not_exists)),
        StatementKind::CreateCatalog(create) => Some((&create.name, create.if_not_exists)),
        _ => None,
    }
}
