//! [`is_fallible`]: which expressions may fail on a row.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::DFSchema;
use datafusion::common::tree_node::TreeNode;
use datafusion::logical_expr::expr::{BinaryExpr, Cast, ScalarFunction};
use datafusion::logical_expr::{Expr, ExprSchemable, Operator};
use datafusion::scalar::ScalarValue;

/// Functions that have a value for every row, if their arguments have; one that is too large aside.
const SAFE_FUNCTIONS: [&str; 56] = [
    "array_has",
    "array_length",
    "ascii",
    "bit_length",
    "btrim",
    "cardinality",
    "character_length",
    "coalesce",
    "concat",
    "concat_ws",
    "contains",
    "date_part",
    "ends_with",
    "get_field",
    "greatest",
    "initcap",
    "interval_length",
    "isnan",
    "iszero",
    "json_contains",
    "json_has_all",
    "json_has_any",
    "json_has_key",
    "json_item",
    "json_item_text",
    "json_join",
    "json_member",
    "json_member_text",
    "json_path",
    "json_path_text",
    "least",
    "left",
    "lower",
    "ltrim",
    "make_array",
    "md5",
    "nullif",
    "nvl",
    "nvl2",
    "octet_length",
    "replace",
    "reverse",
    "right",
    "rtrim",
    "sha256",
    "split_part",
    "starts_with",
    "strpos",
    "struct",
    "time_add",
    "time_between",
    "time_subtract",
    "translate",
    "trim",
    "upper",
    "||",
];

/// True if an expression may fail on a row: divide by zero, overflow, read a text that is no
/// number. What is not known to be safe is taken to be fallible. Subqueries count as safe: they run
/// apart from the row.
pub(super) fn is_fallible(expr: &Expr, schema: &DFSchema) -> bool {
    expr.exists(|part| Ok(fails(part, schema))).unwrap_or(true)
}

/// Whether the node itself may fail, given values of what is below it.
fn fails(expr: &Expr, schema: &DFSchema) -> bool {
    match expr {
        Expr::Alias(_)
        | Expr::Column(_)
        | Expr::OuterReferenceColumn(..)
        | Expr::Literal(..)
        | Expr::Placeholder(_)
        | Expr::Not(_)
        | Expr::IsNull(_)
        | Expr::IsNotNull(_)
        | Expr::IsTrue(_)
        | Expr::IsFalse(_)
        | Expr::IsUnknown(_)
        | Expr::IsNotTrue(_)
        | Expr::IsNotFalse(_)
        | Expr::IsNotUnknown(_)
        | Expr::Between(_)
        | Expr::InList(_)
        | Expr::Case(_)
        | Expr::TryCast(_)
        | Expr::AggregateFunction(_)
        | Expr::WindowFunction(_)
        | Expr::Exists(_)
        | Expr::InSubquery(_)
        | Expr::SetComparison(_)
        | Expr::ScalarSubquery(_) => false,
        Expr::Like(like) => !matches!(like.pattern.as_ref(), Expr::Literal(..)),
        Expr::BinaryExpr(binary) => binary_fails(binary, schema),
        Expr::Cast(cast) => cast_fails(cast, schema),
        Expr::Negative(value) => !is_float(value, schema),
        Expr::ScalarFunction(call) => call_fails(call),
        _ => true,
    }
}

fn is_float(expr: &Expr, schema: &DFSchema) -> bool {
    expr.get_type(schema).is_ok_and(|it| it.is_floating())
}

fn binary_fails(binary: &BinaryExpr, schema: &DFSchema) -> bool {
    match binary.op {
        Operator::Eq
        | Operator::NotEq
        | Operator::Lt
        | Operator::LtEq
        | Operator::Gt
        | Operator::GtEq
        | Operator::And
        | Operator::Or
        | Operator::IsDistinctFrom
        | Operator::IsNotDistinctFrom
        | Operator::StringConcat
        | Operator::BitwiseAnd
        | Operator::BitwiseOr
        | Operator::BitwiseXor => false,
        Operator::RegexMatch
        | Operator::RegexIMatch
        | Operator::RegexNotMatch
        | Operator::RegexNotIMatch
        | Operator::LikeMatch
        | Operator::ILikeMatch
        | Operator::NotLikeMatch
        | Operator::NotILikeMatch => !matches!(binary.right.as_ref(), Expr::Literal(..)),
        Operator::Plus | Operator::Minus | Operator::Multiply => !is_float(&binary.left, schema),
        Operator::Divide | Operator::Modulo => {
            !is_float(&binary.left, schema) && !is_plain_divisor(&binary.right)
        }
        _ => true,
    }
}

