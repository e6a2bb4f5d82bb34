//! [`Functions`]: the one table of functions.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use datafusion::execution::SessionStateDefaults;
use datafusion::logical_expr::planner::ExprPlanner;
use datafusion::logical_expr::{AggregateUDF, HigherOrderUDF, ScalarUDF, WindowUDF};

use super::date_part::{Extract, date_part};
use super::modulo::modulo;
use super::zone::time_zone;
use crate::error::{Error, ErrorKind, Result};

/// Aggregates that a live view can keep up.
pub const INCREMENTAL_AGGREGATES: [&str; 5] = ["avg", "count", "max", "min", "sum"];

/// Functions by their names and other names, in lower case.
pub struct Functions {
    scalar: BTreeMap<String, Arc<ScalarUDF>>,
    higher_order: BTreeMap<String, Arc<HigherOrderUDF>>,
    aggregate: BTreeMap<String, Arc<AggregateUDF>>,
    window: BTreeMap<String, Arc<WindowUDF>>,
    planners: Vec<Arc<dyn ExprPlanner>>,
}

impl Functions {
    /// Those of every engine, and others beside them.
    ///
    /// # Errors
    /// `DuplicateFunction` if one of the others has the name of another function.
    fn with(added: Vec<ScalarUDF>) -> Result<Self> {
        let mut functions = Self::of_every_engine();
        for function in added.into_iter().map(Arc::new) {
            let named = by_name(vec![function], |function| (function.name(), function.aliases()));
            if let Some(taken) = named.keys().find(|name| functions.contains(name)) {
                let message = format!("function \"{taken}\" already exists");
                return Err(Error::new(ErrorKind::DuplicateFunction, message));
            }
            functions.scalar.extend(named);
        }
        Ok(functions)
    }

    fn of_every_engine() -> Self {
        let mut scalar = SessionStateDefaults::default_scalar_functions();
        // It tells the planner's version.
        scalar.retain(|function| function.name() != "version");
        scalar.extend([date_part(), modulo(), time_zone()]);
        let mut planners: Vec<Arc<dyn ExprPlanner>> = vec![Arc::new(Extract)];
        planners.extend(SessionStateDefaults::default_expr_planners());
        let mut scalar = by_name(scalar, |function| (function.name(), function.aliases()));
        if let Some(uuid) = scalar.get("uuid").cloned() {
            scalar.insert("gen_random_uuid".to_string(), uuid);
        }
        Self {
            scalar,
            higher_order: by_name(
                SessionStateDefaults::default_higher_order_functions(),
                |function| (function.name(), function.aliases()),
            ),
            aggregate: by_name(SessionStateDefaults::default_aggregate_functions(), |function| {
                (function.name(), function.aliases())
            }),
            window: by_name(SessionStateDefaults::default_window_functions(), |function| {
                (function.name(), function.aliases())
            }),
            planners,
        }
    }

    /// A function of a row.
    pub fn scalar(&self, name: &str) -> Option<&Arc<ScalarUDF>> {
        self.scalar.get(name)
    }

    /// A function that takes a function.
    pub fn higher_order(&self, name: &str) -> Option<&Arc<HigherOrderUDF>> {
        self.higher_order.get(name)
    }

    /// A function of a group.
    pub fn aggregate(&self, name: &str) -> Option<&Arc<AggregateUDF>> {
        self.aggregate.get(name)
    }

    /// A function of a window.
    pub fn window(&self, name: &str) -> Option<&Arc<WindowUDF>> {
        self.window.get(name)
    }

