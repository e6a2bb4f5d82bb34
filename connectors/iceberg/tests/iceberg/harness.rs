//! A table of known content: rows as text, batches of them, and what the table must hold.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use arrow::array::{
    Array, ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array,
    RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use frazil_connector_api::conformance::SinkRun;
use frazil_connector_api::{
    ChangeBatch, CheckpointNumber, CommitMark, Committable, ConnectorError, Fence, LastCommit,
    Options, Result, Resume, SinkMode,
};
use frazil_iceberg::{
    CommitSink, DoorFactory, IcebergCatalog, IcebergTable, TableName, build_iceberg_sink,
    build_iceberg_sink_behind,
};
use futures::TryStreamExt;
use uuid::Uuid;

/// Writers that share a commit.
const WRITERS: usize = 2;

pub(crate) const SINK: Uuid = Uuid::from_u128(0xf4a2_11ce);
const DAY: i64 = 86_400_000_000;

/// A row; all columns follow from `id` and `value`, so that a model can hold it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Row {
    pub(crate) id: i64,
    pub(crate) value: i64,
}

impl Row {
    /// Moves with the value, so that updates move rows between partitions.
    fn region(self) -> Option<&'static str> {
        ["eu", "us", "a/b c", "ü"].get(((self.id + self.value) % 5) as usize).copied()
    }

    /// Follows from the id, and is longer than the bounds that a file keeps.
    fn name(self) -> String {
        format!("the row with the number {}", self.id)
    }

    fn at(self) -> i64 {
        (self.id % 3 + self.value % 2) * DAY + self.value * 1000 - DAY
    }

    /// As the readers script prints it.
    pub(crate) fn texts(self) -> Vec<Option<String>> {
        let cents = self.value - 50;
        let sign = if cents < 0 { "-" } else { "" };
        let born = ["1970-01-01", "1969-12-30", "2024-02-29"][(self.value % 3) as usize];
        let some = |text: String| Some(text);
        vec![
            some(self.id.to_string()),
            self.region().map(String::from),
            some(self.at().to_string()),
            (self.value % 7 != 0).then(|| self.value.to_string()),
            some(format!("{sign}{}.{:02}", cents.abs() / 100, cents.abs() % 100)),
            some(format!("{:.4}", self.value as f64 / 4.0)),
            some(born.to_string()),
            some((self.value % 2 == 0).to_string()),
            some(self.name()),
        ]
    }
}

pub(crate) fn schema() -> SchemaRef {
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("region", DataType::Utf8, true),
        Field::new("at", utc, true),
        Field::new("value", DataType::Int64, true),
        Field::new("amount", DataType::Decimal128(12, 2), true),
        Field::new("price", DataType::Float64, true),
        Field::new("born", DataType::Date32, true),
        Field::new("even", DataType::Boolean, true),
        Field::new("name", DataType::Utf8, false),
    ]))
}

pub(crate) fn batch(rows: &[Row]) -> RecordBatch {
    let of = |value: fn(&Row) -> i64| Int64Array::from_iter_values(rows.iter().map(value));
    let at = TimestampMicrosecondArray::from_iter_values(rows.iter().map(|row| row.at()));
    let value = rows.iter().map(|row| (row.value % 7 != 0).then_some(row.value));
    let amount = rows.iter().map(|row| i128::from(row.value - 50));
    let born = rows.iter().map(|row| [0, -2, 19_782][(row.value % 3) as usize]);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(of(|row| row.id)),
        Arc::new(StringArray::from_iter(rows.iter().map(|row| row.region()))),
        Arc::new(at.with_timezone("UTC")),
        Arc::new(Int64Array::from_iter(value)),
        Arc::new(
            Decimal128Array::from_iter_values(amount).with_precision_and_scale(12, 2).unwrap(),
        ),
        Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| row.value as f64 / 4.0))),
        Arc::new(Date32Array::from_iter_values(born)),
        Arc::new(BooleanArray::from_iter(rows.iter().map(|row| Some(row.value % 2 == 0)))),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.name()))),
    ];
    RecordBatch::try_new(schema(), columns).unwrap()
}

pub(crate) fn changes(rows: &[(Row, i64)]) -> ChangeBatch {
    let (rows, weights): (Vec<Row>, Vec<i64>) = rows.iter().copied().unzip();
    ChangeBatch::try_new(batch(&rows), Int64Array::from(weights)).unwrap()
}

/// What the table must hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Model {
    pub(crate) rows: BTreeMap<i64, i64>,
}

