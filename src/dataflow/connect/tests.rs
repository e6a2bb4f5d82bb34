//! What connectors declare is what they take, and what the documentation says.

use std::fmt::Write;

use arrow::datatypes::{DataType, Field, Schema};
use frazil_connector_api::conformance::TextFormat;
use frazil_connector_api::{OptionDefault, OptionSpec};

use super::*;
use crate::catalog::ERRORS_OPTIONS;

/// Where the page stands.
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/0008-options.md");

fn options(pairs: &[(&str, &str)]) -> Options {
    Options::new(pairs.iter().map(|(name, value)| ((*name).to_string(), (*value).to_string())))
}

/// A build with the options that must be given, and some more.
fn build(connector: &str, more: &[(&str, &str)]) -> Option<Error> {
    let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false)]));
    let required: &[(&str, &str)] = match connector {
        "kafka" => &[("topic", "t"), ("properties.bootstrap.server", "h:1")],
        "files" => &[("path", "p")],
        "generator" => &[("dataset", "shop"), ("table", "orders")],
        _ => &[
            ("catalog.uri", "sqlite://c.db"),
            ("warehouse.path", "w"),
            ("database.name", "d"),
            ("table.name", "t"),
        ],
    };
    let given = options(&[&[("connector", connector)], required, more].concat());
    let format: Arc<dyn Format> = Arc::new(TextFormat);
    let source = SOURCES.into_iter().find(|source| source.name() == connector);
    let built = match source {
        Some(source) => source.build(given, schema, Some(format)).map(drop),
        None => SINKS[0].build(given, schema, SinkMode::AppendOnly, Uuid::from_u128(1)).map(drop),
    };
    built.err().map(Error::from)
}

#[test]
fn connectors_take_what_they_declare_and_name_the_nearest_of_what_they_do_not() {
    let sources = SOURCES.into_iter().map(|source| (source.name(), source.options()));
    let sinks = SINKS.into_iter().map(|sink| (sink.name(), sink.options()));
    for (connector, declared) in sources.chain(sinks) {
        assert!(build(connector, &[]).is_none(), "{connector}: {:?}", build(connector, &[]));
        for option in declared {
            // A value that none of them understands, so that none of them stays silent.
            let name = option.name.replace('*', "x");
            if let Some(error) = build(connector, &[(&name, "?")]) {
                assert!(!error.message.contains("is not known"), "{connector}: {error}");
            }
            let mistyped = format!("{}x", option.name.trim_end_matches(".*"));
            let stands_for = |all: &OptionSpec| {
                all.name.strip_suffix('*').is_some_and(|prefix| mistyped.starts_with(prefix))
            };
            if declared.iter().any(stands_for) {
                continue;
            }
            let error = build(connector, &[(&mistyped, "?")]).unwrap();
            assert_eq!(error.message, format!("option \"{mistyped}\" is not known"));
            let hint = error.hint.unwrap_or_default();
            assert!(hint.contains(option.name), "{connector} {mistyped}: {hint}");
        }
    }
}

fn section(page: &mut String, title: &str, declared: &[OptionSpec]) {
    let _ = write!(page, "\n## {title}\n| option | default | meaning |\n|---|---|---|\n");
    for OptionSpec { name, default, meaning } in declared {
        let default = match default {
            OptionDefault::Required => "must be given".to_string(),
            OptionDefault::None => String::new(),
            OptionDefault::Value(value) => format!("`{value}`"),
        };
        let _ = writeln!(page, "| `{name}` | {default} | {meaning} |");
    }
}

/// The page that the declarations say; `FRAZIL_WRITE_DOCS=1` writes it.
#[test]
fn the_page_of_options_is_what_connectors_declare() {
    let mut page = "# Options\n\n\
        What stands in WITH of tables, sources, sinks and catalogs, and behind ENCODE JSON. Each\n\
        connector declares its options; this page is written from the declarations, and a test\n\
        compares them (`FRAZIL_WRITE_DOCS=1 cargo test --lib connect` writes it).\n"
        .to_string();
    for source in SOURCES {
        let title = format!("Sources with `connector = '{}'`", source.name());
        section(&mut page, &title, source.options());
    }
    section(&mut page, "`$errors` of tables and sources", ERRORS_OPTIONS);
    section(&mut page, "`ENCODE JSON (…)`", frazil_format::OPTIONS);
    for sink in SINKS {
        section(&mut page, &format!("Sinks with `connector = '{}'`", sink.name()), sink.options());
    }
    section(&mut page, "Catalogs with `type = 'iceberg'`", frazil_iceberg::CATALOG_OPTIONS);
    if std::env::var_os("FRAZIL_WRITE_DOCS").is_some() {
        std::fs::write(PAGE, &page).unwrap();
    }
    assert_eq!(std::fs::read_to_string(PAGE).unwrap_or_default(), page);
}
