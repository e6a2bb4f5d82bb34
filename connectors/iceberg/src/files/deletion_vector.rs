//! Deletion vectors: the deleted positions of one data file, as a blob in a Puffin file.
//!
//! ```text
//! Puffin: "PFA1" | length: u32 BE | D1 D3 39 64 | 64-bit roaring bitmap | crc32: u32 BE | footer
//! ```
//!
//! **Invariant:** one vector per Puffin file. Readers exist that mix up vectors of a shared one.

use std::collections::HashMap;

use bytes::Bytes;
use frazil_connector_api::{ConnectorError, Result};
use iceberg::compression::CompressionCodec;
use iceberg::io::FileIO;
use iceberg::puffin::{Blob, BlobMetadata, DELETION_VECTOR_V1, PuffinReader, PuffinWriter};
use iceberg::spec::{DataContentType, DataFile, DataFileBuilder, DataFileFormat, Struct};
use roaring::RoaringTreemap;

use crate::error::{ErrorContext, target};

const MAGIC: [u8; 4] = [0xD1, 0xD3, 0x39, 0x64];
/// The blob of a Puffin file with one blob follows the file's own magic number.
const FIRST_BLOB_OFFSET: i64 = 4;
/// Field id of the row position among Iceberg's metadata columns.
const ROW_POSITION_ID: i32 = 2_147_483_645;

/// The blob of a set of positions.
pub(crate) fn encode(deleted: &RoaringTreemap) -> Result<Vec<u8>> {
    let size = deleted.serialized_size();
    let mut blob = Vec::with_capacity(size + 12);
    let length = u32::try_from(size + MAGIC.len())
        .map_err(|_| ConnectorError::internal("a deletion vector is longer than 4 GiB"))?;
    blob.extend_from_slice(&length.to_be_bytes());
    blob.extend_from_slice(&MAGIC);
    deleted.serialize_into(&mut blob).context(|| "cannot encode a deletion vector".to_string())?;
    let checksum = crc32fast::hash(&blob[4..]);
    blob.extend_from_slice(&checksum.to_be_bytes());
    Ok(blob)
}

/// The positions in a blob.
///
/// # Errors
/// `Target` if the blob is not a deletion vector or its checksum is wrong.
pub(crate) fn decode(blob: &[u8]) -> Result<RoaringTreemap> {
    let bad = |what: &str| target(format!("a deletion vector is broken: {what}"));
    if blob.len() < 12 || blob[4..8] != MAGIC {
        return Err(bad("no magic number"));
    }
    let (body, checksum) = blob.split_at(blob.len() - 4);
    if blob[..4] != (body.len() as u32 - 4).to_be_bytes() {
        return Err(bad("wrong length"));
    }
    if checksum != crc32fast::hash(&body[4..]).to_be_bytes() {
        return Err(bad("wrong checksum"));
    }
    RoaringTreemap::deserialize_from(&body[8..]).map_err(|source| bad("bitmap").with_source(source))
}

/// Reads the vector that a manifest entry describes.
pub(crate) async fn read(io: &FileIO, file: &DataFile) -> Result<RoaringTreemap> {
    let (Some(offset), Some(length)) = (file.content_offset(), file.content_size_in_bytes()) else {
        return Err(target(format!("deletion vector \"{}\" has no offset", file.file_path())));
    };
    let read = async {
        let reader = io.new_input(file.file_path())?.reader().await?;
        reader.read(offset as u64..(offset + length) as u64).await
    };
    let blob =
        read.await.context(|| format!("cannot read deletion vector \"{}\"", file.file_path()))?;
    decode(&blob)
}

/// Reads the vector of `data_file` in a Puffin file, whoever wrote it.
///
/// # Errors
/// `Target` if there is none.
pub(crate) async fn read_of(io: &FileIO, path: &str, data_file: &str) -> Result<RoaringTreemap> {
    let what = || format!("cannot read deletion vector \"{path}\"");
    let reader = PuffinReader::new(io.new_input(path).context(what)?);
    let blobs = reader.file_metadata().await.context(what)?.blobs();
    let referenced = |blob: &&BlobMetadata| {
        let properties = blob.properties();
        properties.get("referenced-data-file").is_some_and(|file| file == data_file)
    };
    let Some(blob) = blobs.iter().find(referenced) else {
        return Err(target(format!("Puffin file \"{path}\" has no vector of \"{data_file}\"")));
    };
    decode(reader.blob(blob).await.context(what)?.data())
}

/// Writes the vector of `data_file` into a Puffin file of its own, durable on return.
pub(crate) async fn write(
    io: &FileIO,
    path: &str,
    data_file: &str,
    spec_id: i32,
    partition: Struct,
    deleted: &RoaringTreemap,
) -> Result<DataFile> {
    let what = || format!("cannot write deletion vector \"{path}\"");
    let blob = encode(deleted)?;
    let length = blob.len() as i64;
    let properties = HashMap::from([
        ("referenced-data-file".to_string(), data_file.to_string()),
        ("cardinality".to_string(), deleted.len().to_string()),
    ]);
    let blob = Blob::builder()
        .r#type(DELETION_VECTOR_V1.to_string())
        .fields(vec![ROW_POSITION_ID])
        .snapshot_id(-1)
        .sequence_number(-1)
        .data(Bytes::from(blob).to_vec())
        .properties(properties)
        .build();
    let written = async {
        let output = io.new_output(path)?;
        let mut writer = PuffinWriter::new(&output, HashMap::new(), false).await?;
        writer.add(blob, CompressionCodec::None).await?;
        writer.close().await?;
        output.to_input_file().metadata().await
    };
    let size = written.await.context(what)?.size;
    DataFileBuilder::default()
        .content(DataContentType::PositionDeletes)
        .file_path(path.to_string())
        .file_format(DataFileFormat::Puffin)
        .partition(partition)
        .partition_spec_id(spec_id)
        .record_count(deleted.len())
        .file_size_in_bytes(size)
        .referenced_data_file(Some(data_file.to_string()))
        .content_offset(Some(FIRST_BLOB_OFFSET))
        .content_size_in_bytes(Some(length))
        .build()
        .map_err(|source| ConnectorError::internal(what()).with_source(source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_vector_is_an_error() {
        let deleted: RoaringTreemap = [1_u64, 5, 70_000, 5_000_000_000].into_iter().collect();
        let blob = encode(&deleted).unwrap();
        assert_eq!(decode(&blob).unwrap(), deleted);
        for byte in 0..blob.len() {
            let mut broken = blob.clone();
            broken[byte] ^= 0x10;
            assert!(decode(&broken).is_err(), "byte {byte} does not matter");
        }
        assert!(decode(&blob[..blob.len() - 1]).is_err());
    }
}
