//! [`Partitioner`]: which rows of a batch go to which partition.
//!
//! ```text
//! partition_by = 'bucket(16, id), day(at), region'
//! ```

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, StructArray, UInt32Array};
use arrow::compute::take;
use arrow::row::{RowConverter, SortField};
use frazil_connector_api::{ConnectorError, Result};
use iceberg::arrow::{PartitionValueCalculator, arrow_struct_to_literal};
use iceberg::spec::{
    Literal, PartitionSpec, PartitionSpecRef, PrimitiveType, Schema, SchemaRef, Struct,
    TableMetadata, Transform, Type, UnboundPartitionField, UnboundPartitionSpec,
};

use crate::error::{ErrorContext, target, unsupported};

/// Parses `partition_by` against a schema.
///
/// # Errors
/// `Config` naming the part that is wrong.
pub(crate) fn parse_partition_by(text: &str, schema: &Schema) -> Result<UnboundPartitionSpec> {
    let mut fields = Vec::new();
    for term in split_terms(text) {
        let (column, name, transform) = parse_term(term)?;
        let Some(source_id) = schema.field_id_by_name(&column) else {
            return Err(ConnectorError::config(format!(
                "option \"partition_by\" names column \"{column}\", which does not exist"
            )));
        };
        let field = schema.field_by_id(source_id);
        let primitive = field.and_then(|field| field.field_type.as_primitive_type());
        if let Some(data_type @ (PrimitiveType::Float | PrimitiveType::Double)) = primitive {
            return Err(ConnectorError::config(format!(
                "option \"partition_by\" names column \"{column}\" of type {data_type}, by which a \
                 sink does not partition"
            ))
            .with_hint("partition by another column, or cast this one to numeric in the query"));
        }
        fields.push(UnboundPartitionField { source_id, field_id: None, name, transform });
    }
    let spec = UnboundPartitionSpec::builder()
        .add_partition_fields(fields)
        .map(|builder| builder.build())
        .and_then(|spec| spec.clone().bind(schema.clone()).map(|_| spec));
    spec.map_err(|source| {
        ConnectorError::config(format!("option \"partition_by\" has a bad value \"{text}\""))
            .with_source(source)
    })
}

/// Checks that files can be written under a spec.
///
/// # Errors
/// `Unsupported` for values that cannot be told apart in the end: NaN and -0.0, and nanoseconds,
/// which the `iceberg` crate cannot read back.
pub(crate) fn check_partition_types(
    table: &str,
    spec: &PartitionSpec,
    schema: &Schema,
) -> Result<()> {
    let partition = spec.partition_type(schema).map_err(|source| {
        target("the table's partitions cannot be computed").with_source(source)
    })?;
    for field in partition.fields() {
        let Type::Primitive(data_type) = &*field.field_type else { continue };
        if let PrimitiveType::Float
        | PrimitiveType::Double
        | PrimitiveType::TimestampNs
        | PrimitiveType::TimestamptzNs = data_type
        {
            return Err(unsupported(format!(
                "partition field \"{}\" of table \"{table}\" has type {data_type}, by which a sink \
                 does not partition",
                field.name
            ))
            .with_hint("partition by another column, or cast this one in the query"));
        }
    }
    Ok(())
}

/// A partition spec of a table by its id, with a schema that has its columns: the current one, or
/// the newest of the older ones if a column was dropped since.
///
/// # Errors
/// `Target` if the table has no such spec any more, or no schema for it.
pub(crate) fn spec_and_schema(
    metadata: &TableMetadata,
    spec_id: i32,
) -> Result<(PartitionSpecRef, SchemaRef)> {
    let Some(spec) = metadata.partition_spec_by_id(spec_id) else {
        return Err(target(format!("the table has no partition spec {spec_id} any more")));
    };
    let mut schemas: Vec<&SchemaRef> = metadata.schemas_iter().collect();
    schemas.sort_by_key(|schema| std::cmp::Reverse(schema.schema_id()));
    let schemas = std::iter::once(metadata.current_schema()).chain(schemas);
    let mut fitting = schemas.filter(|schema| spec.partition_type(schema).is_ok());
    match fitting.next() {
        Some(schema) => Ok((spec.clone(), schema.clone())),
        None => Err(target(format!(
            "the table has no schema with the columns of its partition spec {spec_id}"
        ))),
    }
}

/// Parts between the commas that stand outside parentheses.
fn split_terms(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut terms) = (0_i32, 0, Vec::new());
    for (at, letter) in text.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                terms.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms.into_iter().map(str::trim).filter(|term| !term.is_empty()).collect()
}

