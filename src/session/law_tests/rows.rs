//! [`Rows`]: rows as text, which can be compared.

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use futures::TryStreamExt;

use crate::job::Engine;

/// Rows as text, sorted.
pub(super) type Rows = Vec<String>;

/// Nothing, or what went wrong.
pub(super) type Checked<T = ()> = Result<T, String>;

/// The rows that an engine keeps of a table or view.
pub(super) async fn kept(engine: &Engine, name: &str) -> Checked<Rows> {
    let snapshot = engine.snapshot();
    let relation = engine.catalog().get(name).cloned();
    let rows = relation.and_then(|relation| snapshot.relation(relation.id));
    let rows = rows.ok_or_else(|| format!("\"{name}\" is gone"))?;
    let batches = async { rows.rows(None)?.try_collect::<Vec<_>>().await }.await;
    let batches = batches.map_err(|error| format!("{name}: {error:?}"))?;
    let found: usize = batches.iter().map(RecordBatch::num_rows).sum();
    match found == rows.row_count() {
        true => Ok(sorted(&batches)),
        false => Err(format!("{name} has {found} rows and not {}", rows.row_count())),
    }
}

/// The rows of batches as text, sorted.
pub(super) fn sorted(batches: &[RecordBatch]) -> Rows {
    let mut rows: Rows = batches.iter().flat_map(texts).collect();
    rows.sort_unstable();
    rows
}

/// The rows of a batch as text.
pub(super) fn texts(batch: &RecordBatch) -> Rows {
    let options = FormatOptions::new().with_null("NULL");
    let columns: Vec<ArrayFormatter<'_>> = batch
        .columns()
        .iter()
        .map(|column| ArrayFormatter::try_new(column, &options).unwrap())
        .collect();
    let text = |row| {
        let cells = columns.iter().map(|column| column.value(row).to_string());
        cells.collect::<Vec<_>>().join(" | ")
    };
    (0..batch.num_rows()).map(text).collect()
}
