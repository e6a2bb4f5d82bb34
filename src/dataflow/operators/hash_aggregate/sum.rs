//! [`ExactSum`] and [`FloatSum`]: sums and averages.

use std::sync::Arc;

use arrow::array::PrimitiveArray;
use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, Float64Array, Int64Array};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Decimal32Type, Decimal64Type, Decimal128Type, DecimalType, Field,
    Float64Type, Int64Type, UInt64Type,
};

use super::accumulator::{Accumulator, Rows};
use crate::error::{Error, ErrorKind, Result};

/// What becomes of a sum and the number of its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finish {
    /// The sum.
    Sum,
    /// The sum by the number of values.
    Average,
}

/// A sum and the number of its values, in one place of memory.
#[derive(Debug, Clone, Default)]
struct Total {
    sum: i128,
    count: i64,
}

/// Sum or average of integers, decimals and durations: 128 bits wide, so that the order of
/// changes does not matter; only a result beyond its type is `OutOfRange`.
///
/// A decimal average is cut off toward zero, as DataFusion's.
#[derive(Debug)]
pub(super) struct ExactSum {
    totals: Vec<Total>,
    input: DataType,
    output: DataType,
    finish: Finish,
    /// What an average's sum is multiplied with to have the result's scale.
    multiplier: i128,
}

impl ExactSum {
    /// A sum of `input` values with results of type `output`.
    ///
    /// # Errors
    /// `Unsupported` for other types.
    pub(super) fn try_new(input: &DataType, output: &DataType, finish: Finish) -> Result<Self> {
        use DataType::{Decimal32, Decimal64, Decimal128, Duration, Int64, UInt64};
        let scales = match (input, output) {
            (Int64, Int64) | (UInt64, UInt64) if finish == Finish::Sum => (0, 0),
            (Duration(from), Duration(to)) if from == to => (0, 0),
            (
                Decimal32(_, from) | Decimal64(_, from) | Decimal128(_, from),
                Decimal32(_, to) | Decimal64(_, to) | Decimal128(_, to),
            ) if to >= from && to - from <= 38 => (*from, *to),
            _ => {
                let name = if finish == Finish::Sum { "sum" } else { "avg" };
                let message = format!("aggregate {name}({input}) is not supported");
                return Err(Error::unsupported(message)
                    .with_hint("cast the argument to bigint, numeric or double precision"));
            }
        };
        let digits = u32::from((scales.1 - scales.0).unsigned_abs());
        Ok(Self {
            totals: Vec::new(),
            input: input.clone(),
            output: output.clone(),
            finish,
            multiplier: 10_i128.pow(digits),
        })
    }

    fn add<T: ArrowPrimitiveType>(&mut self, rows: &Rows<'_>, arg: &ArrayRef) -> Result<()>
    where
        T::Native: Into<i128>,
    {
        let values = arg.as_primitive::<T>().values();
        let totals = &mut self.totals;
        let mut overflows = false;
        rows.for_each(|slot, row, weight| {
            let total = &mut totals[slot];
            total.count += weight;
            let value: i128 = values[row].into();
            let (product, product_overflows) = value.overflowing_mul(weight.into());
            let (sum, sum_overflows) = total.sum.overflowing_add(product);
            total.sum = sum;
            overflows |= product_overflows | sum_overflows;
        });
        if overflows { Err(self.out_of_range()) } else { Ok(()) }
    }

    fn out_of_range(&self) -> Error {
        let name = if self.finish == Finish::Sum { "sum" } else { "avg" };
        let message = format!("result of {name}({}) is out of range", self.input);
        Error::new(ErrorKind::OutOfRange, message)
            .with_hint("cast the argument to a wider type, such as numeric(38, 0)")
    }

    /// NULL where no value was.
    fn nulls(&self, slots: &[u32]) -> Option<NullBuffer> {
        let has_value = |slot: &u32| self.totals[*slot as usize].count != 0;
        (!slots.iter().all(has_value)).then(|| slots.iter().map(has_value).collect())
    }

    fn value(&self, slot: usize) -> Option<i128> {
        let Total { sum, count } = self.totals[slot];
        match (count, self.finish) {
            (0, _) => Some(0),
            (_, Finish::Sum) => sum.checked_mul(self.multiplier),
            (count, Finish::Average) => Some(sum.checked_mul(self.multiplier)? / i128::from(count)),
        }
    }

    fn column<T: ArrowPrimitiveType>(
        &self,
        slots: &[u32],
        fit: impl Fn(i128) -> Option<T::Native>,
    ) -> Result<ArrayRef> {
        let mut values = Vec::with_capacity(slots.len());
        for slot in slots {
            let value = self.value(*slot as usize).and_then(&fit);
            values.push(value.ok_or_else(|| self.out_of_range())?);
        }
        let nulls = self.nulls(slots);
        let array = PrimitiveArray::<T>::new(values.into(), nulls);
        Ok(Arc::new(array.with_data_type(self.output.clone())))
    }

    fn decimal<T: DecimalType>(
        &self,
        slots: &[u32],
        precision: u8,
        fit: impl Fn(i128) -> Option<T::Native>,
    ) -> Result<ArrayRef> {
        let limit = 10_i128.pow(precision.into());
        self.column::<T>(slots, |value| fit(value).filter(|_| -limit < value && value < limit))
    }
}

impl Accumulator for ExactSum {
    fn resize(&mut self, slot_count: usize) {
        self.totals.resize(slot_count, Total::default());
    }

