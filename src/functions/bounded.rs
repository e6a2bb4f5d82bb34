//! [`Bounded`]: functions whose values can be much larger than their arguments.
//!
//! What a function allocates is in no account, and an allocation that fails ends the process. So
//! the size of what it would make is computed from its arguments, and refused before it is called.

use std::cell::OnceCell;
use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Datum, Int64Array, OffsetSizeTrait, UInt32Array};
use arrow::compute::kernels::concat_elements::concat_elements_dyn;
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, FieldRef, Int64Type, IntervalMonthDayNanoType, TimeUnit};
use arrow::error::ArrowError;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

use super::replacement::{Kernel, call};
use crate::error::{Error, ErrorKind};

/// Bytes of one value.
const VALUE_BYTES_MAX: u64 = 256 << 20;
/// Bytes of the values of one batch.
const BATCH_BYTES_MAX: u64 = 1 << 30;
const DAY_NANOS: i128 = 86_400_000_000_000;
/// Bytes up to which the largest size that is possible is taken for the size.
const ESTIMATE_BYTES_MAX: u64 = 16 << 10;

/// How large the value of a row is at most.
#[derive(Debug, Clone, Copy)]
enum Size {
    /// As large as all arguments together.
    Sum,
    /// Of the arguments and the row.
    Row(fn(&[Argument], usize) -> u64),
}

/// A function of a row that refuses values beyond the bounds.
#[derive(Debug)]
struct Bounded {
    inner: Arc<ScalarUDF>,
    size: Size,
}

/// An argument; that of all rows alike is one value.
struct Argument {
    values: ArrayRef,
    is_scalar: bool,
    /// The values as integers, once somebody asks.
    integers: OnceCell<Option<Int64Array>>,
}

/// The size of what a function makes, if that is to be bounded.
fn size(function: &str) -> Option<Size> {
    Some(match function {
        "concat" | "array_concat" | "make_array" => Size::Sum,
        "concat_ws" => Size::Row(|args, row| {
            let separators = args[0].bytes(row).saturating_mul(args.len() as u64);
            args.iter().fold(separators, |sum, arg| sum.saturating_add(arg.bytes(row)))
        }),
        "repeat" => Size::Row(|args, row| args[0].bytes(row).saturating_mul(args[1].count(row))),
        // Of characters of four bytes.
        "lpad" | "rpad" => Size::Row(|args, row| args[1].count(row).saturating_mul(4)),
        "replace" => Size::Row(replaced_size),
        "regexp_replace" => Size::Row(matched_size),
        "array_repeat" => Size::Row(|args, row| {
            let bytes = args[0].bytes(row).saturating_add(8);
            bytes.saturating_mul(args[1].count(row))
        }),
        "array_resize" => Size::Row(|args, row| {
            let bytes = args.get(2).map_or(0, |value| value.bytes(row)).saturating_add(8);
            bytes.saturating_mul(args[1].count(row)).saturating_add(args[0].bytes(row))
        }),
        "array_to_string" => Size::Row(|args, row| {
            let between = args[1..].iter().map(|arg| arg.bytes(row)).sum::<u64>();
            let each = between.saturating_add(32).saturating_mul(args[0].elements(row));
            each.saturating_add(args[0].bytes(row))
        }),
        "range" | "generate_series" => Size::Row(series_size),
        _ => return None,
    })
}

/// A call of the function that refuses what is too large; `None` for functions whose values are
/// not much larger than their arguments.
pub fn bounded(call: &ScalarFunction) -> Option<Expr> {
    let size = size(call.func.name())?;
    if call.func.inner().downcast_ref::<Bounded>().is_some() {
        return None;
    }
    let bounded = Bounded { inner: Arc::clone(&call.func), size };
    Some(ScalarUDF::from(bounded).call(call.args.clone()))
}

/// `left || right` of texts of one type, which refuses what is too large.
pub fn joined_texts(left: Expr, right: Expr) -> Expr {
    call("||", Kernel::Operator(joined), vec![left, right])
}

fn joined(left: &dyn Datum, right: &dyn Datum) -> std::result::Result<ArrayRef, ArrowError> {
    let sides = [left, right].map(|side| {
        let (values, is_scalar) = side.get();
        Argument::new(values.slice(0, values.len()), is_scalar)
    });
    // There may be none.
    let rows = sides.iter().find(|side| !side.is_scalar).map_or(1, |side| side.values.len());
    check("||", Size::Sum, &sides, rows)
        .map_err(|error| ArrowError::ExternalError(Box::new(error)))?;
    let [left, right] = sides.map(|side| match side.is_scalar && rows != 1 {
        true => take(&side.values, &UInt32Array::from(vec![0; rows]), None),
        false => Ok(side.values),
    });
    concat_elements_dyn(&left?, &right?)
}

