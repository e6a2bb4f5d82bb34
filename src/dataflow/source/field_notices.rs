//! [`FieldNotices`]: how the fields of a source's messages differ from the declared columns, and
//! since when.

use std::collections::BTreeMap;

use frazil_connector_api::{SchemaChange, SplitId};
use serde::{Deserialize, Serialize};

/// A declared column that messages lack, or a field of theirs that no column takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldNotice {
    /// The column or field.
    pub name: String,
    /// True for a declared column that messages lack: their rows have NULL there.
    pub is_missing: bool,
    /// The split of the messages.
    pub split: SplitId,
    /// The first of them that was read; of those since the reader was opened, after a restart.
    pub since: i64,
}

/// The notices of one source's splits.
#[derive(Debug, Default)]
pub(crate) struct FieldNotices {
    by_split: BTreeMap<SplitId, Vec<FieldNotice>>,
}

impl FieldNotices {
    /// Takes changes in the order of the messages; true if other notices hold now.
    pub(crate) fn take(&mut self, changes: Vec<SchemaChange>) -> bool {
        let mut is_new = false;
        for change in changes {
            is_new |= self.take_one(change);
        }
        is_new
    }

    fn take_one(&mut self, change: SchemaChange) -> bool {
        let SchemaChange { split, offset, difference } = change;
        let before = self.by_split.remove(&split).unwrap_or_default();
        let missing = difference.missing.into_iter().map(|name| (name, true));
        let undeclared = difference.undeclared.into_iter().map(|name| (name, false));
        let notices = missing.chain(undeclared).map(|(name, is_missing)| {
            // A reader that was opened again tells again what it had told.
            let known = before.iter().find(|it| it.name == name && it.is_missing == is_missing);
            let since = known.map_or(offset, |known| known.since);
            FieldNotice { name, is_missing, split: split.clone(), since }
        });
        let notices: Vec<_> = notices.collect();
        let is_new = notices != before;
        if is_new {
            log(&split, offset, &before, &notices);
        }
        if !notices.is_empty() {
            self.by_split.insert(split, notices);
        }
        is_new
    }

    /// Forgets a split that is not read any more; true if it had notices.
    pub(crate) fn retire(&mut self, split: &SplitId) -> bool {
        self.by_split.remove(split).is_some()
    }

    /// All that hold.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &FieldNotice> {
        self.by_split.values().flatten()
    }
}

/// Logs what begins and what ends at a message.
fn log(split: &SplitId, offset: i64, before: &[FieldNotice], now: &[FieldNotice]) {
    let split = split.0.as_str();
    for FieldNotice { name, is_missing, .. } in now.iter().filter(|it| !before.contains(it)) {
        match is_missing {
            true => tracing::warn!(split, offset, column = name, "messages lack a column"),
            false => tracing::info!(split, offset, field = name, "no column takes a field"),
        }
    }
    for FieldNotice { name, .. } in before.iter().filter(|it| !now.contains(it)) {
        tracing::info!(split, offset, name, "the field fits the declared columns again");
    }
}
