//! [`Cursors`]: queries of a session whose rows are fetched in pieces.
//!
//! ```text
//! DECLARE ─► the query's stream, a few batches ahead ─► FETCH n ─► n rows, cut from its batches
//! ```
//!
//! **Invariant:** a cursor holds no rows but those of the batches that were computed and not
//! fetched. It reads one snapshot, which is kept as long as the cursor.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{StreamExt, stream};
use tokio::sync::Mutex;

use crate::error::{Error, ErrorKind, Result};
use crate::session::{Outcome, query_error};
use crate::sql::{Declare, Direction, Fetch};

/// The cursors of a session, by name.
#[derive(Debug, Default)]
pub(super) struct Cursors {
    by_name: BTreeMap<String, Cursor>,
    /// How many there have been.
    declared: u64,
}

/// A query whose rows are fetched in pieces.
pub(super) struct Cursor {
    pub(super) schema: SchemaRef,
    pub(super) is_binary: bool,
    is_held: bool,
    /// Cursors that were declared before.
    number: u64,
    /// It was declared by the transaction that runs.
    is_of_transaction: bool,
    /// Locked for one batch at a time: a portal may be suspended in the middle of a FETCH.
    rows: Arc<Mutex<CursorRows>>,
}

struct CursorRows {
    name: String,
    /// None at the end, and after an error or a cancelled FETCH.
    stream: Option<SendableRecordBatchStream>,
    /// What is left of the last batch.
    rest: Option<RecordBatch>,
    /// Rows that were fetched or passed over.
    position: u64,
    is_at_end: bool,
}

/// Rows to pass over and rows to give.
#[derive(Debug, PartialEq, Eq)]
struct Span {
    skip: u64,
    take: u64,
}

impl Cursors {
    /// A cursor.
    ///
    /// # Errors
    /// `UndefinedCursor`.
    pub(super) fn get(&self, name: &str) -> Result<&Cursor> {
        self.by_name.get(name).ok_or_else(|| undefined(name))
    }

    /// Refuses a name that is taken.
    ///
    /// # Errors
    /// `DuplicateCursor`.
    pub(super) fn check_free(&self, name: &str) -> Result<()> {
        if !self.by_name.contains_key(name) {
            return Ok(());
        }
        let message = format!("cursor \"{name}\" already exists");
        Err(Error::new(ErrorKind::DuplicateCursor, message))
    }

    /// Opens a cursor over the rows of its query.
    pub(super) fn open(
        &mut self,
        declare: &Declare,
        schema: SchemaRef,
        stream: SendableRecordBatchStream,
        is_of_transaction: bool,
    ) {
        let name = declare.name.clone();
        let rows = CursorRows {
            name: name.clone(),
            stream: Some(stream),
            rest: None,
            position: 0,
            is_at_end: false,
        };
        let rows = Arc::new(Mutex::new(rows));
        let (is_binary, is_held, number) = (declare.is_binary, declare.is_held, self.declared);
        self.declared += 1;
        let cursor = Cursor { schema, is_binary, is_held, number, is_of_transaction, rows };
        self.by_name.insert(name, cursor);
    }

    /// Closes a cursor.
    ///
    /// # Errors
    /// `UndefinedCursor`.
    pub(super) fn close(&mut self, name: &str) -> Result<()> {
        self.by_name.remove(name).map(drop).ok_or_else(|| undefined(name))
    }

    /// Closes all.
    pub(super) fn clear(&mut self) {
        self.by_name.clear();
    }

    /// How many cursors there have been.
    pub(super) fn declared(&self) -> u64 {
        self.declared
    }

    /// Closes those of the transaction that were declared when so many had been.
    pub(super) fn close_since(&mut self, declared: u64) {
        self.by_name.retain(|_, cursor| cursor.number < declared || !cursor.is_of_transaction);
    }

    /// Closes what a transaction does not leave behind.
    pub(super) fn end_transaction(&mut self, is_committed: bool) {
        self.by_name.retain(|_, cursor| {
            let stays = !cursor.is_of_transaction || (is_committed && cursor.is_held);
            cursor.is_of_transaction = false;
            stays
        });
    }
}

