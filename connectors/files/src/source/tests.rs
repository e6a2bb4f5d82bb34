//! Files behind the contract.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use frazil_connector_api::conformance::{TextFormat, assert_restartable, read_all};
use frazil_connector_api::{SourceBatch, SourcePoll};
use tempfile::TempDir;

use super::*;

fn source(path: &Path, follow: bool) -> Arc<dyn Source> {
    let options = [
        ("connector", "files".to_string()),
        ("path", path.display().to_string()),
        ("follow", follow.to_string()),
    ];
    let options = Options::new(options.map(|(name, value)| (name.to_string(), value)));
    build_files(options, Arc::new(TextFormat)).unwrap()
}

fn split(path: &Path) -> SplitId {
    SplitId(path.display().to_string())
}

fn append(path: &Path, text: &str) {
    let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

fn rows(source: &dyn Source, path: &Path, from: i64) -> Vec<String> {
    read_all(source, &split(path), Position::Number(from), 1_000).rows
}

fn batch(poll: SourcePoll) -> SourceBatch {
    match poll {
        SourcePoll::Batch(batch) => batch,
        other => panic!("expected a batch, not {other:?}"),
    }
}

#[test]
fn files_of_a_directory_read_on_from_every_offset() {
    let folder = TempDir::new().unwrap();
    let long = "x".repeat(3_000);
    append(&folder.path().join("a.json"), &format!("one\n\ntwo\r\nbad three\n{long}\nlast"));
    append(&folder.path().join("b.json"), "four\nfive\n");
    append(&folder.path().join("empty.json"), "");
    append(&folder.path().join("_unfinished"), "no\n");
    fs::create_dir(folder.path().join("deeper")).unwrap();
    let source = source(folder.path(), false);
    assert_eq!(source.splits().unwrap().len(), 3);
    assert_restartable(source.as_ref(), 7);
}

#[test]
fn lines_keep_their_bytes_and_offsets() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("lines");
    append(&path, "one\r\n  \nbad two\nthree");
    let reading = read_all(source(&path, false).as_ref(), &split(&path), Position::Number(0), 1);
    assert_eq!(reading.rows, ["+1 NULL,one", "+1 NULL,three"]);
    assert_eq!(reading.bad.len(), 1);
    assert!(reading.bad[0].starts_with(&format!("{} 8 Some(\"bad two\")", path.display())));
    assert_eq!(reading.boundaries, [5, 16, 21].map(Position::Number));
}

#[test]
fn lines_longer_than_the_buffer_are_whole() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("long");
    let lines: Vec<_> = (0..6).map(|at| at.to_string().repeat(700_001 * at)).collect();
    append(&path, &lines.join("\n"));
    let expected: Vec<_> = lines[1..].iter().map(|line| format!("+1 NULL,{line}")).collect();
    assert!(rows(source(&path, false).as_ref(), &path, 0) == expected, "a long line is torn");
}

#[test]
fn a_line_that_is_too_long_is_reported_and_the_others_are_read() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("long");
    let (long, longer) = ("x".repeat(5 << 20), "y".repeat(9 << 20));
    append(&path, &format!("one\n{long}\ntwo\n{longer}"));
    let reading = read_all(source(&path, false).as_ref(), &split(&path), Position::Number(0), 9);
    assert_eq!(reading.rows, ["+1 NULL,one", "+1 NULL,two"]);
    let at = [(4, long.len()), (9 + long.len(), longer.len())];
    assert_eq!(reading.bad.len(), at.len());
    for (bad, (offset, length)) in reading.bad.iter().zip(at) {
        assert!(bad.starts_with(&format!("{} {offset} None", path.display())), "{bad}");
        assert!(bad.contains(&format!("{length} bytes")), "{bad}");
    }
    // The rest of a line that grows is not taken for another line.
    let source = source(&path, true);
    let from = Position::Number(9 + long.len() as i64);
    let mut reader = source.open(&[(split(&path), from)].into()).unwrap();
    assert!(matches!(reader.poll(9, Duration::ZERO).unwrap(), SourcePoll::Idle));
    append(&path, "\nthree\n");
    let read = batch(reader.poll(9, Duration::ZERO).unwrap());
    assert_eq!((read.bad.len(), read.bytes), (1, (longer.len() + "three".len()) as u64));
}

#[test]
fn a_line_that_is_too_long_counts_towards_its_batch() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("long");
    let long = "x".repeat(9 << 20);
    append(&path, &format!("{long}\n{long}\n{long}\n"));
    let source = source(&path, false);
    for (rows_max, bad_counts) in [(1, [1, 1, 1].as_slice()), (9, &[2, 1])] {
        let mut reader = source.open(&source.start_positions().unwrap()).unwrap();
        for bad_count in bad_counts {
            let read = batch(reader.poll(rows_max, Duration::ZERO).unwrap());
            assert_eq!(read.bad.len(), *bad_count);
        }
    }
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_first_line() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("marked");
    append(&path, "\u{feff}one\n\u{feff}two\n");
    let source = source(&path, false);
    assert_eq!(rows(source.as_ref(), &path, 0), ["+1 NULL,one", "+1 NULL,\u{feff}two"]);
}

#[test]
fn pattern_matches_files() {
    let folder = TempDir::new().unwrap();
    for name in ["b.json", "a.json", "c.txt", ".d.json"] {
        append(&folder.path().join(name), "x\n");
    }
    let found = source(&folder.path().join("*.json"), false).splits().unwrap();
    assert_eq!(found, ["a.json", "b.json"].map(|name| split(&folder.path().join(name))));
    let none = source(&folder.path().join("*.csv"), false);
    assert!(none.splits().unwrap().is_empty());
}

