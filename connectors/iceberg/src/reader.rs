//! [`IcebergCatalog`] and [`IcebergTable`]: tables for ad hoc SQL.
//!
//! A table is a snapshot: what it holds does not change after [`IcebergCatalog::load`], whatever is
//! committed meanwhile. Deletion vectors and position deletes are applied; tables with equality
//! deletes are refused.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, UInt64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use frazil_connector_api::{ConnectorError, Options, Result};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use iceberg::io::FileIO;
use iceberg::spec::{DataFile, Datum, PrimitiveLiteral};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;
use roaring::RoaringTreemap;

use crate::catalog::{Access, Catalog};
use crate::columns::Columns;
use crate::error::target;
use crate::live_files::{LiveFile, Manifests, live_files};
use crate::options::{CATALOG_OPTIONS, CatalogOptions};
use crate::parquet_file;
use crate::schema::plain_schema;
use crate::table_name::TableName;
use crate::values::as_type;

/// A catalog whose tables are read.
#[derive(Debug)]
pub struct IcebergCatalog {
    catalog: Catalog,
}

impl IcebergCatalog {
    /// Opens a catalog by `catalog.type`, `catalog.uri`, `catalog.name` and `warehouse.path`.
    /// Nothing is made or changed.
    ///
    /// # Errors
    /// `Config` or `Unsupported` for a wrong option, `Target` if there is no catalog at its place,
    /// `Unavailable` if it cannot be opened.
    pub async fn open(mut options: Options) -> Result<Self> {
        options.take("connector");
        let catalog = CatalogOptions::take(&mut options)?;
        options.finish(CATALOG_OPTIONS)?;
        Ok(Self { catalog: Catalog::open(&catalog, Access::Read).await? })
    }

    /// Checks the options of a catalog, and its file if there is one: the first sink makes it.
    ///
    /// # Errors
    /// As [`IcebergCatalog::open`].
    pub async fn check(mut options: Options) -> Result<()> {
        options.take("connector");
        let catalog = CatalogOptions::take(&mut options)?;
        options.finish(CATALOG_OPTIONS)?;
        if catalog.database.exists() {
            Catalog::open(&catalog, Access::Read).await?;
        }
        Ok(())
    }

    /// All tables as (namespace, name), in that order.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn tables(&self) -> Result<Vec<(String, String)>> {
        let tables = self.catalog.tables().await?;
        Ok(tables.into_iter().map(|table| (table.namespace, table.name)).collect())
    }

    /// The table as it is now.
    ///
    /// # Errors
    /// `Target` if there is no such table, `Unsupported` if it has equality deletes.
    pub async fn load(&self, namespace: &str, name: &str) -> Result<IcebergTable> {
        let name = TableName { namespace: namespace.to_string(), name: name.to_string() };
        let Some(table) = self.catalog.load(&name).await? else {
            return Err(target(format!("table \"{name}\" does not exist")));
        };
        let metadata = &table.metadata;
        let live = live_files(self.catalog.io(), metadata, &mut Manifests::default()).await?;
        let columns = Columns::new(metadata)?;
        Ok(IcebergTable {
            io: self.catalog.io().clone(),
            schema: plain_schema(columns.schema())?,
            columns,
            snapshot_id: metadata.current_snapshot_id(),
            files: live.into_iter().map(|live| DataFileScan { live }).collect(),
        })
    }
}

/// A data file of a table, with what is deleted in it.
#[derive(Debug, Clone)]
pub struct DataFileScan {
    live: LiveFile,
}

impl DataFileScan {
    /// Where the file is.
    pub fn path(&self) -> &str {
        self.live.file.file_path()
    }

    /// Rows in the file, the deleted ones included.
    pub fn record_count(&self) -> u64 {
        self.live.file.record_count()
    }

    /// Positions of deleted rows.
    pub fn deleted(&self) -> &Arc<RoaringTreemap> {
        &self.live.deleted
    }

    /// Rows that a scan gives.
    pub fn row_count(&self) -> u64 {
        self.live.row_count()
    }
}

/// A table at one Iceberg snapshot.
#[derive(Debug, Clone)]
pub struct IcebergTable {
    io: FileIO,
    schema: SchemaRef,
    columns: Columns,
    snapshot_id: Option<i64>,
    files: Arc<[DataFileScan]>,
}

impl IcebergTable {
    /// The columns; timestamps with time zone are in `+00:00`, bytes are `LargeBinary`.
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// The snapshot; none if the table was never written.
    pub fn snapshot_id(&self) -> Option<i64> {
        self.snapshot_id
    }

    /// Exact number of rows.
    pub fn row_count(&self) -> u64 {
        self.files.iter().map(DataFileScan::row_count).sum()
    }

    /// The data files.
    pub fn files(&self) -> &[DataFileScan] {
        &self.files
    }

