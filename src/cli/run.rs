//! `frazil run`: files of statements, until all bounded input is done.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use datafusion::logical_expr::{Expr, LogicalPlan};

use super::arguments::read;
use super::definitions::{AppliedStatement, apply, in_file};
use super::host::{Host, engine_failure, lend_workers, stop_signal};
use super::progress::Progress;
use crate::catalog::Definition;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::job::{Engine, JobState};
use crate::session::{Outcome, Session, query_error, text_rows};
use crate::shell::{Layout, Table, write_table};

/// Time between two looks at the engine.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Rows shown of each view at the end.
const ROWS_SHOWN: usize = 10;

/// Runs the files, follows the progress and shows the results. Starting again continues where it
/// stopped.
pub(super) async fn run(config: &Config, files: &[PathBuf]) -> Result<ExitCode> {
    let host = Host::open(config).await?;
    if config.process > 0 {
        lend_workers(&host.engine).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut session = Session::new(host.engine.clone());
    let applied = tokio::select! {
        applied = apply_files(&host.engine, &mut session, files) => Some(applied),
        () = stop_signal() => None,
    };
    match applied {
        Some(Ok(())) => {}
        // What was made so far stays; the next run goes on from there.
        Some(Err(error)) => {
            host.engine.shutdown().await?;
            return Err(error);
        }
        None => {
            host.engine.shutdown().await?;
            return Ok(ExitCode::SUCCESS);
        }
    }
    follow(&host).await?;
    show_views(&host.engine, &mut session, &mut io::stdout()).await?;
    let failed = failed_jobs(&host.engine);
    // Sinks commit once more when the engine ends.
    host.engine.shutdown().await?;
    show_sinks(&host.engine, &mut io::stdout())?;
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn apply_files(engine: &Engine, session: &mut Session, files: &[PathBuf]) -> Result<()> {
    let mut skipped = 0;
    for file in files {
        let text = read(file)?;
        let located = |error: Error, file: &Path| in_file(error, file, &text);
        for statement in session.parse(&text).map_err(|error| located(error, file))? {
            let error_at = |error: Error| {
                let position = error.position.unwrap_or(statement.offset + 1);
                located(error.at(position), file)
            };
            if apply(engine, session, &statement).await.map_err(error_at)?
                == AppliedStatement::Skipped
            {
                skipped += 1;
            }
        }
    }
    if skipped > 0 {
        writeln!(io::stderr(), "{skipped} definitions are there already: going on")?;
    }
    Ok(())
}

/// Shows progress until the input is done, the user stops it or the engine does.
async fn follow(host: &Host) -> Result<()> {
    let mut progress = Progress::new(host.clone())?;
    let stop = stop_signal();
    let failure = engine_failure(&host.engine);
    tokio::pin!(stop, failure);
    let mut is_flushed = false;
    while !host.engine.is_finished() && !all_failed(&host.engine) {
        progress.show()?;
        // At the end of the input sinks commit at once, whatever their interval. One that cannot is
        // waited for: the progress shows it.
        let step = async {
            if host.engine.have_sources_ended() && !std::mem::replace(&mut is_flushed, true) {
                let _ = host.engine.flush().await;
            } else {
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
        };
        tokio::select! {
            () = &mut stop => break,
            error = &mut failure => return Err(error),
            () = step => {}
        }
    }
    progress.finish()
}

fn failed_jobs(engine: &Engine) -> bool {
    engine.jobs().iter().any(|job| matches!(job.state, JobState::Failed { .. }))
}

/// Nothing that is left could end the run.
fn all_failed(engine: &Engine) -> bool {
    let jobs = engine.jobs();
    !jobs.is_empty() && jobs.iter().all(|job| matches!(job.state, JobState::Failed { .. }))
}

async fn show_views(engine: &Engine, session: &mut Session, out: &mut dyn Write) -> Result<()> {
    let catalog = engine.catalog();
    for relation in catalog.iter() {
        let Definition::View(view) = relation.definition.as_ref() else {
            continue;
        };
        let (name, order) = (quoted(&relation.name), order_by(&view.plan));
        let table = first_rows(session, &format!("SELECT * FROM {name} {order}")).await?;
        writeln!(out, "\n{}", relation.name)?;
        write_table(out, &table, Layout::Lines { width: None })?;
    }
    Ok(())
}

fn show_sinks(engine: &Engine, out: &mut dyn Write) -> Result<()> {
    let catalog = engine.catalog();
    for job in engine.jobs() {
        let Some(sink) = &job.sink else { continue };
        let rows = sink.row_count.map_or(String::new(), |rows| format!(", {rows} rows"));
        writeln!(out, "\n{}: {}{rows}", job.name, sink.target)?;
        if let Some(relation) = catalog.get(&job.name)
            && let Some(line) = python_line(&relation.definition)
        {
            writeln!(out, "  {line}")?;
        }
    }
    Ok(())
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The ORDER BY of a top list, as far as it is one of its columns: a view is a set, and its own
/// order is for its LIMIT alone.
fn order_by(plan: &LogicalPlan) -> String {
    let mut node = plan;
    let sort = loop {
        node = match node {
            LogicalPlan::Sort(sort) => break sort,
            LogicalPlan::Limit(limit) => &limit.input,
            LogicalPlan::Projection(projection) => &projection.input,
            LogicalPlan::SubqueryAlias(alias) => &alias.input,
            _ => return String::new(),
        }
    };
    let keys = sort.expr.iter().map_while(|key| {
        let Expr::Column(column) = &key.expr else { return None };
        plan.schema().field_with_unqualified_name(&column.name).ok()?;
        let direction = if key.asc { "ASC" } else { "DESC" };
        let nulls = if key.nulls_first { "FIRST" } else { "LAST" };
        Some(format!("{} {direction} NULLS {nulls}", quoted(&column.name)))
    });
    match keys.collect::<Vec<_>>().join(", ") {
        keys if keys.is_empty() => keys,
        keys => format!("ORDER BY {keys}"),
    }
}

async fn first_rows(session: &mut Session, query: &str) -> Result<Table> {
    use futures::StreamExt;
    let mut table = Table::default();
    let text = format!("{query} LIMIT {ROWS_SHOWN}");
    for statement in session.parse(&text)? {
        if let Outcome::Rows { schema, mut stream, .. } = session.execute(&statement, &[]).await? {
            table.columns = schema.fields().iter().map(|field| field.name().clone()).collect();
            while let Some(rows) = stream.next().await {
                table.rows.extend(text_rows(&rows.map_err(query_error)?)?);
            }
        }
    }
    Ok(table)
}

/// The line of Python that reads an Iceberg sink's table through its catalog.
fn python_line(definition: &Definition) -> Option<String> {
    let sink = match definition {
        Definition::Sink(sink) => sink,
        Definition::Pipeline(pipeline) => &pipeline.sink,
        _ => return None,
    };
    let option = |name: &str| sink.connector.get(name);
    if option("connector") != Some("iceberg") || option("catalog.type") == Some("rest") {
        return None;
    }
    let uri = option("catalog.uri")?;
    let database = uri.strip_prefix("sqlite://").or_else(|| uri.strip_prefix("sqlite:"))?;
    let database = std::path::absolute(database).ok()?;
    let warehouse = std::path::absolute(option("warehouse.path")?).ok()?;
    let (file, warehouse) = (database.display(), warehouse.display());
    let name = option("catalog.name").unwrap_or("frazil");
    let (database, table) = (option("database.name")?, option("table.name")?);
    Some(format!(
        "python -c \"from pyiceberg.catalog.sql import SqlCatalog as C; \
         print(C('{name}', uri='sqlite:///{file}', warehouse='{warehouse}')\
         .load_table('{database}.{table}').scan().to_arrow())\""
    ))
}