    fn update(&mut self, rows: &Rows<'_>) -> Result<()> {
        let arg = rows.arg.ok_or_else(|| Error::internal("a sum has no argument"))?;
        match arg.data_type() {
            DataType::Int64 => self.add::<Int64Type>(rows, arg),
            DataType::UInt64 => self.add::<UInt64Type>(rows, arg),
            DataType::Decimal32(_, _) => self.add::<Decimal32Type>(rows, arg),
            DataType::Decimal64(_, _) => self.add::<Decimal64Type>(rows, arg),
            DataType::Decimal128(_, _) => self.add::<Decimal128Type>(rows, arg),
            _ => self.add::<Int64Type>(rows, &cast(arg, &DataType::Int64)?),
        }
    }

    fn output(&self, slots: &[u32]) -> Result<ArrayRef> {
        match &self.output {
            DataType::UInt64 => self.column::<UInt64Type>(slots, |value| value.try_into().ok()),
            DataType::Decimal32(precision, _) => {
                self.decimal::<Decimal32Type>(slots, *precision, |value| value.try_into().ok())
            }
            DataType::Decimal64(precision, _) => {
                self.decimal::<Decimal64Type>(slots, *precision, |value| value.try_into().ok())
            }
            DataType::Decimal128(precision, _) => {
                self.decimal::<Decimal128Type>(slots, *precision, Some)
            }
            DataType::Duration(_) => {
                let values: ArrayRef = self.int64(slots)?;
                Ok(cast(&values, &self.output)?)
            }
            _ => self.int64(slots),
        }
    }

    fn clear(&mut self, slot: u32) {
        self.totals[slot as usize] = Total::default();
    }

    fn state_fields(&self) -> Vec<Field> {
        vec![
            Field::new("sum", DataType::Decimal128(38, 0), false),
            Field::new("count", DataType::Int64, false),
        ]
    }

    fn state(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        let totals = || slots.iter().map(|slot| &self.totals[*slot as usize]);
        let sums = Decimal128Array::from_iter_values(totals().map(|total| total.sum));
        let counts = Int64Array::from_iter_values(totals().map(|total| total.count));
        Ok(vec![Arc::new(sums.with_precision_and_scale(38, 0)?), Arc::new(counts)])
    }

    fn restore(&mut self, slots: &[u32], columns: &[ArrayRef]) {
        let sums = columns[0].as_primitive::<Decimal128Type>().values();
        let counts = columns[1].as_primitive::<Int64Type>().values();
        for (slot, (sum, count)) in slots.iter().zip(sums.iter().zip(counts)) {
            self.totals[*slot as usize] = Total { sum: *sum, count: *count };
        }
    }

    fn state_bytes(&self) -> usize {
        self.totals.capacity() * size_of::<Total>()
    }
}

impl ExactSum {
    fn int64(&self, slots: &[u32]) -> Result<ArrayRef> {
        let mut values = Vec::with_capacity(slots.len());
        for slot in slots {
            let value = self.value(*slot as usize).and_then(|value| i64::try_from(value).ok());
            values.push(value.ok_or_else(|| self.out_of_range())?);
        }
        Ok(Arc::new(Int64Array::new(values.into(), self.nulls(slots))))
    }
}

/// A float sum that hardly depends on the order of changes.
///
/// `high + low` is the sum of the finite values, with about twice the digits of `f64`, so that a
/// value that comes and goes leaves nothing behind but in the last digits of `low`; both are 0
/// when no value is left. Infinities and NaNs are counted, so that they can go again. A finite sum
/// beyond `f64` stays infinite until no value is left.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    high: f64,
    low: f64,
    finite: i64,
    positive_infinities: i64,
    negative_infinities: i64,
    nans: i64,
}

