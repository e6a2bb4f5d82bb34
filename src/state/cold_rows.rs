//! Moves rows to scratch files: the same batch, but its buffers are slices of a mapped file. And
//! gathers rows of such batches.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayData, ArrayRef, BooleanBufferBuilder, OffsetSizeTrait, RecordBatch, make_array,
};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, ScalarBuffer};
use arrow::compute::interleave;
use arrow::datatypes::{DataType, Schema};
use arrow::error::ArrowError;
use arrow_ipc::reader::read_record_batch;
use arrow_ipc::root_as_message;
use arrow_ipc::writer::{CompressionContext, DictionaryTracker, IpcDataGenerator, IpcWriteOptions};
use zerocopy::{FromBytes, IntoBytes};

use crate::change::RowSizes;
use crate::env::{Scratch, ScratchReader};
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

/// Bytes of the largest row.
pub(super) fn largest_row(rows: &RecordBatch) -> usize {
    let sizes = RowSizes::of(rows.columns());
    (0..rows.num_rows()).map(|row| sizes.bytes(row)).max().unwrap_or_default()
}

/// The values at places, each an array and a row in it, as `interleave` gives them. Values of
/// scratch files are copied from there one by one, which maps no page; those of nested types are
/// read through the mapping.
///
/// # Errors
/// `Unavailable` if the disk refuses it, and arrow's, such as text beyond 2 GiB.
pub(super) fn gather(
    arrays: &[&dyn Array],
    places: &[(usize, usize)],
    reader: &ScratchReader,
) -> Result<ArrayRef> {
    let Some(data_type) = arrays.first().map(|array| array.data_type().clone()) else {
        return Ok(interleave(arrays, places)?);
    };
    let sources: Vec<ArrayData> = arrays.iter().map(|array| array.to_data()).collect();
    let values = Values { sources: &sources, places, reader };
    let nulls = values.nulls()?;
    let buffers = match &data_type {
        DataType::Boolean => vec![values.bits(boolean_values)?.into_inner()],
        DataType::Utf8 | DataType::Binary => values.texts::<i32>(nulls.as_ref())?,
        DataType::LargeUtf8 | DataType::LargeBinary => values.texts::<i64>(nulls.as_ref())?,
        DataType::FixedSizeBinary(width) => match usize::try_from(*width) {
            Ok(width) => vec![values.fixed(width)?],
            Err(_) => return Ok(interleave(arrays, places)?),
        },
        other => match other.primitive_width() {
            Some(width) => vec![values.fixed(width)?],
            None => return Ok(interleave(arrays, places)?),
        },
    };
    let data = ArrayData::builder(data_type).len(places.len()).buffers(buffers).nulls(nulls);
    Ok(make_array(data.build()?))
}

fn boolean_values(source: &ArrayData) -> Option<BooleanBuffer> {
    Some(BooleanBuffer::new(source.buffers()[0].clone(), source.offset(), source.len()))
}

/// Values to be gathered: of one type.
struct Values<'a> {
    sources: &'a [ArrayData],
    places: &'a [(usize, usize)],
    reader: &'a ScratchReader,
}