impl Model {
    /// Sets values by id (`None` deletes) and tells the net changes.
    pub(crate) fn apply(&mut self, sets: &[(i64, Option<i64>)]) -> Vec<(Row, i64)> {
        let before = self.rows.clone();
        for &(id, value) in sets {
            match value {
                Some(value) => self.rows.insert(id, value),
                None => self.rows.remove(&id),
            };
        }
        let mut ids: Vec<i64> = sets.iter().map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids.dedup();
        let mut net = Vec::new();
        for id in ids {
            let (old, new) = (before.get(&id), self.rows.get(&id));
            if old != new {
                net.extend(new.map(|&value| (Row { id, value }, 1)));
                net.extend(old.map(|&value| (Row { id, value }, -1)));
            }
        }
        net
    }

    pub(crate) fn batch(&self) -> RecordBatch {
        let rows: Vec<Row> = self.rows.iter().map(|(&id, &value)| Row { id, value }).collect();
        batch(&rows)
    }
}

/// How a table is laid out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    pub(crate) version: &'static str,
    pub(crate) partition_by: Option<&'static str>,
    pub(crate) key: &'static [usize],
}

impl Layout {
    pub(crate) fn all() -> Vec<Self> {
        let partitions = [None, Some("bucket(4, id)"), Some("region"), Some("day(at)")];
        let mut layouts = Vec::new();
        for version in ["2", "3"] {
            for partition_by in partitions {
                layouts.push(Self { version, partition_by, key: &[0] });
            }
            layouts.push(Self {
                version,
                partition_by: Some("truncate(2, region), id"),
                key: &[0],
            });
        }
        layouts
    }
}

pub(crate) fn catalog_options(folder: &Path) -> Vec<(String, String)> {
    let path = |name: &str| folder.join(name).to_string_lossy().into_owned();
    vec![
        ("catalog.type".into(), "sql".into()),
        ("catalog.uri".into(), format!("sqlite://{}", path("lake/catalog.db"))),
        ("warehouse.path".into(), path("lake")),
    ]
}

pub(crate) fn options(folder: &Path, table: &str, layout: Layout) -> Options {
    let mut pairs = catalog_options(folder);
    let more = [
        ("connector", "iceberg"),
        ("type", "upsert"),
        ("primary_key", "id"),
        ("database.name", "shop"),
        ("table.name", table),
        ("create_table_if_not_exists", "true"),
        ("format_version", layout.version),
    ];
    pairs.extend(more.map(|(name, value)| (name.to_string(), value.to_string())));
    pairs.extend(layout.partition_by.map(|text| ("partition_by".to_string(), text.to_string())));
    Options::new(pairs)
}

/// An upsert sink whose commits go through `door`.
pub(crate) fn sink(folder: &Path, table: &str, layout: Layout, door: &Door) -> SinkRun {
    let mode = SinkMode::Upsert { key: layout.key.to_vec() };
    let options = options(folder, table, layout);
    let sink = build_iceberg_sink_behind(options, schema(), mode.clone(), SINK, door.factory());
    SinkRun::new(sink.unwrap(), &mode, WRITERS)
}

/// A commit of its own for a checkpoint.
pub(crate) fn mark(checkpoint: u64, fence: u64) -> CommitMark {
    CommitMark { checkpoint: CheckpointNumber(checkpoint), fence: Fence(fence), id: Uuid::new_v4() }
}

/// What a data directory knows that has prepared this.
pub(crate) fn prepared(committable: &Committable, fence: u64) -> Resume {
    Resume { is_new: false, fence: Fence(fence), last: LastCommit::Prepared(committable.clone()) }
}

/// What a data directory knows that has committed this.
pub(crate) fn visible(committable: &Committable, fence: u64) -> Resume {
    Resume { is_new: false, fence: Fence(fence), last: LastCommit::Visible(committable.mark) }
}

pub(crate) async fn load(folder: &Path, table: &str) -> IcebergTable {
    let options = Options::new(catalog_options(folder));
    IcebergCatalog::open(options).await.unwrap().load("shop", table).await.unwrap()
}

/// The rows of a table in the order of `id`, in the sink's schema.
pub(crate) async fn read(table: &IcebergTable) -> RecordBatch {
    let batches: Vec<RecordBatch> = table.scan(None).try_collect().await.unwrap();
    let rows = arrow::compute::concat_batches(&table.schema(), &batches).unwrap();
    assert_eq!(rows.num_rows() as u64, table.row_count(), "row_count is exact");
    let order = arrow::compute::sort_to_indices(rows.column(0), None, None).unwrap();
    let rows = arrow::compute::take_record_batch(&rows, &order).unwrap();
    let wanted = schema();
    let columns = rows.columns().iter().zip(wanted.fields());
    let columns =
        columns.map(|(column, field)| arrow::compute::cast(column, field.data_type()).unwrap());
    RecordBatch::try_new(schema(), columns.collect()).unwrap()
}

