//! What takes the place of expressions that the planner computes in another way than PostgreSQL.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, Datum, PrimitiveArray, PrimitiveBuilder,
    StringArray, StringBuilder,
};
use arrow::compute::kernels::numeric;
use arrow::datatypes::{DataType, Field, FieldRef, Float32Type, Float64Type};
use arrow::error::ArrowError;
use datafusion::common::utils::take_function_args;
use datafusion::error::DataFusionError::External;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Expr, Operator, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility, lit,
};
use datafusion::physical_expr_common::datum;
use datafusion::scalar::ScalarValue;

use super::input::read_texts;
use super::text::write_value;
use crate::types::type_name;

/// A function of a row that no SQL text calls by name.
///
/// **Law:** its value is NULL exactly where an argument is.
#[derive(Debug)]
struct Replacement {
    name: &'static str,
    signature: Signature,
    kernel: Kernel,
}

#[derive(Debug, Clone)]
pub(super) enum Kernel {
    /// Of two columns of one type, which is also that of the value.
    Operator(fn(&dyn Datum, &dyn Datum) -> std::result::Result<ArrayRef, ArrowError>),
    /// Of a column; the type of the value, or that of the column.
    Column(fn(&ArrayRef) -> Result<ArrayRef>, Option<&'static DataType>),
    /// Of two columns; the value has the given type, which the kernel receives.
    Binary(fn(&dyn Datum, &dyn Datum, &DataType) -> ArrowResult, DataType),
    /// The values of a type that a column of texts stands for.
    Input(DataType),
}

type ArrowResult = std::result::Result<ArrayRef, ArrowError>;

impl Replacement {
    /// The type of the value that a name alone does not tell.
    fn target(&self) -> Option<&DataType> {
        match &self.kernel {
            Kernel::Input(target) | Kernel::Binary(_, target) => Some(target),
            _ => None,
        }
    }
}

impl PartialEq for Replacement {
    fn eq(&self, other: &Self) -> bool {
        (self.name, self.target()) == (other.name, other.target())
    }
}

impl Eq for Replacement {}

impl Hash for Replacement {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.name, self.target()).hash(state);
    }
}

