//! [`BinaryReader`]: rows of COPY's binary format.
//!
//! ```text
//! signature, flags, extension ─► (number of values, (length, bytes)…)… ─► -1
//! ```

use arrow::datatypes::FieldRef;

use super::text_reader::{ROW_BYTES_MAX, bad, behind};
use crate::error::Result;
use crate::server::binary_values::BinaryValues;
use crate::session::LoadedRows;

/// What the data begins with.
pub(in crate::server) const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";
/// Behind the signature: flags, and the length of what nobody needs to read.
const HEAD_BYTES: usize = SIGNATURE.len() + 4 + 4;
/// The number of values that ends the data.
const END: i16 = -1;

/// Reads binary rows that come in pieces into columns of the table's types.
#[derive(Debug)]
pub(super) struct BinaryReader {
    columns: Vec<FieldRef>,
    values: Vec<BinaryValues>,
    pending: Vec<u8>,
    has_head: bool,
    is_done: bool,
    row: u64,
    lines: Vec<u64>,
    bytes: usize,
}

impl BinaryReader {
    /// # Errors
    /// `Unsupported` for a type whose binary form is not read.
    pub(super) fn new(columns: Vec<FieldRef>) -> Result<Self> {
        let values = columns.iter().map(|column| BinaryValues::of(column.data_type()));
        let values = values.collect::<Result<_>>()?;
        Ok(Self {
            columns,
            values,
            pending: Vec::new(),
            has_head: false,
            is_done: false,
            row: 0,
            lines: Vec::new(),
            bytes: 0,
        })
    }

    /// Bytes that are read but not taken.
    pub(super) fn bytes(&self) -> usize {
        self.bytes + self.pending.len()
    }

    /// The row that an error is about.
    pub(super) fn line(&self) -> u64 {
        self.row
    }

    /// Reads more bytes.
    ///
    /// # Errors
    /// `BadCopyFormat`, `InvalidBinary`, `InvalidEncoding`, `ValueTooLarge`.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<()> {
        let mut pending = std::mem::take(&mut self.pending);
        pending.extend_from_slice(bytes);
        let mut start = 0;
        if !self.has_head {
            let Some(head) = self.head(&pending)? else {
                self.pending = pending;
                return Ok(());
            };
            (self.has_head, start) = (true, head);
        }
        while let Some(count) = self.read_row(&pending[start..])? {
            start += count;
        }
        self.pending = behind(pending, start)?;
        Ok(())
    }

    /// The end of the data.
    ///
    /// # Errors
    /// `BadCopyFormat` if it ends within a row.
    pub(super) fn finish(&self) -> Result<()> {
        if !self.has_head {
            return Err(bad("COPY file signature not recognized"));
        }
        match self.pending.is_empty() {
            true => Ok(()),
            false => Err(bad("unexpected EOF in COPY data")),
        }
    }

    /// The rows that were read since the last call.
    pub(super) fn take(&mut self) -> LoadedRows {
        self.bytes = 0;
        let columns = self.values.iter_mut().map(BinaryValues::finish).collect();
        LoadedRows { columns, lines: std::mem::take(&mut self.lines) }
    }

    /// The length of the head; none if not all of it is there.
    fn head(&self, bytes: &[u8]) -> Result<Option<usize>> {
        let count = bytes.len().min(SIGNATURE.len());
        if bytes[..count] != SIGNATURE[..count] {
            return Err(bad("COPY file signature not recognized"));
        }
        if bytes.len() < HEAD_BYTES {
            return Ok(None);
        }
        let flags = i32_at(bytes, SIGNATURE.len());
        if flags != 0 {
            return Err(bad("unrecognized critical flags in COPY file header"));
        }
        let extension = usize::try_from(i32_at(bytes, SIGNATURE.len() + 4))
            .map_err(|_| bad("invalid COPY file header (wrong length)"))?;
        let all = HEAD_BYTES + extension;
        if extension > ROW_BYTES_MAX {
            return Err(bad("invalid COPY file header (wrong length)"));
        }
        Ok((bytes.len() >= all).then_some(all))
    }

    /// Reads a row and gives its length; none if not all of it is there.
    fn read_row(&mut self, bytes: &[u8]) -> Result<Option<usize>> {
        if self.is_done {
            return match bytes.is_empty() {
                true => Ok(None),
                false => Err(bad("received copy data after EOF marker")),
            };
        }
        let Some(count) = bytes.first_chunk().map(|count| i16::from_be_bytes(*count)) else {
            return Ok(None);
        };
        if count == END {
            self.is_done = true;
            return Ok(Some(2));
        }
        let wanted = self.columns.len();
        if usize::try_from(count) != Ok(wanted) {
            self.row += 1;
            return Err(bad(format!("row field count is {count}, expected {wanted}")));
        }
        // First where the values are: a row is read as a whole.
        let mut places = Vec::with_capacity(wanted);
        let mut at = 2;
        for _ in 0..wanted {
            let Some(length) = bytes.get(at..).and_then(<[u8]>::first_chunk) else {
                return Ok(None);
            };
            at += 4;
            let length = i32::from_be_bytes(*length);
            let place = match usize::try_from(length) {
                Ok(length) => Some(at..at + length),
                Err(_) if length == -1 => None,
                Err(_) => return Err(bad("invalid field size")),
            };
            at = place.as_ref().map_or(at, |place| place.end);
            places.push(place);
        }
        if at > bytes.len() {
            return Ok(None);
        }
        self.row += 1;
        for (values, place) in self.values.iter_mut().zip(places) {
            match place {
                None => values.append_null(),
                Some(place) => values.append(&bytes[place])?,
            }
        }
        self.lines.push(self.row);
        self.bytes += at;
        Ok(Some(at))
    }
}