/// Source column, name of the partition field, transform.
fn parse_term(term: &str) -> Result<(String, String, Transform)> {
    let bad = || {
        ConnectorError::config(format!("option \"partition_by\" has a bad part \"{term}\""))
            .with_hint("use a column, or bucket(n, c), truncate(n, c), year, month, day, hour(c)")
    };
    let Some((function, rest)) = term.split_once('(') else {
        return Ok((term.to_string(), term.to_string(), Transform::Identity));
    };
    let arguments = rest.strip_suffix(')').ok_or_else(bad)?;
    let arguments: Vec<&str> = arguments.split(',').map(str::trim).collect();
    let number = |text: &str| text.parse::<u32>().ok().filter(|&n| n > 0).ok_or_else(bad);
    let (column, suffix, transform) =
        match (function.trim().to_lowercase().as_str(), arguments.as_slice()) {
            ("bucket", [n, column]) => (column, "bucket", Transform::Bucket(number(n)?)),
            ("truncate", [n, column]) => (column, "trunc", Transform::Truncate(number(n)?)),
            ("year" | "years", [column]) => (column, "year", Transform::Year),
            ("month" | "months", [column]) => (column, "month", Transform::Month),
            ("day" | "days", [column]) => (column, "day", Transform::Day),
            ("hour" | "hours", [column]) => (column, "hour", Transform::Hour),
            ("identity", [column]) => return parse_term(column),
            _ => return Err(bad()),
        };
    Ok((column.to_string(), format!("{column}_{suffix}"), transform))
}

/// Computes partition values and groups rows by them.
#[derive(Debug)]
pub(crate) struct Partitioner {
    calculator: Option<PartitionValueCalculator>,
    /// Partition values met before, by their row encoding, so that literals are made once each.
    known: HashMap<Box<[u8]>, Arc<Struct>>,
    converter: Option<RowConverter>,
}

/// Rows of one partition; `rows` is none for all rows of the batch.
#[derive(Debug)]
pub(crate) struct PartitionRows {
    pub(crate) partition: Arc<Struct>,
    pub(crate) rows: Option<UInt32Array>,
}

impl Partitioner {
    /// For rows of `schema` under `spec`.
    pub(crate) fn new(spec: &PartitionSpec, schema: &Schema) -> Result<Self> {
        if spec.is_unpartitioned() {
            return Ok(Self { calculator: None, known: HashMap::new(), converter: None });
        }
        let calculator = PartitionValueCalculator::try_new(spec, schema)
            .context(|| "cannot compute the table's partitions".to_string())?;
        let arrow::datatypes::DataType::Struct(fields) = calculator.partition_arrow_type() else {
            return Err(ConnectorError::internal("a partition is not a struct"));
        };
        let sort = fields.iter().map(|f| SortField::new(f.data_type().clone())).collect();
        let converter = Some(RowConverter::new(sort)?);
        Ok(Self { calculator: Some(calculator), known: HashMap::new(), converter })
    }

    /// The partitions of a batch in the order in which they first occur.
    pub(crate) fn split(&mut self, rows: &RecordBatch) -> Result<Vec<PartitionRows>> {
        let (Some(calculator), Some(converter)) = (&self.calculator, &self.converter) else {
            let partition = Arc::new(Struct::empty());
            return Ok(vec![PartitionRows { partition, rows: None }]);
        };
        let values = calculator
            .calculate(rows)
            .context(|| "cannot compute the partitions of rows".to_string())?;
        let columns = values.as_any().downcast_ref::<StructArray>().map(|array| array.columns());
        let columns = columns.ok_or_else(|| ConnectorError::internal("partitions have no rows"))?;
        let encoded = converter.convert_columns(columns)?;
        let mut groups: HashMap<&[u8], usize> = HashMap::new();
        let mut members: Vec<Vec<u32>> = Vec::new();
        for (row, bytes) in encoded.iter().enumerate() {
            let group = *groups.entry(bytes.data()).or_insert_with(|| {
                members.push(Vec::new());
                members.len() - 1
            });
            members[group].push(row as u32);
        }
        members
            .into_iter()
            .map(|rows| {
                let bytes = encoded.row(rows[0] as usize);
                let partition = match self.known.get(bytes.data()) {
                    Some(known) => known.clone(),
                    None => {
                        let made = Arc::new(literal(calculator, &values, rows[0])?);
                        self.known.insert(bytes.data().into(), made.clone());
                        made
                    }
                };
                Ok(PartitionRows { partition, rows: Some(UInt32Array::from(rows)) })
            })
            .collect()
    }
}

fn literal(calculator: &PartitionValueCalculator, values: &ArrayRef, row: u32) -> Result<Struct> {
    let one = take(values, &UInt32Array::from(vec![row]), None)?;
    let literals = arrow_struct_to_literal(&one, calculator.partition_type())
        .context(|| "cannot read the values of a partition".to_string())?;
    match literals.into_iter().next() {
        Some(Some(Literal::Struct(partition))) => Ok(partition),
        _ => Err(ConnectorError::internal("a partition is not a struct")),
    }
}
