//! [`Catalog`]: tables by name in a SQLite database, in the layout of Iceberg's SQL catalogs.
//!
//! ```text
//! iceberg_tables(catalog_name, table_namespace, table_name, metadata_location, ...)
//!     commit = UPDATE metadata_location = new WHERE metadata_location = old  -- one row, or none
//! ```
//!
//! **Invariant:** a metadata file is on the disk before the catalog names it, and is never changed.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use frazil_connector_api::{ConnectorError, Result};
use iceberg::compression::CompressionCodec;
use iceberg::io::FileIO;
use iceberg::spec::{TableMetadata, TableMetadataRef};
use iceberg::{MetadataLocation, TableCreation};
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteConnectOptions, SqlitePool, SqlitePoolOptions};
use sqlx::{Row, Sqlite};

use crate::error::{ErrorContext, target};
use crate::options::CatalogOptions;
use crate::table_name::TableName;

/// How long a statement waits for another process's lock on the database.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

const CREATE_TABLES: &str = "CREATE TABLE IF NOT EXISTS iceberg_tables (
    catalog_name VARCHAR(255) NOT NULL,
    table_namespace VARCHAR(255) NOT NULL,
    table_name VARCHAR(255) NOT NULL,
    metadata_location VARCHAR(1000),
    previous_metadata_location VARCHAR(1000),
    iceberg_type VARCHAR(5),
    PRIMARY KEY (catalog_name, table_namespace, table_name))";

const CREATE_NAMESPACES: &str = "CREATE TABLE IF NOT EXISTS iceberg_namespace_properties (
    catalog_name VARCHAR(255) NOT NULL,
    namespace VARCHAR(255) NOT NULL,
    property_key VARCHAR(255),
    property_value VARCHAR(1000),
    PRIMARY KEY (catalog_name, namespace, property_key))";

/// Moves a table from one metadata file to the next.
///
/// The catalog itself does so; tests put a faulty one around it.
#[async_trait]
pub trait CommitSink: fmt::Debug + Send + Sync {
    /// Compare-and-swap of the metadata location: true if the table was at `from` and is now at
    /// `to`, false if it was elsewhere and did not move.
    ///
    /// # Errors
    /// `Unavailable` if the outcome is unknown; the caller must look before it tries again.
    async fn swap(&self, table: &TableName, from: &str, to: &str) -> Result<bool>;
}

/// A table as the catalog had it at one moment.
#[derive(Debug, Clone)]
pub(crate) struct LoadedTable {
    /// The metadata.
    pub(crate) metadata: TableMetadataRef,
    /// The file that holds it.
    pub(crate) location: String,
}

/// What a catalog is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Nothing is written: its file may be read-only.
    Read,
    /// Tables are changed.
    Write,
    /// As `Write`; the database and its folders are made if they are missing.
    Create,
}

/// An open catalog.
#[derive(Debug)]
pub(crate) struct Catalog {
    pool: SqlitePool,
    options: CatalogOptions,
    io: FileIO,
}

impl Catalog {
    /// Opens the database.
    ///
    /// # Errors
    /// `Target` if there is none at its place (`Unavailable` for writers), or it is no Iceberg
    /// catalog; `Unavailable`.
    pub(crate) async fn open(options: &CatalogOptions, access: Access) -> Result<Self> {
        let file = options.database.display();
        let folder = options.database.parent().unwrap_or(&options.database);
        if access == Access::Create {
            for path in [folder, &options.warehouse] {
                std::fs::create_dir_all(path)
                    .context(|| format!("cannot make folder \"{}\"", path.display()))?;
            }
        } else if !options.database.exists() {
            let message = format!("catalog file \"{file}\" does not exist");
            // The disk of a sink's catalog may come back.
            let error = match access {
                Access::Read => target(message),
                Access::Write | Access::Create => ConnectorError::unavailable(message),
            };
            return Err(
                error.with_hint("check catalog.uri; the first sink into a catalog makes its file")
            );
        }
        let connect = SqliteConnectOptions::new()
            .filename(&options.database)
            .create_if_missing(access == Access::Create)
            .read_only(access == Access::Read)
            .busy_timeout(BUSY_TIMEOUT);
        let pool = SqlitePoolOptions::new()
            .max_connections(2)
            .connect_with(connect)
            .await
            .context(|| format!("cannot open catalog \"{file}\""))?;
        if access == Access::Create {
            for statement in [CREATE_TABLES, CREATE_NAMESPACES] {
                sqlx::query(statement)
                    .execute(&pool)
                    .await
                    .context(|| "cannot make the tables of the catalog".to_string())?;
            }
        }
        let catalog = Self { pool, options: options.clone(), io: FileIO::new_with_fs() };
        catalog.check().await?;
        Ok(catalog)
    }

