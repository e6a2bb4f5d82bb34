//! Patterns of `to_char`, from PostgreSQL's to those that the planner's function takes.

/// PostgreSQL's pieces, longer ones before those with which they begin, and what they are.
const PIECES: [(&str, &str); 28] = [
    ("YYYY", "%Y"),
    ("IYYY", "%G"),
    ("YY", "%y"),
    ("FMMonth", "%B"),
    ("FMDay", "%A"),
    ("FMMM", "%-m"),
    ("FMDDD", "%-j"),
    ("FMDD", "%-d"),
    ("FMHH24", "%-H"),
    ("FMHH12", "%-I"),
    ("FMMI", "%-M"),
    ("FMSS", "%-S"),
    ("Mon", "%b"),
    ("MM", "%m"),
    ("DDD", "%j"),
    ("DD", "%d"),
    ("Dy", "%a"),
    ("ID", "%u"),
    ("IW", "%V"),
    ("HH24", "%H"),
    ("HH12", "%I"),
    ("HH", "%I"),
    ("MI", "%M"),
    ("MS", "%3f"),
    ("US", "%6f"),
    ("SS", "%S"),
    ("AM", "%p"),
    ("PM", "%p"),
];

/// A pattern as `strftime` has it; `None` if it has letters that are not known here. One with `%`
/// is taken for such a pattern already.
pub fn strftime(pattern: &str) -> Option<String> {
    if pattern.contains('%') {
        return Some(pattern.to_string());
    }
    let mut out = String::new();
    let mut rest = pattern;
    while let Some(letter) = rest.chars().next() {
        if let Some(quoted) = rest.strip_prefix('"') {
            let (text, behind) = quoted.split_once('"')?;
            out.push_str(text);
            rest = behind;
        } else if let Some((piece, ours)) = PIECES.iter().find(|it| rest.starts_with(it.0)) {
            out.push_str(ours);
            rest = &rest[piece.len()..];
        } else if letter.is_alphanumeric() {
            return None;
        } else {
            out.push(letter);
            rest = &rest[letter.len_utf8()..];
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_postgres_ones() {
        assert_eq!(strftime("YYYY-MM-DD HH24:MI:SS.US").unwrap(), "%Y-%m-%d %H:%M:%S.%6f");
        assert_eq!(strftime("YYYY-MM-DD\"T\"HH24").unwrap(), "%Y-%m-%dT%H");
        assert_eq!(strftime("%d.%m.").unwrap(), "%d.%m.");
        assert!(strftime("Month").is_none(), "it would be padded");
        assert!(strftime("999D99").is_none());
    }
}
