//! Functions of PostgreSQL over values alone: patterns, JSON, arrays.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Int64Array, ListArray, StringArray, StructArray, new_null_array,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Fields};
use datafusion::error::Result;
use datafusion::logical_expr::ScalarUDF;
use serde_json::{Map, Value};

use super::catalog_function::function;

/// Lists of texts.
pub(super) fn text_list() -> DataType {
    DataType::List(Arc::new(Field::new("item", DataType::Utf8, true)))
}

/// `like_escape(pattern, escape)`: the pattern with a backslash as its escape.
pub(super) fn like_escape() -> ScalarUDF {
    function("like_escape", DataType::Utf8, |args, rows| {
        let [patterns, escapes] = args else { return Ok(new_null_array(&DataType::Utf8, rows)) };
        let (patterns, escapes) =
            (cast(patterns, &DataType::Utf8)?, cast(escapes, &DataType::Utf8)?);
        let both = patterns.as_string::<i32>().iter().zip(escapes.as_string::<i32>());
        let texts = both.map(|(pattern, escape)| {
            pattern.zip(escape).map(|(pattern, escape)| backslashed(pattern, escape))
        });
        Ok(Arc::new(texts.collect::<StringArray>()))
    })
}

fn backslashed(pattern: &str, escape: &str) -> String {
    let mut letters = pattern.chars();
    let mut text = String::with_capacity(pattern.len());
    while let Some(letter) = letters.next() {
        match letter {
            _ if escape.starts_with(letter) => match letters.next() {
                Some(literal @ ('%' | '_' | '\\')) => text.extend(['\\', literal]),
                Some(literal) => text.push(literal),
                None => text.push(letter),
            },
            '\\' => text.push_str("\\\\"),
            letter => text.push(letter),
        }
    }
    text
}

/// `json_build_object(key, value, …)`, as text.
pub(super) fn json_build_object() -> ScalarUDF {
    function("json_build_object", DataType::Utf8, |args, rows| {
        let texts = args
            .iter()
            .map(|arg| Ok(cast(arg, &DataType::Utf8)?))
            .collect::<Result<Vec<ArrayRef>>>()?;
        let value = |at: usize, row: usize| {
            let text = texts[at].as_string::<i32>();
            let plain =
                args[at].data_type().is_numeric() || *args[at].data_type() == DataType::Boolean;
            match text.is_null(row) {
                true => Value::Null,
                false if plain => serde_json::from_str(text.value(row)).unwrap_or(Value::Null),
                false => Value::from(text.value(row)),
            }
        };
        let object = |row: usize| {
            let pairs = (0..args.len() / 2).map(|pair| {
                let key = texts[2 * pair].as_string::<i32>().value(row).to_string();
                (key, value(2 * pair + 1, row))
            });
            Value::Object(pairs.collect::<Map<_, _>>()).to_string()
        };
        Ok(Arc::new(StringArray::from_iter_values((0..rows).map(object))))
    })
}

/// `array_to_string(array, delimiter)`, also of an array that a table of the catalog holds as text.
pub(super) fn array_to_string() -> ScalarUDF {
    function("array_to_string", DataType::Utf8, |args, rows| {
        let [array, delimiters, ..] = args else {
            return Ok(new_null_array(&DataType::Utf8, rows));
        };
        let delimiters = cast(delimiters, &DataType::Utf8)?;
        let delimiters = delimiters.as_string::<i32>();
        let lists = match array.data_type() {
            DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) => {
                Some(cast(array, &text_list())?)
            }
            _ => None,
        };
        let texts = match &lists {
            Some(_) => None,
            None => Some(cast(array, &DataType::Utf8)?),
        };
        let joined = |row: usize| {
            let delimiter = delimiters.is_valid(row).then(|| delimiters.value(row))?;
            if let Some(lists) = &lists {
                let list = lists.as_list::<i32>();
                let items = list.is_valid(row).then(|| list.value(row))?;
                let items: Vec<&str> = items.as_string::<i32>().iter().flatten().collect();
                return Some(items.join(delimiter));
            }
            let texts = texts.as_ref()?.as_string::<i32>();
            let text = texts.is_valid(row).then(|| texts.value(row))?;
            Some(text.trim_matches(['{', '}']).replace(',', delimiter))
        };
        Ok(Arc::new((0..rows).map(joined).collect::<StringArray>()))
    })
}

/// `_pg_expandarray(array)`: a record of element `x` and its number `n` for each element.
pub(super) fn expand_array() -> ScalarUDF {
    let fields = Fields::from(vec![
        Field::new("x", DataType::Int64, true),
        Field::new("n", DataType::Int64, true),
    ]);
    let item = Arc::new(Field::new("item", DataType::Struct(fields.clone()), true));
    let result = DataType::List(Arc::clone(&item));
    let numbers = DataType::List(Arc::new(Field::new("item", DataType::Int64, true)));
    function("_pg_expandarray", result.clone(), move |args, rows| {
        let Some(array) =
            args.first().filter(|array| matches!(array.data_type(), DataType::List(_)))
        else {
            return Ok(new_null_array(&result, rows));
        };
        let lists = cast(array, &numbers)?;
        let lists = lists.as_list::<i32>();
        let (mut elements, mut places, mut lengths) = (Vec::new(), Vec::new(), Vec::new());
        for row in 0..rows {
            let list = lists.is_valid(row).then(|| lists.value(row));
            let length = list.as_ref().map_or(0, |list| list.len());
            if let Some(list) = list {
                let list = list.as_primitive::<arrow::datatypes::Int64Type>();
                elements.extend(list.iter());
                places.extend((1..).take(length).map(Some::<i64>));
            }
            lengths.push(length);
        }
        let columns: Vec<ArrayRef> =
            vec![Arc::new(Int64Array::from(elements)), Arc::new(Int64Array::from(places))];
        let records = StructArray::new(fields.clone(), columns, None);
        let offsets = OffsetBuffer::from_lengths(lengths);
        Ok(Arc::new(ListArray::new(Arc::clone(&item), offsets, Arc::new(records), None)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_escape_of_ones_own_becomes_a_backslash() {
        assert_eq!(backslashed("pg/_%", "/"), "pg\\_%");
        assert_eq!(backslashed("a//b\\c", "/"), "a/b\\\\c");
    }
}
