//! [`Packet`]: the one item that travels on a Timely stream.

use std::io::Cursor;
use std::sync::{Arc, OnceLock};

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, UInt8Array};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{Field, Schema};
use frazil_connector_api::{ChangeBatch, Decoded, UpsertBatch, UpsertOp, origins_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::InputHandle;

use crate::change::batch_bytes;
use crate::error::{Error, ErrorKind, Result};

const WEIGHT: &str = "$weight";
const OP: &str = "$op";
const UNCHANGED: &str = "$unchanged:";
const ORIGIN: &str = "$origin:";
const CHECKSUM_BYTES: usize = size_of::<u32>();

/// Feeds items into a dataflow; packets unless another item is named.
pub(crate) type Feed<D = Packet> = InputHandle<u64, CapacityContainerBuilder<Vec<D>>>;

/// A batch and the worker that it is meant for.
///
/// Within a process it moves as it is; between processes it travels as a CRC-32 and one Arrow IPC
/// stream, with the weights or operations as further columns.
#[derive(Debug, Clone)]
pub(crate) struct Packet {
    /// Index of the worker that takes it; ignored where a stream stays on its worker.
    pub(crate) target: u64,
    /// The batch.
    pub(crate) data: Decoded,
    /// The encoded form, made once: Timely asks first for its length, then for the bytes.
    encoded: OnceLock<Arc<Vec<u8>>>,
}

impl Packet {
    /// A packet for a worker.
    pub(crate) fn new(target: u64, data: Decoded) -> Self {
        Self { target, data, encoded: OnceLock::new() }
    }

    /// Makes the form in which it travels to another process, so that what cannot be encoded is an
    /// error of its job: inside of Timely it would end the process.
    ///
    /// # Errors
    /// What Arrow IPC cannot hold.
    pub(crate) fn encode(&self) -> Result<()> {
        if self.encoded.get().is_none() {
            let bytes = Arc::new(encode(&self.data)?);
            self.encoded.get_or_init(|| bytes);
        }
        Ok(())
    }

    /// A packet that stays where it is.
    pub(crate) fn local(changes: ChangeBatch) -> Self {
        Self::new(0, Decoded::Changes(changes))
    }
}

/// Memory of rows in bytes.
pub(crate) fn decoded_bytes(data: &Decoded) -> usize {
    match data {
        Decoded::Changes(changes) => batch_bytes(changes.rows()),
        Decoded::Upserts(upserts) => batch_bytes(upserts.rows()),
    }
}

impl Serialize for Packet {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let bytes = match self.encoded.get() {
            Some(bytes) => Arc::clone(bytes),
            None => {
                let bytes = Arc::new(encode(&self.data).map_err(serde::ser::Error::custom)?);
                Arc::clone(self.encoded.get_or_init(|| bytes))
            }
        };
        (self.target, Bytes(&bytes)).serialize(serializer)
    }
}

struct Bytes<'a>(&'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

struct OwnedBytes(Vec<u8>);

impl<'de> Deserialize<'de> for OwnedBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = OwnedBytes;
            fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                out.write_str("bytes")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> std::result::Result<OwnedBytes, E> {
                Ok(OwnedBytes(bytes.to_vec()))
            }
            fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> std::result::Result<OwnedBytes, E> {
                Ok(OwnedBytes(bytes))
            }
        }
        deserializer.deserialize_byte_buf(Visitor)
    }
}

impl<'de> Deserialize<'de> for Packet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let (target, bytes) = <(u64, OwnedBytes)>::deserialize(deserializer)?;
        let data = decode(&bytes.0).map_err(serde::de::Error::custom)?;
        Ok(Self::new(target, data))
    }
}

fn encode(data: &Decoded) -> Result<Vec<u8>> {
    let (rows, extra) = match data {
        Decoded::Changes(changes) => (changes.rows(), change_columns(changes)),
        Decoded::Upserts(upserts) => (upserts.rows(), upsert_columns(upserts)),
    };
    let mut fields: Vec<Field> =
        rows.schema().fields().iter().map(|field| field.as_ref().clone()).collect();
    let mut columns: Vec<ArrayRef> = rows.columns().to_vec();
    for (name, column) in extra {
        fields.push(Field::new(name, column.data_type().clone(), true));
        columns.push(column);
    }
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    let schema = Arc::new(Schema::new(fields));
    let batch = RecordBatch::try_new_with_options(Arc::clone(&schema), columns, &options)?;
    let room = vec![0; CHECKSUM_BYTES];
    let mut writer = arrow_ipc::writer::StreamWriter::try_new(room, &schema)?;
    writer.write(&batch)?;
    let mut bytes = writer.into_inner()?;
    let checksum = crc32fast::hash(&bytes[CHECKSUM_BYTES..]);
    bytes[..CHECKSUM_BYTES].copy_from_slice(&checksum.to_le_bytes());
    Ok(bytes)
}

