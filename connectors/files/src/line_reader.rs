//! [`LineReader`]: lines of one file, from a byte offset on.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};

use frazil_connector_api::{ConnectorError, ConnectorErrorKind, Result, SplitId};

/// Bytes read at once.
const READ_BYTES: usize = 1 << 20;
/// The longest line: a file without line ends must not fill the memory.
pub(crate) const LINE_BYTES_MAX: usize = if cfg!(test) { 4 } else { 64 } << 20;
/// How some programs begin a file of UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A line, without its end.
pub(crate) struct Line<'a> {
    /// The line, or nothing of one that is too long.
    pub(crate) bytes: &'a [u8],
    /// Its length if it is longer than [`LINE_BYTES_MAX`].
    pub(crate) too_long: Option<u64>,
    /// Where it begins in the file.
    pub(crate) offset: u64,
}

/// Reads lines of a file. It holds the file and a buffer only as long as there is something to
/// read, so that thousands of finished files cost nothing.
///
/// ```text
/// buffer: │ lines handed out │ start: next line … │ scanned: no line end before │ … len │
/// ```
pub(crate) struct LineReader {
    split: SplitId,
    file: Option<File>,
    buffer: Vec<u8>,
    /// Where the next line begins in `buffer`.
    start: usize,
    /// Up to where `buffer` has been searched for a line end.
    scanned: usize,
    /// Bytes of the next line in front of `buffer`: it is too long to be kept.
    skipped: u64,
    /// Where the next line begins in the file.
    offset: u64,
    /// Length of the file when it was last read to its end.
    read_length: Option<u64>,
    /// Whether the bytes after the last line end are a line.
    last_line_counts: bool,
    /// The file does not exist any more.
    is_gone: bool,
}

impl LineReader {
    pub(crate) fn new(split: SplitId, offset: u64, last_line_counts: bool) -> Self {
        Self {
            split,
            file: None,
            buffer: Vec::new(),
            start: 0,
            scanned: 0,
            skipped: 0,
            offset,
            read_length: None,
            last_line_counts,
            is_gone: false,
        }
    }

    pub(crate) fn split(&self) -> &SplitId {
        &self.split
    }

    /// Where the next line begins in the file.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether the file has been read to its end once.
    pub(crate) fn has_ended(&self) -> bool {
        self.read_length.is_some()
    }

    /// True if the file does not exist any more.
    pub(crate) fn is_gone(&self) -> bool {
        self.is_gone
    }

