//! Where a statement ends in what a user types.

/// What text holds: whole statements, and the beginning of another.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Split<'a> {
    /// Whole statements without their semicolons; none is empty.
    pub(super) whole: Vec<&'a str>,
    /// What comes after the last semicolon; blank or a comment if nothing was begun.
    pub(super) rest: &'a str,
}

/// Splits at semicolons outside of quotes, comments and dollar quotes.
pub(super) fn split(text: &str) -> Split<'_> {
    let mut whole = Vec::new();
    let mut start = 0;
    let mut at = 0;
    while let Some(next) = text[at..].chars().next() {
        let skipped = quoted(&text[at..]);
        if skipped > 0 {
            at += skipped;
        } else {
            if next == ';' {
                if !is_blank(&text[start..at]) {
                    whole.push(text[start..at].trim());
                }
                start = at + 1;
            }
            at += next.len_utf8();
        }
    }
    Split { whole, rest: &text[start..] }
}

/// Whether there is nothing but space and comments.
pub(super) fn is_blank(text: &str) -> bool {
    let mut at = 0;
    while let Some(next) = text[at..].chars().next() {
        let comment = comment(&text[at..]);
        if comment > 0 {
            at += comment;
        } else if next.is_whitespace() {
            at += next.len_utf8();
        } else {
            return false;
        }
    }
    true
}

/// Length of the quote or comment that the text begins with; 0 if it begins with neither. One
/// that is not closed goes to the end.
fn quoted(text: &str) -> usize {
    let closed = |open: usize, close: &str| {
        text[open..].find(close).map_or(text.len(), |end| open + end + close.len())
    };
    match text.as_bytes().first() {
        Some(b'\'') => closed(1, "'"),
        Some(b'"') => closed(1, "\""),
        Some(b'$') => match text[1..].find('$') {
            Some(end) if text[1..=end].chars().all(|c| c.is_alphanumeric() || c == '_') => {
                let tag = &text[..end + 2];
                // `$1$` is no tag: a tag does not begin with a digit.
                if tag[1..].starts_with(|c: char| c.is_ascii_digit()) {
                    0
                } else {
                    closed(tag.len(), tag)
                }
            }
            _ => 0,
        },
        _ => comment(text),
    }
}

fn comment(text: &str) -> usize {
    if text.starts_with("--") {
        return text.find('\n').map_or(text.len(), |end| end + 1);
    }
    if !text.starts_with("/*") {
        return 0;
    }
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &str) -> Vec<&str> {
        split(text).whole
    }

    #[test]
    fn semicolons_end_statements() {
        assert_eq!(whole("SELECT 1; SELECT 2;"), ["SELECT 1", "SELECT 2"]);
        assert_eq!(whole(";; ;"), [""; 0]);
        assert_eq!(split("SELECT 1; SEL").rest, " SEL");
    }

    #[test]
    fn semicolons_in_quotes_and_comments_do_not() {
        assert_eq!(whole("SELECT ';', \"a;b\";"), ["SELECT ';', \"a;b\""]);
        assert_eq!(whole("SELECT 'it''s; so';"), ["SELECT 'it''s; so'"]);
        assert_eq!(whole("SELECT 1 -- no; end\n;"), ["SELECT 1 -- no; end"]);
        assert_eq!(whole("/* a; /* b; */ c; */ SELECT 1;"), ["/* a; /* b; */ c; */ SELECT 1"]);
        assert_eq!(whole("SELECT $$a;b$$, $x$;$$;$x$;"), ["SELECT $$a;b$$, $x$;$$;$x$"]);
        assert_eq!(whole("SELECT $1; SELECT $2;"), ["SELECT $1", "SELECT $2"]);
        assert_eq!(whole("SELECT 'ä;ö';"), ["SELECT 'ä;ö'"]);
    }

    #[test]
    fn an_open_quote_goes_on() {
        assert_eq!(whole("SELECT 'a;"), [""; 0]);
        assert!(is_blank("  -- only this\n /* and that */ "));
        assert!(!is_blank(" x"));
    }
}
