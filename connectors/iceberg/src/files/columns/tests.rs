//! Columns of files that are older than the table's schema, or have no field ids.

use arrow::array::{Int32Array, Int64Array};
use arrow::datatypes::Schema as ArrowSchema;
use iceberg::spec::{ListType, Literal, MapType, PrimitiveLiteral, PrimitiveType, StructType};

use super::*;

fn int(id: i32, name: &str) -> NestedField {
    NestedField::optional(id, name, Type::Primitive(PrimitiveType::Int))
}

fn nested(id: i32, name: &str, fields: Vec<NestedField>) -> NestedField {
    let fields = fields.into_iter().map(Arc::new).collect();
    NestedField::optional(id, name, Type::Struct(StructType::new(fields)))
}

fn schema(fields: Vec<NestedField>) -> Schema {
    Schema::builder().with_fields(fields.into_iter().map(Arc::new)).build().unwrap()
}

fn ints(values: &[i32]) -> ArrayRef {
    Arc::new(Int32Array::from(values.to_vec()))
}

fn structs(field: &Field, children: Vec<ArrayRef>) -> ArrayRef {
    let DataType::Struct(fields) = field.data_type() else { panic!("not a struct") };
    Arc::new(StructArray::new(fields.clone(), children, None))
}

fn texts(array: &ArrayRef) -> Vec<String> {
    let options = arrow::util::display::FormatOptions::default().with_null("-");
    let formatter = arrow::util::display::ArrayFormatter::try_new(array, &options).unwrap();
    (0..array.len()).map(|row| formatter.value(row).to_string()).collect()
}

/// A child of a struct is found by its id, wherever the struct is: one that was dropped is not
/// shown under the name, or at the place, of one that was added.
#[test]
fn children_of_structs_are_found_by_their_ids() {
    let before = || vec![int(2, "a"), int(3, "b")];
    let after = || vec![int(4, "c").with_initial_default(Literal::int(7)), int(2, "b")];
    let list = |fields| {
        let element = Arc::new(nested(11, "element", fields));
        NestedField::optional(10, "l", Type::List(ListType::new(element)))
    };
    let map = |fields| {
        let key = Arc::new(NestedField::map_key_element(21, Type::Primitive(PrimitiveType::Int)));
        let value = nested(22, "value", fields);
        NestedField::optional(20, "m", Type::Map(MapType::new(key, Arc::new(value))))
    };
    let old = file_schema(&schema(vec![nested(1, "s", before())])).unwrap();
    let one = structs(old.field(0), vec![ints(&[1, 2, 3]), ints(&[10, 20, 30])]);
    let columns = Columns::of(&schema(vec![nested(1, "s", after())]), None).unwrap();
    assert_eq!(columns.places("f", old.fields()).unwrap(), [Some(0)]);
    let shaped = columns.shape(0, &one, 0, old.fields()).unwrap();
    assert_eq!(shaped.data_type(), columns.schema().field(0).data_type());
    assert_eq!(texts(&shaped), ["{c: 7, b: 1}", "{c: 7, b: 2}", "{c: 7, b: 3}"]);

    let old = file_schema(&schema(vec![list(before())])).unwrap();
    let DataType::List(element) = old.field(0).data_type() else { panic!("not a list") };
    let values = structs(element, vec![ints(&[1, 2, 3]), ints(&[10, 20, 30])]);
    let offsets = arrow::buffer::OffsetBuffer::from_lengths([2, 0, 1]);
    let lists: ArrayRef = Arc::new(ListArray::new(Arc::clone(element), offsets, values, None));
    let columns = Columns::of(&schema(vec![list(after())]), None).unwrap();
    let shaped = columns.shape(0, &lists, 0, old.fields()).unwrap();
    assert_eq!(texts(&shaped), ["[{c: 7, b: 1}, {c: 7, b: 2}]", "[]", "[{c: 7, b: 3}]"]);

    let old = file_schema(&schema(vec![map(before())])).unwrap();
    let DataType::Map(entries, sorted) = old.field(0).data_type() else { panic!("not a map") };
    let DataType::Struct(sides) = entries.data_type() else { panic!("no entries") };
    let values = structs(&sides[1], vec![ints(&[1, 2]), ints(&[10, 20])]);
    let pairs = StructArray::new(sides.clone(), vec![ints(&[5, 6]), values], None);
    let offsets = arrow::buffer::OffsetBuffer::from_lengths([1, 1]);
    let maps: ArrayRef =
        Arc::new(MapArray::new(Arc::clone(entries), offsets, pairs, None, *sorted));
    let columns = Columns::of(&schema(vec![map(after())]), None).unwrap();
    let shaped = columns.shape(0, &maps, 0, old.fields()).unwrap();
    assert_eq!(texts(&shaped), ["{5: {c: 7, b: 1}}", "{6: {c: 7, b: 2}}"]);
}

