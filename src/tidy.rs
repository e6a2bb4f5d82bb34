//! Keeps the floors: reads the tree and fails on what `ARCHITECTURE.md` forbids.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

mod rings;

/// Floors from the ground up; rooms on one floor may not import each other, but for the stated
/// pairs.
const FLOORS: &[&[&str]] = &[
    &["error"],
    &["types", "config", "env"],
    &["functions"],
    &["change"],
    &["catalog"],
    &["state"],
    &["plan"],
    &["sql", "dataflow"],
    &["checkpoint"],
    &["job"],
    &["session"],
    &["server", "shell"],
    &["cli"],
];
const FILE_LINES_MAX: usize = 1000;
const LINE_WIDTH_MAX: usize = 100;
const DOOR_LINES_MAX: usize = 150;
const FOLDER_FILES_MAX: usize = 20;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn all_files() -> Vec<PathBuf> {
    let mut files = rust_files(&root().join("src"));
    for connector in std::fs::read_dir(root().join("connectors")).unwrap() {
        let source = connector.unwrap().path().join("src");
        if source.is_dir() {
            files.extend(rust_files(&source));
        }
    }
    assert!(files.len() > 50, "the tree was not read");
    files
}

/// The room of a file: the first part of its path under `src`.
fn room(file: &Path) -> String {
    let inside = file.strip_prefix(root().join("src")).unwrap();
    let first = inside.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_string()
}

/// Rooms that a text imports by `crate::room`.
fn imported_rooms(text: &str) -> BTreeSet<String> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let mut rooms = BTreeSet::new();
    for line in code {
        for (at, _) in line.match_indices("crate::") {
            let rest = &line[at + "crate::".len()..];
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            rooms.insert(rest[..end].to_string());
        }
    }
    rooms
}

#[test]
fn imports_go_down_only() {
    let floor: BTreeMap<&str, usize> = FLOORS
        .iter()
        .enumerate()
        .flat_map(|(height, rooms)| rooms.iter().map(move |room| (*room, height)))
        .collect();
    let mut wrong = Vec::new();
    let mut checked = 0;
    for file in rust_files(&root().join("src")) {
        let from = room(&file);
        let Some(height) = floor.get(from.as_str()) else {
            assert!(["lib", "main", "tidy"].contains(&from.as_str()), "no floor has room {from}");
            continue;
        };
        for to in imported_rooms(&std::fs::read_to_string(&file).unwrap()) {
            let Some(target) = floor.get(to.as_str()) else { continue };
            checked += 1;
            if to != from && target >= height {
                wrong.push(format!("{}: {from} imports {to}", file.display()));
            }
        }
    }
    assert!(checked > 100, "the imports were not read");
    assert!(wrong.is_empty(), "upward imports:\n{}", wrong.join("\n"));
}

#[test]
fn an_upward_import_would_be_found() {
    let rooms =
        imported_rooms("use crate::job::Engine;\n// use crate::cli::x\nlet a = crate::sql::parse;");
    assert_eq!(rooms.into_iter().collect::<Vec<_>>(), ["job", "sql"]);
}

#[test]
fn connectors_never_import_the_engine() {
    for connector in std::fs::read_dir(root().join("connectors")).unwrap() {
        let manifest = connector.unwrap().path().join("Cargo.toml");
        let Ok(text) = std::fs::read_to_string(&manifest) else { continue };
        let engine = text
            .lines()
            .any(|line| line.starts_with("frazil ") || line.contains("path = \"../..\""));
        assert!(!engine, "{} depends on the engine", manifest.display());
    }
}

