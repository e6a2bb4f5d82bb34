//! [`AggregateSpec`]: what a [`HashAggregate`](super::HashAggregate) is made from.

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef, SchemaRef};
use datafusion::physical_plan::PhysicalExpr;

use super::accumulator::{Accumulator, Count};
use super::call::Call;
use super::distinct::Distinct;
use super::min_max::{End, Extremum, RetractableExtremum, RowEncoding, WordEncoding};
use super::sum::{ExactSum, Finish, FloatSum};
use crate::change::words;
use crate::dataflow::operators::evaluate::expression_error;
use crate::error::{Error, Result};

/// Aggregate functions that can retract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AggregateFunction {
    /// `count(*)`, `count(x)`.
    Count,
    /// `sum(x)`.
    Sum,
    /// `avg(x)`.
    Avg,
    /// `min(x)`.
    Min,
    /// `max(x)`.
    Max,
}

impl AggregateFunction {
    /// The function of a canonical name.
    ///
    /// # Errors
    /// `Unsupported` for other names.
    pub fn from_name(name: &str) -> Result<Self> {
        Ok(match name {
            "count" => Self::Count,
            "sum" => Self::Sum,
            "avg" => Self::Avg,
            "min" => Self::Min,
            "max" => Self::Max,
            _ => {
                let message = format!("aggregate function \"{name}\" is not supported in views");
                return Err(
                    Error::unsupported(message).with_hint("use count, sum, avg, min or max")
                );
            }
        })
    }
}

/// One aggregate.
#[derive(Debug, Clone)]
pub struct Aggregate {
    /// The function.
    pub function: AggregateFunction,
    /// The argument over the input's columns, of a type that the function takes; `None` for
    /// `count(*)`.
    pub arg: Option<Arc<dyn PhysicalExpr>>,
    /// Each value counts once.
    pub distinct: bool,
    /// Only rows for which this is true count.
    pub filter: Option<Arc<dyn PhysicalExpr>>,
    /// Output field.
    pub field: FieldRef,
}

/// What an aggregate is made from.
#[derive(Debug, Clone)]
pub struct AggregateSpec {
    /// Columns of the input.
    pub input_schema: SchemaRef,
    /// The input never retracts: MIN and MAX keep one value a group.
    pub is_append_only: bool,
    /// Group keys over the input's columns; none: one row over all.
    pub group: Vec<Arc<dyn PhysicalExpr>>,
    /// Aggregates.
    pub aggregates: Vec<Aggregate>,
    /// Output: group keys, then aggregates.
    pub schema: SchemaRef,
    /// Without group keys: this instance emits the row of an empty input. True for exactly one
    /// of the instances of a dataflow, the one that gets all input.
    pub emits_empty: bool,
}

impl AggregateSpec {
    pub(super) fn group_types(&self) -> Result<Vec<DataType>> {
        self.group.iter().map(|expr| self.type_of(expr)).collect()
    }

    fn type_of(&self, expr: &Arc<dyn PhysicalExpr>) -> Result<DataType> {
        expr.data_type(&self.input_schema).map_err(expression_error)
    }

    pub(super) fn calls(&self) -> Result<Vec<Call>> {
        self.aggregates.iter().map(|aggregate| self.call(aggregate)).collect()
    }

    fn call(&self, aggregate: &Aggregate) -> Result<Call> {
        let is_row_count = aggregate.function == AggregateFunction::Count
            && aggregate.arg.is_none()
            && aggregate.filter.is_none();
        let accumulator = if is_row_count { None } else { Some(self.accumulator(aggregate)?) };
        Ok(Call { arg: aggregate.arg.clone(), filter: aggregate.filter.clone(), accumulator })
    }

    fn accumulator(&self, aggregate: &Aggregate) -> Result<Box<dyn Accumulator>> {
        let Some(arg) = &aggregate.arg else {
            if aggregate.function == AggregateFunction::Count {
                return Ok(Box::new(Count::default()));
            }
            return Err(Error::internal("an aggregate other than count has no argument"));
        };
        let input = self.type_of(arg)?;
        let output = aggregate.field.data_type();
        let is_ordered =
            matches!(aggregate.function, AggregateFunction::Min | AggregateFunction::Max);
        let inner: Box<dyn Accumulator> = match aggregate.function {
            AggregateFunction::Count => Box::new(Count::default()),
            AggregateFunction::Sum => sum(&input, output, Finish::Sum)?,
            AggregateFunction::Avg => sum(&input, output, Finish::Average)?,
            AggregateFunction::Min => self.extremum(input.clone(), End::Min)?,
            AggregateFunction::Max => self.extremum(input.clone(), End::Max)?,
        };
        if aggregate.distinct && !is_ordered {
            return Ok(Box::new(Distinct::try_new(inner, &input)?));
        }
        Ok(inner)
    }

    fn extremum(&self, data_type: DataType, end: End) -> Result<Box<dyn Accumulator>> {
        let is_word = words::is_word(&data_type);
        Ok(match (is_word, self.is_append_only) {
            (true, true) => {
                Box::new(Extremum::new(WordEncoding(data_type.clone()), data_type, end))
            }
            (true, false) => {
                let encoding = WordEncoding(data_type.clone());
                Box::new(RetractableExtremum::new(encoding, data_type, end))
            }
            (false, true) => {
                let encoding = RowEncoding::try_new(&data_type)?;
                Box::new(Extremum::new(encoding, data_type, end))
            }
            (false, false) => {
                let encoding = RowEncoding::try_new(&data_type)?;
                Box::new(RetractableExtremum::new(encoding, data_type, end))
            }
        })
    }
}

fn sum(input: &DataType, output: &DataType, finish: Finish) -> Result<Box<dyn Accumulator>> {
    if *input == DataType::Float64 && *output == DataType::Float64 {
        return Ok(Box::new(FloatSum::new(finish)));
    }
    Ok(Box::new(ExactSum::try_new(input, output, finish)?))
}
