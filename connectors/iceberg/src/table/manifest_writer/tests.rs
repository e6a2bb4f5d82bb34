//! Manifests come back as they were written, and leave no memory behind.

use std::sync::Arc;

use iceberg::spec::{
    DataFileBuilder, DataFileFormat, ManifestEntryRef, NestedField, PartitionSpec, Transform,
};

use super::*;
use crate::live_files::read_manifest;

/// All types that a partition may have, with a value of each.
fn partition_values() -> Vec<(PrimitiveType, Option<Literal>)> {
    let decimal = PrimitiveType::Decimal { precision: 12, scale: 2 };
    let decimal_value = |value| Literal::Primitive(PrimitiveLiteral::Int128(value));
    vec![
        (PrimitiveType::Boolean, Some(Literal::bool(true))),
        (PrimitiveType::Int, Some(Literal::int(-5))),
        (PrimitiveType::Long, Some(Literal::long(i64::MIN))),
        (PrimitiveType::Long, None),
        (PrimitiveType::Date, Some(Literal::date(-1))),
        (PrimitiveType::Time, Some(Literal::time(86_399_999_999))),
        (PrimitiveType::Timestamp, Some(Literal::timestamp(-7))),
        (PrimitiveType::Timestamptz, Some(Literal::timestamptz(7))),
        (PrimitiveType::String, Some(Literal::string("a/b c=ü"))),
        (PrimitiveType::Binary, Some(Literal::binary(vec![0, 255]))),
        (PrimitiveType::Fixed(3), Some(Literal::fixed(vec![1, 2, 3]))),
        (decimal.clone(), Some(decimal_value(-123_456))),
        (decimal, Some(decimal_value(999_999_999_999))),
    ]
}

fn schema_and_spec(
    types: &[PrimitiveType],
    name: impl Fn(usize) -> String,
) -> (Schema, PartitionSpec) {
    let fields = types.iter().enumerate().map(|(at, data_type)| {
        let data_type = Type::Primitive(data_type.clone());
        Arc::new(NestedField::optional(at as i32 + 1, name(at), data_type))
    });
    let schema = Schema::builder().with_fields(fields).build().unwrap();
    let mut spec = PartitionSpec::builder(Arc::new(schema.clone())).with_spec_id(4);
    for at in 0..types.len() {
        spec = spec
            .add_partition_field(name(at), format!("part of {}", name(at)), Transform::Identity)
            .unwrap();
    }
    (schema, spec.build().unwrap())
}

fn data_file(number: usize, partition: Struct) -> DataFile {
    DataFileBuilder::default()
        .content(DataContentType::Data)
        .file_path(format!("/t/data/{number}.parquet"))
        .file_format(DataFileFormat::Parquet)
        .partition(partition)
        .partition_spec_id(4)
        .record_count(number as u64 + 1)
        .file_size_in_bytes(1000)
        .column_sizes(HashMap::from([(1, 10), (2, 20)]))
        .value_counts(HashMap::from([(1, 7)]))
        .null_value_counts(HashMap::from([(2, 1)]))
        .lower_bounds(HashMap::from([(2, Datum::int(-9))]))
        .upper_bounds(HashMap::from([(2, Datum::int(9))]))
        .split_offsets(Some(vec![4, 400]))
        .first_row_id(None)
        .build()
        .unwrap()
}