#[test]
fn followed_file_gives_new_lines_when_they_are_complete() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("log");
    append(&path, "one\ntw");
    let source = source(&path, true);
    assert_eq!(source.end_positions().unwrap().unwrap()[&split(&path)], Position::Number(4));
    let mut reader = source.open(&source.start_positions().unwrap()).unwrap();
    let mut poll = || reader.poll(100, Duration::from_millis(1)).unwrap();
    assert_eq!(batch(poll()).positions[&split(&path)], Position::Number(4));
    assert!(matches!(poll(), SourcePoll::Idle), "half a line is no line");
    append(&path, "o\nthree\n");
    let next = batch(poll());
    assert_eq!(
        (next.data.num_rows(), next.positions[&split(&path)].clone()),
        (2, Position::Number(14))
    );
    assert!(matches!(poll(), SourcePoll::Idle));
}

#[test]
fn followed_directory_lists_new_files() {
    let folder = TempDir::new().unwrap();
    append(&folder.path().join("a"), "one\n");
    let source = source(folder.path(), true);
    assert_eq!(source.splits().unwrap().len(), 1);
    append(&folder.path().join("b"), "two\n");
    let second = split(&folder.path().join("b"));
    assert_eq!(source.splits().unwrap()[1], second);
    assert_eq!(
        source.first_positions(std::slice::from_ref(&second)).unwrap()[&second],
        Position::Number(0)
    );
}

#[test]
fn bounded_reader_that_has_ended_reads_no_later_lines() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("log");
    append(&path, "one\n");
    let source = source(&path, false);
    let mut reader = source.open(&source.start_positions().unwrap()).unwrap();
    batch(reader.poll(100, Duration::ZERO).unwrap());
    for _ in 0..2 {
        assert!(matches!(reader.poll(100, Duration::ZERO).unwrap(), SourcePoll::End));
        append(&path, "late\n");
    }
}

#[test]
fn shrunk_file_is_a_target_error() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("log");
    append(&path, "one\ntwo\n");
    let source = source(&path, true);
    let mut reader = source.open(&source.start_positions().unwrap()).unwrap();
    batch(reader.poll(100, Duration::ZERO).unwrap());
    fs::write(&path, "one\n").unwrap();
    let while_reading = reader.poll(100, Duration::ZERO).unwrap_err();
    assert_eq!(while_reading.kind, ConnectorErrorKind::Target);
    let at_open =
        source.open(&Positions::from([(split(&path), Position::Number(8))])).err().unwrap();
    assert_eq!(at_open.kind, ConnectorErrorKind::Target);
}

#[test]
fn missing_file_is_a_target_error_and_options_are_checked() {
    let folder = TempDir::new().unwrap();
    let missing = source(&folder.path().join("none"), false);
    assert_eq!(missing.splits().unwrap_err().kind, ConnectorErrorKind::Target);
    for pairs in [vec![], vec![("path", "a"), ("folow", "true")], vec![("path", "a[")]] {
        let options = pairs.into_iter().map(|(name, value)| (name.to_string(), value.to_string()));
        let error = build_files(Options::new(options), Arc::new(TextFormat)).unwrap_err();
        assert_eq!(error.kind, ConnectorErrorKind::Config);
    }
}

#[test]
fn a_file_that_was_read_and_removed_is_forgotten() {
    let folder = TempDir::new().unwrap();
    let paths = ["a", "b"].map(|name| folder.path().join(name));
    paths.iter().for_each(|path| append(path, "one\n"));
    let source = source(folder.path(), true);
    let mut reader = source.open(&source.start_positions().unwrap()).unwrap();
    for _ in 0..2 {
        batch(reader.poll(100, Duration::ZERO).unwrap());
    }
    assert!(matches!(reader.poll(100, Duration::ZERO).unwrap(), SourcePoll::Idle));
    fs::remove_file(&paths[0]).unwrap();
    assert!(matches!(reader.poll(100, Duration::ZERO).unwrap(), SourcePoll::Idle));
    assert_eq!(reader.take_retired(), [split(&paths[0])]);
    append(&paths[1], "two\n");
    assert_eq!(batch(reader.poll(100, Duration::ZERO).unwrap()).data.num_rows(), 1);
    assert_eq!(source.end_positions().unwrap().unwrap().len(), 1);
}

#[test]
fn a_file_that_was_removed_while_nobody_read_is_reported_and_forgotten() {
    let folder = TempDir::new().unwrap();
    let paths = ["a", "b"].map(|name| folder.path().join(name));
    append(&paths[1], "one\n");
    let places = Positions::from([
        (split(&paths[0]), Position::Number(7)),
        (split(&paths[1]), Position::Number(0)),
    ]);
    let mut reader = source(folder.path(), false).open(&places).unwrap();
    let told = batch(reader.poll(100, Duration::ZERO).unwrap());
    assert_eq!(told.bad.len(), 1);
    assert!(told.bad[0].reason.contains("and 7 bytes"), "{}", told.bad[0].reason);
    assert_eq!(reader.take_retired(), [split(&paths[0])]);
    assert_eq!(batch(reader.poll(100, Duration::ZERO).unwrap()).data.num_rows(), 1);
    assert!(matches!(reader.poll(100, Duration::ZERO).unwrap(), SourcePoll::End));
    // A source of one file keeps it in mind, so that it is missed only once.
    let single = source(&paths[0], true);
    let mut reader =
        single.open(&Positions::from([(split(&paths[0]), Position::Number(7))])).unwrap();
    assert_eq!(batch(reader.poll(100, Duration::ZERO).unwrap()).bad.len(), 1);
    assert!(reader.take_retired().is_empty());
    assert!(matches!(reader.poll(100, Duration::ZERO).unwrap(), SourcePoll::Idle));
}
