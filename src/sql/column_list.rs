//! Columns and primary key of CREATE TABLE and CREATE SOURCE.

use arrow::datatypes::DataType;
use sqlparser::ast::{self, ColumnOption, TableConstraint};

use super::parser::fold;
use super::postgres_syntax::length;
use super::statement::ColumnList;
use super::syntax::Places;
use crate::catalog::{ColumnDef, IdentityColumn};
use crate::error::{Error, ErrorKind, Result, nearest};
use crate::types::{TypeForms, arrow_type, time_precision};

/// Columns, and which of them are the primary key.
#[derive(Debug)]
pub(super) struct Columns {
    pub(super) columns: Vec<ColumnDef>,
    pub(super) primary_key: Vec<usize>,
}

/// Binds a list of columns. Columns of the primary key are NOT NULL.
///
/// # Errors
/// `Unsupported` for types and constraints that are not kept; `DuplicateColumn`, `UndefinedColumn`.
pub(super) fn bind_columns(
    list: &ColumnList,
    places: Places<'_>,
    forms: TypeForms,
) -> Result<Columns> {
    let mut columns: Vec<ColumnDef> = Vec::new();
    let mut keys: Vec<Vec<usize>> = Vec::new();
    for column in &list.columns {
        let position = places.position(column.name.span.start);
        let name = fold(&column.name);
        if columns.iter().any(|other| other.name == name) {
            let message = format!("column \"{name}\" is specified more than once");
            return Err(Error::new(ErrorKind::DuplicateColumn, message).at(position));
        }
        let serial = serial_type(&column.data_type);
        let data_type = match &serial {
            Some(data_type) => data_type.clone(),
            None => arrow_type(&column.data_type, forms).map_err(|error| error.at(position))?,
        };
        let mut identity = serial.map(|_| IdentityColumn::ByDefault);
        let mut nullable = true;
        for option in &column.options {
            match &option.option {
                ColumnOption::Null => nullable = true,
                ColumnOption::NotNull => nullable = false,
                ColumnOption::PrimaryKey(_) => keys.push(vec![columns.len()]),
                ColumnOption::Comment(_) => {}
                // Bound when all columns are known.
                ColumnOption::Default(_) => {}
                ColumnOption::Generated { .. } => {
                    let generated = identity_of(&option.option).map_err(|it| it.at(position))?;
                    if identity.replace(generated).is_some() {
                        let message =
                            format!("multiple identity specifications for column \"{name}\"");
                        return Err(Error::new(ErrorKind::Syntax, message).at(position));
                    }
                }
                other => return Err(unsupported_constraint(&other.to_string()).at(position)),
            }
        }
        let precision = time_precision(&column.data_type);
        if identity.is_some() {
            check_identity(column, &data_type).map_err(|error| error.at(position))?;
            nullable = false;
        }
        let (default, include) = (None, None);
        columns.push(ColumnDef {
            name,
            data_type,
            precision,
            nullable,
            default,
            identity,
            include,
        });
    }
    for constraint in &list.constraints {
        let TableConstraint::PrimaryKey(key) = constraint else {
            return Err(unsupported_constraint(&constraint.to_string()));
        };
        keys.push(bind_key(key, &columns, places)?);
    }
    if keys.len() > 1 {
        return Err(Error::new(ErrorKind::InvalidSql, "a table has only one primary key")
            .with_hint("name all its columns in PRIMARY KEY (a, b)"));
    }
    let primary_key = keys.pop().unwrap_or_default();
    for index in &primary_key {
        columns[*index].nullable = false;
    }
    Ok(Columns { columns, primary_key })
}

/// The type of a column that is declared as SERIAL or the like.
fn serial_type(data_type: &ast::DataType) -> Option<DataType> {
    let ast::DataType::Custom(name, modifiers) = data_type else { return None };
    match (name.to_string().to_lowercase().as_str(), modifiers.is_empty()) {
        ("smallserial" | "serial2", true) => Some(DataType::Int16),
        ("serial" | "serial4", true) => Some(DataType::Int32),
        ("bigserial" | "serial8", true) => Some(DataType::Int64),
        _ => None,
    }
}

/// `GENERATED ALWAYS | BY DEFAULT AS IDENTITY`.
fn identity_of(option: &ColumnOption) -> Result<IdentityColumn> {
    let ColumnOption::Generated {
        generated_as,
        sequence_options,
        generation_expr,
        generation_expr_mode,
        generated_keyword: _,
    } = option
    else {
        return Err(Error::internal("a column is not generated"));
    };
    if generation_expr.is_some() || generation_expr_mode.is_some() {
        return Err(Error::unsupported("generated columns are not supported"));
    }
    if sequence_options.as_ref().is_some_and(|options| !options.is_empty()) {
        return Err(Error::unsupported("options of an identity column are not supported")
            .with_hint("leave them out: numbers begin at 1"));
    }
    match generated_as {
        ast::GeneratedAs::Always => Ok(IdentityColumn::Always),
        ast::GeneratedAs::ByDefault => Ok(IdentityColumn::ByDefault),
        ast::GeneratedAs::ExpStored => {
            Err(Error::unsupported("generated columns are not supported"))
        }
    }
}