impl PartialEq for Bounded {
    fn eq(&self, other: &Self) -> bool {
        self.inner == other.inner
    }
}

impl Eq for Bounded {}

impl Hash for Bounded {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(types)
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        self.inner.output_ordering(inputs)
    }

    fn preserves_lex_ordering(&self, inputs: &[ExprProperties]) -> Result<bool> {
        self.inner.preserves_lex_ordering(inputs)
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        Ok(match self.inner.simplify(args, info)? {
            ExprSimplifyResult::Simplified(Expr::ScalarFunction(call)) => {
                let bounded = bounded(&call).unwrap_or(Expr::ScalarFunction(call));
                ExprSimplifyResult::Simplified(bounded)
            }
            other => other,
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arguments = args.args.iter().map(|arg| match arg {
            ColumnarValue::Array(values) => Ok(Argument::new(Arc::clone(values), false)),
            ColumnarValue::Scalar(value) => Ok(Argument::new(value.to_array()?, true)),
        });
        let arguments = arguments.collect::<Result<Vec<_>>>()?;
        let rows = if arguments.iter().all(|arg| arg.is_scalar) { 1 } else { args.number_rows };
        check(self.name(), self.size, &arguments, rows)
            .map_err(|error| DataFusionError::External(Box::new(error)))?;
        self.inner.invoke_with_args(args)
    }
}

/// Refuses a call whose values are too large.
fn check(name: &str, size: Size, args: &[Argument], rows: usize) -> std::result::Result<(), Error> {
    let sum = |args: &[Argument], row: usize| {
        args.iter().fold(0_u64, |sum, arg| sum.saturating_add(arg.bytes(row)))
    };
    let of_row = match size {
        Size::Sum => {
            let all = args.iter().map(|arg| arg.bytes_of(rows));
            if all.fold(0_u64, u64::saturating_add) <= VALUE_BYTES_MAX {
                return Ok(());
            }
            sum
        }
        Size::Row(of_row) => of_row,
    };
    let mut batch = 0_u64;
    for row in 0..rows {
        let value = of_row(args, row);
        batch = batch.saturating_add(value);
        if value > VALUE_BYTES_MAX {
            let message = format!("a value of {name} is too large");
            let detail = format!("it may have {value} bytes, and {VALUE_BYTES_MAX} at most");
            return Err(Error::new(ErrorKind::ValueTooLarge, message).with_detail(detail));
        }
    }
    if batch > BATCH_BYTES_MAX {
        let message = format!("the values of {name} are too large");
        let detail =
            format!("{rows} of them may have {batch} bytes, and {BATCH_BYTES_MAX} at most");
        return Err(Error::new(ErrorKind::ValueTooLarge, message).with_detail(detail));
    }
    Ok(())
}

/// Of `replace(text, from, to)`.
fn replaced_size(args: &[Argument], row: usize) -> u64 {
    let (length, from, to) = (args[0].bytes(row), args[1].bytes(row), args[2].bytes(row));
    let most = length.saturating_add((length / from.max(1) + 1).saturating_mul(to));
    match (args[0].text(row), args[1].text(row)) {
        (Some(text), Some(from)) if most > ESTIMATE_BYTES_MAX => {
            length.saturating_add((text.matches(from).count() as u64).saturating_mul(to))
        }
        _ => most,
    }
}

/// Of `regexp_replace(text, pattern, replacement, flags)`: how often the pattern matches is known
/// to the function alone, so that only what could be too large for one value is counted.
fn matched_size(args: &[Argument], row: usize) -> u64 {
    let (length, replacement) = (args[0].bytes(row), args[2].bytes(row));
    let is_global =
        args.get(3).and_then(|flags| flags.text(row)).is_some_and(|it| it.contains('g'));
    // A reference such as \1 stands for a part of the match.
    let has_references = args[2].text(row).is_some_and(|text| text.contains('\\'));
    let references = if has_references { length.saturating_mul(replacement / 2) } else { 0 };
    let matches = if is_global { length.saturating_add(1) } else { 1 };
    let most = matches.saturating_mul(replacement).saturating_add(references);
    if most > VALUE_BYTES_MAX { most } else { length }
}

/// Of `range(stop)`, `range(start, stop)` and `range(start, stop, step)`.
fn series_size(args: &[Argument], row: usize) -> u64 {
    let of = |at: usize| args.get(at).and_then(|arg| arg.integer(row)).map(i128::from);
    let ends = if args.len() == 1 { of(0).map(|stop| (0, stop)) } else { of(0).zip(of(1)) };
    let Some((start, stop)) = ends else { return 0 };
    let step = match args.get(2) {
        None => Some(1),
        // It may lead nowhere, so that the series never ends.
        Some(step) if step.has_both_signs(row) => return u64::MAX,
        Some(step) => step.step(row),
    };
    let distance = (stop - start) * unit(args[0].values.data_type());
    match step {
        // The function refuses it, or gives NULL.
        None | Some(0) => 0,
        Some(step) if (distance < 0) != (step < 0) && distance != 0 => 0,
        Some(step) => u64::try_from(distance / step + 1).unwrap_or(u64::MAX).saturating_mul(8),
    }
}

impl Argument {
    fn new(values: ArrayRef, is_scalar: bool) -> Self {
        Self { values, is_scalar, integers: OnceCell::new() }
    }

    /// The place of a row's value.
    fn at(&self, row: usize) -> usize {
        if self.is_scalar { 0 } else { row }
    }

    /// Bytes of a row's value.
    fn bytes(&self, row: usize) -> u64 {
        let at = self.at(row);
        bytes(&self.values, at..at + 1)
    }

    /// Bytes of the values of all rows.
    fn bytes_of(&self, rows: usize) -> u64 {
        let times = if self.is_scalar { rows as u64 } else { 1 };
        bytes(&self.values, 0..self.values.len()).saturating_mul(times)
    }

    /// A row's integer, or the days or ticks of a time.
    fn integer(&self, row: usize) -> Option<i64> {
        let integers = self.integers.get_or_init(|| {
            let integers = cast(&self.values, &DataType::Int64).ok()?;
            Some(integers.as_primitive::<Int64Type>().clone())
        });
        let (integers, at) = (integers.as_ref()?, self.at(row));
        integers.is_valid(at).then(|| integers.value(at))
    }

    /// How often something is done for a row.
    fn count(&self, row: usize) -> u64 {
        self.integer(row).and_then(|count| u64::try_from(count).ok()).unwrap_or(0)
    }

    fn text(&self, row: usize) -> Option<&str> {
        let at = self.at(row);
        match self.values.data_type() {
            _ if self.values.is_null(at) => None,
            DataType::Utf8 => Some(self.values.as_string::<i32>().value(at)),
            DataType::LargeUtf8 => Some(self.values.as_string::<i64>().value(at)),
            DataType::Utf8View => Some(self.values.as_string_view().value(at)),
            _ => None,
        }
    }

    /// Elements of a row's list.
    fn elements(&self, row: usize) -> u64 {
        let at = self.at(row);
        let elements = match self.values.data_type() {
            DataType::List(_) => self.values.as_list::<i32>().value_length(at) as usize,
            DataType::LargeList(_) => self.values.as_list::<i64>().value_length(at) as usize,
            DataType::FixedSizeList(_, length) => *length as usize,
            _ => 1,
        };
        elements as u64
    }

    /// Months, days and nanoseconds of a row's interval.
    fn interval(&self, row: usize) -> Option<(i32, i32, i64)> {
        let at = self.at(row);
        let intervals = self.values.as_primitive_opt::<IntervalMonthDayNanoType>()?;
        let parts = || IntervalMonthDayNanoType::to_parts(intervals.value(at));
        intervals.is_valid(at).then(parts)
    }

    /// True for an interval of parts with different signs.
    fn has_both_signs(&self, row: usize) -> bool {
        let Some((months, days, nanos)) = self.interval(row) else { return false };
        let parts = [i64::from(months), i64::from(days), nanos];
        parts.iter().any(|part| *part > 0) && parts.iter().any(|part| *part < 0)
    }

    /// A row's step from one value to the next; of an interval its nanoseconds at least, since a
    /// month has 28 days at least.
    fn step(&self, row: usize) -> Option<i128> {
        let DataType::Interval(_) = self.values.data_type() else {
            return self.integer(row).map(i128::from);
        };
        let (months, days, nanos) = self.interval(row)?;
        let days = i128::from(months) * 28 + i128::from(days);
        Some(days * DAY_NANOS + i128::from(nanos))
    }
}

/// Nanoseconds between two neighbours of a type of times; 1 for numbers.
fn unit(of: &DataType) -> i128 {
    match of {
        DataType::Date32 => DAY_NANOS,
        DataType::Timestamp(TimeUnit::Second, _) => 1_000_000_000,
        DataType::Date64 | DataType::Timestamp(TimeUnit::Millisecond, _) => 1_000_000,
        DataType::Timestamp(TimeUnit::Microsecond, _) => 1_000,
        _ => 1,
    }
}

/// Bytes of some values without their nulls and offsets.
fn bytes(values: &dyn Array, rows: Range<usize>) -> u64 {
    fn between<O: OffsetSizeTrait>(offsets: &[O], rows: &Range<usize>) -> Range<usize> {
        offsets[rows.start].as_usize()..offsets[rows.end].as_usize()
    }
    let of_views = |views: &[u128]| {
        // The length is in the lowest four bytes.
        views[rows.clone()].iter().map(|view| u64::from(*view as u32)).sum::<u64>()
    };
    match values.data_type() {
        DataType::Utf8 => between(values.as_string::<i32>().value_offsets(), &rows).len() as u64,
        DataType::LargeUtf8 => {
            between(values.as_string::<i64>().value_offsets(), &rows).len() as u64
        }
        DataType::Binary => between(values.as_binary::<i32>().value_offsets(), &rows).len() as u64,
        DataType::LargeBinary => {
            between(values.as_binary::<i64>().value_offsets(), &rows).len() as u64
        }
        DataType::Utf8View => of_views(values.as_string_view().views()),
        DataType::BinaryView => of_views(values.as_binary_view().views()),
        DataType::List(_) => {
            let lists = values.as_list::<i32>();
            bytes(lists.values(), between(lists.value_offsets(), &rows))
        }
        DataType::LargeList(_) => {
            let lists = values.as_list::<i64>();
            bytes(lists.values(), between(lists.value_offsets(), &rows))
        }
        DataType::FixedSizeList(_, length) => {
            let lists = values.as_fixed_size_list();
            let length = *length as usize;
            bytes(lists.values(), rows.start * length..rows.end * length)
        }
        DataType::Struct(_) => {
            let fields = values.as_struct().columns().iter();
            fields.map(|field| bytes(field, rows.clone())).sum()
        }
        other => (rows.len() * other.primitive_width().unwrap_or(16)) as u64,
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Scalar, StringArray, StringViewArray, StringViewBuilder};

    use super::*;

    #[test]
    fn a_text_is_joined_with_none_and_with_many() {
        let one = Scalar::new(StringArray::from(vec!["a"]));
        for many in [vec![], vec![Some("b")], vec![Some("b"), None, Some("")]] {
            let column = StringArray::from(many.clone());
            let left = joined(&one, &column).unwrap();
            let expected = many.iter().map(|text| text.map(|text| format!("a{text}")));
            assert_eq!(left.as_string::<i32>(), &expected.collect::<StringArray>());
            assert_eq!(joined(&column, &one).unwrap().len(), many.len());
        }
    }

    /// Views of one text: many bytes that take no memory.
    fn views(rows: usize) -> StringViewArray {
        let mut builder = StringViewBuilder::new();
        let block = builder.append_block(vec![b'x'; 1 << 20].into());
        (0..rows).for_each(|_| builder.try_append_view(block, 0, 1 << 20).unwrap());
        builder.finish()
    }

    #[test]
    fn texts_that_are_too_large_together_are_refused() {
        assert_eq!(joined(&views(2), &views(2)).unwrap().len(), 2);
        let refused = joined(&views(600), &views(600)).unwrap_err();
        assert_eq!(Error::from(&refused).kind.sqlstate(), "54000");
        let all: Vec<_> = (0..300).map(|_| Argument::new(Arc::new(views(1)), false)).collect();
        let refused = check("concat", size("concat").unwrap(), &all, 1).unwrap_err();
        assert_eq!(refused.kind, ErrorKind::ValueTooLarge);
    }

    #[test]
    fn what_is_too_large_is_refused() {
        let texts = || Argument::new(Arc::new(StringArray::from(vec!["ab", "c"])), false);
        let times = |times| Argument::new(Arc::new(Int64Array::from(vec![times])), true);
        let repeat = size("repeat").unwrap();
        let check = |count| check("repeat", repeat, &[texts(), times(count)], 2);
        for count in [-1, 0, 1 << 27] {
            check(count).unwrap();
        }
        for count in [(1 << 27) + 1, i64::MAX] {
            assert_eq!(check(count).unwrap_err().kind.sqlstate(), "54000");
        }
    }
}
