//! [`TextFormat`]: messages as two columns of text.

use std::sync::Arc;

use arrow::array::{RecordBatch, StringBuilder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use crate::{
    ChangeBatch, ConnectorError, Decoded, Decoder, FieldDifference, Format, Message, Result,
};

/// Decodes a message into the row `(key, value)` of nullable text, +1 each.
///
/// A value that begins with `bad` is a bad message; a null value gives a row with a null value. A
/// message without a key lacks the column `key`.
#[derive(Debug, Clone, Copy, Default)]
pub struct TextFormat;

impl TextFormat {
    /// Columns `key` and `value`.
    pub fn schema() -> SchemaRef {
        let fields = ["key", "value"].map(|name| Field::new(name, DataType::Utf8, true));
        Arc::new(Schema::new(fields.to_vec()))
    }
}

impl Format for TextFormat {
    fn decoder(&self) -> Result<Box<dyn Decoder>> {
        Ok(Box::new(TextDecoder::default()))
    }
}

struct TextDecoder {
    keys: StringBuilder,
    values: StringBuilder,
    row_count: usize,
    /// Of messages with a key, and of those without.
    differences: [Arc<FieldDifference>; 2],
    /// Whether the last message has a key; `None` if it was bad.
    has_key: Option<bool>,
}

impl Default for TextDecoder {
    fn default() -> Self {
        let missing = vec!["key".to_string()];
        let without_key = FieldDifference { missing, ..FieldDifference::default() };
        Self {
            keys: StringBuilder::default(),
            values: StringBuilder::default(),
            row_count: 0,
            differences: [Arc::default(), Arc::new(without_key)],
            has_key: None,
        }
    }
}

impl Decoder for TextDecoder {
    fn push(&mut self, message: Message<'_>) -> Result<()> {
        self.has_key = None;
        let key = message.key.map(text_of).transpose()?;
        let value = message.value.map(text_of).transpose()?;
        if value.is_some_and(|value| value.starts_with("bad")) {
            return Err(ConnectorError::bad_message("the value begins with \"bad\""));
        }
        self.keys.append_option(key);
        self.values.append_option(value);
        self.row_count += 1;
        self.has_key = Some(key.is_some());
        Ok(())
    }

    fn difference(&self) -> Option<&Arc<FieldDifference>> {
        self.has_key.map(|has_key| &self.differences[usize::from(!has_key)])
    }

    fn buffered_rows(&self) -> usize {
        self.row_count
    }

    fn flush(&mut self) -> Result<Decoded> {
        self.row_count = 0;
        let rows = RecordBatch::try_new(
            TextFormat::schema(),
            vec![Arc::new(self.keys.finish()), Arc::new(self.values.finish())],
        )?;
        Ok(Decoded::Changes(ChangeBatch::inserts(rows)))
    }
}

fn text_of(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes)
        .map_err(|error| ConnectorError::bad_message("not UTF-8").with_source(error))
}
