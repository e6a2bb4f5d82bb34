//! Rows of `<table>$errors`: messages that could not be decoded.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use frazil_connector_api::BadMessage;

use crate::catalog::errors_schema;
use crate::error::Result;

/// The rows of some bad messages; bytes that are not UTF-8 are shown with replacement characters.
///
/// # Errors
/// Arrow's only.
pub(crate) fn bad_message_rows(messages: &[BadMessage]) -> Result<RecordBatch> {
    let text = |bytes: &Option<Vec<u8>>| {
        bytes.as_ref().map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    };
    let splits = messages.iter().map(|message| Some(message.split.0.as_str()));
    let offsets = messages.iter().map(|message| Some(message.offset.0));
    let keys = messages.iter().map(|message| text(&message.key));
    let payloads = messages.iter().map(|message| text(&message.payload));
    let reasons = messages.iter().map(|message| Some(message.reason.as_str()));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(splits.collect::<StringArray>()),
        Arc::new(offsets.collect::<Int64Array>()),
        Arc::new(keys.collect::<StringArray>()),
        Arc::new(payloads.collect::<StringArray>()),
        Arc::new(reasons.collect::<StringArray>()),
    ];
    Ok(RecordBatch::try_new(errors_schema(), columns)?)
}
