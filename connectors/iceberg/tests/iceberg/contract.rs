//! What options and tables are refused, and how.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Int16Array, Int64Array, RecordBatch, StringViewArray,
};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use frazil_connector_api::conformance::SinkRun;
use frazil_connector_api::{ChangeBatch, ConnectorErrorKind, Options, Result, Resume, SinkMode};
use frazil_iceberg::{IcebergCatalog, build_iceberg_sink};
use futures::TryStreamExt;
use uuid::Uuid;

use crate::harness::{Layout, catalog_options, mark, options, schema, visible};

const V3: Layout = Layout { version: "3", partition_by: None, key: &[0] };
const KEY: SinkMode = SinkMode::AppendOnly;

fn build(options: Options, schema: SchemaRef, mode: SinkMode) -> Result<SinkRun> {
    let sink = build_iceberg_sink(options, schema, mode.clone(), Uuid::from_u128(5))?;
    Ok(SinkRun::new(sink, &mode, 2))
}

fn with(options: &Options, name: &str, value: &str) -> Options {
    let pairs = options.iter().map(|(name, value)| (name.to_string(), value.to_string()));
    Options::new(pairs.chain([(name.to_string(), value.to_string())]))
}

#[tokio::test]
async fn wrong_options_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let good = options(folder.path(), "t", V3);
    for (name, value, kind, message) in [
        ("catalog.type", "glue", ConnectorErrorKind::Unsupported, "\"glue\""),
        ("catalog.type", "rest", ConnectorErrorKind::Unsupported, "\"rest\""),
        ("catalog.uri", "postgres://x", ConnectorErrorKind::Unsupported, "\"postgres://x\""),
        ("warehouse.path", "s3://bucket", ConnectorErrorKind::Unsupported, "\"s3://bucket\""),
        ("format_version", "1", ConnectorErrorKind::Config, "\"format_version\""),
        ("tabel.name", "x", ConnectorErrorKind::Config, "\"tabel.name\""),
    ] {
        let error = build(with(&good, name, value), schema(), KEY).err().unwrap();
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.message.contains(message), "{error}");
    }
    let upsert = SinkMode::Upsert { key: vec![0] };
    for partition_by in ["bucket(0, id)", "nothing(id)", "bucket(4 id", "day(region)", "city"] {
        let given = with(&good, "partition_by", partition_by);
        let error = build(given, schema(), upsert.clone())
            .unwrap()
            .open(&Resume::default())
            .await
            .unwrap_err();
        assert_eq!(error.kind, ConnectorErrorKind::Config, "{partition_by}: {error}");
        assert!(error.message.contains("partition_by"), "{error}");
    }
}

async fn open(given: Options, schema: SchemaRef, mode: SinkMode) -> Result<()> {
    build(given, schema, mode)?.open(&Resume::default()).await
}

#[tokio::test]
async fn a_table_that_does_not_fit_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let given = options(folder.path(), "t", V3);
    let absent = with(&given, "create_table_if_not_exists", "false");
    let upsert = SinkMode::Upsert { key: vec![0] };
    // A catalog's file may come back, as a mount does; a table does not.
    let error = open(absent.clone(), schema(), upsert.clone()).await.unwrap_err();
    assert_eq!(error.kind, ConnectorErrorKind::Unavailable, "{error}");
    open(options(folder.path(), "other", V3), schema(), upsert.clone()).await.unwrap();
    let error = open(absent.clone(), schema(), upsert.clone()).await.unwrap_err();
    assert_eq!(error.kind, ConnectorErrorKind::Target, "{error}");
    open(given, schema(), upsert.clone()).await.unwrap();
    open(absent.clone(), schema(), upsert).await.unwrap();
    let fields = |change: &dyn Fn(&mut Vec<Field>)| -> SchemaRef {
        let mut fields: Vec<Field> = schema().fields().iter().map(|f| f.as_ref().clone()).collect();
        change(&mut fields);
        Arc::new(Schema::new(fields))
    };
    let wrong: [(SchemaRef, Vec<usize>, &str); 4] = [
        (fields(&|f| f[3] = Field::new("value", DataType::Utf8, true)), vec![0], "\"value\""),
        (fields(&|f| f.push(Field::new("more", DataType::Utf8, true))), vec![0], "\"more\""),
        (fields(&|_| ()), vec![8], "(id)"),
        (fields(&|f| drop(f.remove(0))), vec![7], "\"id\""),
    ];
    for (schema, key, message) in wrong {
        let mode = SinkMode::Upsert { key };
        let error = open(absent.clone(), schema, mode).await.unwrap_err();
        assert_eq!(error.kind, ConnectorErrorKind::Target, "{error}");
        assert!(error.message.contains(message), "{error}");
    }
    let interval = fields(&|f| {
        f[3] =
            Field::new("value", DataType::Interval(arrow::datatypes::IntervalUnit::DayTime), true)
    });
    let error = open(absent, interval, KEY).await.unwrap_err();
    assert_eq!(error.kind, ConnectorErrorKind::Unsupported, "{error}");
}

