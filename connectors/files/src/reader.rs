//! [`FilesReader`]: reads files one after another, or follows them.

use std::time::{Duration, Instant};

use frazil_connector_api::{
    BadMessage, ConnectorError, Intake, Message, Position, Positions, Result, SourcePoll,
    SourceReader, SplitId,
};

use crate::line_reader::{LINE_BYTES_MAX, LineReader};

/// Pause between two looks at followed files.
const LOOK_PAUSE: Duration = Duration::from_millis(20);

/// Reads lines; a batch holds lines of one file.
///
/// A file that was read to its end and then removed is forgotten. One that was removed while nobody
/// read may have had more lines: a row of the errors table says so.
pub(crate) struct FilesReader {
    files: Vec<LineReader>,
    /// Files that were removed before their ends were seen, with the bytes that were read.
    removed: Vec<(SplitId, i64)>,
    /// Files that are forgotten.
    retired: Vec<SplitId>,
    /// Files may be forgotten: their names do not come again.
    retires: bool,
    /// The file whose turn it is.
    turn: usize,
    follow: bool,
    intake: Intake,
}

impl FilesReader {
    pub(crate) fn new(
        files: Vec<LineReader>,
        removed: Vec<(SplitId, i64)>,
        follow: bool,
        retires: bool,
        intake: Intake,
    ) -> Self {
        Self { files, removed, retired: Vec::new(), retires, turn: 0, follow, intake }
    }

    /// Reports files that were removed before their ends were seen.
    fn report_removed(&mut self) -> Result<SourcePoll> {
        let removed = std::mem::take(&mut self.removed);
        let positions =
            removed.iter().map(|(split, read)| (split.clone(), Position::Number(*read)));
        let mut batch = self.intake.take(positions.collect())?;
        batch.bad = removed.iter().map(|(split, read)| removed_file(split, *read)).collect();
        if self.retires {
            self.retired.extend(removed.into_iter().map(|(split, _)| split));
        }
        Ok(SourcePoll::Batch(batch))
    }

    /// Leaves out files that are gone.
    fn leave_out_gone(&mut self) -> Result<()> {
        for gone in self.files.extract_if(.., |file| file.is_gone()) {
            if !gone.has_ended() {
                self.removed.push((gone.split().clone(), offset_of(gone.offset())?));
            } else if self.retires {
                self.retired.push(gone.split().clone());
            }
        }
        self.turn = 0;
        Ok(())
    }

    /// Lines of the file whose turn it is; stays with it as long as it has some.
    fn read(&mut self, rows_max: usize) -> Result<Option<SourcePoll>> {
        let file = &mut self.files[self.turn];
        let start = file.offset();
        let split = file.split().clone();
        while !self.intake.is_full(rows_max) {
            let Some(line) = file.next_line()? else { break };
            if let Some(length) = line.too_long {
                let bad = long_line(&split, offset_of(line.offset)?, length);
                self.intake.refuse(bad, length);
                continue;
            }
            if line.bytes.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let message = Message { key: None, value: Some(line.bytes) };
            self.intake.push(&split, offset_of(line.offset)?, message)?;
        }
        if file.offset() == start {
            return Ok(None);
        }
        let positions = Positions::from([(split, offset_of(file.offset())?.into())]);
        Ok(Some(SourcePoll::Batch(self.intake.take(positions)?)))
    }

    /// Gives every file a turn until one has lines.
    fn read_any(&mut self, rows_max: usize) -> Result<Option<SourcePoll>> {
        for _ in 0..self.files.len() {
            let may_have_lines = self.follow || !self.files[self.turn].has_ended();
            if may_have_lines && let Some(batch) = self.read(rows_max)? {
                return Ok(Some(batch));
            }
            self.turn = (self.turn + 1) % self.files.len();
        }
        if self.files.iter().any(LineReader::is_gone) {
            self.leave_out_gone()?;
        }
        Ok(None)
    }
}

fn long_line(split: &SplitId, offset: i64, length: u64) -> BadMessage {
    let reason = format!("the line has {length} bytes, and {LINE_BYTES_MAX} at most are read");
    BadMessage { split: split.clone(), offset, key: None, payload: None, reason }
}

fn removed_file(split: &SplitId, offset: i64) -> BadMessage {
    let reason = format!(
        "the file was removed, and {} bytes of it had been read: if it was longer, the rest is \
         missing (hint: a file must stay until all is read)",
        offset
    );
    BadMessage { split: split.clone(), offset, key: None, payload: None, reason }
}

fn offset_of(at: u64) -> Result<i64> {
    i64::try_from(at).map_err(|_| ConnectorError::internal("the offset is too large"))
}

impl SourceReader for FilesReader {
    fn poll(&mut self, rows_max: usize, timeout: Duration) -> Result<SourcePoll> {
        let deadline = Instant::now() + timeout;
        loop {
            if !self.removed.is_empty() {
                return self.report_removed();
            }
            if let Some(batch) = self.read_any(rows_max.max(1))? {
                return Ok(batch);
            }
            if !self.removed.is_empty() {
                continue;
            }
            if !self.follow {
                return Ok(SourcePoll::End);
            }
            let rest = deadline.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                return Ok(SourcePoll::Idle);
            }
            std::thread::sleep(rest.min(LOOK_PAUSE));
        }
    }

    fn take_retired(&mut self) -> Vec<SplitId> {
        std::mem::take(&mut self.retired)
    }
}
