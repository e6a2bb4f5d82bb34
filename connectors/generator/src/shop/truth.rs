//! [`shop_truth`]: what a table holds in the end.

use std::collections::BTreeMap;

use super::clock::civil;
use super::event::Event;
use super::row::RowWriter;
use super::stream::ShopStream;
use super::table::ShopTable;

/// A row as texts, in the order of [`ShopTable::columns`]; as PostgreSQL prints them, with all six
/// digits of a time's fraction.
pub type ShopRow = Vec<Option<String>>;

/// The rows by primary key after the first `events` messages of a table's stream, with one split
/// and scale 1: the oracle for tests.
pub fn shop_truth(table: ShopTable, seed: u64, events: u64) -> BTreeMap<i64, ShopRow> {
    let stream = ShopStream::new(table, seed, 1, 0, 1);
    let mut rows = BTreeMap::new();
    for at in 0..events {
        match stream.occurrence(at).event {
            Event::Read(row) | Event::Create(row) | Event::Update(row) => {
                let mut texts = Texts(Vec::new());
                stream.maker().write(&row, &mut texts);
                rows.insert(row.id, texts.0);
            }
            Event::Delete { id } => {
                rows.remove(&id);
            }
            Event::Tombstone { .. } => {}
        }
    }
    rows
}

struct Texts(ShopRow);

impl RowWriter for Texts {
    fn int(&mut self, _name: &'static str, value: i64) {
        self.0.push(Some(value.to_string()));
    }

    fn text(&mut self, _name: &'static str, parts: &[&str]) {
        self.0.push(Some(parts.concat()));
    }

    fn money(&mut self, _name: &'static str, cents: u64) {
        self.0.push(Some(format!("{}.{:02}", cents / 100, cents % 100)));
    }

    fn time(&mut self, _name: &'static str, us: i64) {
        let [year, month, day, hour, minute, second, fraction] = civil(us);
        self.0.push(Some(format!(
            "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{fraction:06}+00"
        )));
    }

    fn null(&mut self, _name: &'static str) {
        self.0.push(None);
    }
}
