//! Position deletes: a Parquet file of (path of a data file, position in it), for format version 2.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{AsArray, Int64Array, RecordBatch, StringBuilder};
use arrow::datatypes::{DataType, Int64Type};
use frazil_connector_api::{ConnectorError, Result};
use futures::TryStreamExt;
use iceberg::io::FileIO;
use iceberg::metadata_columns::{delete_file_path_field, delete_file_pos_field};
use iceberg::spec::{DataContentType, DataFile, Schema, SchemaRef, Struct};
use iceberg::writer::file_writer::{FileWriter, FileWriterBuilder, ParquetWriterBuilder};
use roaring::RoaringTreemap;

use crate::error::{ErrorContext, target};
use crate::{data_writer, parquet_file, schema, values};

/// Rows of a delete file are written in pieces of this size.
const BATCH_ROWS: usize = 65_536;

fn delete_schema() -> Result<SchemaRef> {
    let schema = Schema::builder()
        .with_fields([delete_file_path_field().clone(), delete_file_pos_field().clone()])
        .build()
        .context(|| "cannot make the schema of position deletes".to_string())?;
    Ok(Arc::new(schema))
}

/// Writes one delete file for data files of one partition, durable on return.
///
/// `deletes` are (data file, positions), ordered by path; positions ascend.
pub(crate) async fn write(
    io: &FileIO,
    path: &str,
    spec_id: i32,
    partition: Struct,
    deletes: &[(&str, Vec<u64>)],
) -> Result<DataFile> {
    let what = || format!("cannot write position deletes \"{path}\"");
    let iceberg_schema = delete_schema()?;
    let arrow_schema = schema::file_schema(&iceberg_schema)?;
    let output = io.new_output(path).context(what)?;
    let builder = ParquetWriterBuilder::new(data_writer::properties(&[]), iceberg_schema);
    let mut writer = builder.build(output).await.context(what)?;
    for (data_file, positions) in deletes {
        for positions in positions.chunks(BATCH_ROWS) {
            let mut paths =
                StringBuilder::with_capacity(positions.len(), data_file.len() * positions.len());
            paths.append_value_n(data_file, positions.len());
            let positions = Int64Array::from_iter_values(positions.iter().map(|&at| at as i64));
            let columns = vec![Arc::new(paths.finish()) as _, Arc::new(positions) as _];
            let batch = RecordBatch::try_new(arrow_schema.clone(), columns)?;
            writer.write(&batch).await.context(what)?;
        }
    }
    let mut files = writer.close().await.context(what)?;
    let Some(mut file) = files.pop() else {
        return Err(ConnectorError::internal("position deletes without a position"));
    };
    file.content(DataContentType::PositionDeletes).partition(partition).partition_spec_id(spec_id);
    if let [(only, _)] = deletes {
        file.referenced_data_file(Some((*only).to_string()));
    }
    file.build().map_err(|source| ConnectorError::internal(what()).with_source(source))
}

/// Reads a delete file and adds its positions to the vectors by path; other paths are left out.
pub(crate) async fn read_into(
    io: &FileIO,
    file: &DataFile,
    vectors: &mut HashMap<String, RoaringTreemap>,
) -> Result<()> {
    let path = file.file_path();
    let mut batches = parquet_file::open(io, path).await?.stream(path)?;
    while let Some(batch) = batches.try_next().await? {
        let (Some(paths), Some(positions)) =
            (batch.column_by_name("file_path"), batch.column_by_name("pos"))
        else {
            return Err(target(format!("position deletes \"{path}\" lack a column")));
        };
        let paths = values::as_type(paths, &DataType::Utf8)?;
        let paths = paths.as_string::<i32>();
        let positions = values::as_type(positions, &DataType::Int64)?;
        let positions = positions.as_primitive::<Int64Type>().values();
        let mut start = 0;
        while start < positions.len() {
            let data_file = paths.value(start);
            let run = (start..positions.len()).take_while(|&row| paths.value(row) == data_file);
            let end = start + run.count();
            if let Some(vector) = vectors.get_mut(data_file) {
                vector.extend(positions[start..end].iter().map(|&at| at as u64));
            }
            start = end;
        }
    }
    Ok(())
}