#[tokio::test]
async fn entries_come_back_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let io = FileIO::new_with_fs();
    let (types, values): (Vec<_>, Vec<_>) = partition_values().into_iter().unzip();
    let (schema, spec) = schema_and_spec(&types, |at| format!("column {at}"));
    let head = ManifestHead {
        version: FormatVersion::V3,
        content: ManifestContentType::Data,
        spec: &spec,
        schema: &schema,
        snapshot_id: 77,
    };
    let nulls: Struct = types.iter().map(|_| None).collect();
    let entry = |status, number, sequence, partition| Entry {
        status,
        snapshot_id: if status == ManifestStatus::Existing { 33 } else { 77 },
        sequence,
        file: data_file(number, partition),
        first_row_id: (status == ManifestStatus::Existing).then_some(1234),
    };
    let entries = [
        entry(ManifestStatus::Added, 0, None, values.iter().cloned().collect()),
        entry(ManifestStatus::Existing, 1, Some((3, 4)), nulls.clone()),
        entry(ManifestStatus::Deleted, 2, Some((2, 2)), values.iter().cloned().collect()),
    ];
    let path = folder.path().join("m.avro").to_string_lossy().into_owned();
    let mut file = write_manifest(&io, &path, &head, &entries).await.unwrap();
    assert_eq!((file.added_files_count, file.added_rows_count), (Some(1), Some(1)));
    assert_eq!((file.existing_files_count, file.existing_rows_count), (Some(1), Some(2)));
    assert_eq!((file.deleted_files_count, file.deleted_rows_count), (Some(1), Some(3)));
    assert_eq!((file.min_sequence_number, file.first_row_id), (3, None));
    assert_eq!(file.manifest_length as u64, std::fs::metadata(&path).unwrap().len());
    let summaries = file.partitions.as_ref().unwrap();
    assert!(summaries.iter().all(|summary| summary.contains_null));
    let text = |at: usize| summaries[at].lower_bound.as_ref().map(|bound| bound.to_vec());
    assert_eq!(text(1), Some((-5_i32).to_le_bytes().to_vec()));
    assert_eq!(text(3), None);

    file.sequence_number = 9;
    let manifest = read_manifest(&io, &file).await.unwrap();
    assert_eq!(manifest.metadata().partition_spec().spec_id(), 4);
    let read = |at: usize| -> &ManifestEntryRef { &manifest.entries()[at] };
    for (at, entry) in entries.iter().enumerate() {
        let found = read(at);
        assert_eq!(found.status(), entry.status);
        assert_eq!(found.snapshot_id(), Some(entry.snapshot_id));
        let (data, of_file) = entry.sequence.unwrap_or((9, 9));
        assert_eq!(
            (found.sequence_number(), found.file_sequence_number),
            (Some(data), Some(of_file))
        );
        assert_eq!(found.data_file().first_row_id(), entry.first_row_id);
        assert_eq!(found.data_file().partition(), entry.file.partition());
        assert_eq!(found.data_file().lower_bounds(), entry.file.lower_bounds());
        assert_eq!(found.data_file().split_offsets(), entry.file.split_offsets());
        assert_eq!(found.data_file().column_sizes(), entry.file.column_sizes());
        assert_eq!(found.data_file().record_count(), entry.file.record_count());
    }
}

#[tokio::test]
async fn a_partition_of_another_spec_is_an_error() {
    let io = FileIO::new_with_fs();
    let (schema, spec) = schema_and_spec(&[PrimitiveType::Int], |_| "a".to_string());
    let head = ManifestHead {
        version: FormatVersion::V2,
        content: ManifestContentType::Data,
        spec: &spec,
        schema: &schema,
        snapshot_id: 1,
    };
    for partition in [Struct::empty(), [Some(Literal::string("x"))].into_iter().collect()] {
        let file = data_file(0, partition);
        let entry = Entry {
            status: ManifestStatus::Added,
            snapshot_id: 1,
            sequence: None,
            file,
            first_row_id: None,
        };
        let error = write_manifest(&io, "/nowhere/m.avro", &head, &[entry]).await.unwrap_err();
        assert!(error.message.contains("partition"), "{error}");
    }
}

fn resident_bytes() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// 20 000 entries with a partition field whose name has 10 000 letters: the crate's writer keeps
/// the name of each for ever, 200 MB.
#[tokio::test]
async fn writing_leaves_no_memory_behind() {
    let folder = tempfile::tempdir().unwrap();
    let io = FileIO::new_with_fs();
    let (schema, spec) = schema_and_spec(&[PrimitiveType::Int], |_| "n".repeat(10_000));
    let head = ManifestHead {
        version: FormatVersion::V3,
        content: ManifestContentType::Data,
        spec: &spec,
        schema: &schema,
        snapshot_id: 1,
    };
    let entries: Vec<Entry> = (0..1000)
        .map(|number| Entry {
            status: ManifestStatus::Added,
            snapshot_id: 1,
            sequence: None,
            file: data_file(number, [Some(Literal::int(number as i32))].into_iter().collect()),
            first_row_id: None,
        })
        .collect();
    let before = resident_bytes();
    for number in 0..20 {
        let path = folder.path().join(format!("{}.avro", number % 3));
        write_manifest(&io, &path.to_string_lossy(), &head, &entries).await.unwrap();
    }
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 100 << 20, "{} MB are left", grown >> 20);
}
