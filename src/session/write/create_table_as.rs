//! CREATE TABLE AS: a table of the columns and rows of a query.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::scalar::ScalarValue;
use frazil_connector_api::ChangeBatch;

use super::table_rows::{all_rows, row_count, with_schema};
use crate::error::{Error, ErrorKind, Result};
use crate::job::uncancelled;
use crate::session::Outcome;
use crate::session::lake_table::LakeTables;
use crate::session::query::Planned;
use crate::session::query_runtime::copy;
use crate::session::relation_schema::RelationSchema;
use crate::session::shared::Shared;
use crate::sql::{self, Bound, CreateTableAs, Statement, visible_columns};
use crate::types::type_name;

/// Runs CREATE TABLE AS. The query runs first, so that one that fails makes no table.
pub(in crate::session) async fn create_table_as(
    shared: &Arc<Shared>,
    statement: &Statement,
    table: &CreateTableAs,
    params: &[ScalarValue],
) -> Result<Outcome> {
    let name = table.name.value.clone();
    let begin = evaluated(Arc::clone(shared), copy(statement), table.with_data, params.to_vec());
    let Some((columns, rows)) = shared.queries().await?.run(begin).await? else {
        let notice = format!("relation \"{name}\" already exists, skipping");
        let tag = statement.kind.tag().to_string();
        return Ok(Outcome::Command { tag, notices: vec![notice] });
    };
    let create = definition(&name, &columns).map_err(|error| error.at(table.name.position))?;
    let (with_data, shared) = (table.with_data, Arc::clone(shared));
    // A client that goes away must not leave an empty table.
    let count = uncancelled(async move { made(&shared, &name, &create, rows).await }).await?;
    Ok(match with_data {
        true => Outcome::command(format!("SELECT {count}")),
        false => Outcome::command(statement.kind.tag()),
    })
}

/// The columns and rows of the query; `None` if the table is there and that is no fault.
async fn evaluated(
    shared: Arc<Shared>,
    statement: Statement,
    with_data: bool,
    params: Vec<ScalarValue>,
) -> Result<Option<(SchemaRef, Vec<RecordBatch>)>> {
    let catalog = shared.engine.catalog();
    let lake = LakeTables::load(&catalog, &statement).await?;
    let plan = match sql::bind_with(&catalog, &statement, &lake)? {
        Bound::CreateTableAs(plan) => plan,
        Bound::AlreadyExists { .. } => return Ok(None),
        _ => return Err(Error::internal("CREATE TABLE AS was bound to something else")),
    };
    let tables = RelationSchema::new(catalog, shared.engine.snapshot());
    let planned = Planned::attach(&shared, &tables, plan).await?.with_params(&params)?;
    if !with_data {
        return Ok(Some((visible_columns(&planned.plan), Vec::new())));
    }
    all_rows(planned).await.map(Some)
}

/// Makes the table and writes its rows; takes the table back if that fails.
async fn made(shared: &Shared, name: &str, create: &str, rows: Vec<RecordBatch>) -> Result<usize> {
    let unplaced = |error: Error| Error { position: None, ..error };
    let relations = shared.engine.apply(create).await.map_err(unplaced)?;
    let Some(table) = relations.first() else {
        return Err(Error::internal("CREATE TABLE made nothing"));
    };
    let count = row_count(&rows);
    let written = async {
        let rows = rows.iter().map(|rows| with_schema(rows, table));
        let changes =
            rows.map(|rows| Ok(ChangeBatch::inserts(rows?))).collect::<Result<Vec<_>>>()?;
        if changes.is_empty() {
            return Ok(());
        }
        let _lock = shared.locks.shared(table.id).await;
        shared.engine.write(table.id, changes).await
    };
    if let Err(error) = written.await {
        let drop = format!("DROP TABLE {}", quoted(name));
        return Err(match shared.engine.apply(&drop).await {
            Ok(_) => error,
            Err(dropping) => error.with_hint(format!("the table is still there: {dropping}")),
        });
    }
    Ok(count)
}

/// The CREATE TABLE that a table of these columns is kept as.
fn definition(name: &str, columns: &SchemaRef) -> Result<String> {
    let mut list = Vec::with_capacity(columns.fields().len());
    for field in columns.fields() {
        let data_type = match field.data_type() {
            DataType::UInt64 => "numeric(20,0)".to_string(),
            DataType::Decimal256(..)
            | DataType::List(_)
            | DataType::LargeList(_)
            | DataType::Struct(_)
            | DataType::Map(..) => {
                let data_type = type_name(field.data_type());
                let message = format!("column \"{}\" has type {data_type}", field.name());
                return Err(Error::new(ErrorKind::Unsupported, message)
                    .with_hint("cast it to a type that a table can have, such as text"));
            }
            other => type_name(other),
        };
        list.push(format!("{} {data_type}", quoted(field.name())));
    }
    Ok(format!("CREATE TABLE {} ({})", quoted(name), list.join(", ")))
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
