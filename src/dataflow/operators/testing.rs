//! Tests of operators drawn as text, one change a line: `+ 1 a`, `- 2 NULL`, `+3 1 a` (weight 3).

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, RecordBatch, StringArray, UInt32Array};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::row::{OwnedRow, RowConverter, SortField};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::PhysicalExpr;

use super::{EpochInfo, Operator, Output};
use crate::change::{ChangeBatch, consolidate, take_rows, with_weights};
use crate::env::Scratch;
use crate::error::Result;
use crate::state::StateDelta;

/// A schema of nullable columns: `schema(&[("k", DataType::Int64)])`.
pub(crate) fn schema(columns: &[(&str, DataType)]) -> SchemaRef {
    let fields = columns.iter().map(|(name, kind)| Field::new(*name, kind.clone(), true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// A column as an expression.
pub(crate) fn column(schema: &SchemaRef, index: usize) -> Arc<dyn PhysicalExpr> {
    Arc::new(Column::new(schema.field(index).name(), index))
}

/// Changes of text.
pub(crate) fn changes(schema: &SchemaRef, text: &str) -> ChangeBatch {
    let mut weights = Vec::new();
    let mut cells: Vec<Vec<Option<String>>> = vec![Vec::new(); schema.fields().len()];
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let mut words = line.split_whitespace();
        let sign = words.next().expect("a sign");
        let count = sign[1..].parse::<i64>().unwrap_or(1);
        weights.push(if sign.starts_with('-') { -count } else { count });
        for column in &mut cells {
            let word = words.next().unwrap_or_else(|| panic!("too few values in {line:?}"));
            column.push((word != "NULL").then(|| word.to_owned()));
        }
        assert_eq!(words.next(), None, "too many values in {line:?}");
    }
    let columns: Vec<ArrayRef> = cells
        .into_iter()
        .zip(schema.fields())
        .map(|(cells, field)| cast(&StringArray::from(cells), field.data_type()).unwrap())
        .collect();
    with_weights(RecordBatch::try_new(Arc::clone(schema), columns).unwrap(), weights).unwrap()
}

/// Changes as text, sorted, as they are (not consolidated).
pub(crate) fn text(batches: &[ChangeBatch]) -> Vec<String> {
    let mut lines = Vec::new();
    let options = FormatOptions::default().with_null("NULL");
    for batch in batches {
        let columns = batch.rows().columns().iter();
        let cells: Vec<ArrayFormatter<'_>> =
            columns.map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
        for row in 0..batch.num_rows() {
            let weight = batch.weight(row);
            let sign = if weight < 0 { '-' } else { '+' };
            let count = if weight.abs() == 1 { String::new() } else { weight.abs().to_string() };
            let values: Vec<String> =
                cells.iter().map(|cell| cell.value(row).to_string()).collect();
            lines.push(format!("{sign}{count} {}", values.join(" ")));
        }
    }
    lines.sort();
    lines
}

/// Compares changes with text, line by line in any order.
macro_rules! assert_changes {
    ($batches:expr, $text:expr) => {{
        let mut expected: Vec<String> = $text
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .filter(|line| !line.is_empty())
            .collect();
        expected.sort();
        assert_eq!($crate::dataflow::operators::testing::text(&$batches), expected);
    }};
}
pub(crate) use assert_changes;

/// Moves a part of an operator's rows to scratch files, which changes nothing that it computes.
pub(crate) fn move_some<O: Operator>(operator: &mut O) {
    static SCRATCH: LazyLock<Scratch> =
        LazyLock::new(|| Scratch::new(std::env::temp_dir().join("frazil-test-scratch")));
    let (heap, cold) = (operator.state_bytes(), operator.cold_bytes());
    let moved = operator.move_cold(1, 0, &SCRATCH).unwrap();
    assert_eq!(operator.state_bytes(), heap - moved.bytes);
    assert!(operator.cold_bytes() >= cold);
}

/// An operator with its output.
pub(crate) struct Harness<O> {
    pub(crate) operator: O,
    schemas: Vec<SchemaRef>,
    output: Output,
}

impl<O: Operator> Harness<O> {
    /// A harness; one schema an input.
    pub(crate) fn new(operator: O, schemas: &[SchemaRef]) -> Self {
        Self { operator, schemas: schemas.to_vec(), output: Output::default() }
    }

    /// Gives changes of text to an input.
    pub(crate) fn push(&mut self, input: usize, text: &str) -> &mut Self {
        let changes = changes(&self.schemas[input], text);
        self.push_batch(input, changes)
    }

    /// Gives changes to an input.
    pub(crate) fn push_batch(&mut self, input: usize, changes: ChangeBatch) -> &mut Self {
        self.operator.on_changes(input, changes, &mut self.output).unwrap();
        move_some(&mut self.operator);
        self
    }

    /// Ends the epoch and takes all that it emitted.
    pub(crate) fn end(&mut self) -> Vec<ChangeBatch> {
        self.try_end().unwrap()
    }

    /// Ends the epoch, which may fail.
    pub(crate) fn try_end(&mut self) -> Result<Vec<ChangeBatch>> {
        self.operator.on_epoch_end(&EpochInfo::default(), &mut self.output)?;
        Ok(self.output.take())
    }
}

/// The durable tables of an operator, in memory.
#[derive(Debug, Default, Clone)]
pub(crate) struct Store {
    tables: Vec<BTreeMap<OwnedRow, RecordBatch>>,
}

impl Store {
    /// Applies a checkpoint and checks its law: a key once, in puts or in deletes.
    pub(crate) fn apply(&mut self, operator: &impl Operator, deltas: Vec<StateDelta>) {
        let layouts = operator.state_tables();
        self.tables.resize_with(layouts.len(), BTreeMap::new);
        for delta in deltas {
            let layout = &layouts[delta.table];
            let keys = layout.key_columns;
            let fields = layout.schema.fields()[..keys].iter();
            let fields = fields.map(|field| SortField::new(field.data_type().clone())).collect();
            let converter = RowConverter::new(fields).unwrap();
            let rows_of = |batch: &RecordBatch| {
                if keys == 0 {
                    return vec![unit_row(); batch.num_rows()];
                }
                let rows = converter.convert_columns(&batch.columns()[..keys]).unwrap();
                rows.iter().map(|row| row.owned()).collect::<Vec<_>>()
            };
            let mut seen = std::collections::HashSet::new();
            for key in delta.deletes.iter().flat_map(rows_of) {
                assert!(seen.insert(key.clone()), "a key is deleted twice");
                self.tables[delta.table].remove(&key);
            }
            for puts in &delta.puts {
                assert_eq!(puts.schema(), layout.schema);
                for (row, key) in rows_of(puts).into_iter().enumerate() {
                    assert!(seen.insert(key.clone()), "a key comes twice");
                    self.tables[delta.table].insert(key, puts.slice(row, 1));
                }
            }
        }
    }

    /// Gives all rows to a new operator, in two batches a table where there are enough.
    pub(crate) fn restore(&self, operator: &mut impl Operator) {
        let layouts = operator.state_tables();
        for (table, rows) in self.tables.iter().enumerate() {
            let rows: Vec<&RecordBatch> = rows.values().collect();
            for part in rows.chunks((rows.len() / 2).max(1)) {
                let batch = concat_batches(&layouts[table].schema, part.iter().copied()).unwrap();
                operator.restore(table, batch).unwrap();
            }
        }
    }
}

fn unit_row() -> OwnedRow {
    let converter = RowConverter::new(vec![SortField::new(DataType::Null)]).unwrap();
    let nulls: ArrayRef = Arc::new(arrow::array::NullArray::new(1));
    converter.convert_columns(&[nulls]).unwrap().row(0).owned()
}

/// A Z-set as text: line without sign to weight.
pub(crate) fn zset(schema: &SchemaRef, batches: Vec<ChangeBatch>) -> HashMap<String, i64> {
    let batch = consolidate(Arc::clone(schema), batches).unwrap();
    let mut sums = HashMap::new();
    for row in 0..batch.num_rows() {
        let indices = UInt32Array::from(vec![row as u32]);
        let one = take_rows(batch.rows(), &indices).unwrap();
        let line = text(&[ChangeBatch::inserts(one)]).remove(0);
        *sums.entry(line[2..].to_owned()).or_default() += batch.weight(row);
    }
    sums.retain(|_, weight| *weight != 0);
    sums
}
