//! [`Counters`]: the numbers of identity columns.
//!
//! **Invariant:** a number is given once, whoever asks, also after a kill: before numbers are given
//! the table of counters says durably that they are. What was written down and not given is a gap.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use frazil_connector_api::ChangeBatch;

use crate::catalog::{COUNTERS, Relation, RelationId};
use crate::error::{Error, ErrorKind, Result};
use crate::job::{Engine, ReadToWrite};

/// Numbers that are written down as given beyond those that are asked for: a write for so many
/// INSERTs, and the largest gap after a kill.
const AHEAD: i64 = 32;

/// How often a write is tried again that others of the same counter came before.
const ATTEMPTS_MAX: u32 = 100;

type Leases = HashMap<(RelationId, usize), Arc<tokio::sync::Mutex<Lease>>>;

/// The counters of identity columns, by table and column.
#[derive(Debug, Default)]
pub(in crate::session) struct Counters {
    leases: Mutex<Leases>,
}

/// The numbers `next..=limit` are ours: they are written down as given.
#[derive(Debug)]
struct Lease {
    next: i64,
    limit: i64,
}

impl Counters {
    /// The first of `count` numbers in a row, which nobody else gets.
    ///
    /// # Errors
    /// `OutOfRange` if there are no more; what writing says.
    pub(in crate::session) async fn take(
        &self,
        engine: &Engine,
        table: RelationId,
        column: usize,
        count: usize,
    ) -> Result<i64> {
        let count = i64::try_from(count).map_err(|_| exhausted())?;
        let lease = {
            let mut leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
            let none = || Arc::new(tokio::sync::Mutex::new(Lease { next: 1, limit: 0 }));
            Arc::clone(leases.entry((table, column)).or_insert_with(none))
        };
        let mut lease = lease.lock().await;
        if lease.limit - lease.next + 1 < count {
            *lease = extended(engine, &format!("{}.{column}", table.0), &lease, count).await?;
        }
        let first = lease.next;
        lease.next += count;
        Ok(first)
    }
}

/// A lease of `count` numbers and some ahead, written down.
async fn extended(engine: &Engine, name: &str, before: &Lease, count: i64) -> Result<Lease> {
    let counters = counters(engine).await?;
    for _ in 0..ATTEMPTS_MAX {
        let read = engine.read_to_write();
        let given = given(&read, &counters, name).await?;
        // Ours go on if nobody else has taken any.
        let next = if given == before.limit { before.next } else { given + 1 };
        let limit = next.checked_add(count - 1).and_then(|last| last.checked_add(AHEAD));
        let limit = limit.ok_or_else(exhausted)?;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from_iter_values([name])),
            Arc::new(Int64Array::from_iter_values([limit])),
        ];
        let row = RecordBatch::try_new(Arc::clone(&counters.schema), columns)?;
        match engine.write_after(read, counters.id, vec![ChangeBatch::inserts(row)]).await {
            Ok(()) => return Ok(Lease { next, limit }),
            Err(error) if error.kind == ErrorKind::SerializationFailure => {}
            Err(error) => return Err(error),
        }
    }
    Err(Error::new(ErrorKind::SerializationFailure, "others take the same numbers all the time"))
}

/// The last number that is written down as given; 0 if there is none.
async fn given(read: &ReadToWrite, counters: &Relation, name: &str) -> Result<i64> {
    let Some(rows) = read.snapshot().relation(counters.id) else {
        return Err(Error::internal("the table of counters has no rows"));
    };
    let wanted: ArrayRef = Arc::new(StringArray::from_iter_values([name]));
    let mut given = 0;
    for batch in rows.lookup(&[0], &[wanted], None).await? {
        let names = batch.column(0).as_string::<i32>();
        let values = batch.column(1).as_primitive::<Int64Type>();
        let own = (0..batch.num_rows()).filter(|row| names.value(*row) == name);
        given = own.map(|row| values.value(row)).fold(given, i64::max);
    }
    Ok(given)
}

/// The table of counters, made by the first who needs it.
async fn counters(engine: &Engine) -> Result<Arc<Relation>> {
    if let Some(counters) = engine.catalog().get(COUNTERS) {
        return Ok(Arc::clone(counters));
    }
    let columns = "counter TEXT PRIMARY KEY, given BIGINT NOT NULL";
    let create = format!("CREATE TABLE IF NOT EXISTS \"{COUNTERS}\" ({columns})");
    engine.apply(&create).await?;
    let lost = || Error::internal("the table of counters was made and is not there");
    engine.catalog().get(COUNTERS).cloned().ok_or_else(lost)
}

fn exhausted() -> Error {
    Error::new(ErrorKind::OutOfRange, "the numbers of the column are exhausted")
}
