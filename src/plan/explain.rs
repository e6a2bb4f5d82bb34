//! [`explain`]: the plan as text.

use std::fmt::Write as _;
use std::sync::Arc;

use datafusion::physical_expr::expressions::Literal;
use datafusion::physical_plan::PhysicalExpr;
use regex::{Captures, Regex};

use super::{AggregateCall, IncrementalPlan, JoinKind, Node, SortKey};
use crate::catalog::ChangelogMode;

/// The plan as an indented tree: each node with its mode, upsert key and state.
pub fn explain(plan: &IncrementalPlan) -> String {
    let mut text = String::new();
    write_node(plan, 0, &mut text);
    readable(text.trim_end())
}

/// Intervals and decimals as SQL writes them, instead of their fields.
fn readable(text: &str) -> String {
    let span = r"IntervalMonthDayNano \{ months: (-?\d+), days: (-?\d+), nanoseconds: (-?\d+) \}";
    let text = replaced(text, span, |found| {
        let [months, days, nanos] = [1, 2, 3].map(|part| found[part].parse().unwrap_or(0_i64));
        let seconds = format!("{}.{:09}", nanos / 1_000_000_000, nanos.abs() % 1_000_000_000);
        let seconds = seconds.trim_end_matches('0').trim_end_matches('.').to_string();
        let parts = [(months.to_string(), "months"), (days.to_string(), "days"), (seconds, "s")];
        let parts = parts.iter().filter(|(number, _)| number != "0");
        let parts = parts.map(|(number, unit)| format!("{number} {unit}")).collect::<Vec<_>>();
        format!("interval '{}'", parts.join(" "))
    });
    let text = replaced(&text, r#"IntervalMonthDayNano\("(interval '[^']*')"\)"#, |found| {
        found[1].to_string()
    });
    replaced(&text, r"Some\((-?)(\d+)\),\d+,(\d+)", |found| {
        let scale = found[3].parse().unwrap_or(0);
        let digits = format!("{:0>width$}", &found[2], width = scale + 1);
        let (whole, part) = digits.split_at(digits.len() - scale);
        let point = if scale == 0 { "" } else { "." };
        format!("{}{whole}{point}{part}", &found[1])
    })
}

fn replaced(text: &str, pattern: &str, by: impl Fn(&Captures<'_>) -> String) -> String {
    match Regex::new(pattern) {
        Ok(pattern) => pattern.replace_all(text, by).into_owned(),
        Err(_) => text.to_string(),
    }
}

fn write_node(plan: &IncrementalPlan, depth: usize, out: &mut String) {
    let mode = match plan.mode {
        ChangelogMode::AppendOnly => "append-only",
        ChangelogMode::Retract => "retract",
    };
    let key = match &plan.upsert_key {
        None => "none".to_string(),
        Some(key) => {
            let names = key.iter().map(|index| plan.schema.field(*index).name().as_str());
            format!("({})", names.collect::<Vec<_>>().join(", "))
        }
    };
    let state = state(plan).map(|state| format!(" state={state}")).unwrap_or_default();
    let line = describe(plan);
    // Writing to a String does not fail.
    let _ = writeln!(out, "{}{line}  [mode={mode} key={key}{state}]", "  ".repeat(depth));
    for input in plan.inputs() {
        write_node(input, depth + 1, out);
    }
}

/// What an operator keeps between epochs, if anything.
fn state(plan: &IncrementalPlan) -> Option<&'static str> {
    match &plan.node {
        Node::Join { .. } => Some("both sides by key"),
        Node::Aggregate { aggregates, .. } if aggregates.is_empty() => Some("rows by key"),
        Node::Aggregate { .. } => Some("accumulators by key"),
        Node::TopN { .. } => Some("all rows in order"),
        _ => None,
    }
}

