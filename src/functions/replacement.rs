//! What takes the place of expressions that the planner computes in another way than PostgreSQL.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryBuilder, Datum, StringArray, StringBuilder};
use arrow::compute::kernels::numeric;
use arrow::datatypes::{DataType, Field, FieldRef, Float32Type, Float64Type};
use arrow::error::ArrowError;
use datafusion::common::utils::take_function_args;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Expr, Operator, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility,
};
use datafusion::physical_expr_common::datum;

use super::text::write_value;

/// A function of a row that no SQL text calls by name.
///
/// **Law:** its value is NULL exactly where an argument is.
#[derive(Debug)]
struct Replacement {
    name: &'static str,
    signature: Signature,
    kernel: Kernel,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Kernel {
    /// Of two columns of one type, which is also that of the value.
    Operator(fn(&dyn Datum, &dyn Datum) -> std::result::Result<ArrayRef, ArrowError>),
    /// Of a column; the type of the value, or that of the column.
    Column(fn(&ArrayRef) -> Result<ArrayRef>, Option<&'static DataType>),
}

impl PartialEq for Replacement {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Replacement {}

impl Hash for Replacement {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Replacement {
    fn name(&self) -> &'static str {
        self.name
    }

    fn display_name(&self, args: &[Expr]) -> Result<String> {
        let names = args.iter().map(ToString::to_string).collect::<Vec<_>>();
        Ok(short(format!("{}({})", self.name, names.join(", "))))
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        let names = args.iter().map(|arg| arg.schema_name().to_string()).collect::<Vec<_>>();
        Ok(short(format!("{}({})", self.name, names.join(","))))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match self.kernel {
            Kernel::Column(_, Some(data_type)) => Ok(data_type.clone()),
            _ => Ok(types.first().cloned().unwrap_or(DataType::Null)),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let types: Vec<_> = args.arg_fields.iter().map(|it| it.data_type().clone()).collect();
        let is_nullable = args.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(self.name, self.return_type(&types)?, is_nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match self.kernel {
            Kernel::Operator(kernel) => {
                let [left, right] = take_function_args(self.name, args.args)?;
                datum::apply(&left, &right, kernel)
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
    let kernel = |column: &ArrayRef| -> Result<ArrayRef> {
        let mut texts = StringBuilder::with_capacity(column.len(), 24 * column.len());
        for row in 0..column.len() {
            if column.is_null(row) {
                texts.append_null();
                continue;
            }
            if !write_value(column, row, &mut texts) {
                let message = format!("a value of type {} is out of range", column.data_type());
                return Err(ArrowError::CastError(message).into());
            }
            // What has been written becomes the value.
            texts.append_value("");
        }
        Ok(Arc::new(texts.finish()))
    };
    call("text", Kernel::Column(kernel, Some(&DataType::Utf8)), vec![value])
}

/// The bytes that a text stands for: `\x00ff` in hexadecimal, else the characters, with `\\` and
/// `\ooo` in octal.
pub fn bytes(value: Expr) -> Expr {
    let kernel = |column: &ArrayRef| -> Result<ArrayRef> {
        let texts = arrow::compute::cast(column, &DataType::Utf8)?;
        let texts = texts.as_string::<i32>();
        let mut builder = BinaryBuilder::with_capacity(texts.len(), texts.values().len());
        let mut bytes = Vec::new();
        for text in texts {
            bytes.clear();
            match text {
                None => builder.append_null(),
                Some(text) => {
                    let message = || format!("invalid input syntax for type bytea: \"{text}\"");
                    read_bytes(text, &mut bytes)
                        .ok_or_else(|| ArrowError::ParseError(message()))?;
                    builder.append_value(&bytes);
                }
            }
        }
        Ok(Arc::new(builder.finish()))
    };
    call("bytes", Kernel::Column(kernel, Some(&DataType::Binary)), vec![value])
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

fn read_bytes(text: &str, out: &mut Vec<u8>) -> Option<()> {
    match text.strip_prefix("\\x") {
        Some(digits) => read_hexadecimal(digits.as_bytes(), out),
        None => read_escaped(text.as_bytes(), out),
    }
}

fn read_hexadecimal(digits: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let digit = |digit: &u8| char::from(*digit).to_digit(16);
    for pair in digits.chunks(2) {
        let [high, low] = pair else { return None };
        out.push(u8::try_from(digit(high)? * 16 + digit(low)?).ok()?);
    }
    Some(())
}

fn read_escaped(mut text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    loop {
        match text {
            [] => return Some(()),
            [b'\\', b'\\', rest @ ..] => {
                out.push(b'\\');
                text = rest;
            }
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', rest @ ..] => {
                out.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'));
                text = rest;
            }
            [b'\\', ..] => return None,
            [byte, rest @ ..] => {
                out.push(*byte);
                text = rest;
            }
        }
    }
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

    #[test]
    fn bytes_are_read_as_in_postgres() {
        let read = |text: &str| {
            let mut out = Vec::new();
            read_bytes(text, &mut out).map(|()| out)
        };
        assert_eq!(read("\\x00fF").unwrap(), [0, 255]);
        assert!(read("\\x").unwrap().is_empty());
        assert_eq!(read("a\\\\b\\001").unwrap(), [b'a', b'\\', b'b', 1]);
        assert!(read("\\x0").is_none() && read("\\xzz").is_none() && read("a\\b").is_none());
    }
}
