//! [`Load`]: rows of COPY FROM on their way into a table.
//!
//! ```text
//! columns of text ──the casts of INSERT──► rows of the table, kept ──finish──► Engine::write
//! ```
//!
//! **Invariant:** nothing is written before all rows have come and are right, and then all are
//! written at once. What is kept is charged to the memory of queries.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::logical_expr::LogicalPlanBuilder;
use datafusion::physical_plan::execute_stream;
use frazil_connector_api::ChangeBatch;

use super::numbers::numbered;
use crate::catalog::Relation;
use crate::change::batch_bytes;
use crate::error::{Error, ErrorKind, Result};
use crate::session::query_error;
use crate::session::query_runtime::Deadline;
use crate::session::shared::Shared;
use crate::sql::{self, CopyIn, Statement};

/// Rows as COPY reads them.
#[derive(Debug, Clone)]
pub struct LoadedRows {
    /// A column for each of [`Load::columns`], of text or of its type.
    pub columns: Vec<ArrayRef>,
    /// For each row the line that it was read from.
    pub lines: Vec<u64>,
}

/// Rows of COPY FROM on their way into a table.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    target: Target,
    rows: Vec<RecordBatch>,
    held: MemoryReservation,
    deadline: Option<Deadline>,
}

/// The table, and which of its columns the rows have.
#[derive(Debug, Clone)]
struct Target {
    table: Arc<Relation>,
    columns: Vec<usize>,
}

impl Load {
    pub(in crate::session) async fn begin(
        shared: &Arc<Shared>,
        statement: &Statement,
        copy: &CopyIn,
        timeout: Option<Duration>,
    ) -> Result<Self> {
        let (table, columns) = sql::bind_load(&shared.engine.catalog(), statement, copy)?;
        let memory = shared.queries().await?.planner().memory();
        let held = MemoryConsumer::new("COPY").register(&memory.memory_pool);
        let target = Target { table, columns };
        let (shared, deadline) = (Arc::clone(shared), timeout.map(Deadline::after));
        Ok(Self { shared, target, rows: Vec::new(), held, deadline })
    }

    /// Name of the table.
    pub fn table(&self) -> &str {
        &self.target.table.name
    }

    /// The columns that the rows have.
    pub fn columns(&self) -> Vec<FieldRef> {
        let fields = self.target.table.schema.fields();
        self.target.columns.iter().map(|column| Arc::clone(&fields[*column])).collect()
    }

    /// Adds rows, and makes room for `waiting` bytes that are not read yet.
    ///
    /// # Errors
    /// What a value says that is none of its column's type, with its line and column;
    /// `NotNullViolation`; `StateTooLarge`; `Cancelled` at the timeout of statements.
    pub async fn push(&mut self, rows: LoadedRows, waiting: usize) -> Result<()> {
        if !rows.lines.is_empty() {
            let (shared, target) = (Arc::clone(&self.shared), self.target.clone());
            let queries = self.shared.queries().await?;
            let step = queries.run(async move { target.converted(&shared, &rows).await });
            self.rows.push(match &mut self.deadline {
                Some(deadline) => deadline.bound(step).await?,
                None => step.await?,
            });
        }
        self.hold(waiting)
    }

    /// Makes room for what is kept and for `waiting` bytes more.
    ///
    /// # Errors
    /// `StateTooLarge`.
    pub fn hold(&mut self, waiting: usize) -> Result<()> {
        let kept: usize = self.rows.iter().map(batch_bytes).sum();
        self.held.try_resize(kept + waiting).map_err(|error| {
            query_error(error).with_hint(
                "all rows of a COPY are kept until its end: load the rows in several COPYs, or \
                 raise query_memory_bytes",
            )
        })
    }

    /// Writes all rows; they are durable and visible in every view when this returns.
    ///
    /// # Errors
    /// As [`Engine::write`](crate::job::Engine::write).
    pub async fn finish(self) -> Result<usize> {
        let count = super::row_count(&self.rows);
        if count > 0 {
            let table = self.target.table.id;
            let _lock = self.shared.locks.shared(table).await;
            let changes =
                super::table_rows::combined(&self.rows)?.into_iter().map(ChangeBatch::inserts);
            self.shared.engine.write(table, changes.collect()).await?;
        }
        Ok(count)
    }
}

impl Target {
    /// Rows of the table; an error tells its line and column.
    async fn converted(&self, shared: &Arc<Shared>, rows: &LoadedRows) -> Result<RecordBatch> {
        let failure = match self.cast(shared, &rows.columns).await {
            Ok(cast) => match super::with_schema(&cast, &self.table) {
                Ok(converted) => return Ok(converted),
                Err(error) if error.kind == ErrorKind::NotNullViolation => {
                    return Err(self.at_null(error, &cast, rows));
                }
                Err(error) => error,
            },
            Err(error) => error,
        };
        Err(self.located(shared, rows).await?.unwrap_or(failure))
    }

