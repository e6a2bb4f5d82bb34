//! [`LineEnd`]: where the lines of COPY end.

use memchr::{memchr2, memchr3};

use crate::sql::{CopyFormat, CopyKind};

/// Looks for the end of a line in bytes that come in pieces: each byte is looked at once.
#[derive(Debug)]
pub(super) struct LineEnd {
    /// Bytes of quotes and escapes; none in the text format.
    csv: Option<(u8, u8)>,
    /// Where to go on in the line that has begun.
    seen: usize,
    is_quoted: bool,
    is_escaped: bool,
    /// Ends of lines within quotes.
    inner: u64,
}

impl LineEnd {
    pub(super) fn new(format: &CopyFormat) -> Self {
        let csv =
            (format.kind == CopyKind::Csv).then_some((format.quote as u8, format.escape as u8));
        Self { csv, seen: 0, is_quoted: false, is_escaped: false, inner: 0 }
    }

    /// The number of bytes before the end of the first line of `bytes`, and of ends of lines within
    /// it; none if the end is not there yet. The next call then gets the same bytes and more.
    pub(super) fn find(&mut self, bytes: &[u8]) -> Option<(usize, u64)> {
        let end = match self.csv {
            None => self.find_in_text(bytes),
            Some((quote, escape)) => self.find_in_csv(bytes, quote, escape),
        }?;
        let inner = std::mem::take(&mut self.inner);
        self.seen = 0;
        self.is_escaped = false;
        Some((end, inner))
    }

    /// True if the bytes end within quotes.
    pub(super) fn is_quoted(&self) -> bool {
        self.is_quoted
    }

    fn find_in_text(&mut self, bytes: &[u8]) -> Option<usize> {
        while let Some(at) = memchr2(b'\\', b'\n', bytes.get(self.seen..)?) {
            let at = self.seen + at;
            if bytes[at] == b'\n' {
                return Some(at);
            }
            // The byte behind a backslash ends nothing.
            if at + 1 == bytes.len() {
                self.seen = at;
                return None;
            }
            self.seen = at + 2;
        }
        self.seen = bytes.len();
        None
    }

    fn find_in_csv(&mut self, bytes: &[u8], quote: u8, escape: u8) -> Option<usize> {
        // A doubled quote closes and opens again.
        let escape = (escape != quote).then_some(escape);
        while let Some(at) = memchr3(quote, b'\n', escape.unwrap_or(quote), &bytes[self.seen..]) {
            let at = self.seen + at;
            let was_escaped = std::mem::take(&mut self.is_escaped) && at == self.seen;
            let byte = bytes[at];
            self.seen = at + 1;
            if byte == b'\n' {
                if !self.is_quoted {
                    return Some(at);
                }
                self.inner += 1;
            } else if byte == quote {
                self.is_quoted ^= !was_escaped;
            } else {
                self.is_escaped = self.is_quoted && !was_escaped;
            }
        }
        self.is_escaped &= self.seen == bytes.len();
        self.seen = bytes.len();
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(kind: CopyKind, escape: char) -> CopyFormat {
        CopyFormat { kind, header: false, delimiter: ',', null: String::new(), quote: '"', escape }
    }

    /// The first line, fed byte by byte and as a whole.
    fn first(format: &CopyFormat, text: &str) -> Option<(String, u64)> {
        let whole = LineEnd::new(format).find(text.as_bytes());
        let mut pieces = LineEnd::new(format);
        let found = (0..=text.len()).find_map(|end| pieces.find(&text.as_bytes()[..end]));
        assert_eq!(found, whole, "{text:?}");
        whole.map(|(end, inner)| (text[..end].to_string(), inner))
    }

    #[test]
    fn lines_end_outside_of_escapes_and_quotes() {
        let line = |text: &str, inner| Some((text.to_string(), inner));
        let text = format(CopyKind::Text, '"');
        assert_eq!(first(&text, "a\nb\n"), line("a", 0));
        assert_eq!(first(&text, "a\\\nb\nc"), line("a\\\nb", 0));
        assert_eq!(first(&text, "a\\\\\nb"), line("a\\\\", 0));
        assert_eq!(first(&text, "\"a\nb\"\n"), line("\"a", 0));
        assert_eq!(first(&text, "no end\\"), None);
        let csv = format(CopyKind::Csv, '"');
        assert_eq!(first(&csv, "a,\"b\nc\",d\ne\n"), line("a,\"b\nc\",d", 1));
        assert_eq!(first(&csv, "\"a\"\"\n\"\"\"\nb\n"), line("\"a\"\"\n\"\"\"", 1));
        assert_eq!(first(&csv, "a\\\nb\n"), line("a\\", 0));
        assert_eq!(first(&csv, "\"open\n\n"), None);
        let csv = format(CopyKind::Csv, '\\');
        assert_eq!(first(&csv, "\"a\\\"\nb\"\nc\n"), line("\"a\\\"\nb\"", 1));
        assert_eq!(first(&csv, "\"a\\\\\"\nb\n"), line("\"a\\\\\"", 0));
        assert_eq!(first(&csv, "a\\\"b\nc\"\nd"), line("a\\\"b\nc\"", 1));
    }
}
