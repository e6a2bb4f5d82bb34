//! [`DataWriter`]: rows into Parquet data files, one open file a partition.
//!
//! **Invariant:** the place of every row is known when it is written: a file never changes in the
//! middle of a batch, and rows keep their order.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use arrow::array::RecordBatch;
use frazil_connector_api::{ConnectorError, Result};
use iceberg::io::FileIO;
use iceberg::spec::{DataFile, Datum, PrimitiveLiteral, PrimitiveType, SchemaRef, Struct};
use iceberg::writer::CurrentFileStatus;
use iceberg::writer::file_writer::{
    FileWriter, FileWriterBuilder, ParquetWriter, ParquetWriterBuilder,
};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use uuid::Uuid;

use crate::error::ErrorContext;
use crate::unused_files::remove_files;

/// A file is closed when it is about this long.
const FILE_BYTES_TARGET: usize = 128 << 20;
/// Bounds of texts and bytes are cut to this many characters or bytes, as other writers do.
const BOUND_LENGTH_MAX: usize = 16;

/// How Parquet files are written; a dictionary does not pay for `unique` columns.
pub(crate) fn properties(unique: &[String]) -> WriterProperties {
    let level = ZstdLevel::try_new(1).expect("1 is a level of zstd");
    let mut builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_statistics_enabled(EnabledStatistics::Page)
        // Cut statistics would leave a row group out of the bounds of the file.
        .set_statistics_truncate_length(None)
        .set_created_by("frazil".to_string());
    for column in unique {
        builder = builder.set_column_dictionary_enabled(ColumnPath::from(column.as_str()), false);
    }
    builder.build()
}

/// A closed file.
#[derive(Debug)]
pub(crate) struct ClosedFile {
    pub(crate) number: u32,
    pub(crate) file: DataFile,
}

struct OpenFile {
    number: u32,
    path: String,
    rows: u32,
    writer: ParquetWriter,
}

/// Where a batch went: its row `i` is row `base + i` of file `number`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Written {
    pub(crate) number: u32,
    pub(crate) base: u32,
    /// Whether the file is new.
    pub(crate) opened: bool,
}

/// The folder of a table's data and delete files.
#[derive(Debug, Clone)]
pub(crate) struct DataFolder {
    path: String,
}

impl DataFolder {
    /// Of the table at `location`.
    pub(crate) fn new(location: &str) -> Self {
        Self { path: format!("{location}/data") }
    }

    /// The path of a file that is to be written.
    pub(crate) fn new_path(&self, extension: &str) -> String {
        format!("{}/{}.{extension}", self.path, Uuid::new_v4())
    }
}

/// The number that the next data file gets; all writers of a sink draw from it.
pub(crate) type FileNumbers = Arc<AtomicU32>;

/// Writes the data files of one share of a sink's changes between two checkpoints.
pub(crate) struct DataWriter {
    io: FileIO,
    folder: DataFolder,
    spec_id: i32,
    builder: ParquetWriterBuilder,
    open: HashMap<Arc<Struct>, OpenFile>,
    closed: Vec<ClosedFile>,
    numbers: FileNumbers,
}

impl DataWriter {
    /// For a table.
    pub(crate) fn new(
        io: FileIO,
        folder: DataFolder,
        schema: SchemaRef,
        spec_id: i32,
        unique: &[String],
        numbers: FileNumbers,
    ) -> Self {
        let builder = ParquetWriterBuilder::new(properties(unique), schema);
        let open = HashMap::new();
        Self { io, folder, spec_id, builder, open, closed: Vec::new(), numbers }
    }

    /// Appends rows to the open file of a partition.
    pub(crate) async fn write(
        &mut self,
        partition: &Arc<Struct>,
        rows: &RecordBatch,
    ) -> Result<Written> {
        let opened = !self.open.contains_key(partition);
        if opened {
            let path = self.folder.new_path("parquet");
            let output = self.io.new_output(&path);
            let output = output.context(|| format!("cannot make data file \"{path}\""))?;
            let writer = self.builder.build(output).await;
            let writer = writer.context(|| format!("cannot make data file \"{path}\""))?;
            let number = self.numbers.fetch_add(1, Ordering::Relaxed);
            let file = OpenFile { number, path, rows: 0, writer };
            self.open.insert(partition.clone(), file);
        }
        let file = self.open.get_mut(partition).expect("the partition's file is open");
        let written = Written { number: file.number, base: file.rows, opened };
        file.writer
            .write(rows)
            .await
            .context(|| format!("cannot write data file \"{}\"", file.path))?;
        file.rows += rows.num_rows() as u32;
        if file.writer.current_written_size() >= FILE_BYTES_TARGET
            && let Some(file) = self.open.remove(partition)
        {
            let closed = close_file(self.spec_id, partition, file).await?;
            self.closed.push(closed);
        }
        Ok(written)
    }

