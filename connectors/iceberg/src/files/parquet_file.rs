//! [`ParquetFile`]: an open Parquet file of a table, and rows of it by column and position.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use frazil_connector_api::Result;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use iceberg::arrow::ArrowFileReader;
use iceberg::io::FileIO;
use parquet::arrow::arrow_reader::{RowSelection, RowSelector};
use parquet::arrow::{ParquetRecordBatchStreamBuilder, ProjectionMask};
use roaring::RoaringTreemap;

use crate::columns::{Columns, Constants};
use crate::error::{ErrorContext, target};

/// Rows of one batch that is read.
const BATCH_ROWS: usize = 8192;

/// A file whose footer is read.
pub(crate) struct ParquetFile {
    builder: ParquetRecordBatchStreamBuilder<ArrowFileReader>,
}

/// Opens a file and reads its footer.
pub(crate) async fn open(io: &FileIO, path: &str) -> Result<ParquetFile> {
    let what = || format!("cannot open data file \"{path}\"");
    let opened = async {
        let input = io.new_input(path)?;
        Ok::<_, iceberg::Error>((input.metadata().await?, input.reader().await?))
    };
    let (metadata, reader) = opened.await.context(what)?;
    let reader = ArrowFileReader::new(metadata, reader);
    let builder = ParquetRecordBatchStreamBuilder::new(reader).await.context(what)?;
    Ok(ParquetFile { builder: builder.with_batch_size(BATCH_ROWS) })
}

impl ParquetFile {
    /// Number of rows.
    pub(crate) fn row_count(&self) -> u64 {
        self.builder.metadata().file_metadata().num_rows() as u64
    }

    /// All rows, all columns, as the file has them.
    pub(crate) fn stream(self, path: &str) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let path = path.to_string();
        let what = move || format!("cannot read data file \"{path}\"");
        let stream = self.builder.build().context(&what)?;
        Ok(stream.map(move |batch| batch.context(&what)).boxed())
    }

    /// The columns, without the rows at the `deleted` positions; `constants` are values of columns
    /// that the file lacks.
    ///
    /// # Errors
    /// `Target` if the file's columns cannot be told apart; in the stream also if a value does not
    /// fit its column.
    pub(crate) fn project(
        self,
        path: &str,
        columns: &Columns,
        constants: &Arc<Constants>,
        deleted: &RoaringTreemap,
    ) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let mut builder = self.builder;
        let roots = columns.places(path, builder.schema().fields())?;
        let mut read: Vec<usize> = roots.iter().flatten().copied().collect();
        read.sort_unstable();
        read.dedup();
        let mask = ProjectionMask::roots(builder.parquet_schema(), read.iter().copied());
        let rows = builder.metadata().file_metadata().num_rows() as u64;
        builder = builder.with_projection(mask);
        if !deleted.is_empty() {
            builder = builder.with_row_selection(selection(deleted, rows));
        }
        // Where each wanted column is in what is read.
        let sources: Vec<Option<usize>> =
            roots.iter().map(|root| root.and_then(|root| read.binary_search(&root).ok())).collect();
        let path = path.to_string();
        let what = move || format!("cannot read data file \"{path}\"");
        let stream = builder.build().context(&what)?;
        let stream = stream.map(move |batch| batch.context(&what));
        let (columns, constants) = (columns.clone(), Arc::clone(constants));
        Ok(stream
            .and_then(move |batch| {
                let shaped = shape(&batch, &columns, &constants, &sources);
                async move { shaped }
            })
            .boxed())
    }
}

fn shape(
    batch: &RecordBatch,
    columns: &Columns,
    constants: &Constants,
    sources: &[Option<usize>],
) -> Result<RecordBatch> {
    let schema = batch.schema();
    let shaped = sources.iter().enumerate().map(|(at, source)| match source {
        Some(source) => columns.shape(at, batch.column(*source), *source, schema.fields()),
        None => columns.absent(at, constants, batch.num_rows()),
    });
    let shaped = shaped.collect::<Result<_>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(columns.schema().clone(), shaped, &options)
        .map_err(|source| target("a data file does not fit the table's schema").with_source(source))
}

/// The rows of a file that are not deleted.
pub(crate) fn selection(deleted: &RoaringTreemap, rows: u64) -> RowSelection {
    let mut selectors: Vec<RowSelector> = Vec::new();
    let mut next = 0_u64;
    for at in deleted.iter().take_while(|&at| at < rows) {
        if at > next || selectors.is_empty() {
            if at > next {
                selectors.push(RowSelector::select((at - next) as usize));
            }
            selectors.push(RowSelector::skip(1));
        } else if let Some(last) = selectors.last_mut() {
            last.row_count += 1;
        }
        next = at + 1;
    }
    if next < rows {
        selectors.push(RowSelector::select((rows - next) as usize));
    }
    RowSelection::from(selectors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selects_exactly_the_rows_that_are_not_deleted() {
        for mask in 0_u32..256 {
            let deleted: RoaringTreemap = (0..10).filter(|at| mask >> at & 1 == 1).collect();
            let mut rows = Vec::new();
            let mut at = 0;
            for selector in Vec::<RowSelector>::from(selection(&deleted, 7)) {
                if !selector.skip {
                    rows.extend(at..at + selector.row_count as u64);
                }
                at += selector.row_count as u64;
            }
            let live: Vec<u64> = (0..7).filter(|&at| !deleted.contains(at)).collect();
            assert_eq!((rows, at), (live, 7), "mask {mask:b}");
        }
    }
}
