//! Contents of rows: a function of the row's number and its version.

use super::clock::created_us;
use super::table::{BLOCK_ROWS, ShopTable};

/// Slots of a block, from here on, that are never deleted.
pub(crate) const FIRST_STABLE_SLOT: u64 = 7;

const FIRST_NAMES: [&str; 16] = [
    "Ada", "Ben", "Clara", "David", "Eva", "Felix", "Greta", "Hugo", "Ida", "Jonas", "Klara",
    "Leo", "Mia", "Noah", "Olga", "Paul",
];
const LAST_NAMES: [&str; 16] = [
    "Bauer", "Costa", "Dubois", "Eriksen", "Fischer", "Garcia", "Horvat", "Ivanov", "Jansen",
    "Kowalski", "Lang", "Moreau", "Novak", "Olsen", "Rossi", "Weber",
];
const CITIES: [&str; 12] = [
    "Amsterdam",
    "Berlin",
    "Copenhagen",
    "Dublin",
    "Hamburg",
    "Lisbon",
    "Lyon",
    "Madrid",
    "Oslo",
    "Prague",
    "Vienna",
    "Zurich",
];
const MATERIALS: [&str; 8] = ["Birch", "Copper", "Felt", "Glass", "Linen", "Oak", "Steel", "Wool"];
const THINGS: [&str; 8] = ["Basket", "Chair", "Hook", "Jar", "Lamp", "Rug", "Shelf", "Tray"];
const CATEGORIES: [&str; 6] = ["bath", "garden", "kitchen", "living", "office", "sleep"];

/// A row as of one message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowState {
    /// The row's number in the table, from 0 on.
    pub(crate) number: u64,
    /// Its primary key.
    pub(crate) id: i64,
    /// Chance that made the changing columns; `None` as long as it is as created.
    pub(crate) version: Option<u64>,
    /// Number of rows that existed when the message was made.
    pub(crate) clock: u64,
}

/// Takes the values of a row, column by column.
pub(crate) trait RowWriter {
    fn int(&mut self, name: &'static str, value: i64);
    fn text(&mut self, name: &'static str, parts: &[&str]);
    fn money(&mut self, name: &'static str, cents: u64);
    fn time(&mut self, name: &'static str, us: i64);
    fn null(&mut self, name: &'static str);
}

/// Chance: 64 bits that depend on all three (SplitMix64's finalizer).
pub(crate) fn chance(seed: u64, number: u64, salt: u64) -> u64 {
    let mut bits = seed
        .wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
        .wrapping_add(salt.wrapping_mul(0xd1b5_4a32_d192_ed03));
    for _ in 0..2 {
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
    }
    bits
}

/// The id of a row that is never deleted, near row `number`.
fn stable_id(number: u64) -> i64 {
    let slot = number % BLOCK_ROWS;
    let moved = if slot < FIRST_STABLE_SLOT { FIRST_STABLE_SLOT } else { 0 };
    (number + moved + 1) as i64
}

/// What tables the rows come from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowMaker {
    pub(crate) table: ShopTable,
    pub(crate) seed: u64,
    pub(crate) scale: u64,
}

impl RowMaker {
    /// Writes all columns of a row.
    pub(crate) fn write(&self, row: &RowState, out: &mut impl RowWriter) {
        let fixed = chance(self.seed, row.number, 1);
        let now = row.version.unwrap_or_else(|| chance(self.seed, row.number, 2));
        out.int("id", row.id);
        match self.table {
            ShopTable::Customers => customer(row, fixed, now, out),
            ShopTable::Products => product(fixed, now, out),
            ShopTable::Orders => self.order(row, fixed, now, out),
            ShopTable::OrderLines => self.order_line(row, fixed, now, out),
        }
    }

    /// What PostgreSQL tells of a deleted row besides the key under REPLICA IDENTITY DEFAULT:
    /// a type's default where NULL is not allowed, else NULL.
    pub(crate) fn write_deleted(&self, id: i64, out: &mut impl RowWriter) {
        out.int("id", id);
        let (texts, ints, nulls): (&[_], &[_], &[_]) = match self.table {
            ShopTable::Customers => (&["name"], &[], &["email", "city", "updated"]),
            ShopTable::Products => (&["name"], &[], &["category", "price"]),
            ShopTable::Orders => (&[], &["customer"], &["amount", "status", "at"]),
            ShopTable::OrderLines => (&[], &["order_id", "product_id"], &["quantity", "price"]),
        };
        texts.iter().for_each(|name| out.text(name, &[""]));
        ints.iter().for_each(|name| out.int(name, 0));
        nulls.iter().for_each(|name| out.null(name));
    }

    fn order(&self, row: &RowState, fixed: u64, now: u64, out: &mut impl RowWriter) {
        let customers = ShopTable::Customers.snapshot_blocks(self.scale) * BLOCK_ROWS;
        let age = row.clock.saturating_sub(row.number);
        let status = match (row.version, age) {
            (None, _) => "new",
            (Some(_), _) if fixed.is_multiple_of(16) => "cancelled",
            (Some(_), 0..200) => "paid",
            (Some(_), 200..1_000) => "shipped",
            (Some(_), _) => "delivered",
        };
        out.int("customer", stable_id((fixed >> 8) % customers));
        out.money("amount", 500 + now % 50_000);
        out.text("status", &[status]);
        out.time("at", created_us(row.number, fixed >> 32));
    }

    fn order_line(&self, row: &RowState, fixed: u64, now: u64, out: &mut impl RowWriter) {
        let products = ShopTable::Products.snapshot_blocks(self.scale) * BLOCK_ROWS;
        out.int("order_id", stable_id(row.number / 2));
        out.int("product_id", stable_id((fixed >> 8) % products));
        out.int("quantity", 1 + (now % 9) as i64);
        out.money("price", 100 + (fixed >> 32) % 20_000);
    }
}

fn customer(row: &RowState, fixed: u64, now: u64, out: &mut impl RowWriter) {
    let first = FIRST_NAMES[(fixed % 16) as usize];
    let last = LAST_NAMES[((fixed >> 4) % 16) as usize];
    out.text("name", &[first, " ", last]);
    if (fixed >> 8).is_multiple_of(16) {
        out.null("email");
    } else {
        out.text("email", &[first, ".", last, "@example.com"]);
    }
    out.text("city", &[CITIES[(now % 12) as usize]]);
    let changed = if row.version.is_some() { row.clock } else { row.number };
    out.time("updated", created_us(changed, now >> 32));
}

fn product(fixed: u64, now: u64, out: &mut impl RowWriter) {
    let material = MATERIALS[(fixed % 8) as usize];
    let thing = THINGS[((fixed >> 3) % 8) as usize];
    out.text("name", &[material, " ", thing]);
    if (fixed >> 6).is_multiple_of(32) {
        out.null("category");
    } else {
        out.text("category", &[CATEGORIES[((fixed >> 11) % 6) as usize]]);
    }
    out.money("price", 100 + now % 20_000);
}