    /// How operators such as `EXTRACT` and `[]` become function calls.
    pub fn planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.planners
    }

    /// Whether there is any function of that name.
    pub fn contains(&self, name: &str) -> bool {
        self.names().any(|known| known == name)
    }

    /// All names, sorted within scalar, higher-order, aggregate and window functions.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let names = self.scalar.keys().chain(self.higher_order.keys());
        names.chain(self.aggregate.keys()).chain(self.window.keys()).map(String::as_str)
    }

    /// Names of functions of a row.
    pub fn scalar_names(&self) -> impl Iterator<Item = &str> {
        self.scalar.keys().map(String::as_str)
    }

    /// Names of functions of a group.
    pub fn aggregate_names(&self) -> impl Iterator<Item = &str> {
        self.aggregate.keys().map(String::as_str)
    }

    /// Names of functions of a window.
    pub fn window_names(&self) -> impl Iterator<Item = &str> {
        self.window.keys().map(String::as_str)
    }
}

fn by_name<F>(
    functions: Vec<Arc<F>>,
    names: impl Fn(&F) -> (&str, &[String]),
) -> BTreeMap<String, Arc<F>> {
    let mut table = BTreeMap::new();
    for function in functions {
        let (name, aliases) = names(&function);
        let all = std::iter::once(name.to_string()).chain(aliases.iter().cloned());
        for name in all.collect::<Vec<_>>() {
            table.insert(name.to_lowercase(), Arc::clone(&function));
        }
    }
    table
}

static FUNCTIONS: OnceLock<Functions> = OnceLock::new();

/// The functions; the same in every process.
pub fn functions() -> &'static Functions {
    FUNCTIONS.get_or_init(Functions::of_every_engine)
}

/// Adds functions of a row, for a program that embeds the engine: see `examples/function.rs`.
///
/// Names are kept in lower case, as those of all functions. Every process of an engine, and every
/// later start, must add the same ones: a view that calls a function that is not there has failed.
/// Views take functions whose volatility is `Immutable` only.
///
/// # Errors
/// `DuplicateFunction` if there is one of that name; `InvalidParameter` if an engine was opened
/// before, or functions were added.
pub fn add_scalar_functions(added: Vec<ScalarUDF>) -> Result<()> {
    let functions = Functions::with(added)?;
    FUNCTIONS.set(functions).map_err(|_| {
        let message = "functions are added once, before the first engine is opened";
        Error::new(ErrorKind::InvalidParameter, message)
    })
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::DataType;
    use datafusion::logical_expr::{ColumnarValue, Volatility, create_udf};

    use super::*;

    #[test]
    fn finds_functions_by_name_and_alias() {
        assert!(functions().scalar("character_length").is_some());
        assert!(functions().scalar("length").is_some());
        assert!(functions().scalar("mod").is_some());
        assert!(functions().aggregate("sum").is_some());
        assert!(functions().window("row_number").is_some());
        assert!(!functions().contains("no_such_function"));
    }

    #[test]
    fn added_functions_are_found_and_take_no_name_of_others() {
        let shout = |name: &str| {
            let same = |args: &[ColumnarValue]| Ok(args[0].clone());
            let (text, kind) = (DataType::Utf8, Volatility::Immutable);
            create_udf(name, vec![text.clone()], text, kind, Arc::new(same))
        };
        let functions = Functions::with(vec![shout("shout").with_aliases(["cry"])]).unwrap();
        assert!(functions.scalar("shout").is_some() && functions.scalar("cry").is_some());
        assert!(functions.scalar("upper").is_some());
        for taken in [vec![shout("upper")], vec![shout("sum")], vec![shout("a"), shout("a")]] {
            let error = Functions::with(taken).err().unwrap();
            assert_eq!(error.kind, ErrorKind::DuplicateFunction);
        }
        let late = add_scalar_functions(Vec::new()).err().map(|error| error.kind);
        assert!(functions.contains("sum") && super::functions().contains("sum"));
        assert!(late.is_none_or(|kind| kind == ErrorKind::InvalidParameter));
        assert!(add_scalar_functions(Vec::new()).is_err());
    }

    #[test]
    fn lists_only_incremental_aggregates_that_exist() {
        for name in INCREMENTAL_AGGREGATES {
            assert!(functions().aggregate(name).is_some(), "{name}");
        }
    }
}
