//! [`ShopTable`]: the four tables and their columns.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use frazil_connector_api::{ConnectorError, Result};

/// Rows of a block.
pub(crate) const BLOCK_ROWS: u64 = 40;

/// A table of the shop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShopTable {
    /// Who buys.
    Customers,
    /// What is sold.
    Products,
    /// Who bought when.
    Orders,
    /// What an order consists of.
    OrderLines,
}

impl ShopTable {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Customers, Self::Products, Self::Orders, Self::OrderLines];

    pub(crate) fn from_name(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|table| table.name() == name).ok_or_else(|| {
            ConnectorError::config(format!("dataset \"shop\" has no table \"{name}\"")).with_hint(
                "its tables are \"customers\", \"products\", \"orders\" and \"order_lines\"",
            )
        })
    }

    /// The table's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Customers => "customers",
            Self::Products => "products",
            Self::Orders => "orders",
            Self::OrderLines => "order_lines",
        }
    }

    /// The table's columns; the first is the primary key.
    pub fn columns(self) -> SchemaRef {
        let money = DataType::Decimal128(12, 2);
        let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let columns: &[(&str, DataType)] = match self {
            Self::Customers => &[
                ("id", DataType::Int64),
                ("name", DataType::Utf8),
                ("email", DataType::Utf8),
                ("city", DataType::Utf8),
                ("updated", time),
            ],
            Self::Products => &[
                ("id", DataType::Int64),
                ("name", DataType::Utf8),
                ("category", DataType::Utf8),
                ("price", money),
            ],
            Self::Orders => &[
                ("id", DataType::Int64),
                ("customer", DataType::Int64),
                ("amount", money),
                ("status", DataType::Utf8),
                ("at", time),
            ],
            Self::OrderLines => &[
                ("id", DataType::Int64),
                ("order_id", DataType::Int64),
                ("product_id", DataType::Int64),
                ("quantity", DataType::Int32),
                ("price", money),
            ],
        };
        let fields = columns.iter().enumerate();
        let fields = fields.map(|(at, (name, kind))| Field::new(*name, kind.clone(), at > 0));
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }

    /// Blocks of the snapshot.
    pub(crate) fn snapshot_blocks(self, scale: u64) -> u64 {
        scale
            * match self {
                Self::Customers | Self::Orders => 25,
                Self::Products => 5,
                Self::OrderLines => 50,
            }
    }
}