    /// Closes all files; they are durable once their folder is.
    ///
    /// # Errors
    /// `Unavailable`; [`DataWriter::discard`] removes what there is.
    pub(crate) async fn close(&mut self) -> Result<Vec<ClosedFile>> {
        let partitions: Vec<_> = self.open.keys().cloned().collect();
        for partition in partitions {
            let Some(file) = self.open.remove(&partition) else { continue };
            let path = file.path.clone();
            match close_file(self.spec_id, &partition, file).await {
                Ok(closed) => self.closed.push(closed),
                Err(error) => {
                    remove_files(&self.io, &[path]).await;
                    return Err(error);
                }
            }
        }
        Ok(std::mem::take(&mut self.closed))
    }

    /// Removes the files that no fragment describes.
    pub(crate) async fn discard(&mut self) {
        let open = std::mem::take(&mut self.open).into_values().map(|file| file.path);
        let closed = std::mem::take(&mut self.closed).into_iter();
        let paths = open.chain(closed.map(|closed| closed.file.file_path().to_string()));
        remove_files(&self.io, &paths.collect::<Vec<_>>()).await;
    }
}

async fn close_file(spec_id: i32, partition: &Struct, file: OpenFile) -> Result<ClosedFile> {
    let what = || format!("cannot close data file \"{}\"", file.path);
    let mut built = file.writer.close().await.context(what)?;
    let Some(mut builder) = built.pop() else {
        return Err(ConnectorError::internal("a data file has no rows"));
    };
    builder.partition(partition.clone()).partition_spec_id(spec_id);
    let wrong = |source| ConnectorError::internal(what()).with_source(source);
    let full: DataFile = builder.build().map_err(wrong)?;
    let lower = full.lower_bounds().iter().map(|(id, datum)| (*id, lower_bound(datum)));
    let upper = full.upper_bounds().iter();
    let upper = upper.filter_map(|(id, datum)| Some((*id, upper_bound(datum)?)));
    builder.lower_bounds(lower.collect()).upper_bounds(upper.collect());
    let number = file.number;
    Ok(ClosedFile { number, file: builder.build().map_err(wrong)? })
}

/// A short value that is not above any value of the column.
fn lower_bound(datum: &Datum) -> Datum {
    match datum.literal() {
        PrimitiveLiteral::String(text) => {
            Datum::string(text.chars().take(BOUND_LENGTH_MAX).collect::<String>())
        }
        PrimitiveLiteral::Binary(bytes) if *datum.data_type() == PrimitiveType::Binary => {
            Datum::binary(bytes.iter().copied().take(BOUND_LENGTH_MAX))
        }
        _ => datum.clone(),
    }
}

/// A short value that is not below any value of the column; none if there is no short one.
fn upper_bound(datum: &Datum) -> Option<Datum> {
    match datum.literal() {
        PrimitiveLiteral::String(text) if text.chars().nth(BOUND_LENGTH_MAX).is_some() => {
            let mut letters: Vec<char> = text.chars().take(BOUND_LENGTH_MAX).collect();
            while let Some(last) = letters.pop() {
                let next = (last as u32 + 1..=char::MAX as u32).find_map(char::from_u32);
                if let Some(next) = next {
                    letters.push(next);
                    return Some(Datum::string(letters.into_iter().collect::<String>()));
                }
            }
            None
        }
        PrimitiveLiteral::Binary(bytes)
            if *datum.data_type() == PrimitiveType::Binary && bytes.len() > BOUND_LENGTH_MAX =>
        {
            let mut cut = bytes[..BOUND_LENGTH_MAX].to_vec();
            while let Some(last) = cut.pop() {
                if last < u8::MAX {
                    cut.push(last + 1);
                    return Some(Datum::binary(cut));
                }
            }
            None
        }
        _ => Some(datum.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_bounds_enclose_the_value() {
        let texts = ["", "short", "exactly 16 bytes", "a text that is longer than sixteen"];
        for text in texts {
            let datum = Datum::string(text);
            assert!(lower_bound(&datum) <= datum, "{text}");
            assert!(upper_bound(&datum).unwrap() >= datum, "{text}");
        }
        let last = Datum::string(char::MAX.to_string().repeat(17));
        assert_eq!(upper_bound(&last), None);
        let carried = Datum::string(format!("{}{}", "a".repeat(15), "\u{10ffff}z"));
        assert_eq!(upper_bound(&carried).unwrap(), Datum::string(format!("{}b", "a".repeat(14))));
        let bytes = Datum::binary([vec![1], vec![255; 30]].concat());
        assert_eq!(upper_bound(&bytes).unwrap(), Datum::binary([2]));
    }
}
