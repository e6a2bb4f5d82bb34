//! [`Intake`]: what a reader of messages gathers for one batch.

use std::ops::Range;

use crate::include::IncludedColumns;
use crate::schema_change::SchemaWatch;
use crate::{
    About, BadMessage, ConnectorError, ConnectorErrorKind, Decoded, Decoder, Format, Message,
    Positions, Result, SourceBatch, SplitId,
};

/// Bytes of messages in a batch, about: large messages must not fill the memory.
const BATCH_BYTES_MAX: u64 = 16 << 20;

/// Feeds messages to a decoder and sets the broken ones aside.
///
/// **Invariant:** after an error other than `BadMessage` the intake is not used again; the job
/// reopens the reader from the positions of the last batch.
pub struct Intake {
    decoder: Box<dyn Decoder>,
    included: Option<IncludedColumns>,
    watch: SchemaWatch,
    bad: Vec<BadMessage>,
    /// Messages whose rows need a stored row, with these rows.
    origins: Vec<(Range<usize>, BadMessage)>,
    message_count: usize,
    bytes: u64,
}

impl Intake {
    /// An empty intake of messages in a format.
    ///
    /// # Errors
    /// As [`Format::decoder`].
    pub fn new(format: &dyn Format) -> Result<Self> {
        let included = format.included();
        Ok(Self {
            decoder: format.decoder()?,
            included: (!included.is_empty()).then(|| IncludedColumns::new(included)),
            watch: SchemaWatch::new(format.on_schema_change()),
            bad: Vec::new(),
            origins: Vec::new(),
            message_count: 0,
            bytes: 0,
        })
    }

    /// Takes one message with its number in the split; a broken one becomes a [`BadMessage`].
    ///
    /// # Errors
    /// Whatever the decoder says that is not `BadMessage`; `Target` for a row that lacks columns
    /// if the format is to stop there.
    pub fn push(&mut self, split: &SplitId, offset: i64, message: Message<'_>) -> Result<()> {
        self.push_about(split, offset, message, About::default())
    }

    /// As [`Intake::push`], with what the source tells of the message besides.
    ///
    /// # Errors
    /// As [`Intake::push`].
    pub fn push_about(
        &mut self,
        split: &SplitId,
        offset: i64,
        message: Message<'_>,
        about: About<'_>,
    ) -> Result<()> {
        self.message_count += 1;
        self.bytes +=
            (message.key.map_or(0, <[u8]>::len) + message.value.map_or(0, <[u8]>::len)) as u64;
        let start = self.decoder.buffered_rows();
        match self.decoder.push(message) {
            Ok(()) if self.decoder.needs_stored_row() => {
                let rows = start..self.decoder.buffered_rows();
                self.origins.push((rows, bad_message(split, offset, message, String::new())));
            }
            Ok(()) => {}
            Err(error) if error.kind == ConnectorErrorKind::BadMessage => {
                let has_removed = self.decoder.buffered_rows() > start;
                let reason = reason_of(&error, has_removed);
                self.bad.push(bad_message(split, offset, message, reason));
            }
            Err(error) => return Err(error),
        }
        if let Some(difference) = self.decoder.difference() {
            self.watch.note(split, offset, difference)?;
        }
        if let Some(included) = &mut self.included {
            included.push(self.decoder.buffered_rows(), split, offset, message, about);
        }
        Ok(())
    }

    /// Takes a message of `bytes` bytes that the reader itself could not read.
    pub fn refuse(&mut self, bad: BadMessage, bytes: u64) {
        self.message_count += 1;
        self.bytes += bytes;
        self.bad.push(bad);
    }

    /// Messages since the last [`Intake::take`], good and bad.
    pub fn message_count(&self) -> usize {
        self.message_count
    }

    /// Whether this is enough for one batch: `rows_max` messages or rows, or 16 MB.
    pub fn is_full(&self, rows_max: usize) -> bool {
        self.message_count >= rows_max
            || self.decoder.buffered_rows() >= rows_max
            || self.bytes >= BATCH_BYTES_MAX
    }

    /// Hands out the batch; the intake is empty afterwards. `positions`: where every
    /// split that was read is read on.
    ///
    /// # Errors
    /// `Internal` if the decoder fails.
    pub fn take(&mut self, positions: Positions) -> Result<SourceBatch> {
        let mut data = self.decoder.flush()?;
        if let Some(included) = &mut self.included {
            data = included.add_to(data)?;
        }
        if let Decoded::Upserts(upserts) = data {
            data = Decoded::Upserts(upserts.with_messages(&self.origins)?);
        }
        self.origins.clear();
        self.message_count = 0;
        let bytes = std::mem::take(&mut self.bytes);
        Ok(SourceBatch {
            data,
            bad: std::mem::take(&mut self.bad),
            schema_changes: self.watch.take(),
            positions,
            bytes,
        })
    }
}

#[cold]
fn bad_message(split: &SplitId, offset: i64, message: Message<'_>, reason: String) -> BadMessage {
    BadMessage {
        split: split.clone(),
        offset,
        key: message.key.map(<[u8]>::to_vec),
        payload: message.value.map(<[u8]>::to_vec),
        reason,
    }
}

/// The reason as the errors table shows it.
#[cold]
fn reason_of(error: &ConnectorError, has_removed: bool) -> String {
    let reason = error.with_next_step();
    match has_removed {
        true => format!("the row with this key was removed from the table: {reason}"),
        false => reason,
    }
}