    /// Checks that the database has the tables of a catalog.
    async fn check(&self) -> Result<()> {
        let file = self.options.database.display();
        let count: i64 =
            sqlx::query_scalar("SELECT count(*) FROM sqlite_master WHERE name = 'iceberg_tables'")
                .fetch_one(&self.pool)
                .await
                .context(|| format!("cannot read catalog \"{file}\""))?;
        if count == 0 {
            return Err(target(format!("file \"{file}\" is no Iceberg catalog"))
                .with_hint("check catalog.uri"));
        }
        Ok(())
    }

    /// The door to the files of tables.
    pub(crate) fn io(&self) -> &FileIO {
        &self.io
    }

    /// All tables by name.
    pub(crate) async fn tables(&self) -> Result<Vec<TableName>> {
        let rows = sqlx::query(
            "SELECT table_namespace, table_name FROM iceberg_tables
             WHERE catalog_name = ? ORDER BY table_namespace, table_name",
        )
        .bind(&self.options.name)
        .fetch_all(&self.pool)
        .await
        .context(|| "cannot list the tables of the catalog".to_string())?;
        rows.iter()
            .map(|row| Ok(TableName { namespace: row.try_get(0)?, name: row.try_get(1)? }))
            .collect::<std::result::Result<_, sqlx::Error>>()
            .context(|| "cannot read the catalog".to_string())
    }

    /// The table as it is now; `None` if there is none.
    pub(crate) async fn load(&self, table: &TableName) -> Result<Option<LoadedTable>> {
        let what = || format!("cannot look up table \"{table}\"");
        let sql = "SELECT metadata_location FROM iceberg_tables
                   WHERE catalog_name = ?1 AND table_namespace = ?2 AND table_name = ?3";
        let row = self.query_of(sql, table).fetch_optional(&self.pool).await.context(what)?;
        let Some(row) = row else { return Ok(None) };
        let location: String = row.try_get(0).context(what)?;
        let metadata = TableMetadata::read_from(&self.io, &location)
            .await
            .context(|| format!("cannot read metadata \"{location}\" of table \"{table}\""))?;
        Ok(Some(LoadedTable { metadata: Arc::new(metadata), location }))
    }

    /// A statement whose first three parameters name a table of this catalog.
    fn query_of<'q>(
        &'q self,
        sql: &'q str,
        table: &'q TableName,
    ) -> Query<'q, Sqlite, SqliteArguments<'q>> {
        sqlx::query(sql).bind(&self.options.name).bind(&table.namespace).bind(&table.name)
    }

    /// Runs such a statement with more parameters; tells how many rows it has changed.
    async fn change(
        &self,
        sql: &str,
        table: &TableName,
        more: &[&str],
        what: impl FnOnce() -> String,
    ) -> Result<u64> {
        let query = more.iter().fold(self.query_of(sql, table), |query, value| query.bind(*value));
        Ok(query.execute(&self.pool).await.context(what)?.rows_affected())
    }

    /// The folder of a new table.
    pub(crate) fn table_location(&self, table: &TableName) -> String {
        let folder = self.options.warehouse.join(&table.namespace).join(&table.name);
        folder.to_string_lossy().into_owned()
    }

    /// Makes a table; if another process was faster, the other's table stays and is returned. Tells
    /// whether it is ours.
    pub(crate) async fn create(
        &self,
        table: &TableName,
        creation: TableCreation,
    ) -> Result<(LoadedTable, bool)> {
        let what = || format!("cannot make table \"{table}\"");
        let metadata = iceberg::spec::TableMetadataBuilder::from_table_creation(creation)
            .and_then(|builder| builder.build())
            .context(what)?
            .metadata;
        let place = MetadataLocation::new_with_metadata(metadata.location(), &metadata);
        write_metadata(&self.io, &metadata, &place).await?;
        self.insert(table, &place.to_string()).await?;
        match self.load(table).await? {
            Some(loaded) => {
                let is_ours = loaded.location == place.to_string();
                Ok((loaded, is_ours))
            }
            None => Err(target(format!("table \"{table}\" vanished"))),
        }
    }

    /// Removes a table that is still as [`Catalog::create`] made it, with metadata at `location`.
    pub(crate) async fn remove(&self, table: &TableName, location: &str) -> Result<()> {
        let sql = "DELETE FROM iceberg_tables
                   WHERE catalog_name = ?1 AND table_namespace = ?2 AND table_name = ?3
                     AND metadata_location = ?4";
        let what = || format!("cannot remove table \"{table}\"");
        if self.change(sql, table, &[location], what).await? == 1 {
            let what = || format!("cannot remove metadata \"{location}\" of table \"{table}\"");
            self.io.delete(location).await.context(what)?;
        }
        Ok(())
    }

    async fn insert(&self, table: &TableName, location: &str) -> Result<()> {
        let what = || format!("cannot put table \"{table}\" into the catalog");
        sqlx::query(
            "INSERT OR IGNORE INTO iceberg_namespace_properties
             (catalog_name, namespace, property_key, property_value)
             VALUES (?, ?, 'exists', 'true')",
        )
        .bind(&self.options.name)
        .bind(&table.namespace)
        .execute(&self.pool)
        .await
        .context(what)?;
        // A catalog that PyIceberg made has no column for the type.
        let typed: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM pragma_table_info('iceberg_tables') WHERE name = 'iceberg_type'",
        )
        .fetch_one(&self.pool)
        .await
        .context(what)?;
        let (column, value) = if typed > 0 { (", iceberg_type", ", 'TABLE'") } else { ("", "") };
        let sql = format!(
            "INSERT OR IGNORE INTO iceberg_tables
             (catalog_name, table_namespace, table_name, metadata_location{column})
             VALUES (?1, ?2, ?3, ?4{value})"
        );
        self.change(&sql, table, &[location], what).await.map(drop)
    }
}

