//! [`Rows`]: the columns of a batch in the making.

use std::sync::Arc;

use arrow::array::{BooleanBufferBuilder, RecordBatch, RecordBatchOptions};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{Field, Schema, SchemaRef};
use frazil_connector_api::{ConnectorError, FieldDifference, Result};

use super::column::Column;
use super::cursor::{Syntax, guess};
use super::fault::{Beyond, Fault};
use super::fields::FieldWatch;
use super::placeholder::{Placeholder, PlaceholderRule};
use crate::wire::{OutOfRange, Wire};

/// Longest piece of a bad value that an error shows.
const SHOWN_CHARS_MAX: usize = 100;

/// Why a message was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    /// It is not the JSON that is expected.
    Syntax,
    /// What it says cannot be; [`Rows`] keeps the reason.
    Content,
}

impl From<Syntax> for Broken {
    fn from(Syntax: Syntax) -> Self {
        Self::Syntax
    }
}

/// Which columns of a row are read; the others get NULL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Columns {
    All,
    Key,
}

/// Columns that grow row by row and can go back to an earlier row.
pub(crate) struct Rows {
    schema: SchemaRef,
    names: Vec<Box<str>>,
    /// The tokens of the names.
    guesses: Vec<Box<str>>,
    is_key: Vec<bool>,
    /// Columns beside the key that may not be NULL.
    is_required: Vec<bool>,
    /// One of them that has no value in the row that is being written.
    lacking: Option<usize>,
    key: Vec<usize>,
    columns: Vec<Column>,
    row_count: usize,
    /// For each column the rows whose value the source did not send, ascending.
    unchanged: Vec<Vec<usize>>,
    /// The last row with such a value that must not become NULL.
    needs_stored: Option<usize>,
    placeholder: Placeholder,
    placeholder_rule: PlaceholderRule,
    /// For rows that must have a field for every column.
    watch: Option<FieldWatch>,
    /// Why the last message was refused, if it was not for its syntax.
    reason: Option<ConnectorError>,
}

impl Rows {
    /// No rows of `schema` with the key columns `key`.
    ///
    /// # Errors
    /// `Unsupported` naming a column whose type JSON cannot give.
    pub(crate) fn new(
        schema: &SchemaRef,
        key: &[usize],
        placeholder: Placeholder,
        placeholder_rule: PlaceholderRule,
    ) -> Result<Self> {
        let mut columns = Vec::with_capacity(schema.fields().len());
        for field in schema.fields() {
            columns.push(Column::new(field.data_type()).map_err(|mut error| {
                error.message = format!("column \"{}\": {}", field.name(), error.message);
                error
            })?);
        }
        let is_key: Vec<bool> = (0..columns.len()).map(|index| key.contains(&index)).collect();
        let fields = schema.fields().iter().zip(&is_key).map(|(field, is_key)| {
            let nullable = !is_key || field.is_nullable();
            Field::clone(field).with_nullable(nullable)
        });
        let required = schema.fields().iter().zip(&is_key);
        let required = required.map(|(field, is_key)| !is_key && !field.is_nullable());
        let relaxed =
            Schema::new_with_metadata(fields.collect::<Vec<_>>(), schema.metadata().clone());
        Ok(Self {
            schema: Arc::new(relaxed),
            names: schema.fields().iter().map(|field| field.name().as_str().into()).collect(),
            guesses: schema.fields().iter().map(|field| guess(field.name())).collect(),
            unchanged: vec![Vec::new(); columns.len()],
            needs_stored: None,
            is_required: required.collect(),
            lacking: None,
            is_key,
            key: key.to_vec(),
            columns,
            row_count: 0,
            placeholder,
            placeholder_rule,
            watch: None,
            reason: None,
        })
    }

    /// Has new rows tell how their fields differ from the columns, see [`Rows::difference`].
    pub(crate) fn watching(mut self) -> Self {
        self.watch = Some(FieldWatch::default());
        self
    }

    /// Number of finished rows.
    pub(crate) fn len(&self) -> usize {
        self.row_count
    }

    /// The token of the name of column `index`, if there is one.
    pub(crate) fn guess(&self, index: usize) -> &str {
        self.guesses.get(index).map_or("", |guess| guess)
    }

    /// The column for a field called `name`, see [`column_of`].
    pub(crate) fn find(&self, name: &str) -> Option<usize> {
        column_of(&self.names, name)
    }

    /// As [`Rows::find`], and notes a field of a new row that has no column.
    pub(crate) fn find_or_note(&mut self, name: &str) -> Option<usize> {
        if self.watch.as_mut().is_some_and(|watch| watch.note_as_before(name)) {
            return None;
        }
        let found = self.find(name);
        if let (None, Some(watch)) = (found, &mut self.watch) {
            watch.note_undeclared(name);
        }
        found
    }

    /// The next message begins.
    pub(crate) fn begin_message(&mut self) {
        self.watch.iter_mut().for_each(FieldWatch::begin_message);
    }

    /// A row begins of which `columns` are read.
    pub(crate) fn begin_row(&mut self, columns: Columns) {
        if columns == Columns::All {
            self.watch.iter_mut().for_each(FieldWatch::begin_row);
        }
    }

