//! [`Writer`]: a message as Debezium's JSON converter writes it, without schemas.

use super::clock::{civil, created_us};
use super::event::{Event, Occurrence};
use super::row::{RowMaker, RowState, RowWriter};

/// Writes keys and envelopes into buffers that are used again.
#[derive(Debug, Clone)]
pub(crate) struct Writer {
    maker: RowMaker,
}

impl Writer {
    pub(crate) fn new(maker: RowMaker) -> Self {
        Self { maker }
    }

    /// Writes a message; whether it has a value.
    pub(crate) fn write(
        &self,
        at: u64,
        occurrence: &Occurrence,
        key: &mut Vec<u8>,
        value: &mut Vec<u8>,
    ) -> bool {
        key.clear();
        value.clear();
        let (op, before, after) = match occurrence.event {
            Event::Read(row) => ("r", None, Some(row)),
            Event::Create(row) => ("c", None, Some(row)),
            Event::Update(row) => ("u", None, Some(row)),
            Event::Delete { id } => ("d", Some(id), None),
            Event::Tombstone { id } => {
                write_key(id, key);
                return false;
            }
        };
        write_key(before.or(after.map(|row| row.id)).unwrap_or_default(), key);
        self.write_rows(before, after.as_ref(), value);
        self.write_source(at, occurrence, value);
        value.extend_from_slice(b",\"transaction\":null,\"op\":\"");
        value.extend_from_slice(op.as_bytes());
        value.extend_from_slice(b"\",\"ts_ms\":");
        push_int(value, created_us(occurrence.clock, 0) / 1_000 + 321);
        value.push(b'}');
        true
    }

    fn write_rows(&self, before: Option<i64>, after: Option<&RowState>, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"before\":");
        match before {
            None => out.extend_from_slice(b"null"),
            Some(id) => json_object(out, |row| self.maker.write_deleted(id, row)),
        }
        out.extend_from_slice(b",\"after\":");
        match after {
            None => out.extend_from_slice(b"null"),
            Some(state) => json_object(out, |row| self.maker.write(state, row)),
        }
    }

    fn write_source(&self, at: u64, occurrence: &Occurrence, out: &mut Vec<u8>) {
        let lsn = 27_000_000 + at as i64 * 184;
        out.extend_from_slice(
            b",\"source\":{\"version\":\"3.6.3.Final\",\"connector\":\"postgresql\",\
              \"name\":\"shop\",\"ts_ms\":",
        );
        push_int(out, created_us(occurrence.clock, 0) / 1_000);
        out.extend_from_slice(b",\"snapshot\":\"");
        out.extend_from_slice(occurrence.snapshot.as_bytes());
        out.extend_from_slice(b"\",\"db\":\"shop\",\"sequence\":\"[\\\"");
        push_int(out, lsn - 184);
        out.extend_from_slice(b"\\\",\\\"");
        push_int(out, lsn);
        out.extend_from_slice(b"\\\"]\",\"schema\":\"public\",\"table\":\"");
        out.extend_from_slice(self.maker.table.name().as_bytes());
        out.extend_from_slice(b"\",\"txId\":");
        push_int(out, 700 + occurrence.clock as i64);
        out.extend_from_slice(b",\"lsn\":");
        push_int(out, lsn);
        out.extend_from_slice(b",\"xmin\":null}");
    }
}

fn write_key(id: i64, out: &mut Vec<u8>) {
    json_object(out, |row| row.int("id", id));
}

fn json_object(out: &mut Vec<u8>, fill: impl FnOnce(&mut JsonRow<'_>)) {
    out.push(b'{');
    fill(&mut JsonRow { out });
    // Every object of ours has a field, and each is followed by a comma.
    out.pop();
    out.push(b'}');
}

/// Fields of a JSON object. Names and texts are plain ASCII without quotes and backslashes.
struct JsonRow<'a> {
    out: &'a mut Vec<u8>,
}

impl JsonRow<'_> {
    fn field(&mut self, name: &str, fill: impl FnOnce(&mut Vec<u8>)) {
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        fill(self.out);
        self.out.push(b',');
    }

    fn quoted(&mut self, name: &str, fill: impl FnOnce(&mut Vec<u8>)) {
        self.field(name, |out| {
            out.push(b'"');
            fill(out);
            out.push(b'"');
        });
    }
}

impl RowWriter for JsonRow<'_> {
    fn int(&mut self, name: &'static str, value: i64) {
        self.field(name, |out| push_int(out, value));
    }

    fn text(&mut self, name: &'static str, parts: &[&str]) {
        self.quoted(name, |out| {
            parts.iter().for_each(|part| out.extend_from_slice(part.as_bytes()));
        });
    }

    fn money(&mut self, name: &'static str, cents: u64) {
        self.quoted(name, |out| {
            push_int(out, (cents / 100) as i64);
            out.push(b'.');
            push_padded(out, (cents % 100) as i64, 2);
        });
    }

    fn time(&mut self, name: &'static str, us: i64) {
        let [year, month, day, hour, minute, second, fraction] = civil(us);
        self.quoted(name, |out| {
            let parts = [(year, 4, b'-'), (month, 2, b'-'), (day, 2, b'T'), (hour, 2, b':')];
            let rest = [(minute, 2, b':'), (second, 2, b'.'), (fraction, 6, b'Z')];
            for (value, width, end) in parts.into_iter().chain(rest) {
                push_padded(out, value, width);
                out.push(end);
            }
        });
    }

    fn null(&mut self, name: &'static str) {
        self.field(name, |out| out.extend_from_slice(b"null"));
    }
}

/// Decimal digits of a number that is not negative.
fn push_int(out: &mut Vec<u8>, value: i64) {
    push_padded(out, value, 1);
}

fn push_padded(out: &mut Vec<u8>, value: i64, width: usize) {
    let mut digits = [b'0'; 20];
    let mut rest = value.unsigned_abs();
    let mut first = digits.len();
    while rest > 0 {
        first -= 1;
        digits[first] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    out.extend_from_slice(&digits[first.min(digits.len() - width)..]);
}