#[test]
fn files_are_small_and_open_with_their_doc() {
    let mut wrong = Vec::new();
    for file in all_files() {
        let text = std::fs::read_to_string(&file).unwrap();
        let name = file.strip_prefix(root()).unwrap().display().to_string();
        let lines = text.lines().count();
        if lines > FILE_LINES_MAX {
            wrong.push(format!("{name} has {lines} lines"));
        }
        if !text.starts_with("//!") {
            wrong.push(format!("{name} does not open with //!"));
        }
        for (number, line) in text.lines().enumerate() {
            if line.chars().count() > LINE_WIDTH_MAX && !line.contains("r\"") {
                wrong.push(format!("{name}:{} is wider than {LINE_WIDTH_MAX}", number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn doors_have_no_logic() {
    let mut wrong = Vec::new();
    for file in all_files() {
        let name = file.file_name().unwrap().to_string_lossy();
        if name != "mod.rs" && name != "lib.rs" {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        let logic = text.lines().any(|line| {
            let line = line.trim_start_matches("pub ").trim_start_matches("pub(crate) ");
            ["fn ", "impl ", "struct ", "enum ", "trait "].iter().any(|word| line.starts_with(word))
        });
        if logic || text.lines().count() > DOOR_LINES_MAX {
            wrong.push(file.display().to_string());
        }
    }
    assert!(wrong.is_empty(), "doors with logic or too long:\n{}", wrong.join("\n"));
}

#[test]
fn folders_hold_few_files() {
    let mut folders: BTreeMap<PathBuf, usize> = BTreeMap::new();
    for file in all_files() {
        *folders.entry(file.parent().unwrap().to_path_buf()).or_default() += 1;
    }
    let full: Vec<_> = folders.iter().filter(|(_, files)| **files > FOLDER_FILES_MAX).collect();
    assert!(full.is_empty(), "too many files in {full:?}");
}

/// A public item: its kind, its name, and whether it stands outside all others.
fn public_items(text: &str) -> impl Iterator<Item = (&str, &str, bool)> {
    text.lines().filter_map(|line| {
        let item = line.trim_start().strip_prefix("pub")?;
        let item = match item.strip_prefix('(') {
            Some(restricted) => restricted.split_once(')')?.1,
            None => item,
        };
        let mut words = item.strip_prefix(' ')?.split(' ').skip_while(|word| {
            ["async", "unsafe"].contains(word) || (*word == "const" && item.contains("fn "))
        });
        let kind = words.next()?;
        let is_item = ["fn", "struct", "enum", "trait", "type", "const", "static"].contains(&kind);
        let name = words.next()?.split(|letter: char| !is_in_name(letter)).next()?;
        is_item.then_some((kind, name, line.starts_with("pub")))
    })
}

fn is_in_name(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

#[test]
fn public_items_are_found() {
    let text = "pub struct A;\n    pub(super) const fn b(&self) {}\npub(crate) const C: u8 = 1;\n\
        pub(in crate::x) async fn d<T>() {}\npub use e::F;\nstruct G;\n    pub h: u8,";
    let items =
        [("struct", "A", true), ("fn", "b", false), ("const", "C", true), ("fn", "d", true)];
    assert_eq!(public_items(text).collect::<Vec<_>>(), items);
}

/// A name that two files of a crate use for two things is read wrong sooner or later.
#[test]
fn types_of_a_crate_have_names_of_their_own() {
    let mut types: BTreeMap<(PathBuf, String), BTreeSet<PathBuf>> = BTreeMap::new();
    for file in all_files() {
        let inside = file.strip_prefix(root()).unwrap().to_path_buf();
        if inside.to_string_lossy().contains("test") {
            continue;
        }
        let of = inside.iter().take_while(|part| *part != "src").collect::<PathBuf>();
        let text = std::fs::read_to_string(&file).unwrap();
        for (kind, name, is_outside) in public_items(&text) {
            if is_outside && ["struct", "enum", "trait", "type"].contains(&kind) {
                types.entry((of.clone(), name.to_owned())).or_default().insert(inside.clone());
            }
        }
    }
    assert!(types.len() > 200, "types were not found");
    types.retain(|_, files| files.len() > 1);
    assert!(types.is_empty(), "{types:#?}");
}

/// The compiler reports dead items of a binary only: the engine is a library.
#[test]
fn public_items_are_used() {
    let mut uses: BTreeMap<String, usize> = BTreeMap::new();
    let mut items = Vec::new();
    for folder in ["src", "connectors", "benches", "examples", "sql-tests"] {
        for file in rust_files(&root().join(folder)) {
            let text = std::fs::read_to_string(&file).unwrap();
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            for word in code.flat_map(|line| line.split(|letter: char| !is_in_name(letter))) {
                *uses.entry(word.to_owned()).or_default() += 1;
            }
            items.extend(public_items(&text).map(|(_, name, _)| (name.to_owned(), file.clone())));
        }
    }
    assert!(items.len() > 1000, "items were not found");
    items.retain(|(name, _)| uses[name] < 2);
    assert!(items.is_empty(), "{items:#?}");
}

/// Values of two versions of one of these crates do not fit together, and each is compiled.
#[test]
fn crates_whose_types_are_shared_come_in_one_version() {
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let shared =
        ["arrow", "arrow-array", "datafusion", "iceberg", "object_store", "parquet", "sqlparser"];
    for name in shared {
        let entries = lock.matches(&format!("name = \"{name}\"\n")).count();
        assert_eq!(entries, 1, "versions of {name} in Cargo.lock");
    }
}