    /// Bounds that hold for every row of a file, one entry a file, NULL where they are not known.
    ///
    /// Shape: two columns of the type of `column`, with a row for each of [`IcebergTable::files`].
    /// Deleted rows count, so bounds may be wider than the rows of a scan, never narrower. `None`
    /// for types that are not compared by their bounds (booleans, decimals, bytes, nested).
    pub fn bounds(&self, column: usize) -> Option<(ArrayRef, ArrayRef)> {
        let field = self.columns.schema().field(column);
        let id: i32 = field.metadata().get(PARQUET_FIELD_ID_META_KEY)?.parse().ok()?;
        let lower = self.files.iter().map(|file| file.live.file.lower_bounds().get(&id));
        let upper = self.files.iter().map(|file| file.live.file.upper_bounds().get(&id));
        let lower = bound_column(field.data_type(), lower.collect())?;
        Some((lower, bound_column(field.data_type(), upper.collect())?))
    }

    /// NULLs of a column, one entry a file, NULL where the count is not known.
    pub fn null_counts(&self, column: usize) -> Option<UInt64Array> {
        let field = self.columns.schema().field(column);
        let id: i32 = field.metadata().get(PARQUET_FIELD_ID_META_KEY)?.parse().ok()?;
        let count = |file: &DataFile| file.null_value_counts().get(&id).copied();
        Some(self.files.iter().map(|file| count(&file.live.file)).collect())
    }

    /// The rows of all files; `projection` are indexes of columns, in the order wanted.
    ///
    /// # Errors
    /// In the stream: `Unavailable` if a file cannot be read.
    pub fn scan(&self, projection: Option<&[usize]>) -> BoxStream<'static, Result<RecordBatch>> {
        let scans = (0..self.files.len()).map(|file| self.scan_file(file, projection));
        stream::iter(scans.collect::<Vec<_>>()).flatten().boxed()
    }

    /// The rows of one of [`IcebergTable::files`], in the order of the file.
    ///
    /// # Errors
    /// In the stream: `Unavailable` if the file cannot be read.
    pub fn scan_file(
        &self,
        file: usize,
        projection: Option<&[usize]>,
    ) -> BoxStream<'static, Result<RecordBatch>> {
        let schemas = self.columns.project(projection).and_then(|wanted| {
            let plain = match projection {
                None => Arc::clone(&self.schema),
                Some(columns) => Arc::new(self.schema.project(columns)?),
            };
            Ok((wanted, plain))
        });
        let Some(scan) = self.files.get(file).cloned() else {
            let error = ConnectorError::internal(format!("the table has no file {file}"));
            return stream::once(async { Err(error) }).boxed();
        };
        let io = self.io.clone();
        let batches = async move {
            let (wanted, plain) = schemas?;
            let file = parquet_file::open(&io, scan.path()).await?;
            let constants = &scan.live.constants;
            let batches = file.project(scan.path(), &wanted, constants, scan.deleted())?;
            Ok::<_, ConnectorError>(batches.map(move |batch| relabel(&batch?, &plain)))
        };
        stream::once(batches).try_flatten().boxed()
    }
}

/// The same columns under a schema without field ids.
fn relabel(batch: &RecordBatch, plain: &SchemaRef) -> Result<RecordBatch> {
    let columns = batch.columns().iter().zip(plain.fields());
    let columns = columns.map(|(column, field)| as_type(column, field.data_type()));
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    let columns = columns.collect::<Result<_>>()?;
    Ok(RecordBatch::try_new_with_options(plain.clone(), columns, &options)?)
}

/// Bounds as a column; none for types whose bounds are not read.
fn bound_column(data_type: &DataType, bounds: Vec<Option<&Datum>>) -> Option<ArrayRef> {
    let whole = |bounds: Vec<Option<&Datum>>| -> Int64Array {
        let value = |datum: &Datum| match datum.literal() {
            PrimitiveLiteral::Int(value) => Some(i64::from(*value)),
            PrimitiveLiteral::Long(value) => Some(*value),
            _ => None,
        };
        bounds.into_iter().map(|bound| bound.and_then(value)).collect()
    };
    match data_type {
        DataType::Int32 | DataType::Date32 => {
            let narrow = cast(&whole(bounds), &DataType::Int32).ok()?;
            cast(&narrow, data_type).ok()
        }
        DataType::Int64
        | DataType::Time64(TimeUnit::Microsecond)
        | DataType::Timestamp(TimeUnit::Microsecond | TimeUnit::Nanosecond, _) => {
            cast(&whole(bounds), data_type).ok()
        }
        DataType::Float32 | DataType::Float64 => {
            let value = |datum: &Datum| match datum.literal() {
                PrimitiveLiteral::Float(value) => Some(f64::from(value.into_inner())),
                PrimitiveLiteral::Double(value) => Some(value.into_inner()),
                _ => None,
            };
            let values: arrow::array::Float64Array =
                bounds.into_iter().map(|bound| bound.and_then(value)).collect();
            cast(&values, data_type).ok()
        }
        DataType::Utf8 => {
            let value = |datum: &Datum| match datum.literal() {
                PrimitiveLiteral::String(text) => Some(text.clone()),
                _ => None,
            };
            let values = bounds.into_iter().map(|bound| bound.and_then(value));
            Some(Arc::new(arrow::array::StringArray::from_iter(values)))
        }
        _ => None,
    }
}
