//! [`Include`]: what a source tells of a message besides its key and value.

use std::sync::Arc;

use arrow::array::{
    ArrayBuilder, ArrayRef, BinaryBuilder, Int32Builder, Int64Builder, RecordBatch, StringBuilder,
    TimestampMicrosecondBuilder,
};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};

use crate::{About, ChangeBatch, Decoded, Message, Result, SplitId, UpsertBatch};

/// A column beside those of the message's value: `INCLUDE timestamp AS sent`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Include {
    /// When the message was written, as its system says: TIMESTAMPTZ.
    Timestamp,
    /// Kafka's number of the partition: INT.
    Partition,
    /// Number of the message in its split: BIGINT.
    Offset,
    /// The split, such as a file: TEXT.
    File,
    /// The key: BYTEA.
    Key,
    /// The last header of this name: TEXT.
    Header(String),
}

impl Include {
    /// The word in SQL.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Timestamp => "timestamp",
            Self::Partition => "partition",
            Self::Offset => "offset",
            Self::File => "file",
            Self::Key => "key",
            Self::Header(_) => "header",
        }
    }

    /// The type of the column, which may always be NULL.
    pub fn data_type(&self) -> DataType {
        match self {
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::Partition => DataType::Int32,
            Self::Offset => DataType::Int64,
            Self::File | Self::Header(_) => DataType::Utf8,
            Self::Key => DataType::Binary,
        }
    }
}

/// Gathers such columns for the rows of one batch.
pub(crate) struct IncludedColumns {
    fields: Vec<Field>,
    columns: Vec<Column>,
    row_count: usize,
}

enum Column {
    Timestamp(TimestampMicrosecondBuilder),
    Partition(Int32Builder),
    Offset(Int64Builder),
    File(StringBuilder),
    Key(BinaryBuilder),
    Header(String, StringBuilder),
}

impl IncludedColumns {
    /// Columns with these names.
    pub(crate) fn new(included: &[(String, Include)]) -> Self {
        let field =
            |(name, include): &(String, Include)| Field::new(name, include.data_type(), true);
        let column = |(_, include): &(String, Include)| match include {
            Include::Timestamp => Column::Timestamp(
                TimestampMicrosecondBuilder::new().with_data_type(include.data_type()),
            ),
            Include::Partition => Column::Partition(Int32Builder::new()),
            Include::Offset => Column::Offset(Int64Builder::new()),
            Include::File => Column::File(StringBuilder::new()),
            Include::Key => Column::Key(BinaryBuilder::new()),
            Include::Header(name) => Column::Header(name.clone(), StringBuilder::new()),
        };
        Self {
            fields: included.iter().map(field).collect(),
            columns: included.iter().map(column).collect(),
            row_count: 0,
        }
    }

    /// Notes a message for all rows up to `row_count` that have none yet.
    pub(crate) fn push(
        &mut self,
        row_count: usize,
        split: &SplitId,
        offset: i64,
        message: Message<'_>,
        about: About<'_>,
    ) {
        let rows = row_count.saturating_sub(self.row_count);
        self.row_count = row_count;
        if rows == 0 {
            return;
        }
        for column in &mut self.columns {
            match column {
                Column::Timestamp(builder) => {
                    let micros = about.timestamp_ms.and_then(|millis| millis.checked_mul(1000));
                    (0..rows).for_each(|_| builder.append_option(micros));
                }
                Column::Partition(builder) => {
                    (0..rows).for_each(|_| builder.append_option(about.partition));
                }
                Column::Offset(builder) => (0..rows).for_each(|_| builder.append_value(offset)),
                Column::File(builder) => (0..rows).for_each(|_| builder.append_value(&split.0)),
                Column::Key(builder) => (0..rows).for_each(|_| builder.append_option(message.key)),
                Column::Header(name, builder) => {
                    let value = about.headers.and_then(|headers| headers.last(name));
                    let text = value.map(String::from_utf8_lossy);
                    (0..rows).for_each(|_| builder.append_option(text.as_deref()));
                }
            }
        }
    }

    /// Adds the columns to the rows that the decoder has given for the messages.
    ///
    /// # Errors
    /// `Internal` if a row has no message.
    pub(crate) fn add_to(&mut self, data: Decoded) -> Result<Decoded> {
        self.row_count = 0;
        let mut columns = Vec::new();
        for column in &mut self.columns {
            let builder: &mut dyn ArrayBuilder = match column {
                Column::Timestamp(builder) => builder,
                Column::Partition(builder) => builder,
                Column::Offset(builder) => builder,
                Column::File(builder) | Column::Header(_, builder) => builder,
                Column::Key(builder) => builder,
            };
            columns.push(builder.finish());
        }
        Ok(match data {
            Decoded::Changes(changes) => {
                let rows = self.widened(changes.rows(), columns)?;
                Decoded::Changes(ChangeBatch::with_rows(&changes, rows)?)
            }
            Decoded::Upserts(upserts) => {
                let mut unchanged = upserts.unchanged().to_vec();
                if !unchanged.is_empty() {
                    unchanged.resize(unchanged.len() + columns.len(), None);
                }
                let rows = self.widened(upserts.rows(), columns)?;
                Decoded::Upserts(UpsertBatch::try_new(rows, upserts.ops().to_vec(), unchanged)?)
            }
        })
    }

    fn widened(&self, rows: &RecordBatch, more: Vec<ArrayRef>) -> Result<RecordBatch> {
        let schema = rows.schema();
        let fields = schema.fields().iter().cloned();
        let fields: Vec<_> = fields.chain(self.fields.iter().cloned().map(Arc::new)).collect();
        let columns = rows.columns().iter().cloned().chain(more).collect();
        Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
    }
}