/// What a node does, without its properties.
pub(super) fn describe(plan: &IncrementalPlan) -> String {
    match &plan.node {
        Node::Scan { name, .. } => {
            let columns = plan.schema.fields().iter().map(|field| field.name().as_str());
            format!("Scan {name} ({})", columns.collect::<Vec<_>>().join(", "))
        }
        Node::Values { rows } => format!("Values {} rows", rows.num_rows()),
        Node::Filter { predicate, .. } => format!("Filter {predicate}"),
        Node::Project { exprs, .. } => {
            let columns = exprs.iter().zip(plan.schema.fields()).map(|(expr, field)| {
                let text = expr.to_string();
                let plain = text.split('@').next() == Some(field.name());
                if plain { text } else { format!("{text} as {}", field.name()) }
            });
            format!("Project {}", columns.collect::<Vec<_>>().join(", "))
        }
        Node::Union { .. } => "Union".to_string(),
        Node::Join { kind, left_keys, right_keys, filter, .. } => {
            describe_join(*kind, left_keys, right_keys, filter.as_ref())
        }
        Node::Aggregate { group, aggregates, .. } => describe_aggregate(group, aggregates),
        Node::TopN { order, offset, limit, .. } => describe_top(order, *offset, *limit),
    }
}

fn describe_join(
    kind: JoinKind,
    left_keys: &[Arc<dyn PhysicalExpr>],
    right_keys: &[Arc<dyn PhysicalExpr>],
    filter: Option<&Arc<dyn PhysicalExpr>>,
) -> String {
    let name = match kind {
        JoinKind::Inner => "InnerJoin",
        JoinKind::Left => "LeftJoin",
    };
    let cross =
        left_keys.iter().chain(right_keys).all(|key| key.downcast_ref::<Literal>().is_some());
    let on = if cross {
        "always".to_string()
    } else {
        let pairs = left_keys.iter().zip(right_keys);
        pairs.map(|(left, right)| format!("{left} = {right}")).collect::<Vec<_>>().join(", ")
    };
    let filter = filter.map(|filter| format!(" filter {filter}")).unwrap_or_default();
    format!("{name} on {on}{filter}")
}

fn describe_aggregate(group: &[Arc<dyn PhysicalExpr>], calls: &[AggregateCall]) -> String {
    let group = group.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if calls.is_empty() {
        return format!("Distinct ({group})");
    }
    let calls = calls.iter().map(|call| {
        let args = call.args.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let args = if call.args.is_empty() { "*".to_string() } else { args };
        let distinct = if call.distinct { "distinct " } else { "" };
        let filter = call.filter.as_ref();
        let filter = filter.map(|filter| format!(" filter {filter}")).unwrap_or_default();
        format!("{}({distinct}{args}){filter}", call.function)
    });
    format!("Aggregate by ({group}): {}", calls.collect::<Vec<_>>().join(", "))
}

fn describe_top(order: &[SortKey], offset: usize, limit: usize) -> String {
    let keys = order.iter().map(|key| {
        let direction = if key.options.descending { "desc" } else { "asc" };
        let nulls = if key.options.nulls_first { "nulls first" } else { "nulls last" };
        format!("{} {direction} {nulls}", key.expr)
    });
    let skipped = if offset == 0 { String::new() } else { format!(" offset {offset}") };
    let keys = keys.collect::<Vec<_>>().join(", ");
    match limit {
        usize::MAX => format!("Top all{skipped} by {keys}"),
        limit => format!("Top {limit}{skipped} by {keys}"),
    }
}

impl IncrementalPlan {
    /// True if the operator of this node keeps state between epochs.
    pub fn is_stateful(&self) -> bool {
        state(self).is_some()
    }

    /// The plans that this one reads, left to right.
    pub fn inputs(&self) -> Vec<&Self> {
        match &self.node {
            Node::Scan { .. } | Node::Values { .. } => Vec::new(),
            Node::Filter { input, .. }
            | Node::Project { input, .. }
            | Node::Aggregate { input, .. }
            | Node::TopN { input, .. } => vec![input],
            Node::Union { inputs } => inputs.iter().collect(),
            Node::Join { left, right, .. } => vec![left, right],
        }
    }
}
