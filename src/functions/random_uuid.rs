//! `gen_random_uuid()`.

use std::sync::Arc;

use arrow::array::FixedSizeBinaryArray;
use arrow::datatypes::DataType;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use uuid::Uuid;

use crate::types::UUID;

/// `gen_random_uuid()`: another UUID of version 4 for each row.
#[derive(Debug, PartialEq, Eq, Hash)]
struct RandomUuid {
    signature: Signature,
}

impl ScalarUDFImpl for RandomUuid {
    fn name(&self) -> &'static str {
        "gen_random_uuid"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(UUID)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let values = (0..args.number_rows).map(|_| Some(Uuid::new_v4().into_bytes()));
        let values = FixedSizeBinaryArray::try_from_sparse_iter_with_size(values, 16)?;
        Ok(ColumnarValue::Array(Arc::new(values)))
    }
}

/// `gen_random_uuid()`.
pub(super) fn random_uuid() -> Arc<ScalarUDF> {
    let signature = Signature::nullary(Volatility::Volatile);
    Arc::new(ScalarUDF::from(RandomUuid { signature }))
}
