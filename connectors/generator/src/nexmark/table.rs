//! [`NexmarkTable`]: the three kinds of events and their columns.

use std::sync::Arc;

use ::nexmark::event::EventType;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use frazil_connector_api::{ConnectorError, Result};

/// Events of a round: one person, then three auctions, then 46 bids.
const ROUND: u64 = 50;

/// A kind of event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NexmarkTable {
    /// Who sells or bids.
    Person,
    /// What is sold.
    Auction,
    /// Who offers how much.
    Bid,
}

impl NexmarkTable {
    pub(crate) fn from_name(name: &str) -> Result<Self> {
        match name {
            "person" => Ok(Self::Person),
            "auction" => Ok(Self::Auction),
            "bid" => Ok(Self::Bid),
            other => {
                Err(ConnectorError::config(format!("dataset \"nexmark\" has no table \"{other}\""))
                    .with_hint("its tables are \"person\", \"auction\" and \"bid\""))
            }
        }
    }

    pub(crate) fn event_type(self) -> EventType {
        match self {
            Self::Person => EventType::Person,
            Self::Auction => EventType::Auction,
            Self::Bid => EventType::Bid,
        }
    }

    /// Where in a round this kind begins, and how many events of it there are.
    fn share(self) -> (u64, u64) {
        match self {
            Self::Person => (0, 1),
            Self::Auction => (1, 3),
            Self::Bid => (4, 46),
        }
    }

    /// Events of this kind among the first `total` events.
    pub(crate) fn count(self, total: u64) -> u64 {
        let (first, share) = self.share();
        total / ROUND * share + (total % ROUND).saturating_sub(first).min(share)
    }

    /// The event that number `index` of this kind is.
    pub(crate) fn event_of(self, index: u64) -> u64 {
        let (first, share) = self.share();
        (index / share).saturating_mul(ROUND).saturating_add(first + index % share)
    }

    fn column_names(self) -> &'static [&'static str] {
        match self {
            Self::Person => &[
                "id",
                "name",
                "email_address",
                "credit_card",
                "city",
                "state",
                "date_time",
                "extra",
            ],
            Self::Auction => &[
                "id",
                "item_name",
                "description",
                "initial_bid",
                "reserve",
                "date_time",
                "expires",
                "seller",
                "category",
                "extra",
            ],
            Self::Bid => &["auction", "bidder", "price", "channel", "url", "date_time", "extra"],
        }
    }
}

/// All columns of a table; none is ever NULL.
pub fn nexmark_schema(table: NexmarkTable) -> SchemaRef {
    let fields = table.column_names().iter().map(|name| Field::new(*name, type_of(name), false));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn type_of(column: &str) -> DataType {
    match column {
        "date_time" | "expires" => DataType::Timestamp(TimeUnit::Microsecond, None),
        "id" | "initial_bid" | "reserve" | "seller" | "category" | "auction" | "bidder"
        | "price" => DataType::Int64,
        _ => DataType::Utf8,
    }
}
