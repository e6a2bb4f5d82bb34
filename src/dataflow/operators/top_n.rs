//! [`TopN`]: the first rows in an order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use arrow::row::{RowConverter, SortField};
use datafusion::physical_expr::PhysicalSortExpr;
use datafusion::physical_plan::PhysicalExpr;

use super::evaluate::{evaluate_all, expression_error};
use super::{EpochInfo, Operator, Output};
use crate::change::{ChangeBatch, runs_by_bytes, with_weights};
use crate::error::{Error, Result};
use crate::state::{StateDelta, StateTable, check_columns};

/// A row as Arrow row bytes: order keys, then all columns.
type OrderedRow = Arc<[u8]>;

/// What a top-N is made from.
#[derive(Debug, Clone)]
pub struct TopNSpec {
    /// Columns of input and output.
    pub schema: SchemaRef,
    /// The input never retracts: only the first rows are kept.
    pub is_append_only: bool,
    /// The order; ties are broken by the whole row, ascending, NULLs first.
    pub order: Vec<PhysicalSortExpr>,
    /// Rows skipped.
    pub offset: usize,
    /// Rows kept.
    pub limit: usize,
}

/// Keeps the rows `offset .. offset + limit` of the input in an order.
///
/// For the window `W` before and `W'` after an epoch it emits `W' - W` at the epoch's end.
///
/// Shape: the input's. State: an ordered multiset of all rows, or of the first
/// `offset + limit` if the input is append-only. Table: `[column..] -> __count`.
///
/// # Errors
/// What an order key meets in a row. `Internal` if a row is retracted that is not there.
#[derive(Debug)]
pub struct TopN {
    schema: SchemaRef,
    order: Vec<Arc<dyn PhysicalExpr>>,
    converter: RowConverter,
    offset: i64,
    limit: i64,
    is_append_only: bool,
    rows: BTreeMap<OrderedRow, i64>,
    /// Sum of the counts of `rows`.
    row_count: i64,
    row_bytes: usize,
    window: Vec<(OrderedRow, i64)>,
    dirty: BTreeSet<OrderedRow>,
    is_touched: bool,
    /// Rows were restored and the window is not made yet.
    is_restored: bool,
}

impl TopN {
    /// A top-N over an input.
    ///
    /// # Errors
    /// `Internal` for types that Arrow's row format does not hold.
    pub fn try_new(spec: TopNSpec) -> Result<Self> {
        let mut fields = Vec::new();
        for key in &spec.order {
            let data_type = key.expr.data_type(&spec.schema).map_err(expression_error)?;
            fields.push(SortField::new_with_options(data_type, key.options));
        }
        let columns = spec.schema.fields().iter();
        fields.extend(columns.map(|field| SortField::new(field.data_type().clone())));
        Ok(Self {
            schema: spec.schema,
            order: spec.order.into_iter().map(|key| key.expr).collect(),
            converter: RowConverter::new(fields)?,
            offset: i64::try_from(spec.offset).unwrap_or(i64::MAX),
            limit: i64::try_from(spec.limit).unwrap_or(i64::MAX),
            is_append_only: spec.is_append_only,
            rows: BTreeMap::new(),
            row_count: 0,
            row_bytes: 0,
            window: Vec::new(),
            dirty: BTreeSet::new(),
            is_touched: false,
            is_restored: false,
        })
    }

    fn kept_rows(&self) -> i64 {
        self.offset.saturating_add(self.limit)
    }

    fn add_all(&mut self, changes: &ChangeBatch) -> Result<()> {
        let mut columns = evaluate_all(&self.order, changes.rows())?;
        columns.extend_from_slice(changes.rows().columns());
        let rows = self.converter.convert_columns(&columns)?;
        for (index, row) in rows.iter().enumerate() {
            if self.is_append_only && self.is_beyond(row.data()) {
                continue;
            }
            self.add(row.data().into(), changes.weight(index));
        }
        Ok(())
    }

    /// Whether a row comes after all rows that an append-only input needs.
    fn is_beyond(&self, row: &[u8]) -> bool {
        self.row_count >= self.kept_rows()
            && self.rows.last_key_value().is_none_or(|(last, _)| row >= last.as_ref())
    }

    fn add(&mut self, row: OrderedRow, weight: i64) {
        self.is_touched = true;
        self.row_count += weight;
        self.dirty.insert(Arc::clone(&row));
        let bytes = row.len();
        let count = self.rows.entry(Arc::clone(&row)).or_insert_with(|| {
            self.row_bytes += bytes;
            0
        });
        *count += weight;
        if *count == 0 {
            self.row_bytes -= bytes;
            self.rows.remove(&row);
        }
        while self.is_append_only
            && let Some(last) = self.rows.last_entry()
            && self.row_count - last.get() >= self.offset.saturating_add(self.limit)
        {
            let (row, count) = last.remove_entry();
            self.row_count -= count;
            self.row_bytes -= row.len();
            self.dirty.insert(row);
        }
    }