/// Columns go by name, whatever their order; types are stored wider; absent columns are NULL.
#[tokio::test]
async fn an_append_only_sink_fills_part_of_a_table() {
    let folder = tempfile::tempdir().unwrap();
    let field = |name: &str, data_type| Field::new(name, data_type, true);
    let wide = Schema::new(vec![
        field("a", DataType::Int16),
        field("b", DataType::Utf8View),
        field("c", DataType::Int64),
    ]);
    let given = options(folder.path(), "t", V3);
    open(given.clone(), Arc::new(wide), KEY).await.unwrap();
    let narrow =
        Arc::new(Schema::new(vec![field("b", DataType::Utf8View), field("a", DataType::Int16)]));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringViewArray::from(vec!["x", "y"])),
        Arc::new(Int16Array::from(vec![Some(1), None])),
    ];
    let rows = RecordBatch::try_new(narrow.clone(), columns).unwrap();
    let mut sink = build(given, narrow, KEY).unwrap();
    sink.open(&Resume::default()).await.unwrap();
    let twice = Int64Array::from(vec![1, 2]);
    sink.write(ChangeBatch::try_new(rows.clone(), twice).unwrap()).await.unwrap();
    let committable = sink.prepare(mark(1, 1)).await.unwrap().unwrap();
    sink.commit(&committable).await.unwrap();

    let catalog = Options::new(catalog_options(folder.path()));
    let catalog = IcebergCatalog::open(catalog).await.unwrap();
    assert_eq!(catalog.tables().await.unwrap(), [("shop".to_string(), "t".to_string())]);
    let table = catalog.load("shop", "t").await.unwrap();
    let types: Vec<_> = table.schema().fields().iter().map(|f| f.data_type().clone()).collect();
    assert_eq!(types, [DataType::Int32, DataType::Utf8, DataType::Int64]);
    let batches: Vec<_> = table.scan(Some(&[2, 1])).try_collect().await.unwrap();
    let read = arrow::compute::concat_batches(&batches[0].schema(), &batches).unwrap();
    let texts: &arrow::array::StringArray = read.column(1).as_any().downcast_ref().unwrap();
    assert_eq!(texts.iter().flatten().collect::<Vec<_>>(), ["x", "y", "y"]);
    assert_eq!(read.column(0).null_count(), 3);

    let error = sink.write(ChangeBatch::retractions(rows)).await.unwrap_err();
    assert_eq!(error.kind, ConnectorErrorKind::Target, "{error}");
    assert!(error.message.contains("append-only"), "{error}");
}

/// NULL is a key like others, also for the next process.
#[tokio::test]
async fn keys_may_be_null() {
    let folder = tempfile::tempdir().unwrap();
    let given = options(folder.path(), "t", V3);
    let rows_of = |nullable| {
        let key = Field::new("k", DataType::Int64, nullable);
        Arc::new(Schema::new(vec![key, Field::new("v", DataType::Int64, false)]))
    };
    let write = async |sink: &mut SinkRun, number, rows: &[(Option<i64>, i64, i64)]| {
        let keys: ArrayRef = Arc::new(rows.iter().map(|row| row.0).collect::<Int64Array>());
        let values: ArrayRef = Arc::new(rows.iter().map(|row| row.1).collect::<Int64Array>());
        let weights = rows.iter().map(|row| row.2).collect::<Int64Array>();
        let rows = RecordBatch::try_new(rows_of(true), vec![keys, values]).unwrap();
        sink.write(ChangeBatch::try_new(rows, weights).unwrap()).await.unwrap();
        let committable = sink.prepare(mark(number, 1)).await.unwrap().unwrap();
        sink.commit(&committable).await.unwrap();
        visible(&committable, 1)
    };
    let mode = SinkMode::Upsert { key: vec![0] };
    let mut resume = Resume::default();
    for (number, changes) in [
        (1, vec![(None, 10, 1), (Some(2), 20, 1), (Some(0), 5, 1)]),
        (2, vec![(None, 10, -1), (None, 11, 1), (Some(2), 20, -1)]),
    ] {
        let mut sink = build(given.clone(), rows_of(true), mode.clone()).unwrap();
        sink.open(&resume).await.unwrap();
        resume = write(&mut sink, number, &changes).await;
    }
    let catalog = Options::new(catalog_options(folder.path()));
    let table = IcebergCatalog::open(catalog).await.unwrap().load("shop", "t").await.unwrap();
    let batches: Vec<_> = table.scan(None).try_collect().await.unwrap();
    let read = arrow::compute::concat_batches(&batches[0].schema(), &batches).unwrap();
    let column = |at| read.column(at).as_primitive::<Int64Type>().iter();
    let mut rows: Vec<_> = std::iter::zip(column(0), column(1)).collect();
    rows.sort_unstable();
    assert_eq!(rows, [(None, Some(11)), (Some(0), Some(5))]);

    // A table whose key may not be NULL takes no rows whose key may.
    let strict = options(folder.path(), "strict", V3);
    open(strict.clone(), rows_of(false), mode.clone()).await.unwrap();
    let error = open(strict, rows_of(true), mode).await.unwrap_err();
    assert!(error.message.contains("may not be NULL"), "{error}");
}