/// An integer that every integer can be divided by: neither 0, nor -1, by which the least integer
/// cannot.
fn is_plain_divisor(expr: &Expr) -> bool {
    let Expr::Literal(value, _) = expr else { return false };
    let value = match value {
        ScalarValue::Int8(Some(value)) => i64::from(*value),
        ScalarValue::Int16(Some(value)) => i64::from(*value),
        ScalarValue::Int32(Some(value)) => i64::from(*value),
        ScalarValue::Int64(Some(value)) => *value,
        _ => return false,
    };
    value != 0 && value != -1
}

fn call_fails(call: &ScalarFunction) -> bool {
    let is_literal = |at: usize| matches!(call.args.get(at), Some(Expr::Literal(..)));
    match call.func.name() {
        "date_trunc" => !is_literal(0),
        "split_part" => !is_literal(2),
        name => !SAFE_FUNCTIONS.contains(&name),
    }
}

/// Casts that have a value for every value.
fn cast_fails(to: &Cast, schema: &DFSchema) -> bool {
    use DataType as Type;
    let Ok(from) = to.expr.get_type(schema) else { return true };
    let target = to.field.data_type();
    let is_safe = match (&from, target) {
        (from, to) if from == to => true,
        (Type::Null, _) => true,
        // Floats, times and bytes become text by a function of their own, which stands here then.
        (Type::Boolean | Type::Utf8 | Type::Utf8View | Type::LargeUtf8, to) if to.is_string() => {
            true
        }
        (from, to) if (from.is_integer() || from.is_decimal()) && to.is_string() => true,
        (from, to) if from.is_numeric() && to.is_floating() => {
            !(matches!(from, Type::Float64) && matches!(to, Type::Float32 | Type::Float16))
        }
        (Type::Boolean, to) if to.is_integer() => true,
        (from, to) if from.is_integer() && to.is_integer() => {
            from.is_signed_integer() == to.is_signed_integer()
                && from.primitive_width() <= to.primitive_width()
        }
        (from, Type::Decimal128(precision, scale)) if from.is_integer() => {
            integer_digits(from) <= i16::from(*precision) - i16::from(*scale)
        }
        (Type::Decimal128(from, from_scale), Type::Decimal128(to, to_scale)) => {
            to_scale >= from_scale
                && i16::from(*to) - i16::from(*to_scale)
                    >= i16::from(*from) - i16::from(*from_scale)
        }
        (
            Type::Timestamp(TimeUnit::Microsecond, _),
            Type::Date32 | Type::Timestamp(TimeUnit::Microsecond, _),
        ) => true,
        _ => false,
    };
    !is_safe
}

fn integer_digits(data_type: &DataType) -> i16 {
    match data_type {
        DataType::Int8 | DataType::UInt8 => 3,
        DataType::Int16 | DataType::UInt16 => 5,
        DataType::Int32 | DataType::UInt32 => 10,
        _ => 20,
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{Field, Schema};
    use datafusion::logical_expr::{cast, col, lit};

    use super::*;

    #[test]
    fn tells_what_may_fail() {
        let schema = Schema::new(vec![
            Field::new("i", DataType::Int32, true),
            Field::new("f", DataType::Float64, true),
            Field::new("s", DataType::Utf8, true),
        ]);
        let schema = DFSchema::try_from(schema).unwrap();
        let safe = [
            col("i").eq(lit(1_i32)),
            col("i") / lit(2_i32),
            col("i") % lit(-2_i32),
            col("f") / col("f"),
            cast(col("i"), DataType::Int64).gt(lit(1_i64)),
            cast(col("i"), DataType::Decimal128(12, 2)),
            cast(col("i"), DataType::Utf8).like(lit("1%")),
        ];
        for expr in safe {
            assert!(!is_fallible(&expr, &schema), "{expr}");
        }
        let fallible = [
            col("i") / col("i"),
            col("i") / lit(0_i32),
            col("i") / lit(-1_i32),
            (col("i") + lit(1_i32)).gt(lit(2_i32)),
            cast(col("s"), DataType::Int32),
            cast(col("f"), DataType::Int32),
            cast(col("i"), DataType::Decimal128(9, 2)),
            -col("i"),
            col("s").like(col("s")),
        ];
        for expr in fallible {
            assert!(is_fallible(&expr, &schema), "{expr}");
        }
    }
}