impl Cursor {
    /// Rows as FETCH asks for them, read as they are sent; or MOVE over them.
    ///
    /// # Errors
    /// `NotInState` if it would have to go back; what the rows say that are passed over.
    pub(super) async fn fetch(&self, fetch: &Fetch) -> Result<Outcome> {
        let mut rows = self.rows.lock().await;
        let span = match fetch.direction {
            Direction::Forward(0) | Direction::Relative(0) if !rows.is_on_row() => {
                Span { skip: 0, take: 0 }
            }
            Direction::Forward(0) | Direction::Relative(0) if fetch.is_move => {
                return Ok(Outcome::command("MOVE 1"));
            }
            direction => span(direction, rows.position).ok_or_else(only_forward)?,
        };
        rows.check()?;
        rows.pass(span.skip).await?;
        if fetch.is_move {
            let count = rows.pass(span.take).await?;
            return Ok(Outcome::command(format!("MOVE {count}")));
        }
        drop(rows);
        let left = (Arc::clone(&self.rows), span.take);
        let fetched = stream::try_unfold(left, |(rows, left)| async move {
            let batch = rows.lock().await.next(left).await;
            let batch = batch.map_err(|error| DataFusionError::External(Box::new(error)))?;
            Ok(batch.map(|batch| {
                let count = batch.num_rows() as u64;
                (batch, (rows, left - count))
            }))
        });
        let schema = Arc::clone(&self.schema);
        let stream = Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&schema), fetched));
        Ok(Outcome::Rows { schema, stream, tag: "FETCH" })
    }
}

impl CursorRows {
    /// True if there is a current row.
    fn is_on_row(&self) -> bool {
        self.position > 0 && !self.is_at_end
    }

    /// Refuses to go on where rows were lost.
    fn check(&self) -> Result<()> {
        if self.stream.is_some() || self.rest.is_some() || self.is_at_end {
            return Ok(());
        }
        let message = format!("portal \"{}\" cannot be run", self.name);
        Err(Error::new(ErrorKind::NotInState, message))
    }

    /// The next rows, at most `max`; none at the end.
    async fn next(&mut self, max: u64) -> Result<Option<RecordBatch>> {
        if max == 0 {
            return Ok(None);
        }
        let batch = loop {
            if let Some(rest) = self.rest.take() {
                break rest;
            }
            if self.is_at_end {
                return Ok(None);
            }
            self.check()?;
            let Some(mut stream) = self.stream.take() else { return Ok(None) };
            // Back in its place only after a batch: what is cut off here has lost rows.
            match stream.next().await {
                None => self.is_at_end = true,
                Some(batch) => {
                    let batch = batch.map_err(query_error)?;
                    self.rest = (batch.num_rows() > 0).then_some(batch);
                    self.stream = Some(stream);
                }
            }
        };
        let count = batch.num_rows().min(usize::try_from(max).unwrap_or(usize::MAX));
        let left = batch.num_rows() - count;
        self.rest = (left > 0).then(|| batch.slice(count, left));
        self.position += count as u64;
        Ok(Some(batch.slice(0, count)))
    }

    /// Passes over rows; gives how many there were.
    async fn pass(&mut self, count: u64) -> Result<u64> {
        let mut passed = 0;
        while let Some(batch) = self.next(count - passed).await? {
            passed += batch.num_rows() as u64;
        }
        Ok(passed)
    }
}

/// The rows of a direction from a position; none if they lie behind it.
fn span(direction: Direction, position: u64) -> Option<Span> {
    let positive = |count: i64| u64::try_from(count).ok().filter(|count| *count > 0);
    match direction {
        Direction::Forward(count) => Some(Span { skip: 0, take: positive(count)? }),
        Direction::ForwardAll => Some(Span { skip: 0, take: u64::MAX }),
        Direction::Relative(count) => Some(Span { skip: positive(count)? - 1, take: 1 }),
        // Before the first row.
        Direction::Absolute(0) if position == 0 => Some(Span { skip: 0, take: 0 }),
        Direction::Absolute(count) => {
            let before = positive(count)? - 1;
            Some(Span { skip: before.checked_sub(position)?, take: 1 })
        }
    }
}

fn only_forward() -> Error {
    Error::new(ErrorKind::NotInState, "cursor can only scan forward")
        .with_hint("rows are computed as they are fetched: run the query again to go back")
}

fn undefined(name: &str) -> Error {
    Error::new(ErrorKind::UndefinedCursor, format!("cursor \"{name}\" does not exist"))
}

impl fmt::Debug for Cursor {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Cursor").field("schema", &self.schema).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directions_are_rows_from_a_position() {
        let at =
            |direction, position| span(direction, position).map(|Span { skip, take }| (skip, take));
        assert_eq!(at(Direction::Forward(5), 3), Some((0, 5)));
        assert_eq!(at(Direction::ForwardAll, 3), Some((0, u64::MAX)));
        assert_eq!(at(Direction::Relative(5), 3), Some((4, 1)));
        assert_eq!(at(Direction::Absolute(5), 3), Some((1, 1)));
        assert_eq!(at(Direction::Absolute(4), 3), Some((0, 1)));
        assert_eq!(at(Direction::Absolute(0), 0), Some((0, 0)));
        for back in [
            Direction::Forward(-1),
            Direction::Forward(0),
            Direction::Relative(-1),
            Direction::Absolute(3),
            Direction::Absolute(0),
            Direction::Absolute(-1),
        ] {
            assert_eq!(at(back, 3), None, "{back:?}");
        }
    }
}
