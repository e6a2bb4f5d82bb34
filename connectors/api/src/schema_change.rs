//! [`SchemaChange`]: messages whose fields are not the declared columns.
//!
//! A message is compared with the declaration, not with the message before it: so what a reader
//! tells depends on the positions alone, and a column that was never there shows as well.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::{ConnectorError, ConnectorErrorKind, Result, SplitId};

/// How the fields of a row differ from the declared columns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldDifference {
    /// Columns that have no field, in the order of the declaration; the row has NULL there.
    pub missing: Vec<String>,
    /// Fields that no column takes, in the order of their names.
    pub undeclared: Vec<String>,
}

/// From a message on, the rows of a split have other fields than before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaChange {
    /// Where it was read.
    pub split: SplitId,
    /// The number of the message there.
    pub offset: i64,
    /// How the fields differ from now on; empty if they are the declared columns.
    pub difference: FieldDifference,
}

/// What is done about rows that lack declared columns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnSchemaChange {
    /// They have NULL there, and the user is shown it.
    #[default]
    Warn,
    /// The reader stops with an error before the first of them.
    Fail,
}

/// Finds the messages from which on the fields of a split differ.
#[derive(Debug, Default)]
pub(crate) struct SchemaWatch {
    on_change: OnSchemaChange,
    /// The split of the last row and its difference.
    last: Option<(SplitId, Arc<FieldDifference>)>,
    /// The differences of all splits.
    known: BTreeMap<SplitId, Arc<FieldDifference>>,
    changes: Vec<SchemaChange>,
}

impl SchemaWatch {
    pub(crate) fn new(on_change: OnSchemaChange) -> Self {
        Self { on_change, ..Self::default() }
    }

    /// Takes the difference of a message's row. The first row of a split is always a change.
    ///
    /// # Errors
    /// `Target` if columns are missing and the reader is to stop.
    pub(crate) fn note(
        &mut self,
        split: &SplitId,
        offset: i64,
        found: &Arc<FieldDifference>,
    ) -> Result<()> {
        // Most rows are as the one before them.
        match &self.last {
            Some((last, known)) if Arc::ptr_eq(known, found) && last == split => Ok(()),
            _ => self.note_other(split, offset, found),
        }
    }

    #[cold]
    fn note_other(
        &mut self,
        split: &SplitId,
        offset: i64,
        found: &Arc<FieldDifference>,
    ) -> Result<()> {
        self.last = Some((split.clone(), Arc::clone(found)));
        if self.known.get(split).is_some_and(|known| known == found) {
            return Ok(());
        }
        if self.on_change == OnSchemaChange::Fail && !found.missing.is_empty() {
            return Err(lacks_columns(split, offset, found));
        }
        self.known.insert(split.clone(), Arc::clone(found));
        let difference = FieldDifference::clone(found);
        self.changes.push(SchemaChange { split: split.clone(), offset, difference });
        Ok(())
    }

    /// Hands out the changes since the last call, in order.
    pub(crate) fn take(&mut self) -> Vec<SchemaChange> {
        std::mem::take(&mut self.changes)
    }
}

fn lacks_columns(split: &SplitId, offset: i64, found: &FieldDifference) -> ConnectorError {
    let quoted = |names: &[String]| {
        names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
    };
    let missing = quoted(&found.missing);
    let message = format!("the message at offset {offset} of split {} lacks {missing}", split.0);
    let hint = match found.undeclared.as_slice() {
        [] => "the source has dropped or renamed it: declare the columns that it has".to_string(),
        undeclared => format!("its fields without a column are {}", quoted(undeclared)),
    };
    ConnectorError::new(ConnectorErrorKind::Target, message).with_hint(hint)
}
