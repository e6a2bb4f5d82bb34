//! [`FieldWatch`]: how the fields of rows differ from the columns.
//!
//! Rows of a source look alike: a row is compared with the one before it by the places of its
//! missing columns and undeclared fields, and no name is copied as long as they are the same.

use std::sync::Arc;

use frazil_connector_api::FieldDifference;

/// Names of undeclared fields that are remembered; more are not told of.
const NAMES_MAX: usize = 1_024;
/// Differences that are remembered.
const KNOWN_MAX: usize = 64;

/// Notes which columns a row lacks, and which of its fields no column takes.
#[derive(Debug, Default)]
pub(crate) struct FieldWatch {
    /// Undeclared fields of all rows, in the order in which they came.
    names: Vec<Box<str>>,
    /// Of the row that is read: columns without a field, and places in `names`.
    row: Fields,
    /// Differences that rows have had.
    known: Vec<(Fields, Arc<FieldDifference>)>,
    /// The place of the last row's in `known`.
    recent: usize,
    /// True if the last message has a row that was read to its end.
    is_row: bool,
}

#[derive(Debug, Clone, Default)]
struct Fields {
    missing: Vec<usize>,
    undeclared: Vec<usize>,
}

impl Fields {
    /// Most rows have neither, and no comparison of empty lists is then made: with AVX-512, glibc
    /// compares nothing at the address of an empty `Vec`, which is not mapped, in some 200 ns.
    fn is_same(&self, other: &Self) -> bool {
        let same = |one: &[usize], other: &[usize]| {
            one.len() == other.len() && (one.is_empty() || one == other)
        };
        same(&self.missing, &other.missing) && same(&self.undeclared, &other.undeclared)
    }
}

impl FieldWatch {
    /// The next message begins.
    pub(crate) fn begin_message(&mut self) {
        self.is_row = false;
    }

    /// The next row begins.
    pub(crate) fn begin_row(&mut self) {
        self.row.missing.clear();
        self.row.undeclared.clear();
    }

    /// Notes a field if it is the undeclared one that came next in the row before; `false` if it
    /// is not.
    pub(crate) fn note_as_before(&mut self, name: &str) -> bool {
        let expected = self.row.undeclared.last().map_or(0, |last| last + 1);
        let is_expected = self.names.get(expected).is_some_and(|known| **known == *name);
        if is_expected {
            self.row.undeclared.push(expected);
        }
        is_expected
    }

    /// Notes a field that no column takes. Names that begin with two underscores are not noted:
    /// routers add them.
    #[cold]
    pub(crate) fn note_undeclared(&mut self, name: &str) {
        if name.starts_with("__") {
            return;
        }
        let place = match self.names.iter().position(|known| **known == *name) {
            Some(place) => place,
            None if self.names.len() >= NAMES_MAX => return,
            None => {
                self.names.push(name.into());
                self.names.len() - 1
            }
        };
        self.row.undeclared.push(place);
    }

    /// Notes a column without a field.
    pub(crate) fn note_missing(&mut self, column: usize) {
        self.row.missing.push(column);
    }

    /// The row was read to its end; `columns` are the names of the columns.
    pub(crate) fn end_row(&mut self, columns: &[Box<str>]) {
        self.is_row = true;
        let is_same =
            self.known.get(self.recent).is_some_and(|(known, _)| known.is_same(&self.row));
        if !is_same {
            self.find(columns);
        }
    }

    #[cold]
    fn find(&mut self, columns: &[Box<str>]) {
        if let Some(place) = self.known.iter().position(|(known, _)| known.is_same(&self.row)) {
            self.recent = place;
            return;
        }
        if self.known.len() >= KNOWN_MAX {
            self.known.clear();
        }
        let Fields { missing, undeclared } = &self.row;
        let missing = missing.iter().map(|column| columns[*column].to_string()).collect();
        let undeclared = undeclared.iter().map(|place| self.names[*place].to_string());
        let mut undeclared: Vec<String> = undeclared.collect();
        undeclared.sort_unstable();
        undeclared.dedup();
        let difference = Arc::new(FieldDifference { missing, undeclared });
        self.recent = self.known.len();
        self.known.push((self.row.clone(), difference));
    }

    /// The difference of the last message's row, if it has a whole one.
    pub(crate) fn difference(&self) -> Option<&Arc<FieldDifference>> {
        let (_, difference) = self.known.get(self.recent).filter(|_| self.is_row)?;
        Some(difference)
    }
}