fn i32_at(bytes: &[u8], at: usize) -> i32 {
    let number = bytes.get(at..).and_then(<[u8]>::first_chunk);
    number.map_or(0, |number| i32::from_be_bytes(*number))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::RecordBatch;
    use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
    use arrow::util::pretty::pretty_format_batches;

    use super::*;

    fn columns(types: &[DataType]) -> Vec<FieldRef> {
        let field =
            |(at, of): (usize, &DataType)| Arc::new(Field::new(format!("c{at}"), of.clone(), true));
        types.iter().enumerate().map(field).collect()
    }

    fn row(values: &[Option<&[u8]>]) -> Vec<u8> {
        let mut bytes = (values.len() as i16).to_be_bytes().to_vec();
        for value in values {
            let length = value.map_or(-1, |value| value.len() as i32);
            bytes.extend(length.to_be_bytes());
            bytes.extend(value.unwrap_or_default());
        }
        bytes
    }

    fn read(columns: &[FieldRef], rows: &[u8], size: usize) -> Result<String> {
        let all = [SIGNATURE.as_slice(), &[0; 8], rows].concat();
        let mut reader = BinaryReader::new(columns.to_vec())?;
        for piece in all.chunks(size) {
            reader.push(piece)?;
        }
        reader.finish()?;
        let rows = reader.take();
        let fields = columns.iter().zip(&rows.columns);
        let fields = fields
            .map(|(field, column)| Field::new(field.name(), column.data_type().clone(), true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let batch = RecordBatch::try_new(schema, rows.columns).unwrap();
        Ok(pretty_format_batches(&[batch]).unwrap().to_string())
    }

    #[test]
    fn values_are_those_of_postgres() {
        let types = [
            DataType::Int32,
            DataType::Utf8,
            DataType::Date32,
            DataType::Timestamp(TimeUnit::Microsecond, None),
            DataType::Decimal128(10, 2),
            DataType::Boolean,
        ];
        let columns = columns(&types);
        let numeric: [u8; 12] = [0, 2, 0, 0, 0, 0, 0, 2, 4, 210, 21, 224];
        let rows = [
            row(&[
                Some(&7_i32.to_be_bytes()),
                Some("ä".as_bytes()),
                Some(&1_i32.to_be_bytes()),
                Some(&1_500_000_i64.to_be_bytes()),
                Some(&numeric),
                Some(&[1]),
            ]),
            row(&[None; 6]),
            END.to_be_bytes().to_vec(),
        ]
        .concat();
        let expected = "\
+----+----+------------+-------------------------+---------+------+
| c0 | c1 | c2         | c3                      | c4      | c5   |
+----+----+------------+-------------------------+---------+------+
| 7  | ä  | 2000-01-02 | 2000-01-01T00:00:01.500 | 1234.56 | true |
|    |    |            |                         |         |      |
+----+----+------------+-------------------------+---------+------+";
        for size in [1, 5, 1000] {
            assert_eq!(read(&columns, &rows, size).unwrap(), expected, "{size}");
        }
    }

    #[test]
    fn damaged_rows_are_refused() {
        let columns = columns(&[DataType::Int32]);
        let failed = |rows: &[u8]| read(&columns, rows, 3).unwrap_err().message;
        let whole = row(&[Some(&7_i32.to_be_bytes())]);
        assert_eq!(failed(&row(&[None, None])), "row field count is 2, expected 1");
        assert_eq!(failed(&row(&[Some(&[1, 2])])), "incorrect binary data format");
        assert_eq!(failed(&whole[..5]), "unexpected EOF in COPY data");
        assert_eq!(failed(&[0, 1, 255, 255, 255, 254]), "invalid field size");
        assert_eq!(failed(&[&END.to_be_bytes()[..], &whole].concat()).len(), 35);
        let mut reader = BinaryReader::new(columns.clone()).unwrap();
        let error = reader.push(b"1\t2\n").unwrap_err();
        assert_eq!(error.message, "COPY file signature not recognized");
        assert!(BinaryReader::new(columns).unwrap().finish().is_err());
    }
}