#[async_trait]
impl CommitSink for Catalog {
    async fn swap(&self, table: &TableName, from: &str, to: &str) -> Result<bool> {
        let sql = "UPDATE iceberg_tables
                   SET metadata_location = ?4, previous_metadata_location = ?5
                   WHERE catalog_name = ?1 AND table_namespace = ?2 AND table_name = ?3
                     AND metadata_location = ?5";
        let what = || format!("cannot commit to table \"{table}\"");
        Ok(self.change(sql, table, &[to, from], what).await? == 1)
    }
}

/// Writes a metadata file so that it survives a power cut, folder entry included.
pub(crate) async fn write_metadata(
    io: &FileIO,
    metadata: &TableMetadata,
    place: &MetadataLocation,
) -> Result<()> {
    let path = place.to_string();
    let what = || format!("cannot write metadata \"{path}\"");
    if place.compression_codec() != CompressionCodec::None {
        // The crate alone knows how to compress it; it does not wait for the disk.
        metadata.write_to(io, place).await.context(what)?;
        std::fs::File::open(local_path(&path)).and_then(|file| file.sync_all()).context(what)?;
    } else {
        let text = serde_json::to_vec(metadata)
            .map_err(|source| ConnectorError::internal(what()).with_source(source))?;
        write_file(io, &path, Bytes::from(text)).await?;
    }
    sync_folder(&path)
}

/// Writes a file and waits until it is on the disk.
pub(crate) async fn write_file(io: &FileIO, path: &str, content: Bytes) -> Result<()> {
    let written = async {
        let mut writer = io.new_output(path)?.writer().await?;
        writer.write(content).await?;
        writer.close().await
    };
    written.await.context(|| format!("cannot write file \"{path}\""))
}

/// Makes the entries of the folder of `path` durable.
pub(crate) fn sync_folder(path: &str) -> Result<()> {
    let Some(folder) = local_path(path).parent() else { return Ok(()) };
    std::fs::File::open(folder)
        .and_then(|folder| folder.sync_all())
        .context(|| format!("cannot sync folder \"{}\"", folder.display()))
}

/// The file that a location means: `/a/b`, `file:///a/b`, or `file:/a/b` as Spark writes it.
fn local_path(location: &str) -> &std::path::Path {
    let path = location.strip_prefix("file:").unwrap_or(location);
    let path = path.strip_prefix("//").unwrap_or(path);
    std::path::Path::new(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_files() {
        for location in ["/a/b", "file:///a/b", "file:/a/b"] {
            assert_eq!(local_path(location), std::path::Path::new("/a/b"), "{location}");
        }
    }
}
