//! Single values: a literal with its type is a [`Datum`], which compares and has bytes.

use frazil_connector_api::Result;
use iceberg::spec::{Datum, PrimitiveLiteral, PrimitiveType};

use crate::error::{ErrorContext, target};

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
