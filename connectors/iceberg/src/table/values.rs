//! Values and their types: a literal with its type is a [`Datum`], which compares and has bytes;
//! a column is cast, or has one value in all its rows.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Decimal128Array, FixedSizeBinaryArray, Float32Array, Float64Array,
    Int32Array, Int64Array, LargeBinaryArray, StringArray, UInt32Array,
};
use arrow::compute::{CastOptions, cast_with_options, take};
use arrow::datatypes::DataType;
use frazil_connector_api::Result;
use iceberg::spec::{Datum, Literal, NestedField, PrimitiveLiteral, PrimitiveType, Type};

use crate::error::{ErrorContext, target, unsupported};

/// A literal as a value of a type.
///
/// # Errors
/// `Target` if it is not of that type.
pub(crate) fn datum(data_type: &PrimitiveType, literal: &PrimitiveLiteral) -> Result<Datum> {
    let bytes = match literal {
        PrimitiveLiteral::Boolean(value) => vec![u8::from(*value)],
        PrimitiveLiteral::Int(value) => value.to_le_bytes().to_vec(),
        PrimitiveLiteral::Long(value) => value.to_le_bytes().to_vec(),
        PrimitiveLiteral::Float(value) => value.to_le_bytes().to_vec(),
        PrimitiveLiteral::Double(value) => value.to_le_bytes().to_vec(),
        PrimitiveLiteral::String(value) => value.as_bytes().to_vec(),
        PrimitiveLiteral::Binary(value) => value.clone(),
        PrimitiveLiteral::Int128(value) => value.to_be_bytes().to_vec(),
        PrimitiveLiteral::UInt128(value) => value.to_be_bytes().to_vec(),
        PrimitiveLiteral::AboveMax | PrimitiveLiteral::BelowMin => {
            return Err(target(format!("a value is outside the type {data_type}")));
        }
    };
    let value = Datum::try_from_bytes(&bytes, data_type.clone());
    value.context(|| format!("a value is not of type {data_type}"))
}

/// A value of a column; none if the column is nested.
pub(crate) fn column_value(field: &NestedField, value: &Literal) -> Option<Datum> {
    match (&*field.field_type, value) {
        (Type::Primitive(data_type), Literal::Primitive(value)) => datum(data_type, value).ok(),
        _ => None,
    }
}

/// A value in each of some rows.
pub(crate) fn repeated(value: &Datum, data_type: &DataType, rows: usize) -> Result<ArrayRef> {
    let one: ArrayRef = match (value.literal(), data_type) {
        (PrimitiveLiteral::Boolean(value), _) => Arc::new(BooleanArray::from(vec![*value])),
        (PrimitiveLiteral::Int(value), _) => Arc::new(Int32Array::from(vec![*value])),
        (PrimitiveLiteral::Long(value), _) => Arc::new(Int64Array::from(vec![*value])),
        (PrimitiveLiteral::Float(value), _) => Arc::new(Float32Array::from(vec![value.0])),
        (PrimitiveLiteral::Double(value), _) => Arc::new(Float64Array::from(vec![value.0])),
        (PrimitiveLiteral::String(value), _) => Arc::new(StringArray::from(vec![value.as_str()])),
        (PrimitiveLiteral::Binary(value), DataType::FixedSizeBinary(_)) => {
            Arc::new(FixedSizeBinaryArray::try_from_iter([value].into_iter())?)
        }
        (PrimitiveLiteral::Binary(value), _) => {
            Arc::new(LargeBinaryArray::from_iter_values([value]))
        }
        (PrimitiveLiteral::UInt128(value), _) => {
            Arc::new(FixedSizeBinaryArray::try_from_iter([value.to_be_bytes()].into_iter())?)
        }
        (PrimitiveLiteral::Int128(value), DataType::Decimal128(precision, scale)) => {
            let value = Decimal128Array::from(vec![*value]);
            Arc::new(value.with_precision_and_scale(*precision, *scale)?)
        }
        (_, other) => {
            return Err(unsupported(format!("a default value of type {other} is not supported")));
        }
    };
    let one = as_type(&one, data_type)?;
    Ok(take(&one, &UInt32Array::from(vec![0; rows]), None)?)
}

/// A column as `data_type`; no copy if it has that type.
///
/// # Errors
/// `Target` if a value is outside the type: it is never NULL instead.
pub(crate) fn as_type(column: &ArrayRef, data_type: &DataType) -> Result<ArrayRef> {
    if column.data_type() == data_type {
        return Ok(column.clone());
    }
    let options = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(column, data_type, &options).map_err(|source| {
        target(format!("cannot store {} as {data_type}", column.data_type())).with_source(source)
    })
}