    /// How the fields of the message's new row differ from the columns, also if the row is refused;
    /// `None` if it has none that was read to its end.
    pub(crate) fn difference(&self) -> Option<&Arc<FieldDifference>> {
        self.watch.as_ref()?.difference()
    }

    /// Whether column `index` is a part of the key.
    pub(crate) fn is_key(&self, index: usize) -> bool {
        self.is_key[index]
    }

    /// Puts the token of column `index` into the row that is being written.
    ///
    /// # Errors
    /// The reason is kept for [`Rows::explain`]; the row must be given up by [`Rows::truncate`].
    pub(crate) fn put(
        &mut self,
        index: usize,
        token: &str,
        wire: Wire,
    ) -> std::result::Result<(), Broken> {
        let column = &mut self.columns[index];
        if column.len() != self.row_count {
            self.forget(index);
        }
        let column = &mut self.columns[index];
        if token == "null" {
            if self.is_key[index] {
                return self.fail(format!("key column \"{}\" is null", self.names[index]), None);
            }
            column.push_null();
            self.note_null(index);
            return Ok(());
        }
        let is_unknown = self.placeholder_rule != PlaceholderRule::Value
            && !self.is_key[index]
            && self.placeholder.is(token);
        if is_unknown {
            column.push_null();
            self.unchanged[index].push(self.row_count);
            if self.is_required[index] || self.placeholder_rule == PlaceholderRule::Mark {
                self.needs_stored = Some(self.row_count);
            }
            return Ok(());
        }
        match (column.push(token, wire), wire.out_of_range) {
            (Ok(()), _) => Ok(()),
            (Err(Fault { beyond: Some(beyond), .. }), OutOfRange::Null | OutOfRange::Saturate)
                if self.replace(index, beyond, wire.out_of_range) =>
            {
                Ok(())
            }
            (Err(fault), _) => self.fail_value(index, token, fault),
        }
    }

    /// Takes the value of a column back from the row that is being written: of a field that is
    /// given twice the last value counts, as for most readers of JSON.
    #[cold]
    fn forget(&mut self, index: usize) {
        self.columns[index].truncate(self.row_count);
        for (index, unchanged) in self.unchanged.iter_mut().enumerate() {
            if self.columns[index].len() == self.row_count {
                unchanged.pop_if(|row| *row == self.row_count);
            }
        }
        let row = self.row_count;
        let is_marked = |index: usize| self.unchanged[index].last() == Some(&row);
        let mut required = (0..self.columns.len()).filter(|index| self.is_required[*index]);
        self.lacking =
            required.find(|index| self.columns[*index].is_null(row) && !is_marked(*index));
        let is_unknown = |index: usize| {
            let is_refused = self.placeholder_rule == PlaceholderRule::Mark;
            is_marked(index) && (is_refused || self.is_required[index])
        };
        if self.needs_stored == Some(row) && !(0..self.columns.len()).any(is_unknown) {
            self.needs_stored = None;
        }
    }

    /// Puts what the options say in the place of a value that the column cannot hold; `false` if
    /// there is none.
    #[cold]
    fn replace(&mut self, index: usize, beyond: Beyond, rule: OutOfRange) -> bool {
        // Rows whose keys were bent would replace each other.
        if self.is_key[index] {
            return false;
        }
        let column = &mut self.columns[index];
        column.truncate(self.row_count);
        match rule {
            OutOfRange::Saturate => column.push_bound(beyond).is_ok(),
            OutOfRange::Null if !self.is_required[index] => {
                column.push_null();
                true
            }
            OutOfRange::Null | OutOfRange::Error => false,
        }
    }

    #[cold]
    fn fail_value(
        &mut self,
        index: usize,
        token: &str,
        fault: Fault,
    ) -> std::result::Result<(), Broken> {
        let mut shown: String = token.chars().take(SHOWN_CHARS_MAX).collect();
        if shown.len() < token.len() {
            shown.push('…');
        }
        let message = format!("column \"{}\": value {shown} {}", self.names[index], fault.why);
        self.fail(message, fault.hint)
    }

    #[cold]
    fn fail(&mut self, message: String, hint: Option<&str>) -> std::result::Result<(), Broken> {
        let mut error = ConnectorError::bad_message(message);
        error.hint = hint.map(str::to_string);
        Err(self.refuse(error))
    }

    /// Keeps the reason why a message is refused.
    #[cold]
    pub(crate) fn refuse(&mut self, reason: ConnectorError) -> Broken {
        self.reason = Some(reason);
        Broken::Content
    }