impl Values<'_> {
    /// Values of so many bytes each.
    fn fixed(&self, width: usize) -> Result<Buffer> {
        let mut to = vec![0; self.places.len() * width];
        for ((source, row), to) in self.places.iter().zip(to.chunks_exact_mut(width)) {
            let source = &self.sources[*source];
            let start = (source.offset() + row) * width;
            self.reader.copy(&source.buffers()[0][start..start + width], to)?;
        }
        Ok(Buffer::from(to))
    }

    /// Offsets and bytes.
    fn texts<O: OffsetSizeTrait + FromBytes + IntoBytes>(
        &self,
        nulls: Option<&NullBuffer>,
    ) -> Result<Vec<Buffer>> {
        let mut ends: Vec<O> = vec![O::usize_as(0)];
        let mut text = Vec::new();
        for (number, (source, row)) in self.places.iter().enumerate() {
            if nulls.is_none_or(|nulls| nulls.is_valid(number)) {
                let source = &self.sources[*source];
                let at = (source.offset() + row) * size_of::<O>();
                let mut bounds = [O::usize_as(0); 2];
                let from = &source.buffers()[0][at..at + size_of_val(&bounds)];
                self.reader.copy(from, bounds.as_mut_slice().as_mut_bytes())?;
                let from = &source.buffers()[1][bounds[0].as_usize()..bounds[1].as_usize()];
                let start = text.len();
                text.resize(start + from.len(), 0);
                self.reader.copy(from, &mut text[start..])?;
            }
            let end = O::from_usize(text.len());
            ends.push(end.ok_or_else(|| ArrowError::OffsetOverflowError(text.len()))?);
        }
        Ok(vec![Buffer::from_vec(ends), Buffer::from(text)])
    }

    fn nulls(&self) -> Result<Option<NullBuffer>> {
        if self.sources.iter().all(|source| source.null_count() == 0) {
            return Ok(None);
        }
        let bits = self.bits(|source| source.nulls().map(|nulls| nulls.inner().clone()))?;
        Ok(Some(NullBuffer::new(bits)))
    }

    /// Bits of each source; all set where it has none.
    fn bits(&self, of: impl Fn(&ArrayData) -> Option<BooleanBuffer>) -> Result<BooleanBuffer> {
        let sources: Vec<_> = self.sources.iter().map(of).collect();
        let mut bits = BooleanBufferBuilder::new(self.places.len());
        for (source, row) in self.places {
            let Some(source) = &sources[*source] else {
                bits.append(true);
                continue;
            };
            let at = source.offset() + row;
            let mut byte = [0];
            self.reader.copy(&source.inner()[at / 8..at / 8 + 1], &mut byte)?;
            bits.append(byte[0] >> (at % 8) & 1 == 1);
        }
        Ok(bits.finish())
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        BinaryArray, BooleanArray, Decimal128Array, Int64Array, LargeStringArray, ListArray,
        StringArray,
    };
    use arrow::datatypes::Int64Type;

    use super::*;

    fn batch(first: i64, count: i64, is_nullable: bool) -> RecordBatch {
        let of = |number: i64| (!is_nullable || number % 3 != 0).then_some(number);
        let values: Vec<Option<i64>> = (first..first + count).map(of).collect();
        let text = |it: &Option<i64>| it.map(|it| "x".repeat(it as usize % 50) + &it.to_string());
        let texts: Vec<Option<String>> = values.iter().map(text).collect();
        let bytes = texts.iter().map(|it| it.as_ref().map(String::as_bytes));
        let bools = values.iter().map(|it| it.map(|it| it % 2 == 0));
        let lists = values.iter().map(|it| it.map(|it| vec![Some(it), None]));
        let decimals = values.iter().map(|it| it.map(i128::from));
        let columns: [(&str, ArrayRef); 7] = [
            ("long", Arc::new(Int64Array::from(values.clone()))),
            ("bool", Arc::new(BooleanArray::from_iter(bools))),
            ("decimal", Arc::new(Decimal128Array::from_iter(decimals))),
            ("text", Arc::new(StringArray::from_iter(&texts))),
            ("large", Arc::new(LargeStringArray::from_iter(&texts))),
            ("bytes", Arc::new(BinaryArray::from_iter(bytes))),
            ("list", Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(lists))),
        ];
        let columns = columns.map(|(name, column)| (name, column, true));
        RecordBatch::try_from_iter_with_nullable(columns).unwrap()
    }

    /// It gives what `interleave` gives, of moved batches, of a slice of one and of the heap.
    #[test]
    fn gathers_as_interleave_does() {
        let folder = tempfile::tempdir().unwrap();
        let scratch = Scratch::new(folder.path().join("scratch"));
        for is_nullable in [false, true] {
            let batches = [batch(0, 30, is_nullable), batch(100, 90, false), batch(200, 7, true)];
            let moved = [
                to_scratch(&batches[0], &scratch).unwrap(),
                to_scratch(&batches[1], &scratch).unwrap().slice(11, 20),
                batches[2].clone(),
            ];
            let same = [batches[0].clone(), batches[1].slice(11, 20), batches[2].clone()];
            let places: Vec<_> =
                (0..100).map(|it| (it % 3, it * 7 % same[it % 3].num_rows())).collect();
            for column in 0..same[0].num_columns() {
                let of = |batches: &[RecordBatch]| -> Vec<ArrayRef> {
                    batches.iter().map(|batch| Arc::clone(batch.column(column))).collect()
                };
                let (moved, same) = (of(&moved), of(&same));
                let moved: Vec<_> = moved.iter().map(AsRef::as_ref).collect();
                let same: Vec<_> = same.iter().map(AsRef::as_ref).collect();
                let wanted = interleave(&same, &places).unwrap();
                let found = gather(&moved, &places, &scratch.reader()).unwrap();
                assert_eq!(&found, &wanted, "column {column}");
            }
        }
        let flat = batch(49, 1, false).project(&[0, 1, 2, 3, 4, 5]).unwrap();
        assert_eq!(largest_row(&flat), 8 + 1 + 16 + (51 + 4) + (51 + 8) + (51 + 4));
    }
}