    fn window(&self) -> Result<Vec<(OrderedRow, i64)>> {
        let mut window = Vec::new();
        let (mut skip, mut left) = (self.offset, self.limit);
        for (row, count) in &self.rows {
            if left == 0 {
                break;
            }
            if *count < 0 {
                let message = format!("{} rows were retracted that are not there", -count);
                return Err(Error::internal(message));
            }
            let skipped = skip.min(*count);
            skip -= skipped;
            let taken = left.min(count - skipped);
            left -= taken;
            if taken > 0 {
                window.push((Arc::clone(row), taken));
            }
        }
        Ok(window)
    }

    /// The columns of rows, without the order keys.
    fn decode<'a>(&self, rows: impl Iterator<Item = &'a OrderedRow>) -> Result<Vec<ArrayRef>> {
        let parser = self.converter.parser();
        let mut columns = self.converter.convert_rows(rows.map(|row| parser.parse(row)))?;
        Ok(columns.split_off(self.order.len()))
    }

    fn finish_restore(&mut self) -> Result<()> {
        if std::mem::take(&mut self.is_restored) {
            self.window = self.window()?;
        }
        Ok(())
    }
}

/// `new - old` of two windows in order.
fn difference(old: &[(OrderedRow, i64)], new: &[(OrderedRow, i64)]) -> Vec<(OrderedRow, i64)> {
    let mut weights: BTreeMap<&OrderedRow, i64> = BTreeMap::new();
    for (row, count) in old {
        *weights.entry(row).or_default() -= count;
    }
    for (row, count) in new {
        *weights.entry(row).or_default() += count;
    }
    let changed = weights.into_iter().filter(|(_, weight)| *weight != 0);
    changed.map(|(row, weight)| (Arc::clone(row), weight)).collect()
}

impl Operator for TopN {
    fn name(&self) -> &'static str {
        "top_n"
    }

    fn on_changes(&mut self, _input: usize, changes: ChangeBatch, _out: &mut Output) -> Result<()> {
        self.finish_restore()?;
        self.add_all(&changes)
    }

    fn on_epoch_end(&mut self, _epoch: &EpochInfo, out: &mut Output) -> Result<()> {
        self.finish_restore()?;
        if !std::mem::take(&mut self.is_touched) {
            return Ok(());
        }
        let window = self.window()?;
        let changed = difference(&self.window, &window);
        self.window = window;
        if changed.is_empty() {
            return Ok(());
        }
        for run in runs_by_bytes(changed.len(), |index| changed[index].0.len()) {
            let changed = &changed[run];
            let columns = self.decode(changed.iter().map(|(row, _)| row))?;
            let rows = RecordBatch::try_new(Arc::clone(&self.schema), columns)?;
            out.push(with_weights(rows, changed.iter().map(|(_, weight)| *weight).collect())?);
        }
        Ok(())
    }

    fn state_tables(&self) -> Vec<StateTable> {
        let count = Arc::new(Field::new("__count", DataType::Int64, false));
        let fields = [self.schema.fields().to_vec(), vec![count]].concat();
        let key_columns = self.schema.fields().len();
        vec![StateTable { schema: Arc::new(Schema::new(fields)), key_columns, row_start: 0 }]
    }

    fn changed_rows(&self) -> usize {
        self.dirty.len()
    }

    fn checkpoint(&mut self) -> Result<Vec<StateDelta>> {
        let (mut puts, mut counts, mut gone) = (Vec::new(), Vec::new(), Vec::new());
        for row in &self.dirty {
            match self.rows.get(row) {
                Some(count) => {
                    puts.push(row);
                    counts.push(*count);
                }
                None => gone.push(row),
            }
        }
        let schema = self.state_tables().remove(0).schema;
        let put_runs = runs_by_bytes(puts.len(), |index| puts[index].len()).into_iter();
        let puts = put_runs.map(|run| {
            let mut columns = self.decode(puts[run.clone()].iter().copied())?;
            columns.push(Arc::new(Int64Array::from(counts[run].to_vec())));
            Ok(RecordBatch::try_new(Arc::clone(&schema), columns)?)
        });
        let puts = puts.collect::<Result<Vec<_>>>()?;
        let gone_runs = runs_by_bytes(gone.len(), |index| gone[index].len()).into_iter();
        let deletes = gone_runs.map(|run| {
            let columns = self.decode(gone[run].iter().copied())?;
            Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
        });
        let deletes = deletes.collect::<Result<Vec<_>>>()?;
        self.dirty.clear();
        Ok(vec![StateDelta { table: 0, schema, puts, deletes, delete_shards: None }])
    }

    fn restore(&mut self, _table: usize, rows: RecordBatch) -> Result<()> {
        check_columns(&self.state_tables()[0], &rows)?;
        let key_columns = self.schema.fields().len();
        let weights = rows.column(key_columns).as_primitive::<Int64Type>().clone();
        let columns = rows.columns()[..key_columns].to_vec();
        let rows = RecordBatch::try_new(Arc::clone(&self.schema), columns)?;
        self.add_all(&ChangeBatch::try_new(rows, weights)?)?;
        self.dirty.clear();
        self.is_touched = false;
        self.is_restored = true;
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        // A B-tree's nodes are about two thirds full; an `Arc` has two counts.
        let entry = size_of::<OrderedRow>() + size_of::<i64>();
        self.rows.len() * (entry * 3 / 2 + 16) + self.row_bytes
    }
}