    /// Ends the row of which `columns` were read; columns without a value get NULL.
    ///
    /// # Errors
    /// As [`Rows::put`], if a key column has no value.
    pub(crate) fn close_row(&mut self, columns: Columns) -> std::result::Result<(), Broken> {
        let mut missing_key = None;
        for index in 0..self.columns.len() {
            if self.columns[index].len() == self.row_count {
                if let (Columns::All, Some(watch)) = (columns, &mut self.watch) {
                    watch.note_missing(index);
                }
                if self.is_key[index] {
                    missing_key = missing_key.or(Some(index));
                    continue;
                }
                self.columns[index].push_null();
                self.note_null(index);
            }
        }
        if let (Columns::All, Some(watch)) = (columns, &mut self.watch) {
            watch.end_row(&self.names);
        }
        if let Some(index) = missing_key {
            return self.fail(format!("key column \"{}\" is missing", self.names[index]), None);
        }
        self.row_count += 1;
        Ok(())
    }

    fn note_null(&mut self, index: usize) {
        if self.is_required[index] {
            self.lacking = Some(index);
        }
    }

    /// Refuses the row that was just closed if it has NULL where the table allows none and that
    /// `matters`.
    ///
    /// # Errors
    /// As [`Rows::put`].
    pub(crate) fn check_nulls(&mut self, matters: bool) -> std::result::Result<(), Broken> {
        match self.lacking.take() {
            Some(index) if matters => {
                let name = &self.names[index];
                let message = format!("column \"{name}\" is null, which the table does not allow");
                self.fail(message, Some("declare it without NOT NULL to take such rows"))
            }
            _ => Ok(()),
        }
    }

    /// Appends a row without meaning, for a truncate.
    pub(crate) fn push_filler_row(&mut self) {
        for (column, is_key) in self.columns.iter_mut().zip(&self.is_key) {
            if *is_key { column.push_filler() } else { column.push_null() }
        }
        self.row_count += 1;
    }

    /// Whether two rows have the same key.
    pub(crate) fn same_key(&self, left: usize, right: usize) -> bool {
        self.key.iter().all(|index| self.columns[*index].same(left, right))
    }

    /// Forgets all but the first `rows` rows, also the one that is being written.
    pub(crate) fn truncate(&mut self, rows: usize) {
        for (column, unchanged) in self.columns.iter_mut().zip(&mut self.unchanged) {
            column.truncate(rows);
            while unchanged.last().is_some_and(|row| *row >= rows) {
                unchanged.pop();
            }
        }
        self.row_count = rows;
        self.lacking = None;
        self.needs_stored = self.needs_stored.filter(|row| *row < rows);
    }

    /// True if a row from `start` on has a value that was not sent and must not become NULL.
    pub(crate) fn needs_stored_since(&self, start: usize) -> bool {
        self.needs_stored.is_some_and(|row| row >= start)
    }

    /// The token of the name of the key's column number `at`, if there is one.
    pub(crate) fn key_guess(&self, at: usize) -> &str {
        self.key.get(at).map_or("", |index| self.guess(*index))
    }

    /// Names of the key's columns.
    pub(crate) fn key_names(&self) -> Vec<&str> {
        self.key.iter().map(|index| &*self.names[*index]).collect()
    }

    /// Number of columns of the key.
    pub(crate) fn key_width(&self) -> usize {
        self.key.len()
    }

    /// Why `text` was not read: the kept reason, or else where its syntax breaks.
    #[cold]
    pub(crate) fn explain(&mut self, text: &str, broken: Broken) -> ConnectorError {
        if broken == Broken::Content
            && let Some(reason) = self.reason.take()
        {
            return reason;
        }
        let error = ConnectorError::bad_message("message is not the JSON that is expected");
        match serde_json::from_str::<serde::de::IgnoredAny>(text) {
            Ok(_) => error,
            Err(source) => error.with_source(source),
        }
    }

    /// Hands out the rows and the marks of values that were not sent.
    ///
    /// # Errors
    /// `Internal` only.
    pub(crate) fn flush(&mut self) -> Result<(RecordBatch, Vec<Option<BooleanBuffer>>)> {
        let rows = std::mem::take(&mut self.row_count);
        self.needs_stored = None;
        let arrays: Result<Vec<_>> = self.columns.iter_mut().map(Column::finish).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), arrays?, &options)?;
        if self.unchanged.iter().all(Vec::is_empty) {
            return Ok((batch, Vec::new()));
        }
        let marks = self.unchanged.iter_mut().map(|marked| marks(marked, rows)).collect();
        Ok((batch, marks))
    }
}

/// The column for a field: that of its name, or else that of its name in lower case, to which
/// `CREATE TABLE` folds names without quotes.
pub(crate) fn column_of(columns: &[Box<str>], field: &str) -> Option<usize> {
    let exact = columns.iter().position(|own| **own == *field);
    let has_capitals = |text: &str| text.bytes().any(|byte| byte.is_ascii_uppercase());
    exact.or_else(|| {
        let folded = |own: &str| own.eq_ignore_ascii_case(field) && !has_capitals(own);
        if has_capitals(field) { columns.iter().position(|own| folded(own)) } else { None }
    })
}

fn marks(marked: &mut Vec<usize>, rows: usize) -> Option<BooleanBuffer> {
    if marked.is_empty() {
        return None;
    }
    let mut bits = BooleanBufferBuilder::new(rows);
    bits.append_n(rows, false);
    for row in marked.drain(..) {
        bits.set_bit(row, true);
    }
    Some(bits.finish())
}
