//! Rows of `<table>$errors`: messages that could not be decoded.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use frazil_connector_api::BadMessage;

use crate::catalog::errors_schema;
use crate::error::Result;

/// The rows of some bad messages, which came at `now`, in microseconds since 1970; bytes that are
/// not UTF-8 are shown with replacement characters.
///
/// # Errors
/// Arrow's only.
pub(crate) fn bad_message_rows(messages: &[BadMessage], now: i64) -> Result<RecordBatch> {
    let text = |bytes: &Option<Vec<u8>>| {
        bytes.as_ref().map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    };
    let splits = messages.iter().map(|message| Some(message.split.0.as_str()));
    let offsets = messages.iter().map(|message| Some(message.offset));
    let keys = messages.iter().map(|message| text(&message.key));
    let payloads = messages.iter().map(|message| text(&message.payload));
    let reasons = messages.iter().map(|message| Some(message.reason.as_str()));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(splits.collect::<StringArray>()),
        Arc::new(offsets.collect::<Int64Array>()),
        Arc::new(keys.collect::<StringArray>()),
        Arc::new(payloads.collect::<StringArray>()),
        Arc::new(reasons.collect::<StringArray>()),
        Arc::new(TimestampMicrosecondArray::from_value(now, messages.len()).with_timezone("UTC")),
    ];
    Ok(RecordBatch::try_new(errors_schema(), columns)?)
}
