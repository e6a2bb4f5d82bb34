//! [`ScanPlace`]: a scan of a [`RowsSnapshot`] in pieces, each asked for by itself.
//!
//! ```text
//! scan(start) ─► 1 MiB of rows, place ─► scan(place) ─► 1 MiB of rows, place ─► … ─► rows, none
//! ```
//!
//! **Invariant:** a place holds nothing: who gives up a scan has nothing to give back.

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::concat_batches;
use serde::{Deserialize, Serialize};

use super::{RowsSnapshot, Segment};
use crate::change::{RowSizes, take_rows};
use crate::error::Result;

/// Bytes that a row counts for at least: a projection may leave no column.
const ROW_BYTES_MIN: usize = 8;

/// Where a scan continues in a snapshot that stays the same; the default is its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanPlace {
    segment: usize,
    row: u32,
    /// Copies of the row that were given.
    copies: i64,
}

impl RowsSnapshot {
    /// The rows from a place on, with some of the columns if `projection` is given: at most `bytes`
    /// of them, one row at least; and where the next begin, if there are more.
    ///
    /// # Errors
    /// `Internal` if a projected column is not there.
    pub fn scan(
        &self,
        from: ScanPlace,
        bytes: usize,
        projection: Option<&[usize]>,
    ) -> Result<(RecordBatch, Option<ScanPlace>)> {
        let (mut batches, mut left, mut place) = (Vec::new(), Some(bytes), from);
        while let (Some(segment), Some(room)) = (self.segments.get(place.segment), left) {
            let rows = match projection {
                Some(columns) => segment.rows.project(columns)?,
                None => segment.rows.as_ref().clone(),
            };
            let piece = segment.piece(place, room, &RowSizes::of(rows.columns()), &batches);
            if !piece.rows.is_empty() {
                batches.push(segment.taken(&rows, &piece)?);
            }
            (place, left) = match piece.next {
                Some(next) => (next, None),
                None => (
                    ScanPlace { segment: place.segment + 1, ..ScanPlace::default() },
                    room.checked_sub(piece.bytes),
                ),
            };
        }
        let has_more = place.segment < self.segments.len();
        let rows = match batches.as_slice() {
            [only] => only.clone(),
            _ => concat_batches(&self.projected_schema(projection)?, &batches)?,
        };
        Ok((rows, has_more.then_some(place)))
    }
}

/// Rows of one segment.
struct Piece {
    /// Each as often as it is given.
    rows: Vec<u32>,
    bytes: usize,
    /// Where the next rows begin, if they are in this segment.
    next: Option<ScanPlace>,
}

impl Segment {
    /// Live rows from a place on for which there is room; the first of all in any case.
    fn piece(
        &self,
        from: ScanPlace,
        room: usize,
        sizes: &RowSizes,
        before: &[RecordBatch],
    ) -> Piece {
        let mut piece = Piece { rows: Vec::new(), bytes: 0, next: None };
        for row in (from.row..self.rows.num_rows() as u32).filter(|row| self.is_live(*row)) {
            let given = if row == from.row { from.copies } else { 0 };
            let copies = self.counts.get(&row).copied().unwrap_or(1);
            let size = sizes.bytes(row as usize).max(ROW_BYTES_MIN);
            for copy in given..copies {
                let is_first = before.is_empty() && piece.rows.is_empty();
                if !is_first && piece.bytes + size > room {
                    piece.next = Some(ScanPlace { row, copies: copy, ..from });
                    return piece;
                }
                piece.rows.push(row);
                piece.bytes += size;
            }
        }
        piece
    }

    /// The rows of a piece, without a copy if they are one run.
    fn taken(&self, rows: &RecordBatch, piece: &Piece) -> Result<RecordBatch> {
        match piece.rows.as_slice() {
            [first, .., last] if self.is_whole() => {
                Ok(rows.slice(*first as usize, (last - first) as usize + 1))
            }
            rows_taken => take_rows(rows, &UInt32Array::from(rows_taken.to_vec())),
        }
    }
}