    /// All columns of the table, as INSERT would cast them.
    async fn cast(&self, shared: &Arc<Shared>, columns: &[ArrayRef]) -> Result<RecordBatch> {
        let field = |(at, column): (usize, &ArrayRef)| {
            Field::new(format!("c{at}"), column.data_type().clone(), true)
        };
        let fields: Vec<Field> = columns.iter().enumerate().map(field).collect();
        let schema = Arc::new(Schema::new(fields));
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns.to_vec())?;
        let source = MemTable::try_new(schema, vec![vec![batch]]).map_err(query_error)?;
        let source = provider_as_source(Arc::new(source));
        let scan = LogicalPlanBuilder::scan("copy", source, None).and_then(|scan| scan.build());
        let plan = sql::loaded_rows(scan.map_err(query_error)?, &self.columns, &self.table)?;
        let plan = numbered(plan, &self.table, shared)?;
        let planner = Arc::clone(shared.queries().await?.planner());
        let start = shared.engine.env().now();
        let Some(plan) = planner.short_plan(&plan, start).map_err(query_error)? else {
            return Err(Error::internal("the plan of COPY is not a short one"));
        };
        // One thread, so that the rows keep their order: the last of a key is to stay.
        let physical = planner.physical_plan_of_short(plan, |_| true).await.map_err(query_error)?;
        let schema = physical.schema();
        let stream = execute_stream(physical, planner.task()).map_err(query_error)?;
        let batches = datafusion::physical_plan::common::collect(stream).await;
        Ok(concat_batches(&schema, &batches.map_err(query_error)?)?)
    }

    /// The first value that cannot be cast: its error, with its place. Columns are cast in halves
    /// of halves until one row is left.
    async fn located(&self, shared: &Arc<Shared>, rows: &LoadedRows) -> Result<Option<Error>> {
        let mut found = None;
        // Only an earlier row can be the first one.
        let mut end = rows.lines.len();
        for (column, values) in rows.columns.iter().enumerate() {
            let one = Self { table: Arc::clone(&self.table), columns: vec![self.columns[column]] };
            let Some((row, error)) = one.first_failure(shared, values, end).await else { continue };
            end = row;
            let name = self.table.schema.field(self.columns[column]).name();
            found = Some(error.within(format!(
                "COPY {}, line {}, column {name}: {}",
                self.table.name,
                rows.lines[row],
                shown_value(values, row)
            )));
        }
        Ok(found)
    }

    /// The first row below `end` whose value of the only column cannot be cast.
    async fn first_failure(
        &self,
        shared: &Arc<Shared>,
        values: &ArrayRef,
        end: usize,
    ) -> Option<(usize, Error)> {
        let (mut start, mut count) = (0, end);
        let mut error = self.cast(shared, &[values.slice(start, count)]).await.err()?;
        while count > 1 {
            let half = count / 2;
            match self.cast(shared, &[values.slice(start, half)]).await {
                Err(earlier) => (count, error) = (half, earlier),
                Ok(_) => (start, count) = (start + half, count - half),
            }
        }
        if let Err(of_row) = self.cast(shared, &[values.slice(start, 1)]).await {
            error = of_row;
        }
        Some((start, error))
    }

    /// The error of a NULL with the line that it was read from.
    fn at_null(&self, error: Error, cast: &RecordBatch, rows: &LoadedRows) -> Error {
        let fields = self.table.schema.fields().iter().zip(cast.columns());
        let required = fields.filter(|(field, _)| !field.is_nullable());
        let first = |values: &ArrayRef| (0..values.len()).find(|row| values.is_null(*row));
        let first = required.filter_map(|(_, values)| first(values)).min();
        match first.and_then(|row| rows.lines.get(row)) {
            Some(line) => error.within(format!("COPY {}, line {line}", self.table.name)),
            None => error,
        }
    }
}

/// A value as it is shown in the place of an error.
fn shown_value(values: &ArrayRef, row: usize) -> String {
    match values.data_type() {
        DataType::Utf8 => shown(values.as_string::<i32>().value(row)),
        _ => "a binary value".to_string(),
    }
}

/// A text in quotes as it is shown in the place of an error, cut off where it is long.
pub fn shown(text: &str) -> String {
    const LETTERS_MAX: usize = 100;
    match text.char_indices().nth(LETTERS_MAX) {
        Some((end, _)) => format!("\"{}...\"", &text[..end]),
        None => format!("\"{text}\""),
    }
}
