//! [`StoredFile`]: a data or delete file in a committable, as JSON.
//!
//! Values are stored as Iceberg's bytes in base64, so that each comes back as it was, floating
//! point numbers included.

use std::collections::{BTreeMap, HashMap};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use frazil_connector_api::{ConnectorError, Result};
use iceberg::metadata_columns::get_metadata_field;
use iceberg::spec::{
    DataContentType, DataFile, DataFileBuilder, DataFileFormat, Datum, Literal, PrimitiveType,
    Schema, Struct, StructType, Type,
};
use serde::{Deserialize, Serialize};

use crate::error::{ErrorContext, target};
use crate::values::datum;

/// A file of a committable.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StoredFile {
    content: Content,
    path: String,
    format: String,
    partition: Vec<Option<Text>>,
    rows: u64,
    bytes: u64,
    column_sizes: BTreeMap<i32, u64>,
    value_counts: BTreeMap<i32, u64>,
    null_counts: BTreeMap<i32, u64>,
    nan_counts: BTreeMap<i32, u64>,
    lower_bounds: BTreeMap<i32, Text>,
    upper_bounds: BTreeMap<i32, Text>,
    split_offsets: Option<Vec<i64>>,
    referenced_data_file: Option<String>,
    content_offset: Option<i64>,
    content_size: Option<i64>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum Content {
    Data,
    PositionDeletes,
}

/// Bytes in base64.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
struct Text(String);

fn describe() -> String {
    "cannot describe a file of a committable".to_string()
}

impl Text {
    fn new(datum: &Datum) -> Result<Self> {
        Ok(Self(STANDARD.encode(datum.to_bytes().context(describe)?)))
    }

    fn datum(&self, data_type: &PrimitiveType) -> Result<Datum> {
        let bytes = STANDARD.decode(&self.0).map_err(|source| {
            ConnectorError::internal("a committable has a broken value").with_source(source)
        })?;
        Datum::try_from_bytes(&bytes, data_type.clone()).context(describe)
    }
}

impl StoredFile {
    /// Describes a file whose partition has the type `partition`.
    ///
    /// # Errors
    /// `Internal` if it is not one that a sink writes.
    pub(crate) fn new(file: &DataFile, partition: &StructType) -> Result<Self> {
        let content = match file.content_type() {
            DataContentType::Data => Content::Data,
            DataContentType::PositionDeletes => Content::PositionDeletes,
            DataContentType::EqualityDeletes => {
                return Err(ConnectorError::internal("a sink has written equality deletes"));
            }
        };
        let sorted = |counts: &HashMap<i32, u64>| counts.iter().map(|(id, n)| (*id, *n)).collect();
        let bounds = |bounds: &HashMap<i32, Datum>| {
            bounds.iter().map(|(id, bound)| Ok((*id, Text::new(bound)?))).collect::<Result<_>>()
        };
        Ok(Self {
            content,
            path: file.file_path().to_string(),
            format: file.file_format().to_string(),
            partition: partition_texts(file.partition(), partition)?,
            rows: file.record_count(),
            bytes: file.file_size_in_bytes(),
            column_sizes: sorted(file.column_sizes()),
            value_counts: sorted(file.value_counts()),
            null_counts: sorted(file.null_value_counts()),
            nan_counts: sorted(file.nan_value_counts()),
            lower_bounds: bounds(file.lower_bounds())?,
            upper_bounds: bounds(file.upper_bounds())?,
            split_offsets: file.split_offsets().map(<[i64]>::to_vec),
            referenced_data_file: file.referenced_data_file(),
            content_offset: file.content_offset(),
            content_size: file.content_size_in_bytes(),
        })
    }

    /// Its path.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// The file again; `schema` is the one that it was written with.
    ///
    /// # Errors
    /// `Target` if its partition does not fit; `Internal` if it is damaged.
    pub(crate) fn data_file(
        &self,
        spec_id: i32,
        partition: &StructType,
        schema: &Schema,
    ) -> Result<DataFile> {
        let bounds = |bounds: &BTreeMap<i32, Text>| {
            let found = bounds.iter().filter_map(|(id, text)| {
                let data_type = column_type(*id, schema)?;
                Some(text.datum(&data_type).map(|bound| (*id, bound)))
            });
            found.collect::<Result<HashMap<i32, Datum>>>()
        };
        let counts = |counts: &BTreeMap<i32, u64>| counts.iter().map(|(id, n)| (*id, *n)).collect();
        let content = match self.content {
            Content::Data => DataContentType::Data,
            Content::PositionDeletes => DataContentType::PositionDeletes,
        };
        let format = self.format.parse::<DataFileFormat>().context(describe)?;
        DataFileBuilder::default()
            .content(content)
            .file_path(self.path.clone())
            .file_format(format)
            .partition(partition_struct(&self.partition, partition)?)
            .partition_spec_id(spec_id)
            .record_count(self.rows)
            .file_size_in_bytes(self.bytes)
            .column_sizes(counts(&self.column_sizes))
            .value_counts(counts(&self.value_counts))
            .null_value_counts(counts(&self.null_counts))
            .nan_value_counts(counts(&self.nan_counts))
            .lower_bounds(bounds(&self.lower_bounds)?)
            .upper_bounds(bounds(&self.upper_bounds)?)
            .split_offsets(self.split_offsets.clone())
            .referenced_data_file(self.referenced_data_file.clone())
            .content_offset(self.content_offset)
            .content_size_in_bytes(self.content_size)
            .build()
            .map_err(|source| ConnectorError::internal(describe()).with_source(source))
    }
}

fn column_type(id: i32, schema: &Schema) -> Option<PrimitiveType> {
    let field = schema.field_by_id(id).or_else(|| get_metadata_field(id).ok())?;
    field.field_type.as_primitive_type().cloned()
}

fn check_arity(values: usize, fields: usize) -> Result<()> {
    if values == fields {
        return Ok(());
    }
    Err(target(format!(
        "a file has {values} partition values, but its partition spec has {fields} fields"
    )))
}

fn partition_texts(values: &Struct, partition: &StructType) -> Result<Vec<Option<Text>>> {
    check_arity(values.fields().len(), partition.fields().len())?;
    let texts = values.iter().zip(partition.fields()).map(|(value, field)| match value {
        None => Ok(None),
        Some(Literal::Primitive(value)) => {
            let data_type = primitive(&field.field_type)?;
            Ok(Some(Text::new(&datum(data_type, value)?)?))
        }
        Some(_) => Err(ConnectorError::internal("a partition value is nested")),
    });
    texts.collect()
}

fn partition_struct(texts: &[Option<Text>], partition: &StructType) -> Result<Struct> {
    check_arity(texts.len(), partition.fields().len())?;
    let values = texts.iter().zip(partition.fields()).map(|(text, field)| {
        let datum = text.as_ref().map(|text| text.datum(primitive(&field.field_type)?));
        Ok(datum.transpose()?.map(|datum| Literal::Primitive(datum.literal().clone())))
    });
    values.collect()
}

fn primitive(data_type: &Type) -> Result<&PrimitiveType> {
    data_type.as_primitive_type().ok_or_else(|| target("a partition field is nested"))
}