fn check_identity(column: &ast::ColumnDef, data_type: &DataType) -> Result<()> {
    let name = fold(&column.name);
    if !matches!(data_type, DataType::Int16 | DataType::Int32 | DataType::Int64) {
        let message = "identity column type must be smallint, integer, or bigint";
        return Err(Error::new(ErrorKind::InvalidParameter, message));
    }
    let is = |wanted: fn(&ColumnOption) -> bool| column.options.iter().any(|it| wanted(&it.option));
    if is(|option| matches!(option, ColumnOption::Default(_))) {
        let message = format!("both default and identity specified for column \"{name}\"");
        return Err(Error::new(ErrorKind::Syntax, message));
    }
    if is(|option| matches!(option, ColumnOption::Null)) {
        let message = format!("conflicting NULL/NOT NULL declarations for column \"{name}\"");
        return Err(Error::new(ErrorKind::Syntax, message));
    }
    Ok(())
}

/// The expressions of DEFAULT in a list, with the numbers of their columns.
///
/// # Errors
/// `Syntax` for a column that has two.
pub(super) fn defaults<'a>(
    list: &'a ColumnList,
    places: Places<'_>,
) -> Result<Vec<(usize, &'a ast::Expr)>> {
    let mut found: Vec<(usize, &ast::Expr)> = Vec::new();
    for (index, column) in list.columns.iter().enumerate() {
        for option in &column.options {
            let ColumnOption::Default(value) = &option.option else { continue };
            if found.last().is_some_and(|(other, _)| *other == index) {
                let name = fold(&column.name);
                let message = format!("multiple default values specified for column \"{name}\"");
                let position = places.position(column.name.span.start);
                return Err(Error::new(ErrorKind::Syntax, message).at(position));
            }
            found.push((index, value));
        }
    }
    Ok(found)
}

/// What is not kept of the types that a list names, for notices: values are taken as they come.
pub fn unenforced(list: &ColumnList) -> Vec<String> {
    let notice = |column: &ast::ColumnDef| {
        let name = fold(&column.name);
        let data_type = &column.data_type;
        let kept = match data_type {
            ast::DataType::JSON => "text",
            ast::DataType::Timestamp(Some(0..6), _) => "microseconds",
            ast::DataType::Numeric(ast::ExactNumberInfo::None)
            | ast::DataType::Decimal(ast::ExactNumberInfo::None) => "NUMERIC(38,10)",
            other if length(other).is_some() => "text of any length",
            _ => return None,
        };
        Some(format!("column \"{name}\" of type {data_type} is kept as {kept}"))
    };
    list.columns.iter().filter_map(notice).collect()
}

fn bind_key(
    key: &ast::PrimaryKeyConstraint,
    columns: &[ColumnDef],
    places: Places<'_>,
) -> Result<Vec<usize>> {
    let ast::PrimaryKeyConstraint {
        // There is one key, so its name tells nothing.
        name: _,
        index_name,
        index_type,
        columns: named,
        index_options,
        characteristics,
    } = key;
    if index_name.is_some() || index_type.is_some() || !index_options.is_empty() {
        return Err(Error::unsupported("options of a primary key's index are not supported"));
    }
    if characteristics.is_some() {
        return Err(Error::unsupported("a deferrable primary key is not supported"));
    }
    let mut indexes = Vec::with_capacity(named.len());
    for column in named {
        let (index, place) = key_column(column, columns, places)?;
        if indexes.contains(&index) {
            let name = &columns[index].name;
            let message = format!("column \"{name}\" appears twice in primary key constraint");
            return Err(Error::new(ErrorKind::DuplicateColumn, message).at(place));
        }
        indexes.push(index);
    }
    Ok(indexes)
}

fn key_column(
    column: &ast::IndexColumn,
    columns: &[ColumnDef],
    places: Places<'_>,
) -> Result<(usize, usize)> {
    let ast::IndexColumn { column: ast::OrderByExpr { expr, options, with_fill }, operator_class } =
        column;
    let ast::Expr::Identifier(ident) = expr else {
        return Err(Error::unsupported("a primary key has columns, no expressions"));
    };
    let place = places.position(ident.span.start);
    let ordered = *options != ast::OrderByOptions { asc: None, nulls_first: None };
    if ordered || with_fill.is_some() || operator_class.is_some() {
        let message = "syntax error: a column of a primary key has no order";
        return Err(Error::new(ErrorKind::Syntax, message).at(place));
    }
    let name = fold(ident);
    let found = columns.iter().position(|column| column.name == name);
    found.map(|index| (index, place)).ok_or_else(|| {
        let names = columns.iter().map(|column| column.name.as_str());
        undefined_column(&name, names).at(place)
    })
}

/// A column that does not exist, with the one that it was most likely meant to be.
pub(super) fn undefined_column<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Error {
    let message = format!("column \"{name}\" does not exist");
    let error = Error::new(ErrorKind::UndefinedColumn, message);
    match nearest(name, names) {
        Some(near) => error.with_hint(format!("perhaps you meant \"{near}\"")),
        None => error,
    }
}

fn unsupported_constraint(text: &str) -> Error {
    let text = text.to_uppercase();
    let head = text.split([' ', '(']).next().unwrap_or_default();
    Error::unsupported(format!("column constraint {head} is not supported"))
        .with_hint("columns may be NOT NULL, PRIMARY KEY, IDENTITY, and have a DEFAULT")
}
