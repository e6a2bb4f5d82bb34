//! [`RowSeed`]: reads one JSON object into [`Rows`].

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::rows::Rows;
use crate::wire::Wire;

/// Reads one object as one row; `null` is no row.
pub(crate) struct RowSeed<'a> {
    /// Where the row goes.
    pub(crate) rows: &'a mut Rows,
    /// How the columns are written.
    pub(crate) wires: &'a [Wire],
    /// Only the key columns are read; the others get NULL.
    pub(crate) key_only: bool,
}

/// What was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct RowRead {
    /// A row was appended: the value was not `null`.
    pub(crate) is_row: bool,
    /// A flattened event says that the row is deleted (`__deleted` or `__op`).
    pub(crate) is_deleted: bool,
}

impl<'de> DeserializeSeed<'de> for RowSeed<'_> {
    type Value = RowRead;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<RowRead, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for RowSeed<'_> {
    type Value = RowRead;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object with the columns of a row")
    }

    fn visit_unit<E: Error>(self) -> Result<RowRead, E> {
        Ok(RowRead::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RowRead, A::Error> {
        let Self { rows, wires, key_only } = self;
        let mut read = RowRead { is_row: true, is_deleted: false };
        let mut next = 0;
        while let Some(found) = map.next_key_seed(NameSeed { rows, next })? {
            match found {
                Found::Column(index) => {
                    next = index + 1;
                    if key_only && !rows.is_key(index) {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    }
                    let token: &RawValue = map.next_value()?;
                    rows.put(index, token.get(), wires[index])
                        .map_err(|()| A::Error::custom("bad value"))?;
                }
                Found::Deleted => {
                    let token: &RawValue = map.next_value()?;
                    read.is_deleted |= matches!(token.get(), "true" | "\"true\"" | "\"d\"");
                }
                Found::Unknown => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        rows.close_row().map_err(|()| A::Error::custom("bad row"))?;
        Ok(read)
    }
}

/// What a field's name means.
enum Found {
    Column(usize),
    /// `__deleted` or `__op` of Debezium's ExtractNewRecordState.
    Deleted,
    Unknown,
}

/// Finds the column of a name; tries the one after the last first.
struct NameSeed<'a> {
    rows: &'a Rows,
    next: usize,
}

impl<'de> DeserializeSeed<'de> for NameSeed<'_> {
    type Value = Found;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Found, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for NameSeed<'_> {
    type Value = Found;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a column name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Found, E> {
        if self.rows.is_named(self.next, name) {
            return Ok(Found::Column(self.next));
        }
        Ok(match self.rows.find(name) {
            Some(index) => Found::Column(index),
            None if matches!(name, "__deleted" | "__op") => Found::Deleted,
            None => Found::Unknown,
        })
    }
}
