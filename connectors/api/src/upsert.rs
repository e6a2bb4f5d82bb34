//! [`UpsertBatch`]: changes by key whose old row the source does not tell.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryBuilder, Int64Builder, RecordBatch, StringBuilder,
};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};

use crate::{BadMessage, ConnectorError, Result, SplitId};

/// What a row of an [`UpsertBatch`] does to the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum UpsertOp {
    /// The row replaces the row with its key, if there is one.
    Upsert = 0,
    /// The row with this key goes; only the key columns are meaningful.
    Delete = 1,
    /// All rows go; no column is meaningful.
    Truncate = 2,
}

/// Changes by primary key, in the order of the source.
///
/// The table that takes them keeps the old rows and turns them into retractions. Order matters:
/// for one key the last row wins.
///
/// Shape: `rows` and `ops` of one length. `unchanged` is empty or has one entry per column; a set
/// bit says that the source did not send this value (Debezium's unavailable TOAST value), so the
/// stored one stays. All columns outside the key are nullable here, since a delete has only a key.
///
/// A row with an *origin* needs a stored row: if the table has none with its key, the row is not
/// applied and its message goes to the errors table. Without an origin the missing values are NULL.
#[derive(Debug, Clone)]
pub struct UpsertBatch {
    rows: RecordBatch,
    ops: Vec<UpsertOp>,
    unchanged: Vec<Option<BooleanBuffer>>,
    /// The messages of the rows that need a stored row, see [`origins_schema`].
    origins: Option<RecordBatch>,
}

/// Columns of [`UpsertBatch::origins`]: one row per row of the batch, all NULL for a row without
/// origin.
pub fn origins_schema() -> SchemaRef {
    let column = |name, data_type| Field::new(name, data_type, true);
    Arc::new(Schema::new(vec![
        column("split", DataType::Utf8),
        column("offset", DataType::Int64),
        column("key", DataType::Binary),
        column("payload", DataType::Binary),
    ]))
}

impl UpsertBatch {
    /// Puts rows, operations and the marks of unchanged values together.
    ///
    /// # Errors
    /// `Internal` if lengths differ.
    pub fn try_new(
        rows: RecordBatch,
        ops: Vec<UpsertOp>,
        unchanged: Vec<Option<BooleanBuffer>>,
    ) -> Result<Self> {
        let marks_fit = unchanged.is_empty() || unchanged.len() == rows.num_columns();
        let lengths_fit = unchanged.iter().flatten().all(|marks| marks.len() == rows.num_rows());
        if rows.num_rows() != ops.len() || !marks_fit || !lengths_fit {
            return Err(ConnectorError::internal("operations do not match the rows of an upsert"));
        }
        Ok(Self { rows, ops, unchanged, origins: None })
    }

    /// Adds the origins of rows; `messages` have ranges of rows in ascending order.
    ///
    /// # Errors
    /// `Internal` if a range is outside the batch.
    pub fn with_messages(self, messages: &[(Range<usize>, BadMessage)]) -> Result<Self> {
        if messages.is_empty() {
            return Ok(self);
        }
        let (mut splits, mut offsets) = (StringBuilder::new(), Int64Builder::new());
        let (mut keys, mut payloads) = (BinaryBuilder::new(), BinaryBuilder::new());
        let mut messages = messages.iter().peekable();
        for row in 0..self.num_rows() {
            while messages.next_if(|(range, _)| range.end <= row).is_some() {}
            let origin = messages.peek().filter(|(range, _)| range.contains(&row));
            let origin = origin.map(|(_, message)| message);
            splits.append_option(origin.map(|message| message.split.0.as_str()));
            offsets.append_option(origin.map(|message| message.offset));
            keys.append_option(origin.and_then(|message| message.key.as_deref()));
            payloads.append_option(origin.and_then(|message| message.payload.as_deref()));
        }
        let columns: Vec<ArrayRef> = vec![
            Arc::new(splits.finish()),
            Arc::new(offsets.finish()),
            Arc::new(keys.finish()),
            Arc::new(payloads.finish()),
        ];
        let origins = RecordBatch::try_new(origins_schema(), columns)?;
        self.with_origins(Some(origins))
    }

    /// Sets the origins, as [`UpsertBatch::origins`] gives them.
    ///
    /// # Errors
    /// `Internal` if the columns or the number of rows differ.
    pub fn with_origins(self, origins: Option<RecordBatch>) -> Result<Self> {
        let fits = |origins: &RecordBatch| {
            origins.num_rows() == self.num_rows() && origins.schema() == origins_schema()
        };
        if !origins.as_ref().is_none_or(fits) {
            return Err(ConnectorError::internal("origins do not match the rows of an upsert"));
        }
        Ok(Self { origins, ..self })
    }

    /// The rows.
    pub fn rows(&self) -> &RecordBatch {
        &self.rows
    }

    /// What each row does.
    pub fn ops(&self) -> &[UpsertOp] {
        &self.ops
    }

    /// Marks of values that the source did not send, by column; empty when there are none.
    pub fn unchanged(&self) -> &[Option<BooleanBuffer>] {
        &self.unchanged
    }

    /// Where the rows come from that need a stored row; `None` if no row does.
    pub fn origins(&self) -> Option<&RecordBatch> {
        self.origins.as_ref()
    }

    /// True if row `row` needs a stored row.
    pub fn has_origin(&self, row: usize) -> bool {
        self.origins.as_ref().is_some_and(|origins| origins.column(0).is_valid(row))
    }

    /// The message of a row that needs a stored row, as a bad one.
    pub fn refused(&self, row: usize, reason: &str) -> Option<BadMessage> {
        let origins = self.origins.as_ref().filter(|_| self.has_origin(row))?;
        let bytes = |column: usize| {
            let column = origins.column(column).as_binary::<i32>();
            column.is_valid(row).then(|| column.value(row).to_vec())
        };
        Some(BadMessage {
            split: SplitId(origins.column(0).as_string::<i32>().value(row).to_string()),
            offset: origins.column(1).as_primitive::<Int64Type>().value(row),
            key: bytes(2),
            payload: bytes(3),
            reason: reason.to_string(),
        })
    }

    /// Number of rows.
    pub fn num_rows(&self) -> usize {
        self.ops.len()
    }
}
