//! Names of columns as names in Avro, by the rule of Iceberg's Java library, and manifests of
//! others whose partition fields need it.
//!
//! ```text
//! customer id -> customer_x20id        1st -> _1st        größe -> gr_xF6_xDFe
//! ```

use std::collections::HashSet;

use bytes::Bytes;
use frazil_connector_api::Result;
use serde_json::Value;

use crate::error::target;

/// What an Avro file begins with.
const MAGIC: &[u8; 4] = b"Obj\x01";
/// Field id of the data file in a manifest entry, and of the partition in that.
const DATA_FILE_ID: i64 = 2;
const PARTITION_ID: i64 = 102;

/// A name that Avro takes: letters, digits and underscores, no digit first.
pub(crate) fn avro_name(name: &str) -> String {
    let mut valid = String::with_capacity(name.len());
    for (at, letter) in name.chars().enumerate() {
        match letter {
            'a'..='z' | 'A'..='Z' | '_' => valid.push(letter),
            '0'..='9' if at > 0 => valid.push(letter),
            '0'..='9' => valid.extend(['_', letter]),
            _ => valid.push_str(&format!("_x{:X}", letter as u32)),
        }
    }
    if valid.is_empty() { "_".to_string() } else { valid }
}

/// Avro names of the fields of one record, each different from the others.
pub(crate) fn avro_names<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut taken = HashSet::new();
    let unique = |name| {
        let mut valid = avro_name(name);
        while !taken.insert(valid.clone()) {
            valid.push('_');
        }
        valid
    };
    names.map(unique).collect()
}

/// A manifest whose partition fields have Avro names in its spec and in its schema, as the
/// `iceberg` crate wants them to read it. Manifests that have them anyhow come back as they are.
///
/// # Errors
/// `Target` if it is not an Avro file.
pub(crate) fn with_avro_names(manifest: Bytes) -> Result<Bytes> {
    let broken = || target("a manifest is not an Avro file");
    let mut header = Header::read(&manifest).ok_or_else(broken)?;
    let Some(spec) = header.get("partition-spec") else { return Ok(manifest) };
    let Ok(Value::Array(mut fields)) = serde_json::from_slice(spec) else { return Err(broken()) };
    let name = |field: &Value| field["name"].as_str().unwrap_or_default().to_string();
    let names: Vec<String> = fields.iter().map(name).collect();
    let valid = avro_names(names.iter().map(String::as_str));
    if names == valid {
        return Ok(manifest);
    }
    let ids: Vec<Option<i64>> = fields.iter().map(|field| field["field-id"].as_i64()).collect();
    for (field, name) in fields.iter_mut().zip(&valid) {
        field["name"] = Value::from(name.as_str());
    }
    header.set("partition-spec", Value::Array(fields).to_string());
    let schema = header.get("avro.schema").ok_or_else(broken)?;
    let mut schema: Value = serde_json::from_slice(schema).map_err(|_| broken())?;
    let data_file = field_mut(&mut schema, DATA_FILE_ID).ok_or_else(broken)?;
    let partition = field_mut(&mut data_file["type"], PARTITION_ID).ok_or_else(broken)?;
    for (id, name) in ids.into_iter().zip(&valid) {
        if let Some(id) = id
            && let Some(field) = field_mut(&mut partition["type"], id)
        {
            field["name"] = Value::from(name.as_str());
        }
    }
    header.set("avro.schema", schema.to_string());
    Ok(header.write(&manifest))
}

/// A field of a record schema by its Iceberg id.
fn field_mut(record: &mut Value, id: i64) -> Option<&mut Value> {
    let mut fields = record.get_mut("fields")?.as_array_mut()?.iter_mut();
    fields.find(|field| field["field-id"].as_i64() == Some(id))
}

/// The header of an Avro file: its metadata, and where the rest begins.
struct Header {
    entries: Vec<(Vec<u8>, Vec<u8>)>,
    end: usize,
}

impl Header {
    fn read(file: &[u8]) -> Option<Self> {
        let mut reader = Reader { bytes: file.strip_prefix(MAGIC)? };
        let mut entries = Vec::new();
        loop {
            let mut count = reader.long()?;
            if count == 0 {
                break;
            }
            if count < 0 {
                // The block's length in bytes follows.
                reader.long()?;
                count = count.checked_neg()?;
            }
            for _ in 0..count {
                entries.push((reader.text()?, reader.text()?));
            }
        }
        Some(Self { entries, end: file.len() - reader.bytes.len() })
    }

    fn get(&self, key: &str) -> Option<&[u8]> {
        let entry = self.entries.iter().find(|(name, _)| name == key.as_bytes())?;
        Some(&entry.1)
    }

    fn set(&mut self, key: &str, value: String) {
        if let Some(entry) = self.entries.iter_mut().find(|(name, _)| name == key.as_bytes()) {
            entry.1 = value.into_bytes();
        }
    }

    /// The file with this header.
    fn write(&self, file: &[u8]) -> Bytes {
        let mut out = MAGIC.to_vec();
        let text = |out: &mut Vec<u8>, text: &[u8]| {
            put_long(out, text.len() as i64);
            out.extend_from_slice(text);
        };
        put_long(&mut out, self.entries.len() as i64);
        for (key, value) in &self.entries {
            text(&mut out, key);
            text(&mut out, value);
        }
        put_long(&mut out, 0);
        out.extend_from_slice(&file[self.end..]);
        Bytes::from(out)
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl Reader<'_> {
    /// A zigzag number of variable length.
    fn long(&mut self) -> Option<i64> {
        let mut raw = 0_u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.bytes.split_first()?;
            self.bytes = rest;
            raw |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some((raw >> 1) as i64 ^ -((raw & 1) as i64));
            }
        }
        None
    }

    fn text(&mut self) -> Option<Vec<u8>> {
        let length = usize::try_from(self.long()?).ok()?;
        let (text, rest) = self.bytes.split_at_checked(length)?;
        self.bytes = rest;
        Some(text.to_vec())
    }
}

fn put_long(out: &mut Vec<u8>, value: i64) {
    let mut raw = ((value << 1) ^ (value >> 63)) as u64;
    while raw >= 0x80 {
        out.push(raw as u8 | 0x80);
        raw >>= 7;
    }
    out.push(raw as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_valid_and_stay_different() {
        let names = ["plain_1", "customer id", "1st", "größe", "a-b", "😀", "a_x2Db", ""];
        let valid = avro_names(names.into_iter());
        let expected = [
            "plain_1",
            "customer_x20id",
            "_1st",
            "gr_xF6_xDFe",
            "a_x2Db",
            "_x1F600",
            "a_x2Db_",
            "_",
        ];
        assert_eq!(valid, expected);
    }

    #[test]
    fn numbers_of_headers_come_back() {
        for value in [0, 1, -1, 63, 64, -65, 1 << 20, i64::MAX, i64::MIN] {
            let mut out = Vec::new();
            put_long(&mut out, value);
            let mut reader = Reader { bytes: &out };
            assert_eq!(reader.long(), Some(value));
            assert!(reader.bytes.is_empty());
        }
    }

    #[test]
    fn a_broken_manifest_is_an_error() {
        for bytes in [&b"Parquet"[..], b"Obj\x01", b"Obj\x01\x02\x7fno"] {
            assert!(with_avro_names(Bytes::copy_from_slice(bytes)).is_err());
        }
    }
}
