//! [`TextFormat`]: messages as two columns of text.

use std::sync::Arc;

use arrow::array::{RecordBatch, StringBuilder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use crate::{ChangeBatch, ConnectorError, Decoded, Decoder, Format, Message, Result};

/// Decodes a message into the row `(key, value)` of nullable text, +1 each.
///
/// A value that begins with `bad` is a bad message; a null value gives a row with a null value.
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

#[derive(Default)]
struct TextDecoder {
    keys: StringBuilder,
    values: StringBuilder,
    row_count: usize,
}

impl Decoder for TextDecoder {
    fn push(&mut self, message: Message<'_>) -> Result<()> {
        let key = message.key.map(text_of).transpose()?;
        let value = message.value.map(text_of).transpose()?;
        if value.is_some_and(|value| value.starts_with("bad")) {
            return Err(ConnectorError::bad_message("the value begins with \"bad\""));
        }
        self.keys.append_option(key);
        self.values.append_option(value);
        self.row_count += 1;
        Ok(())
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
