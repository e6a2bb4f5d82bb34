//! Sources whose messages have other fields than the columns that are declared.

use std::path::Path;

use super::testing::{apply_all, env, failed, open, read, until};
use super::*;

/// A table of Debezium's events, in lines of a file.
async fn table(engine: &Engine, file: &Path, options: &str) {
    let create = format!(
        "CREATE TABLE t (k BIGINT PRIMARY KEY, a BIGINT) \
         WITH (connector = 'files', path = '{}', follow = 'true') \
         FORMAT DEBEZIUM ENCODE JSON {options}",
        file.display()
    );
    apply_all(engine, &[&create]).await;
}

fn line(fields: &str) -> String {
    format!("{{\"before\":null,\"after\":{{{fields}}},\"op\":\"c\"}}\n")
}

fn append(file: &Path, lines: &str) {
    use std::io::Write;
    let mut file = std::fs::File::options().create(true).append(true).open(file).unwrap();
    file.write_all(lines.as_bytes()).unwrap();
}

/// What SHOW JOBS tells of the table's messages: `-a 9` for a column that they lack since an
/// offset, `+b 9` for a field without a column.
fn notices(engine: &Engine) -> Vec<String> {
    let jobs = engine.jobs();
    let notices = &jobs.iter().find(|job| job.name == "t").unwrap().field_notices;
    let sign = |is_missing: bool| if is_missing { '-' } else { '+' };
    notices.iter().map(|it| format!("{}{} {}", sign(it.is_missing), it.name, it.since)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_column_that_the_source_drops_is_null_and_shown_until_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let (file, store) = (folder.path().join("events"), env());
    let engine = open(&store, 2).await;
    let (whole, other) = (line(r#""k":1,"a":1"#), line(r#""k":2,"b":2"#));
    append(&file, &whole);
    table(&engine, &file, "").await;
    engine.flush().await.unwrap();
    assert!(notices(&engine).is_empty());
    append(&file, &other);
    engine.flush().await.unwrap();
    assert_eq!(read(&engine, "t").unwrap(), [[1, 1], [2, i64::MIN]]);
    let since = whole.len();
    assert_eq!(notices(&engine), [format!("-a {since}"), format!("+b {since}")]);
    append(&file, &line(r#""k":3,"b":3,"c":3"#));
    engine.flush().await.unwrap();
    let later = since + other.len();
    let all = [format!("-a {since}"), format!("+b {since}"), format!("+c {later}")];
    assert_eq!(notices(&engine), all);
    append(&file, &line(r#""k":4,"a":4"#));
    engine.flush().await.unwrap();
    assert!(notices(&engine).is_empty());
    assert_eq!(read(&engine, "t").unwrap().len(), 4);
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fail_stops_the_job_before_the_first_row_that_lacks_a_column() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("events");
    let engine = open(&env(), 2).await;
    let whole = line(r#""k":1,"a":1"#);
    append(&file, &whole);
    table(&engine, &file, "(schema.change.handling.mode = 'fail')").await;
    engine.flush().await.unwrap();
    append(&file, &line(r#""k":2,"b":2"#));
    until("t has failed", || failed(&engine).contains_key("t")).await;
    let error = failed(&engine).remove("t").unwrap();
    let place = format!("at offset {} of split {}", whole.len(), file.display());
    assert!(error.contains(&place) && error.contains("lacks \"a\""), "{error}");
    let table = engine.catalog().get("t").unwrap().id;
    assert_eq!(engine.inner.state.failure(table).unwrap().kind.sqlstate(), "22023");

    // What it stopped at is read again: first as it was, then with the column.
    let _ = engine.resume(table).await;
    until("t has failed again", || failed(&engine).contains_key("t")).await;
    std::fs::write(&file, whole + &line(r#""k":2,"a":2"#)).unwrap();
    engine.resume(table).await.unwrap();
    engine.flush().await.unwrap();
    assert_eq!(read(&engine, "t").unwrap(), [[1, 1], [2, 2]]);
    engine.shutdown().await.unwrap();
}
