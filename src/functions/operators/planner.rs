//! [`Operators`]: what an operator between two types means, after PostgreSQL's `pg_operator`.
//!
//! It runs while the text is planned, before the planner decides the type of anything: what is
//! resolved here has operands of the types that its operator is for. What is not named here the
//! planner's own coercion decides, which agrees with PostgreSQL among numbers, texts and times.

use arrow::datatypes::DataType;
use datafusion::common::{DFSchema, DataFusionError, Diagnostic};
use datafusion::error::Result;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, cast};
use sqlparser::ast::BinaryOperator;

use super::operand::{self, Operand, as_type};
use super::sides::Sides;
use super::{interval, json, numeric, time};
use crate::error::Error;
use crate::types::{JSONB, is_beyond_arrow};

/// Plans operators.
///
/// | operands | what it is |
/// |---|---|
/// | a quoted literal and a boolean, number, interval, UUID, JSONB | the literal is of that type |
/// | text and any of these, or boolean and number | 42883, as for all that does not exist |
/// | intervals that are compared | compared by length, a month of 30 days |
/// | `date ± int`, `date - date`, `date ± interval`, `date + time` | days; `timestamp` |
/// | `time ± interval`, `time - time`, `timestamp - timestamp` | around the clock; days and time |
/// | `interval * number`, `interval / number` | each part, fractions going to the parts below |
/// | `numeric / numeric` | as many digits as fit, 20 behind the point if so many do |
/// | `->`, `->>`, `#>`, `#>>`, `@>`, `<@`, `?`, `?|`, `?&`, `-`, `||` of JSONB | as PostgreSQL |
#[derive(Debug)]
pub(in crate::functions) struct Operators;

impl ExprPlanner for Operators {
    fn plan_binary_op(
        &self,
        raw: RawBinaryExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawBinaryExpr>> {
        let (left, right) = (Operand::of(&raw.left, schema), Operand::of(&raw.right, schema));
        let (Some(left), Some(right)) = (left, right) else {
            return Ok(PlannerResult::Original(raw));
        };
        let at = raw.left.spans().or_else(|| raw.right.spans()).and_then(|it| it.first());
        let sides = Sides { op: raw.op, left, right, left_expr: raw.left, right_expr: raw.right };
        sides.plan().map_err(|error| match at {
            None => DataFusionError::External(Box::new(error)),
            Some(at) => {
                let diagnostic = Diagnostic::new_error(error.message.clone(), Some(at));
                DataFusionError::External(Box::new(error)).with_diagnostic(diagnostic)
            }
        })
    }
}

type Planned = PlannerResult<RawBinaryExpr>;

impl Sides {
    fn plan(mut self) -> std::result::Result<Planned, Error> {
        if let Some(planned) = json::plan(&mut self)? {
            return Ok(PlannerResult::Planned(planned));
        }
        if self.op == BinaryOperator::StringConcat {
            self.join_as_texts();
        }
        let is_comparison = comparison(&self.op).is_some();
        if !is_comparison && !is_arithmetic(&self.op) {
            return Ok(self.unchanged());
        }
        self.type_literals(is_comparison)?;
        if !operand::are_comparable(&self.left, &self.right) {
            return Err(self.missing());
        }
        let planned = match comparison(&self.op) {
            Some(op) => self.compared(op)?,
            None => self.computed()?,
        };
        Ok(planned.map_or_else(|| self.unchanged(), PlannerResult::Planned))
    }

    /// A quoted literal or a parameter gets the type of the other side; beside a time that is moved
    /// it is an interval, and beside an interval that is scaled a number.
    fn type_literals(&mut self, is_comparison: bool) -> std::result::Result<(), Error> {
        let scales = matches!(self.op, BinaryOperator::Multiply | BinaryOperator::Divide);
        let wanted = |other: &Operand| match other {
            Operand::Typed(it) if scales && *it == operand::INTERVAL => Some(DataType::Float64),
            // It has operators with itself, integers and intervals.
            Operand::Typed(DataType::Date32) if !is_comparison => None,
            Operand::Typed(it) if !is_comparison && operand::is_moment(it) => {
                Some(operand::INTERVAL)
            }
            Operand::Typed(it) => Some(it.clone()),
            Operand::Unknown => None,
        };
        match (&self.left, &self.right) {
            (Operand::Unknown, other) => match wanted(other) {
                Some(to) => as_type(&mut self.left_expr, &mut self.left, &to),
                None => Ok(()),
            },
            (other, Operand::Unknown) => match wanted(other) {
                Some(to) => as_type(&mut self.right_expr, &mut self.right, &to),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// What has no order of its own becomes text beside `||`.
    fn join_as_texts(&mut self) {
        for (side, expr) in [(&self.left, &mut self.left_expr), (&self.right, &mut self.right_expr)]
        {
            if side.data_type().is_some_and(is_beyond_arrow) {
                *expr = cast(std::mem::take(expr), DataType::Utf8);
            }
        }
    }

    fn compared(&mut self, op: Operator) -> std::result::Result<Option<Expr>, Error> {
        let (Some(left), Some(right)) = (self.left.data_type(), self.right.data_type()) else {
            return Ok(None);
        };
        let is_order = !matches!(op, Operator::Eq | Operator::NotEq);
        if *left == JSONB && is_order {
            let message = format!("operator {op} of jsonb is not supported");
            return Err(Error::unsupported(message).with_hint("compare a value of it, by ->>"));
        }
        let (is_interval, both) = (*left == operand::INTERVAL, left == right);
        let (left, right) = self.take();
        let (left, right) = match is_interval && both {
            true => (interval::length(left), interval::length(right)),
            false => (left, right),
        };
        Ok(Some(Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right)))))
    }

    /// What arithmetic is, where the planner's own is not right.
    fn computed(&mut self) -> std::result::Result<Option<Expr>, Error> {
        for plan in [time::plan, interval::plan] {
            if let Some(planned) = plan(self)? {
                return Ok(Some(planned));
            }
        }
        Ok(numeric::plan(self))
    }

    fn unchanged(self) -> Planned {
        let Self { op, left_expr: left, right_expr: right, .. } = self;
        PlannerResult::Original(RawBinaryExpr { op, left, right })
    }
}

/// The planner's operator of a comparison; those of IS DISTINCT FROM are planned elsewhere.
fn comparison(op: &BinaryOperator) -> Option<Operator> {
    Some(match op {
        BinaryOperator::Eq => Operator::Eq,
        BinaryOperator::NotEq => Operator::NotEq,
        BinaryOperator::Lt => Operator::Lt,
        BinaryOperator::LtEq => Operator::LtEq,
        BinaryOperator::Gt => Operator::Gt,
        BinaryOperator::GtEq => Operator::GtEq,
        _ => return None,
    })
}

fn is_arithmetic(op: &BinaryOperator) -> bool {
    matches!(
        op,
        BinaryOperator::Plus
            | BinaryOperator::Minus
            | BinaryOperator::Multiply
            | BinaryOperator::Divide
            | BinaryOperator::Modulo
    )
}