impl ScalarUDFImpl for Replacement {
    fn name(&self) -> &'static str {
        self.name
    }

    fn display_name(&self, args: &[Expr]) -> Result<String> {
        let names = args.iter().map(ToString::to_string);
        let names: Vec<_> = names.chain(self.target().map(type_name)).collect();
        Ok(short(format!("{}({})", self.name, names.join(", "))))
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        let names = args.iter().map(|arg| arg.schema_name().to_string());
        let names: Vec<_> = names.chain(self.target().map(type_name)).collect();
        Ok(short(format!("{}({})", self.name, names.join(","))))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match &self.kernel {
            Kernel::Column(_, Some(data_type)) => Ok((*data_type).clone()),
            Kernel::Input(target) | Kernel::Binary(_, target) => Ok(target.clone()),
            _ => Ok(types.first().cloned().unwrap_or(DataType::Null)),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let types: Vec<_> = args.arg_fields.iter().map(|it| it.data_type().clone()).collect();
        let is_nullable = args.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(self.name, self.return_type(&types)?, is_nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match &self.kernel {
            Kernel::Operator(kernel) => {
                let [left, right] = take_function_args(self.name, args.args)?;
                datum::apply(&left, &right, kernel)
            }
            Kernel::Binary(kernel, target) => {
                let [left, right] = take_function_args(self.name, args.args)?;
                datum::apply(&left, &right, |left, right| kernel(left, right, target))
            }
            Kernel::Input(target) => {
                let [column] = take_function_args(self.name, args.args)?;
                let column = column.into_array(args.number_rows)?;
                let values = read_texts(&column, target);
                Ok(ColumnarValue::Array(values.map_err(|it| External(Box::new(it)))?))
            }
            Kernel::Column(kernel, _) => {
                let [column] = take_function_args(self.name, args.args)?;
                let column = column.into_array(args.number_rows)?;
                Ok(ColumnarValue::Array(kernel(&column)?))
            }
        }
    }
}

/// A long name by its beginning and a hash of the whole. Every level of a nested expression writes
/// the names of the levels below it, so that whole names would take cubic time.
fn short(name: String) -> String {
    const LENGTH_MAX: usize = 200;
    if name.len() <= LENGTH_MAX {
        return name;
    }
    // Its keys are the same in every process.
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    let start: String = name.chars().take(LENGTH_MAX / 4).collect();
    format!("{start}…{:016x}", hasher.finish())
}

/// Applies a function of two values row by row; a row is NULL where either side is. A side that is
/// flagged as scalar has one value, which is used for all rows.
pub(super) fn pairwise<L: ArrowPrimitiveType, R: ArrowPrimitiveType, O: ArrowPrimitiveType>(
    (left, left_is_scalar): (&PrimitiveArray<L>, bool),
    (right, right_is_scalar): (&PrimitiveArray<R>, bool),
    value: impl Fn(L::Native, R::Native) -> std::result::Result<O::Native, ArrowError>,
) -> std::result::Result<PrimitiveArray<O>, ArrowError> {
    let count = match (left_is_scalar, right_is_scalar) {
        (true, true) => 1,
        (true, false) => right.len(),
        (false, _) => left.len(),
    };
    let mut values = PrimitiveBuilder::<O>::with_capacity(count);
    for row in 0..count {
        let (left_row, right_row) =
            (if left_is_scalar { 0 } else { row }, if right_is_scalar { 0 } else { row });
        match left.is_null(left_row) || right.is_null(right_row) {
            true => values.append_null(),
            false => values.append_value(value(left.value(left_row), right.value(right_row))?),
        }
    }
    Ok(values.finish())
}

/// Whether a function stands in the place of an operator or a cast: its type was decided when the
/// text was planned.
pub fn is_replacement(function: &ScalarUDF) -> bool {
    function.inner().downcast_ref::<Replacement>().is_some()
}

/// A call of a function that no SQL text names.
pub(super) fn call(name: &'static str, kernel: Kernel, args: Vec<Expr>) -> Expr {
    let signature = Signature::any(args.len(), Volatility::Immutable);
    ScalarUDF::from(Replacement { name, signature, kernel }).call(args)
}

/// `left + right`, `left - right` or `left * right` of integers, which fails where it overflows;
/// `None` for other operators.
pub fn checked(left: &Expr, operator: Operator, right: &Expr) -> Option<Expr> {
    let (name, kernel): (_, fn(&dyn Datum, &dyn Datum) -> _) = match operator {
        Operator::Plus => ("+", numeric::add),
        Operator::Minus => ("-", numeric::sub),
        Operator::Multiply => ("*", numeric::mul),
        _ => return None,
    };
    Some(call(name, Kernel::Operator(kernel), vec![left.clone(), right.clone()]))
}

/// `-value` of an integer, which fails where it overflows.
pub fn checked_minus(value: Expr) -> Expr {
    call("minus", Kernel::Column(|column| Ok(numeric::neg(column.as_ref())?), None), vec![value])
}

/// A float rounded to a whole number, a half to the even one.
pub fn whole_float(value: Expr) -> Expr {
    let kernel = |column: &ArrayRef| -> Result<ArrayRef> {
        Ok(match column.data_type() {
            DataType::Float32 => {
                let column = column.as_primitive::<Float32Type>();
                Arc::new(column.unary::<_, Float32Type>(f32::round_ties_even))
            }
            _ => {
                let column = column.as_primitive::<Float64Type>();
                Arc::new(column.unary::<_, Float64Type>(f64::round_ties_even))
            }
        })
    };
    call("whole", Kernel::Column(kernel, None), vec![value])
}

/// The text of a float, a time, or bytes, as PostgreSQL writes it.
pub fn text(value: Expr) -> Expr {
    let kernel = |column: &ArrayRef| -> Result<ArrayRef> { Ok(Arc::new(texts_of(column)?)) };
    call("text", Kernel::Column(kernel, Some(&DataType::Utf8)), vec![value])
}

/// The texts of a column's values.
pub(super) fn texts_of(column: &ArrayRef) -> std::result::Result<StringArray, ArrowError> {
    let mut texts = StringBuilder::with_capacity(column.len(), 24 * column.len());
    for row in 0..column.len() {
        if column.is_null(row) {
            texts.append_null();
            continue;
        }
        if !write_value(column, row, &mut texts) {
            let message = format!("a value of type {} is out of range", column.data_type());
            return Err(ArrowError::CastError(message));
        }
        // What has been written becomes the value.
        texts.append_value("");
    }
    Ok(texts.finish())
}

/// The values of a type that texts stand for; a constant is read at once.
///
/// # Errors
/// What [`read_texts`] says of a constant.
pub fn input(value: Expr, to: &DataType) -> Result<Expr> {
    if let Expr::Literal(text, _) = &value {
        let values = read_texts(&text.to_array()?, to).map_err(|it| External(Box::new(it)))?;
        return Ok(lit(ScalarValue::try_from_array(&values, 0)?));
    }
    Ok(call("input", Kernel::Input(to.clone()), vec![value]))
}

/// A text of a date and time without the zone behind it, which a timestamp without a zone leaves
/// out.
pub fn without_zone(value: Expr) -> Expr {
    let kernel = |column: &ArrayRef| -> Result<ArrayRef> {
        let texts = arrow::compute::cast(column, &DataType::Utf8)?;
        let texts = texts.as_string::<i32>().iter();
        let texts: StringArray = texts.map(|text| text.map(cut_zone)).collect();
        Ok(Arc::new(texts))
    };
    call("without_zone", Kernel::Column(kernel, Some(&DataType::Utf8)), vec![value])
}

/// Cuts `Z`, `+02`, `-0230` or `+02:30` off behind a clock's time.
fn cut_zone(text: &str) -> &str {
    let trimmed = text.trim_end();
    let Some(clock) = trimmed.find(':') else { return text };
    if let Some(cut) = trimmed.strip_suffix(['Z', 'z']) {
        return cut.trim_end();
    }
    let Some(sign) = trimmed.rfind(['+', '-']).filter(|sign| *sign > clock) else { return text };
    let zone = &trimmed[sign + 1..];
    let is_zone = zone.starts_with(|letter: char| letter.is_ascii_digit())
        && zone.chars().all(|letter| letter.is_ascii_digit() || letter == ':');
    if is_zone { trimmed[..sign].trim_end() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_are_cut_off() {
        for zone in ["", "Z", "+02", " +02", "-0230", "+02:30", "-08:00"] {
            assert_eq!(cut_zone(&format!("2024-03-10 03:00:00{zone}")), "2024-03-10 03:00:00");
        }
        for text in ["2024-03-10", "10:00 -x", "2024-03-10T03:00:00.5", "", "-infinity"] {
            assert_eq!(cut_zone(text), text);
        }
    }
}
