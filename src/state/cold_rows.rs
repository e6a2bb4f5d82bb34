//! Moves rows to scratch files: the same batch, but its buffers are slices of a mapped file.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use arrow::buffer::{Buffer, ScalarBuffer};
use arrow::datatypes::{DataType, Schema};
use arrow_ipc::reader::read_record_batch;
use arrow_ipc::root_as_message;
use arrow_ipc::writer::{CompressionContext, DictionaryTracker, IpcDataGenerator, IpcWriteOptions};

use crate::env::Scratch;
use crate::error::{Error, ErrorKind, Result};

/// Batches whose rows have left the heap, each with the one that takes its place.
#[derive(Debug, Default)]
pub struct MovedRows {
    /// Before and after.
    pub pairs: Vec<(Arc<RecordBatch>, Arc<RecordBatch>)>,
    /// Bytes that left the heap, if nobody else holds the batches.
    pub bytes: usize,
}

impl MovedRows {
    /// Adds others.
    pub fn append(&mut self, mut other: Self) {
        self.pairs.append(&mut other.pairs);
        self.bytes += other.bytes;
    }
}

/// True if rows of these columns can be moved: a dictionary is shared by many batches.
pub(super) fn can_move(schema: &Schema) -> bool {
    fn has_dictionary(data_type: &DataType) -> bool {
        match data_type {
            DataType::Dictionary(_, _) => true,
            DataType::List(field)
            | DataType::LargeList(field)
            | DataType::FixedSizeList(field, _)
            | DataType::Map(field, _) => has_dictionary(field.data_type()),
            DataType::Struct(fields) => fields.iter().any(|it| has_dictionary(it.data_type())),
            DataType::Null | DataType::Union(_, _) | DataType::RunEndEncoded(_, _) => true,
            _ => false,
        }
    }
    let mut fields = schema.fields().iter();
    !schema.fields().is_empty() && !fields.any(|field| has_dictionary(field.data_type()))
}

/// Writes the buffers of a batch to a scratch file and gives the batch over them. One that is there
/// already, such as a projection of a moved batch, is given as it is.
///
/// # Errors
/// `Unavailable` if the disk refuses it.
pub(super) fn to_scratch(rows: &RecordBatch, scratch: &Scratch) -> Result<RecordBatch> {
    if rows.columns().iter().all(|column| is_in(column.as_ref(), scratch)) {
        return Ok(rows.clone());
    }
    let (_, encoded) = IpcDataGenerator::default().encode(
        rows,
        &mut DictionaryTracker::new(false),
        &IpcWriteOptions::default(),
        &mut CompressionContext::default(),
    )?;
    let body = Buffer::from(scratch.keep(&encoded.arrow_data)?);
    drop(encoded.arrow_data);
    let corrupt = |text: String| Error::new(ErrorKind::Internal, text);
    let message = root_as_message(&encoded.ipc_message).map_err(|it| corrupt(it.to_string()))?;
    let batch = message.header_as_record_batch();
    let batch = batch.ok_or_else(|| corrupt("a batch was encoded as another message".into()))?;
    let none = HashMap::new();
    Ok(read_record_batch(&body, batch, rows.schema(), &none, None, &message.version())?)
}

fn is_in(column: &dyn Array, scratch: &Scratch) -> bool {
    let data = column.to_data();
    let mut buffers = data.buffers().iter();
    data.child_data().is_empty() && buffers.all(|it| scratch.holds(it.as_ptr()))
}

/// The same with numbers.
pub(super) fn numbers_to_scratch(
    numbers: &ScalarBuffer<u32>,
    scratch: &Scratch,
) -> Result<ScalarBuffer<u32>> {
    if numbers.is_empty() {
        return Ok(numbers.clone());
    }
    let kept = Buffer::from(scratch.keep(numbers.inner().as_slice())?);
    Ok(ScalarBuffer::new(kept, 0, numbers.len()))
}
