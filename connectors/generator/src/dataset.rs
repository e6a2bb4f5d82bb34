//! [`Dataset`]: which events there are, and how splits share them.

use arrow::datatypes::SchemaRef;
use frazil_connector_api::{ConnectorError, Options, Result};

use crate::nexmark::{NexmarkTable, nexmark_schema};
use crate::shop::ShopTable;

/// A table of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dataset {
    Shop { table: ShopTable, seed: u64, scale: u64 },
    Nexmark { table: NexmarkTable },
}

impl Dataset {
    /// Takes `dataset`, `table` and what else names the data.
    pub(crate) fn take(options: &mut Options) -> Result<Self> {
        let dataset = options.require("dataset")?;
        let table = options.require("table")?;
        match dataset.as_str() {
            "shop" => {
                let seed = options.parse("seed", 0)?;
                let scale = options.parse("scale", 1)?;
                if !(1..=1_000_000).contains(&scale) {
                    return Err(ConnectorError::config(format!(
                        "option \"scale\" is {scale}, not between 1 and 1000000"
                    )));
                }
                Ok(Self::Shop { table: ShopTable::from_name(&table)?, seed, scale })
            }
            "nexmark" => Ok(Self::Nexmark { table: NexmarkTable::from_name(&table)? }),
            other => Err(ConnectorError::config(format!("there is no dataset \"{other}\""))
                .with_hint("the datasets are \"shop\" and \"nexmark\"")),
        }
    }

    /// All columns of the table.
    pub(crate) fn columns(&self) -> SchemaRef {
        match self {
            Self::Shop { table, .. } => table.columns(),
            Self::Nexmark { table } => nexmark_schema(*table),
        }
    }

    /// Splits that the stream can be cut into at most.
    pub(crate) fn splits_max(&self) -> u64 {
        match self {
            Self::Shop { table, scale, .. } => table.snapshot_blocks(*scale),
            Self::Nexmark { .. } => 1024,
        }
    }

    /// Messages of this table among the first `total` events.
    fn count(&self, total: u64) -> u64 {
        match self {
            Self::Shop { .. } => total,
            Self::Nexmark { table } => table.count(total),
        }
    }

    /// The event that message `index` of this table is.
    fn event_of(&self, index: u64) -> u64 {
        match self {
            Self::Shop { .. } => index,
            Self::Nexmark { table } => table.event_of(index),
        }
    }
}

/// A share of a data set: messages `lane`, `lane + lanes`, … of its table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lane {
    pub(crate) dataset: Dataset,
    pub(crate) lane: u64,
    pub(crate) lanes: u64,
}

impl Lane {
    /// Messages of this lane among the first `total` events.
    pub(crate) fn count(&self, total: u64) -> u64 {
        let count = self.dataset.count(total);
        count / self.lanes + u64::from(count % self.lanes > self.lane)
    }

    /// The event that message `index` of this lane is.
    pub(crate) fn event_of(&self, index: u64) -> u64 {
        self.dataset.event_of(index.saturating_mul(self.lanes).saturating_add(self.lane))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_count_every_event_once() {
        let shop = Dataset::Shop { table: ShopTable::Orders, seed: 1, scale: 1 };
        let bids = Dataset::Nexmark { table: NexmarkTable::Bid };
        let people = Dataset::Nexmark { table: NexmarkTable::Person };
        for dataset in [shop, bids, people] {
            for total in 0..300 {
                let lanes = (0..3).map(|lane| Lane { dataset, lane, lanes: 3 });
                let counted: u64 = lanes.clone().map(|lane| lane.count(total)).sum();
                assert_eq!(counted, dataset.count(total));
                for lane in lanes {
                    let count = lane.count(total);
                    assert!(lane.event_of(count) >= total);
                    assert!(count == 0 || lane.event_of(count - 1) < total);
                }
            }
        }
    }
}
