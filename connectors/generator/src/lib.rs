//! Generated streams: `connector = 'generator'`.
//!
//! Its options are [`OPTIONS`].
//!
//! # Tables of `shop`, with `FORMAT DEBEZIUM ENCODE JSON`
//! ```sql
//! customers   (id BIGINT PRIMARY KEY, name TEXT, email TEXT, city TEXT, updated TIMESTAMPTZ)
//! products    (id BIGINT PRIMARY KEY, name TEXT, category TEXT, price NUMERIC(12,2))
//! orders      (id BIGINT PRIMARY KEY, customer BIGINT, amount NUMERIC(12,2), status TEXT,
//!              at TIMESTAMPTZ)
//! order_lines (id BIGINT PRIMARY KEY, order_id BIGINT, product_id BIGINT, quantity INT,
//!              price NUMERIC(12,2))
//! ```
//!
//! # Tables of `nexmark`
//! ```sql
//! person  (id BIGINT, name TEXT, email_address TEXT, credit_card TEXT, city TEXT, state TEXT,
//!          date_time TIMESTAMP, extra TEXT)
//! auction (id BIGINT, item_name TEXT, description TEXT, initial_bid BIGINT, reserve BIGINT,
//!          date_time TIMESTAMP, expires TIMESTAMP, seller BIGINT, category BIGINT, extra TEXT)
//! bid     (auction BIGINT, bidder BIGINT, price BIGINT, channel TEXT, url TEXT,
//!          date_time TIMESTAMP, extra TEXT)
//! ```
//!
//! **Invariant:** message i of a split is a function of the options and of i, found by arithmetic:
//! a restart costs nothing, wherever it begins.

mod dataset;
mod nexmark;
mod pace;
mod reader;
mod shop;
mod source;

pub use nexmark::{NexmarkTable, nexmark_batches, nexmark_schema};
pub use shop::{ShopRow, ShopTable, shop_truth};
pub use source::{Generator, INCLUDES, OPTIONS, build_generator, generator_columns};