pub(crate) async fn assert_holds(folder: &Path, table: &str, model: &Model) {
    let table = load(folder, table).await;
    assert_eq!(read(&table).await, model.batch());
    for column in [0, 1, 2, 3, 5, 8] {
        check_bounds(&table, column).await;
    }
}

/// No row of a file lies outside the file's bounds.
async fn check_bounds(table: &IcebergTable, column: usize) {
    let (lower, upper) = table.bounds(column).unwrap();
    for file in 0..table.files().len() {
        let batches: Vec<_> = table.scan_file(file, Some(&[column])).try_collect().await.unwrap();
        for batch in batches {
            let values = batch.column(0);
            let bound = |bounds: &ArrayRef| arrow::array::Scalar::new(bounds.slice(file, 1));
            let below = arrow::compute::kernels::cmp::lt(values, &bound(&lower)).unwrap();
            let above = arrow::compute::kernels::cmp::gt(values, &bound(&upper)).unwrap();
            assert_eq!(below.true_count() + above.true_count(), 0, "column {column}");
            assert!(values.null_count() == values.len() || !lower.is_null(file));
        }
    }
}

/// What happens to the next swap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is made, but the reply is an error.
    LoseReply,
    /// It is not made, and the reply is an error.
    FailBefore,
    /// It is not made: someone else was faster, and has appended a row.
    Conflict,
}

/// A door that does what it is told, swap by swap, and then lets all pass.
#[derive(Debug, Clone, Default)]
pub(crate) struct Door {
    faults: Arc<Mutex<VecDeque<Fault>>>,
    foreign: Option<Arc<Foreign>>,
}

/// Value of the rows that another writer appends.
pub(crate) const FOREIGN_VALUE: i64 = 1000;

/// Another writer of the same table.
#[derive(Debug)]
struct Foreign {
    folder: PathBuf,
    layout: Layout,
    /// Ids of rows, and how many of them the model has already.
    ids: Mutex<(Vec<i64>, usize)>,
}

impl Foreign {
    async fn append(&self) {
        let number = self.ids.lock().unwrap().0.len() as i64;
        let row = Row { id: 1_000_000 + number, value: FOREIGN_VALUE };
        let given = options(&self.folder, "t", self.layout);
        let mode = SinkMode::AppendOnly;
        let sink = build_iceberg_sink(given, schema(), mode.clone(), Uuid::new_v4());
        let mut sink = SinkRun::new(sink.unwrap(), &mode, 1);
        sink.open(&Resume::default()).await.unwrap();
        sink.write(ChangeBatch::inserts(batch(&[row]))).await.unwrap();
        let committable = sink.prepare(mark(1, 1)).await.unwrap().unwrap();
        sink.commit(&committable).await.unwrap();
        self.ids.lock().unwrap().0.push(row.id);
    }
}

impl Door {
    pub(crate) fn next(&self, faults: impl IntoIterator<Item = Fault>) {
        self.faults.lock().unwrap().extend(faults);
    }

    pub(crate) fn clear(&self) {
        self.faults.lock().unwrap().clear();
    }

    /// A door at which another writer may be faster.
    pub(crate) fn with_foreign(folder: &Path, layout: Layout) -> Self {
        let foreign = Foreign { folder: folder.to_path_buf(), layout, ids: Mutex::default() };
        Self { faults: Arc::default(), foreign: Some(Arc::new(foreign)) }
    }

    /// The ids of rows that the other writer has appended since the last call.
    pub(crate) fn take_foreign(&self) -> Vec<i64> {
        let Some(foreign) = &self.foreign else { return Vec::new() };
        let mut ids = foreign.ids.lock().unwrap();
        let (all, told) = &mut *ids;
        let new = all[*told..].to_vec();
        *told = all.len();
        new
    }

    pub(crate) fn factory(&self) -> DoorFactory {
        let door = self.clone();
        Arc::new(move |inner| Arc::new(FaultyDoor { inner, door: door.clone() }))
    }
}

#[derive(Debug)]
struct FaultyDoor {
    inner: Arc<dyn CommitSink>,
    door: Door,
}

#[async_trait]
impl CommitSink for FaultyDoor {
    async fn swap(&self, table: &TableName, from: &str, to: &str) -> Result<bool> {
        let fault = self.door.faults.lock().unwrap().pop_front();
        match fault {
            None => self.inner.swap(table, from, to).await,
            Some(Fault::Conflict) => {
                self.door.foreign.as_ref().expect("the door has another writer").append().await;
                let moved = self.inner.swap(table, from, to).await?;
                assert!(!moved, "the swap is lost to the other writer");
                Ok(moved)
            }
            Some(Fault::FailBefore) => Err(ConnectorError::unavailable("connection refused")),
            Some(Fault::LoseReply) => {
                self.inner.swap(table, from, to).await?;
                Err(ConnectorError::unavailable("connection reset"))
            }
        }
    }
}