    /// The next line; `None` if there is none now. Asking again later looks for new ones.
    ///
    /// # Errors
    /// `Target` if the file has become shorter; `Unavailable` if it cannot be read.
    pub(crate) fn next_line(&mut self) -> Result<Option<Line<'_>>> {
        let end = loop {
            let unseen = &self.buffer[self.scanned..];
            if let Some(at) = memchr::memchr(b'\n', unseen) {
                break Some(self.scanned + at);
            }
            self.scanned = self.buffer.len();
            if !self.read_more()? {
                break None;
            }
        };
        let (end, next) = match end {
            Some(end) => (end, end + 1),
            None if self.last_line_counts
                && (self.start < self.buffer.len() || self.skipped > 0) =>
            {
                (self.buffer.len(), self.buffer.len())
            }
            None => {
                self.let_go();
                return Ok(None);
            }
        };
        let (begin, offset) = (self.start, self.offset);
        let skipped = std::mem::take(&mut self.skipped);
        self.offset += skipped + (next - begin) as u64;
        self.start = next;
        self.scanned = next;
        let line = &self.buffer[begin..end];
        if skipped > 0 {
            let length = skipped + line.len() as u64;
            return Ok(Some(Line { bytes: &[], too_long: Some(length), offset }));
        }
        let bytes = line.strip_suffix(b"\r").unwrap_or(line);
        let bytes = match offset {
            0 => bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes),
            _ => bytes,
        };
        Ok(Some(Line { bytes, too_long: None, offset }))
    }

    /// Reads a piece of the file; `false` at its end.
    fn read_more(&mut self) -> Result<bool> {
        if self.file.is_none() && !self.open()? {
            return Ok(false);
        }
        let Some(file) = &mut self.file else { return Ok(false) };
        self.buffer.drain(..self.start);
        self.scanned -= self.start;
        self.start = 0;
        if self.buffer.len() >= LINE_BYTES_MAX {
            self.skipped += self.buffer.len() as u64;
            self.buffer.clear();
            self.scanned = 0;
        }
        let filled = self.buffer.len();
        self.buffer.resize(filled + READ_BYTES, 0);
        let read = loop {
            match file.read(&mut self.buffer[filled..]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        let count = read.map_err(|error| {
            ConnectorError::unavailable(format!("cannot read file \"{}\"", self.split.0))
                .with_source(error)
        })?;
        self.buffer.truncate(filled + count);
        if count == 0 {
            self.read_length = Some(self.offset + self.skipped + filled as u64);
        }
        Ok(count > 0)
    }

    /// Opens the file at the next line; `false` if nothing was added since it was read to its end.
    fn open(&mut self) -> Result<bool> {
        let length = match length_of(&self.split) {
            Err(error) if error.kind == ConnectorErrorKind::Target => {
                self.is_gone = true;
                return Ok(false);
            }
            length => length?,
        };
        if length < self.offset || self.read_length.is_some_and(|read| length < read) {
            return Err(target(format!(
                "file \"{}\" has {length} bytes, fewer than the {} that were read",
                self.split.0,
                self.read_length.unwrap_or(self.offset)
            ))
            .with_hint("files must only grow; write new lines into a new file"));
        }
        if self.read_length == Some(length) {
            return Ok(false);
        }
        let mut file = File::open(&self.split.0).map_err(|error| unreadable(&self.split, error))?;
        file.seek(SeekFrom::Start(self.offset)).map_err(|error| unreadable(&self.split, error))?;
        self.file = Some(file);
        Ok(true)
    }

    fn let_go(&mut self) {
        self.file = None;
        self.buffer = Vec::new();
        self.start = 0;
        self.scanned = 0;
        self.skipped = 0;
    }
}

/// Length of a file.
///
/// # Errors
/// `Target` if it is gone; `Unavailable` if that cannot be told.
pub(crate) fn length_of(split: &SplitId) -> Result<u64> {
    let metadata = std::fs::metadata(&split.0).map_err(|error| unreadable(split, error))?;
    Ok(metadata.len())
}

/// Where the last complete line ends.
///
/// # Errors
/// As [`length_of`].
pub(crate) fn end_of_lines(split: &SplitId) -> Result<u64> {
    let mut file = File::open(&split.0).map_err(|error| unreadable(split, error))?;
    let mut end = length_of(split)?;
    let mut piece = Vec::new();
    while end > 0 {
        let begin = end.saturating_sub(READ_BYTES as u64);
        piece.resize((end - begin) as usize, 0);
        file.seek(SeekFrom::Start(begin)).map_err(|error| unreadable(split, error))?;
        file.read_exact(&mut piece).map_err(|error| unreadable(split, error))?;
        if let Some(at) = memchr::memrchr(b'\n', &piece) {
            return Ok(begin + at as u64 + 1);
        }
        end = begin;
    }
    Ok(0)
}

fn unreadable(split: &SplitId, error: std::io::Error) -> ConnectorError {
    let message = format!("cannot open file \"{}\"", split.0);
    match error.kind() {
        ErrorKind::NotFound => target(message).with_hint("a file must stay until all is read"),
        _ => ConnectorError::unavailable(message),
    }
    .with_source(error)
}

fn target(message: String) -> ConnectorError {
    ConnectorError::new(ConnectorErrorKind::Target, message)
}