impl Sum {
    fn count(&self) -> i64 {
        self.finite + self.positive_infinities + self.negative_infinities + self.nans
    }

    fn add(&mut self, value: f64, weight: i64) {
        if !value.is_finite() {
            let count = if value.is_nan() {
                &mut self.nans
            } else if value > 0.0 {
                &mut self.positive_infinities
            } else {
                &mut self.negative_infinities
            };
            *count += weight;
            return;
        }
        self.finite += weight;
        if self.finite == 0 {
            (self.high, self.low) = (0.0, 0.0);
            return;
        }
        #[expect(clippy::cast_precision_loss, reason = "weights are small")]
        let value = if weight == 1 { value } else { value * weight as f64 };
        let sum = self.high + value;
        let lost = if self.high.abs() >= value.abs() {
            (self.high - sum) + value
        } else {
            (value - sum) + self.high
        };
        if sum.is_finite() {
            self.low += lost;
        }
        self.high = sum;
    }

    fn total(&self) -> f64 {
        let (positive, negative) = (self.positive_infinities > 0, self.negative_infinities > 0);
        if self.nans > 0 || (positive && negative) {
            f64::NAN
        } else if positive {
            f64::INFINITY
        } else if negative {
            f64::NEG_INFINITY
        } else if self.high.is_finite() {
            self.high + self.low
        } else {
            self.high
        }
    }
}

/// Sum or average of floats; the law of retraction is [`Sum`]'s.
#[derive(Debug)]
pub(super) struct FloatSum {
    sums: Vec<Sum>,
    finish: Finish,
}

impl FloatSum {
    /// A sum or average of `Float64`.
    pub(super) fn new(finish: Finish) -> Self {
        Self { sums: Vec::new(), finish }
    }
}

impl Accumulator for FloatSum {
    fn resize(&mut self, slot_count: usize) {
        self.sums.resize(slot_count, Sum::default());
    }

    fn update(&mut self, rows: &Rows<'_>) -> Result<()> {
        let arg = rows.arg.ok_or_else(|| Error::internal("a sum has no argument"))?;
        let values = arg.as_primitive::<Float64Type>().values();
        let sums = &mut self.sums;
        rows.for_each(|slot, row, weight| sums[slot].add(values[row], weight));
        Ok(())
    }

    fn output(&self, slots: &[u32]) -> Result<ArrayRef> {
        #[expect(clippy::cast_precision_loss, reason = "as in any average")]
        let values = slots.iter().map(|slot| {
            let sum = &self.sums[*slot as usize];
            let count = sum.count();
            (count != 0).then(|| match self.finish {
                Finish::Sum => sum.total(),
                Finish::Average => sum.total() / count as f64,
            })
        });
        Ok(Arc::new(values.collect::<Float64Array>()))
    }

    fn clear(&mut self, slot: u32) {
        self.sums[slot as usize] = Sum::default();
    }

    fn state_fields(&self) -> Vec<Field> {
        let float = |name| Field::new(name, DataType::Float64, false);
        let int = |name| Field::new(name, DataType::Int64, false);
        vec![
            float("high"),
            float("low"),
            int("finite"),
            int("positive_infinities"),
            int("negative_infinities"),
            int("nans"),
        ]
    }

    fn state(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        let sums = || slots.iter().map(|slot| &self.sums[*slot as usize]);
        let float = |of: fn(&Sum) -> f64| -> ArrayRef {
            Arc::new(Float64Array::from_iter_values(sums().map(of)))
        };
        let int = |of: fn(&Sum) -> i64| -> ArrayRef {
            Arc::new(Int64Array::from_iter_values(sums().map(of)))
        };
        Ok(vec![
            float(|sum| sum.high),
            float(|sum| sum.low),
            int(|sum| sum.finite),
            int(|sum| sum.positive_infinities),
            int(|sum| sum.negative_infinities),
            int(|sum| sum.nans),
        ])
    }

    fn restore(&mut self, slots: &[u32], columns: &[ArrayRef]) {
        let float = |column: usize, row| columns[column].as_primitive::<Float64Type>().value(row);
        let int = |column: usize, row| columns[column].as_primitive::<Int64Type>().value(row);
        for (row, slot) in slots.iter().enumerate() {
            self.sums[*slot as usize] = Sum {
                high: float(0, row),
                low: float(1, row),
                finite: int(2, row),
                positive_infinities: int(3, row),
                negative_infinities: int(4, row),
                nans: int(5, row),
            };
        }
    }

    fn state_bytes(&self) -> usize {
        self.sums.capacity() * size_of::<Sum>()
    }
}