/// Reading creates no file and no folder, and the error names the missing one.
#[tokio::test]
async fn reading_creates_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let catalog = || Options::new(catalog_options(folder.path()));
    let error = IcebergCatalog::open(catalog()).await.unwrap_err();
    assert_eq!(error.kind, ConnectorErrorKind::Target, "{error}");
    assert!(error.message.ends_with("lake/catalog.db\" does not exist"), "{error}");
    // A sink that is not to make its table makes no catalog either.
    let absent = with(&options(folder.path(), "t", V3), "create_table_if_not_exists", "false");
    assert!(open(absent, schema(), KEY).await.is_err());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    IcebergCatalog::check(catalog()).await.unwrap();
    let wrong = with(&catalog(), "catalog.url", "x");
    let error = IcebergCatalog::check(wrong).await.unwrap_err();
    assert!(error.message.contains("\"catalog.url\""), "{error}");
    // Another database.
    std::fs::create_dir(folder.path().join("lake")).unwrap();
    std::fs::write(folder.path().join("lake/catalog.db"), "").unwrap();
    for checked in
        [IcebergCatalog::check(catalog()).await, IcebergCatalog::open(catalog()).await.map(drop)]
    {
        let error = checked.unwrap_err();
        assert!(error.message.ends_with("is no Iceberg catalog"), "{error}");
    }
    std::fs::remove_file(folder.path().join("lake/catalog.db")).unwrap();
    open(options(folder.path(), "t", V3), schema(), KEY).await.unwrap();
    assert_eq!(IcebergCatalog::open(catalog()).await.unwrap().tables().await.unwrap().len(), 1);
}

/// Options that say how a table is are checked at CREATE against one that exists; later it may have
/// changed.
#[tokio::test]
async fn options_that_differ_from_the_table_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout { partition_by: Some("bucket(4, id)"), ..V3 };
    let given = options(folder.path(), "t", layout);
    open(given.clone(), schema(), KEY).await.unwrap();
    let new = Resume { is_new: true, ..Resume::default() };
    for (name, value, message) in [
        ("format_version", "2", "has format version 3, but option \"format_version\" says 2"),
        ("partition_by", "bucket(8, id)", "is partitioned by (bucket[4](id))"),
        ("partition_by", "day(at)", "is partitioned by (bucket[4](id))"),
    ] {
        let changed = with(&given, name, value);
        let mut sink = build(changed.clone(), schema(), KEY).unwrap();
        let error = sink.open(&new).await.unwrap_err();
        assert_eq!(error.kind, ConnectorErrorKind::Config, "{error}");
        assert!(error.message.contains(message), "{error}");
        open(changed, schema(), KEY).await.unwrap();
    }
    build(given, schema(), KEY).unwrap().open(&new).await.unwrap();
}

/// Floating point partitions are refused before anything is written, whoever made the table.
#[tokio::test]
async fn floating_point_partitions_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout { partition_by: Some("price"), ..V3 };
    let error = open(options(folder.path(), "t", layout), schema(), KEY).await.unwrap_err();
    assert_eq!(error.kind, ConnectorErrorKind::Config, "{error}");
    assert!(error.message.contains("\"price\" of type double"), "{error}");
    assert!(!folder.path().join("lake/shop").exists());
}
