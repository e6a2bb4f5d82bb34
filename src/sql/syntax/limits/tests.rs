//! Statements that are too deep, and those that are not.

use crate::error::ErrorKind;

fn kind(text: &str) -> Option<ErrorKind> {
    crate::sql::parse(text).err().map(|error| error.kind)
}

#[test]
fn long_chains_of_and_and_or_are_balanced() {
    let chain = |count: usize, word: &str| {
        let terms: Vec<_> = (0..count).map(|n| format!("x = {n}")).collect();
        format!("SELECT * FROM t WHERE {}", terms.join(word))
    };
    assert_eq!(kind(&chain(5000, " OR ")), None);
    assert_eq!(kind(&chain(5000, " AND ")), None);
    let text = "a AND b AND c AND d AND e";
    assert_eq!(crate::sql::parse_expression(text).unwrap().to_string(), text);
}

#[test]
fn what_is_too_deep_is_refused() {
    let deep = |count: usize, part: &str| format!("SELECT 1{}", part.repeat(count));
    assert_eq!(kind(&deep(900, " + 1")), None);
    assert_eq!(kind(&deep(200, "::int")), None);
    for text in [
        deep(1100, " + 1"),
        deep(100_000, " + 1"),
        deep(1_000_000, "::int"),
        deep(2000, " UNION ALL SELECT 1"),
        format!("SELECT {}1{}", "(".repeat(5000), ")".repeat(5000)),
        format!("SELECT {}1{}", "(SELECT ".repeat(5000), ")".repeat(5000)),
        format!("SELECT {} 1", "NOT ".repeat(5000)),
        format!("SELECT * FROM t{}", ", t".repeat(2000)),
    ] {
        assert_eq!(kind(&text), Some(ErrorKind::TooDeep), "{}", &text[..60]);
    }
    assert_eq!(kind(&"EXPLAIN ".repeat(20_000)), Some(ErrorKind::Syntax));
}

#[test]
fn numbers_of_parameters_are_bounded() {
    for text in ["SELECT $2000000000::int", "INSERT INTO t VALUES ($65536)", "SELECT 1 LIMIT $0"] {
        assert_eq!(kind(text), Some(ErrorKind::UndefinedParameter), "{text}");
    }
    assert_eq!(kind("SELECT $65535::int"), None);
}
