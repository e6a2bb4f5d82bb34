//! Tables, messages and rows as text.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType};
use arrow::util::display::array_value_to_string;
use frazil_connector_api::{
    ConnectorError, ConnectorErrorKind, Decoded, Decoder, Format, Message, Options, UpsertOp,
};
use frazil_format::{EncodeKind, FormatKind, FormatSpec, build_format};

/// A SQL type word to its Arrow type, as `CREATE TABLE` maps it, and its fraction digits:
/// `timestamp(3)` and `timestamp(6)` are both microseconds in Arrow.
fn column_type(word: &str) -> (DataType, Option<u8>) {
    match word.split_once('(') {
        Some((word, digits)) => {
            (data_type(word), Some(digits.trim_end_matches(')').parse().unwrap()))
        }
        None => (data_type(word), None),
    }
}

fn data_type(word: &str) -> DataType {
    match word {
        "bool" => DataType::Boolean,
        "int2" => DataType::Int16,
        "int4" => DataType::Int32,
        "int8" => DataType::Int64,
        "float4" => DataType::Float32,
        "float8" => DataType::Float64,
        "text" => DataType::Utf8,
        "bytea" => DataType::Binary,
        "date" => DataType::Date32,
        "time" => DataType::Time64(TimeUnit::Microsecond),
        "timestamp" => DataType::Timestamp(TimeUnit::Microsecond, None),
        "timestamptz" => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        list if list.ends_with("[]") => {
            let item = data_type(list.trim_end_matches("[]"));
            DataType::List(Arc::new(Field::new("item", item, true)))
        }
        numeric => {
            let scale = numeric.strip_prefix("numeric").unwrap().parse().unwrap();
            DataType::Decimal128(38, scale)
        }
    }
}

/// `"id int8, name text"`
pub(crate) fn schema(columns: &str) -> SchemaRef {
    let fields = columns.split(',').map(|column| {
        let (name, word) = column.trim().split_once(' ').unwrap();
        match word.strip_suffix(" not null") {
            Some(word) => Field::new(name, column_type(word).0, false),
            None => Field::new(name, column_type(word).0, true),
        }
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// The fraction digits that columns declare.
fn precisions(columns: &str) -> Vec<Option<u8>> {
    let words = columns.split(',').map(|column| column.trim().split_once(' ').unwrap().1);
    words.map(|word| column_type(word.trim_end_matches(" not null")).1).collect()
}

/// A decoder; `options` as `"name=value name=value"`.
pub(crate) fn decoder(
    kind: FormatKind,
    columns: &str,
    key: &[usize],
    options: &str,
) -> Box<dyn Decoder> {
    format(kind, columns, key, options).unwrap().decoder().unwrap()
}

/// A format, with options as for [`decoder`].
pub(crate) fn format(
    format: FormatKind,
    columns: &str,
    key: &[usize],
    options: &str,
) -> Result<Arc<dyn Format>, ConnectorError> {
    let pairs = options.split_whitespace().map(|pair| pair.split_once('=').unwrap());
    let options = Options::new(pairs.map(|(name, value)| (name.to_string(), value.to_string())));
    let precisions = precisions(columns);
    let spec = FormatSpec { format, encode: EncodeKind::Json, options, precisions };
    build_format(spec, schema(columns), key.to_vec())
}

/// A decoder of Debezium events with the key in column 0.
pub(crate) fn keyed(columns: &str) -> Box<dyn Decoder> {
    decoder(FormatKind::Debezium, columns, &[0], "")
}

/// Pushes a value without a message key.
pub(crate) fn push(decoder: &mut dyn Decoder, value: &str) -> Result<(), ConnectorError> {
    decoder.push(Message { key: None, value: Some(value.as_bytes()) })
}

/// The bad message that a value is.
pub(crate) fn refused(decoder: &mut dyn Decoder, value: &str) -> ConnectorError {
    let error = push(decoder, value).unwrap_err();
    assert_eq!(error.kind, ConnectorErrorKind::BadMessage, "{error}");
    error
}

/// Flushes and draws the rows: `U 1|x|∅` upserts, `D` deletes, `T` truncates, `+1` and `-1`
/// weigh; `=` is a value that the source did not send.
pub(crate) fn drawn(decoder: &mut dyn Decoder) -> Vec<String> {
    let buffered = decoder.buffered_rows();
    let decoded = decoder.flush().unwrap();
    assert_eq!(decoded.num_rows(), buffered);
    assert_eq!(decoder.buffered_rows(), 0);
    match decoded {
        Decoded::Changes(batch) => (0..batch.num_rows())
            .map(|row| format!("{:+} {}", batch.weight(row), cells(batch.rows(), row, |_| false)))
            .collect(),
        Decoded::Upserts(batch) => (0..batch.num_rows())
            .map(|row| {
                let unchanged = |column: usize| {
                    let marks = batch.unchanged().get(column);
                    marks.and_then(Option::as_ref).is_some_and(|marks| marks.value(row))
                };
                match batch.ops()[row] {
                    UpsertOp::Upsert => format!("U {}", cells(batch.rows(), row, unchanged)),
                    UpsertOp::Delete => format!("D {}", cells(batch.rows(), row, unchanged)),
                    UpsertOp::Truncate => "T".to_string(),
                }
            })
            .collect(),
    }
}

fn cells(batch: &RecordBatch, row: usize, unchanged: impl Fn(usize) -> bool) -> String {
    let cells = batch.columns().iter().enumerate().map(|(index, column)| {
        if unchanged(index) {
            assert!(column.is_null(row));
            "=".to_string()
        } else if column.is_null(row) {
            "∅".to_string()
        } else {
            array_value_to_string(&with_offset(column), row).unwrap()
        }
    });
    cells.collect::<Vec<_>>().join("|")
}

/// Arrow draws offsets without a table of zone names, but not "UTC".
fn with_offset(column: &ArrayRef) -> ArrayRef {
    match column.data_type() {
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => {
            let instants = column.as_primitive::<TimestampMicrosecondType>().clone();
            Arc::new(instants.with_timezone("+00:00"))
        }
        _ => ArrayRef::clone(column),
    }
}
