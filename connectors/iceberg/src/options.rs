//! [`CatalogOptions`] and [`SinkOptions`]: the WITH clause of an Iceberg sink or catalog.

use std::collections::BTreeMap;
use std::path::PathBuf;

use frazil_connector_api::{ConnectorError, OptionSpec, Options, Result};
use iceberg::spec::FormatVersion;

use crate::error::{ErrorContext, unsupported};
use crate::table_name::TableName;

/// Options that the engine handles itself and a sink only drops.
const ENGINE_OPTIONS: [&str; 5] =
    ["connector", "type", "primary_key", "commit_interval", "existing_rows"];

const CATALOG_TYPE: OptionSpec =
    OptionSpec::with_default("catalog.type", "sql", "the kind of catalog; `sql` is the only one");
const CATALOG_URI: OptionSpec = OptionSpec::required(
    "catalog.uri",
    "the catalog's SQLite file, such as `sqlite://lake/catalog.db`",
);
const CATALOG_NAME: OptionSpec =
    OptionSpec::with_default("catalog.name", "frazil", "the name of the catalog in its file");
const WAREHOUSE: OptionSpec =
    OptionSpec::required("warehouse.path", "the folder under which tables are made");

/// The options of an Iceberg catalog.
pub const CATALOG_OPTIONS: &[OptionSpec] = &[CATALOG_TYPE, CATALOG_URI, CATALOG_NAME, WAREHOUSE];

/// The options of a sink with `connector = 'iceberg'`.
pub const OPTIONS: &[OptionSpec] = &[
    CATALOG_TYPE,
    CATALOG_URI,
    CATALOG_NAME,
    WAREHOUSE,
    OptionSpec::required("database.name", "the namespace of the table"),
    OptionSpec::required("table.name", "the table"),
    OptionSpec::with_default(
        "create_table_if_not_exists",
        "false",
        "`true`: CREATE SINK makes the table if there is none",
    ),
    OptionSpec::optional(
        "format_version",
        "`3` (deletion vectors) or `2` (position deletes): what the table must have. A table that \
         is made has 3 by default",
    ),
    OptionSpec::optional(
        "partition_by",
        "partition fields that the table must have, such as `bucket(16, id), day(at)`",
    ),
    OptionSpec::optional("table.properties.*", "properties of a table that the sink makes"),
    OptionSpec::optional(
        "type",
        "`append-only` or `upsert`; by default `upsert` if the input has updates or deletes",
    ),
    OptionSpec::optional(
        "primary_key",
        "key columns of an upsert sink, `'a, b'`; by default those of the input",
    ),
    OptionSpec::optional(
        "existing_rows",
        "`keep`: an upsert sink may take a table that has rows, and leaves them there",
    ),
    OptionSpec::with_default("commit_interval", "1s", "time between two commits"),
];

/// Where the catalog and its tables are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CatalogOptions {
    /// File of the SQLite database.
    pub(crate) database: PathBuf,
    /// Name of the catalog inside the database.
    pub(crate) name: String,
    /// Absolute folder under which tables are made.
    pub(crate) warehouse: PathBuf,
}

impl CatalogOptions {
    /// Takes `catalog.*` and `warehouse.path`.
    ///
    /// # Errors
    /// `Config` for a missing or wrong option, `Unsupported` for another kind of catalog.
    pub(crate) fn take(options: &mut Options) -> Result<Self> {
        let kind = options.take("catalog.type").unwrap_or_else(|| "sql".to_string());
        if kind != "sql" {
            return Err(unsupported(format!("catalog type \"{kind}\" is not supported"))
                .with_hint("use catalog.type = 'sql' with catalog.uri = 'sqlite://...'"));
        }
        let uri = options.require("catalog.uri")?;
        let Some(path) = uri.strip_prefix("sqlite://").or_else(|| uri.strip_prefix("sqlite:"))
        else {
            return Err(unsupported(format!("catalog uri \"{uri}\" is not supported"))
                .with_hint("use a SQLite file, such as catalog.uri = 'sqlite://lake/catalog.db'"));
        };
        let path = path.split('?').next().unwrap_or(path);
        let name = options.take("catalog.name").unwrap_or_else(|| "frazil".to_string());
        let warehouse = options.require("warehouse.path")?;
        let folder = warehouse.strip_prefix("file://").unwrap_or(&warehouse);
        if folder.contains("://") {
            return Err(unsupported(format!("warehouse path \"{warehouse}\" is not supported"))
                .with_hint("use a local folder, such as warehouse.path = 'lake'"));
        }
        Ok(Self {
            database: absolute("catalog.uri", path)?,
            name,
            warehouse: absolute("warehouse.path", folder)?,
        })
    }
}

fn absolute(option: &str, path: &str) -> Result<PathBuf> {
    if path.is_empty() {
        return Err(ConnectorError::config(format!("option \"{option}\" names no path")));
    }
    std::path::absolute(path).context(|| format!("cannot make path \"{path}\" absolute"))
}

/// What an Iceberg sink was told.
#[derive(Debug, Clone)]
pub(crate) struct SinkOptions {
    /// Where the catalog is.
    pub(crate) catalog: CatalogOptions,
    /// The table.
    pub(crate) table: TableName,
    /// Whether to make a missing table.
    pub(crate) create_if_not_exists: bool,
    /// Format version that the table must have, and that one that the sink makes gets.
    pub(crate) format_version: Option<FormatVersion>,
    /// Partition fields that the table must have, such as `bucket(16, id), day(at)`.
    pub(crate) partition_by: Option<String>,
    /// Properties of a table that the sink makes.
    pub(crate) properties: BTreeMap<String, String>,
}

impl SinkOptions {
    /// Takes all options of a sink.
    ///
    /// # Errors
    /// `Config` for a missing, wrong or unknown option, `Unsupported` as [`CatalogOptions::take`].
    pub(crate) fn parse(mut options: Options) -> Result<Self> {
        for name in ENGINE_OPTIONS {
            options.take(name);
        }
        let catalog = CatalogOptions::take(&mut options)?;
        let table = TableName {
            namespace: options.require("database.name")?,
            name: options.require("table.name")?,
        };
        let create_if_not_exists = options.parse("create_table_if_not_exists", false)?;
        let format_version = match options.take("format_version").as_deref() {
            None => None,
            Some("3") => Some(FormatVersion::V3),
            Some("2") => Some(FormatVersion::V2),
            Some(other) => {
                return Err(ConnectorError::config(format!(
                    "option \"format_version\" has a bad value \"{other}\""
                ))
                .with_hint("use '3' (deletion vectors) or '2' (position deletes)"));
            }
        };
        let partition_by = options.take("partition_by");
        let properties = options.take_prefixed("table.properties.");
        options.finish(OPTIONS)?;
        Ok(Self { catalog, table, create_if_not_exists, format_version, partition_by, properties })
    }
}
