//! [`read_row`]: one JSON object into [`Rows`].

use super::cursor::{Cursor, Name};
use super::rows::{Broken, Columns, Rows};
use crate::wire::Wire;

/// What was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct RowRead {
    /// A row was appended: the value was not `null`.
    pub(crate) is_row: bool,
    /// A flattened event says that the row is deleted (`__deleted` or `__op`).
    pub(crate) is_deleted: bool,
}

/// Reads the next value, an object or `null`, as one row whose columns are written as `wires` say.
///
/// # Errors
/// What was appended is the caller's to truncate.
pub(crate) fn read_row(
    cursor: &mut Cursor<'_>,
    rows: &mut Rows,
    wires: &[Wire],
    columns: Columns,
) -> Result<RowRead, Broken> {
    let Some(mut object) = cursor.object()? else { return Ok(RowRead::default()) };
    let mut read = RowRead { is_row: true, is_deleted: false };
    let mut expected = 0;
    rows.begin_row(columns);
    while let Some(name) = cursor.next_name(&mut object, rows.guess(expected))? {
        let token = cursor.value()?;
        let index = match name {
            Name::Guessed => expected,
            Name::Other(name) => match find(rows, &name, columns) {
                Some(index) => index,
                None => {
                    if matches!(&*name, "__deleted" | "__op") {
                        read.is_deleted |= matches!(token, "true" | "\"true\"" | "\"d\"");
                    }
                    continue;
                }
            },
        };
        expected = index + 1;
        if columns == Columns::All || rows.is_key(index) {
            rows.put(index, token, wires[index])?;
        }
    }
    rows.close_row(columns)?;
    // What a row was that is gone may lack its values.
    rows.check_nulls(columns == Columns::All && !read.is_deleted)?;
    Ok(read)
}

/// The column for a field; what else a new row has is noted.
fn find(rows: &mut Rows, name: &str, columns: Columns) -> Option<usize> {
    match columns {
        Columns::All => rows.find_or_note(name),
        Columns::Key => rows.find(name),
    }
}

/// Reads a text that is one row; see [`read_row`].
///
/// # Errors
/// As [`read_row`].
pub(crate) fn read_whole_row(
    text: &str,
    rows: &mut Rows,
    wires: &[Wire],
    columns: Columns,
) -> Result<RowRead, Broken> {
    let mut cursor = Cursor::new(text);
    let read = read_row(&mut cursor, rows, wires, columns)?;
    cursor.end()?;
    Ok(read)
}
