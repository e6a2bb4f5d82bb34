//! FORMAT DEBEZIUM: declared columns that events do not have, and fields that no column takes.

use frazil_connector_api::{
    ConnectorErrorKind, FieldDifference, Intake, Message, Positions, SchemaChange, SplitId,
};
use frazil_format::FormatKind;

use crate::support::format;

/// An intake that is given values, each as the next message of a split.
struct Reader {
    intake: Intake,
    offset: i64,
}

impl Reader {
    fn new(kind: FormatKind, columns: &str, key: &[usize], options: &str) -> Self {
        let intake = Intake::new(&*format(kind, columns, key, options).unwrap()).unwrap();
        Self { intake, offset: 0 }
    }

    fn debezium(columns: &str) -> Self {
        Self::new(FormatKind::Debezium, columns, &[0], "")
    }

    fn push(&mut self, split: &str, value: &str) -> frazil_connector_api::Result<()> {
        let message = Message { key: None, value: Some(value.as_bytes()) };
        self.offset += 1;
        self.intake.push(&SplitId(split.to_string()), self.offset, message)
    }

    /// Creates of rows, given as their fields.
    fn create(&mut self, split: &str, rows: &[&str]) {
        for row in rows {
            self.push(split, &format!(r#"{{"before":null,"after":{{{row}}},"op":"c"}}"#)).unwrap();
        }
    }

    /// The changes of the batch: `p@3 -a +b` for a split, an offset, what is missing and what is
    /// not declared.
    fn changes(&mut self) -> Vec<String> {
        let batch = self.intake.take(Positions::new()).unwrap();
        batch.schema_changes.iter().map(drawn).collect()
    }
}

fn drawn(change: &SchemaChange) -> String {
    let SchemaChange { split, offset, difference } = change;
    let FieldDifference { missing, undeclared } = difference;
    let missing = missing.iter().map(|name| format!(" -{name}"));
    let undeclared = undeclared.iter().map(|name| format!(" +{name}"));
    format!("{}@{offset}{}", split.0, missing.chain(undeclared).collect::<String>())
}

#[test]
fn a_column_that_is_renamed_shows_until_it_is_back() {
    let mut reader = Reader::debezium("id int8, a text, c text");
    reader.create("p", &[r#""id":1,"a":"x","c":null"#, r#""id":2,"a":null,"c":"z""#]);
    reader.create("p", &[r#""id":3,"b":"x","c":"z""#, r#""c":"z","b":"y","id":4"#]);
    assert_eq!(reader.changes(), ["p@1", "p@3 -a +b"]);
    reader.create("p", &[r#""id":5,"b":"x","c":"z""#]);
    assert!(reader.changes().is_empty(), "a difference that continues is reported once");
    reader.create("p", &[r#""id":6,"c":"z""#, r#""id":7,"c":"z","a":"x""#]);
    assert_eq!(reader.changes(), ["p@6 -a", "p@7"]);
}

#[test]
fn splits_change_by_themselves() {
    let mut reader = Reader::debezium("id int8, a text");
    let (old, new) = ([r#""id":1,"a":"x""#], [r#""id":1,"a":"x","z":1,"b":2"#]);
    for (split, row) in [("p", old), ("q", new), ("p", old), ("q", new), ("p", new), ("q", new)] {
        reader.create(split, &row);
    }
    assert_eq!(reader.changes(), ["p@1", "q@2 +b +z", "p@5 +b +z"]);
}

/// `before` has the key alone or nothing, and a TRUNCATE has no row.
#[test]
fn messages_without_a_new_row_say_nothing() {
    let mut reader = Reader::debezium("id int8, a text");
    reader.create("p", &[r#""id":1,"a":"x""#]);
    for value in [
        r#"{"before":{"id":1},"after":null,"op":"d"}"#,
        r#"{"before":{"id":1,"other":""},"after":null,"op":"d"}"#,
        r#"{"before":null,"after":null,"op":"t"}"#,
        r#"{"op":"m","message":{"prefix":"p","content":""}}"#,
        r#"{"ts_ms":1}"#,
        r#"{"before":{"id":1},"after":{"id":2,"a":"y"},"op":"u"}"#,
        "no JSON",
    ] {
        reader.push("p", value).unwrap();
    }
    reader.intake.push(&SplitId("p".to_string()), 9, Message::default()).unwrap();
    assert_eq!(reader.changes(), ["p@1"]);
}

/// A refused row tells, too: a NOT NULL column that is dropped refuses all of them.
#[test]
fn a_row_that_is_refused_for_its_missing_column_shows() {
    for (columns, row, change) in [
        ("id int8, a text not null", r#""id":1"#, "p@1 -a"),
        ("id int8, a text", r#""key":1,"a":"x""#, "p@1 -id +key"),
    ] {
        let mut reader = Reader::debezium(columns);
        reader.create("p", &[row]);
        let batch = reader.intake.take(Positions::new()).unwrap();
        assert_eq!(batch.bad.len(), 1);
        assert_eq!(batch.schema_changes.iter().map(drawn).collect::<Vec<_>>(), [change]);
    }
}

#[test]
fn the_inline_schema_and_folded_names_change_nothing() {
    let mut reader = Reader::debezium("id int8, name text");
    let fields = r#"[{"type":"struct","field":"after","fields":[{"type":"int64","field":"ID"}]}]"#;
    for after in [r#""ID":1,"Name":"x","__route":1"#, r#""ID":1,"__route":1"#] {
        let payload = format!(r#"{{"before":null,"after":{{{after}}},"op":"r"}}"#);
        let schema = format!(r#"{{"type":"struct","fields":{fields}}}"#);
        reader.push("p", &format!(r#"{{"schema":{schema},"payload":{payload}}}"#)).unwrap();
    }
    assert_eq!(reader.changes(), ["p@1", "p@2 -name"]);
}

#[test]
fn rows_of_format_plain_may_leave_columns_out() {
    let mut reader = Reader::new(FormatKind::Plain, "id int8, a text", &[0], "");
    reader.push("p", r#"{"id":1,"b":2}"#).unwrap();
    assert!(reader.changes().is_empty());
    let refused = format(FormatKind::Plain, "id int8", &[0], "schema.change.handling.mode=fail");
    assert_eq!(refused.unwrap_err().kind, ConnectorErrorKind::Config);
}

#[test]
fn fail_stops_at_the_first_row_that_lacks_a_column() {
    let option = "schema.change.handling.mode=fail";
    let mut reader = Reader::new(FormatKind::Debezium, "id int8, a text not null", &[0], option);
    reader.create("p", &[r#""id":1,"a":"x""#, r#""id":2,"a":"x","b":"new""#]);
    let value = r#"{"before":null,"after":{"id":3,"b":"x"},"op":"c"}"#;
    let error = reader.push("p", value).unwrap_err();
    assert_eq!(error.kind, ConnectorErrorKind::Target);
    assert_eq!(
        error.with_next_step(),
        "the message at offset 3 of split p lacks \"a\" (hint: its fields without a column are \
         \"b\")"
    );
}