fn change_columns(changes: &ChangeBatch) -> Vec<(String, ArrayRef)> {
    let weights = changes.weights().cloned();
    weights.map(|weights| (WEIGHT.to_string(), Arc::new(weights) as ArrayRef)).into_iter().collect()
}

fn upsert_columns(upserts: &UpsertBatch) -> Vec<(String, ArrayRef)> {
    let ops: UInt8Array = upserts.ops().iter().map(|op| *op as u8).collect::<Vec<_>>().into();
    let mut columns = vec![(OP.to_string(), Arc::new(ops) as ArrayRef)];
    for (index, marks) in upserts.unchanged().iter().enumerate() {
        if let Some(marks) = marks {
            let marks = arrow::array::BooleanArray::new(marks.clone(), None);
            columns.push((format!("{UNCHANGED}{index}"), Arc::new(marks) as ArrayRef));
        }
    }
    if let Some(origins) = upserts.origins() {
        let origins = origins.columns().iter().enumerate();
        columns.extend(origins.map(|(at, column)| (format!("{ORIGIN}{at}"), Arc::clone(column))));
    }
    columns
}

fn decode(bytes: &[u8]) -> Result<Decoded> {
    // Arrow takes lengths and offsets as they are: damaged ones would end the process.
    let (checksum, bytes) = bytes.split_first_chunk().ok_or_else(|| corrupt("no checksum"))?;
    if crc32fast::hash(bytes) != u32::from_le_bytes(*checksum) {
        return Err(corrupt("its checksum is wrong"));
    }
    let mut reader = arrow_ipc::reader::StreamReader::try_new(Cursor::new(bytes), None)?;
    let batch = reader.next().ok_or_else(|| corrupt("no batch"))??;
    let schema = batch.schema();
    let is_extra = |name: &str| name == WEIGHT || name == OP || name.starts_with(UNCHANGED);
    let width = schema.fields().iter().take_while(|field| !is_extra(field.name())).count();
    let rows = batch.project(&(0..width).collect::<Vec<_>>())?;
    match schema.fields().get(width).map(|field| field.name().as_str()) {
        None => Ok(Decoded::Changes(ChangeBatch::inserts(rows))),
        Some(WEIGHT) => {
            let weights = typed::<Int64Array>(&batch, width)?.clone();
            Ok(Decoded::Changes(ChangeBatch::try_new(rows, weights)?))
        }
        Some(_) => Ok(Decoded::Upserts(decode_upserts(&batch, rows, width)?)),
    }
}

fn decode_upserts(batch: &RecordBatch, rows: RecordBatch, width: usize) -> Result<UpsertBatch> {
    let op = |code: &u8| match code {
        0 => Ok(UpsertOp::Upsert),
        1 => Ok(UpsertOp::Delete),
        2 => Ok(UpsertOp::Truncate),
        _ => Err(corrupt("unknown operation")),
    };
    let ops = typed::<UInt8Array>(batch, width)?.values().iter().map(op).collect::<Result<_>>()?;
    let mut unchanged: Vec<Option<BooleanBuffer>> = Vec::new();
    let mut origins: Vec<ArrayRef> = Vec::new();
    for index in width + 1..batch.num_columns() {
        let name = batch.schema().field(index).name().clone();
        if name.starts_with(ORIGIN) {
            origins.push(Arc::clone(batch.column(index)));
            continue;
        }
        unchanged.resize(width, None);
        let column = name.strip_prefix(UNCHANGED).and_then(|text| text.parse::<usize>().ok());
        let slot = column.and_then(|column| unchanged.get_mut(column));
        let marks = typed::<arrow::array::BooleanArray>(batch, index)?.values().clone();
        *slot.ok_or_else(|| corrupt("marks of an unknown column"))? = Some(marks);
    }
    let origins = (!origins.is_empty()).then(|| RecordBatch::try_new(origins_schema(), origins));
    Ok(UpsertBatch::try_new(rows, ops, unchanged)?.with_origins(origins.transpose()?)?)
}