/// A file without field ids is read by the name mapping, and not at all without one.
#[test]
fn a_file_without_field_ids_needs_a_name_mapping() {
    let table = schema(vec![int(1, "id"), nested(2, "s", vec![int(3, "x"), int(4, "y")])]);
    let child = |name| Field::new(name, DataType::Int32, true);
    let inner = Field::new("S", DataType::Struct(vec![child("why"), child("x")].into()), true);
    let file = ArrowSchema::new(vec![inner.clone(), child("number")]);
    let columns = Columns::of(&table, None).unwrap();
    let error = columns.places("f.parquet", file.fields()).unwrap_err();
    assert!(error.message.contains("\"f.parquet\" has no field ids"), "{error}");
    let names = r#"[{"field-id": 1, "names": ["id", "number"]}, {"field-id": 2, "names": ["S"],
        "fields": [{"field-id": 3, "names": ["x"]}, {"field-id": 4, "names": ["y", "why"]}]}]"#;
    let columns = Columns::of(&table, Some(names)).unwrap();
    assert_eq!(columns.places("f.parquet", file.fields()).unwrap(), [Some(1), Some(0)]);
    let structs = structs(&inner, vec![ints(&[1, 2]), ints(&[3, 4])]);
    let shaped = columns.shape(1, &structs, 0, file.fields()).unwrap();
    assert_eq!(texts(&shaped), ["{x: 3, y: 1}", "{x: 4, y: 2}"]);
    let broken = Columns::of(&table, Some("[{")).unwrap_err();
    assert!(broken.message.contains("schema.name-mapping.default"), "{broken}");
}

/// A column that a file lacks: its partition's value, its default, NULL, or an error.
#[test]
fn absent_columns_have_their_values() {
    let text = Type::Primitive(PrimitiveType::String);
    let decimal = Type::Primitive(PrimitiveType::Decimal { precision: 9, scale: 2 });
    let date = Type::Primitive(PrimitiveType::Date);
    let table = schema(vec![
        int(1, "id"),
        NestedField::optional(2, "t", text).with_initial_default(Literal::string("new")),
        NestedField::optional(3, "d", decimal)
            .with_initial_default(Literal::Primitive(PrimitiveLiteral::Int128(-150))),
        NestedField::optional(4, "day", date).with_initial_default(Literal::date(-1)),
        int(5, "none"),
        NestedField::required(6, "needed", Type::Primitive(PrimitiveType::Int)),
    ]);
    let columns = Columns::of(&table, None).unwrap();
    let constants = Constants::from([(1, Datum::int(42))]);
    let absent = |at| columns.absent(at, &constants, 2).map(|column| texts(&column));
    assert_eq!(absent(0).unwrap(), ["42", "42"]);
    assert_eq!(absent(1).unwrap(), ["new", "new"]);
    assert_eq!(absent(2).unwrap(), ["-1.50", "-1.50"]);
    assert_eq!(absent(3).unwrap(), ["1969-12-31", "1969-12-31"]);
    assert_eq!(absent(4).unwrap(), ["-", "-"]);
    assert!(absent(5).unwrap_err().message.contains("\"needed\""));
}

/// A value outside a column's type is an error, never NULL.
#[test]
fn values_out_of_range_are_an_error() {
    let wide: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(1 << 40)]));
    assert!(as_type(&wide, &DataType::Int32).is_err());
    assert_eq!(as_type(&wide.slice(0, 2), &DataType::Int32).unwrap().null_count(), 1);
    let seconds = arrow::array::TimestampSecondArray::from(vec![i64::MAX / 1000]);
    let seconds: ArrayRef = Arc::new(seconds);
    let micros = DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, None);
    assert!(as_type(&seconds, &micros).is_err());
}
