//! [`FilesReader`]: reads files one after another, or follows them.

use std::time::{Duration, Instant};

use frazil_connector_api::{
    ConnectorError, Intake, Message, Offset, Offsets, Result, SourcePoll, SourceReader,
};

use crate::line_reader::LineReader;

/// Pause between two looks at followed files.
const LOOK_PAUSE: Duration = Duration::from_millis(20);

/// Reads lines; a batch holds lines of one file.
pub(crate) struct FilesReader {
    files: Vec<LineReader>,
    /// The file whose turn it is.
    turn: usize,
    follow: bool,
    intake: Intake,
}

impl FilesReader {
    pub(crate) fn new(files: Vec<LineReader>, follow: bool, intake: Intake) -> Self {
        Self { files, turn: 0, follow, intake }
    }

    /// Lines of the file whose turn it is; stays with it as long as it has some.
    fn read(&mut self, rows_max: usize) -> Result<Option<SourcePoll>> {
        let file = &mut self.files[self.turn];
        let start = file.offset();
        let split = file.split().clone();
        while !self.intake.is_full(rows_max) {
            let Some(line) = file.next_line()? else { break };
            if line.bytes.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let message = Message { key: None, value: Some(line.bytes) };
            self.intake.push(&split, offset_of(line.offset)?, message)?;
        }
        if file.offset() == start {
            return Ok(None);
        }
        let offsets = Offsets::from([(split, offset_of(file.offset())?)]);
        Ok(Some(SourcePoll::Batch(self.intake.take(offsets)?)))
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
        Ok(None)
    }
}

fn offset_of(at: u64) -> Result<Offset> {
    let offset = i64::try_from(at);
    offset.map(Offset).map_err(|_| ConnectorError::internal("the offset is too large"))
}

impl SourceReader for FilesReader {
    fn poll(&mut self, rows_max: usize, timeout: Duration) -> Result<SourcePoll> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(batch) = self.read_any(rows_max.max(1))? {
                return Ok(batch);
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
}