fn typed<A: Array + 'static>(batch: &RecordBatch, index: usize) -> Result<&A> {
    batch.column(index).as_any().downcast_ref::<A>().ok_or_else(|| corrupt("a column's type"))
}

fn corrupt(what: &str) -> Error {
    Error::new(ErrorKind::Corrupt, "a batch from another process cannot be read").with_detail(what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::StringArray;
    use frazil_connector_api::{BadMessage, SplitId};
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    fn rows() -> RecordBatch {
        let id: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
        let name: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None]));
        RecordBatch::try_from_iter_with_nullable([("id", id, false), ("name", name, true)]).unwrap()
    }

    fn round_trip(data: Decoded) -> Packet {
        let container = vec![Packet::new(3, data)];
        let mut bytes = Vec::new();
        use timely::dataflow::channels::ContainerBytes;
        container.into_bytes(&mut bytes);
        assert_eq!(bytes.len(), container.length_in_bytes());
        let slab = timely::bytes::arc::BytesMut::from(bytes);
        let length = slab.len();
        let mut back = Vec::<Packet>::from_bytes(slab.freeze().extract_to(length));
        back.pop().unwrap()
    }

    #[test]
    fn changes_keep_rows_and_weights_across_processes() {
        let weights = Int64Array::from(vec![2, -1]);
        let packet =
            round_trip(Decoded::Changes(ChangeBatch::try_new(rows(), weights.clone()).unwrap()));
        let Decoded::Changes(changes) = packet.data else { panic!("not changes") };
        assert_eq!(
            (packet.target, changes.rows(), changes.weights()),
            (3, &rows(), Some(&weights))
        );
    }

    #[test]
    fn upserts_keep_operations_and_marks_across_processes() {
        let ops = vec![UpsertOp::Upsert, UpsertOp::Delete];
        let marks = vec![None, Some(BooleanBuffer::from(vec![true, false]))];
        let batch = UpsertBatch::try_new(rows(), ops.clone(), marks.clone()).unwrap();
        let message = BadMessage {
            split: SplitId("7".to_string()),
            offset: 9,
            key: None,
            payload: Some(b"p".to_vec()),
            reason: String::new(),
        };
        let batch = batch.with_messages(&[(0..1, message)]).unwrap();
        let Decoded::Upserts(upserts) = round_trip(Decoded::Upserts(batch)).data else {
            panic!("not upserts")
        };
        assert_eq!(upserts.rows(), &rows());
        assert_eq!((upserts.ops(), upserts.unchanged()), (&ops[..], &marks[..]));
        assert!(upserts.refused(1, "x").is_none());
        let refused = upserts.refused(0, "x").unwrap();
        assert_eq!((refused.offset, refused.payload), (9, Some(b"p".to_vec())));
    }

    /// Whatever bytes another process sends: a batch or an error.
    #[test]
    fn damaged_batches_are_errors() {
        let mut random = StdRng::seed_from_u64(11);
        let ops = vec![UpsertOp::Upsert, UpsertOp::Delete];
        let marks = vec![None, Some(BooleanBuffer::from(vec![true, false]))];
        let weights = Int64Array::from(vec![2, -1]);
        let whole = [
            encode(&Decoded::Upserts(UpsertBatch::try_new(rows(), ops, marks).unwrap())).unwrap(),
            encode(&Decoded::Changes(ChangeBatch::try_new(rows(), weights).unwrap())).unwrap(),
        ];
        let mut refused = 0;
        for round in 0..4000 {
            let mut bytes = whole[round % 2].clone();
            for _ in 0..random.random_range(1..4) {
                let at = random.random_range(0..bytes.len());
                match random.random_range(0..4) {
                    0 => bytes.truncate(at.max(1)),
                    1 => bytes[at] = random.random(),
                    2 => bytes[at] ^= 1 << random.random_range(0..8),
                    _ => _ = bytes.remove(at),
                }
                if bytes.is_empty() {
                    break;
                }
            }
            refused += usize::from(decode(&bytes).is_err());
        }
        assert!(refused > 3900, "{refused} of 4000 were refused");
    }
}
