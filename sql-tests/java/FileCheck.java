package org.apache.iceberg;

import java.nio.ByteBuffer;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import org.apache.iceberg.data.InternalRecordWrapper;
import org.apache.iceberg.data.Record;
import org.apache.iceberg.data.parquet.GenericParquetReaders;
import org.apache.iceberg.io.InputFile;
import org.apache.iceberg.parquet.Parquet;
import org.apache.iceberg.parquet.ParquetUtil;
import org.apache.iceberg.types.Comparators;
import org.apache.iceberg.types.Conversions;
import org.apache.iceberg.types.Type;
import org.apache.iceberg.types.Types;
import org.apache.iceberg.util.StructLikeUtil;
import org.apache.parquet.hadoop.ParquetFileReader;
import org.apache.parquet.hadoop.util.HadoopInputFile;

/** What a manifest says of a file, against the file: counts, sizes, bounds, partition. */
final class FileCheck {
    private final MetadataCheck check;
    private final BaseTable table;

    FileCheck(MetadataCheck check, BaseTable table) {
        this.check = check;
        this.table = table;
    }

    void check(MetadataCheck.Entry entry) throws Exception {
        ContentFile<?> file = entry.file();
        String name = file.location().replaceAll(".*/", "");
        InputFile input = table.io().newInputFile(file.location());
        check.equal(file.fileSizeInBytes(), input.getLength(), name + ", file_size_in_bytes");
        if (file.format() != FileFormat.PARQUET) {
            check.count("deletion vectors");
            return;
        }
        Metrics metrics = ParquetUtil.fileMetrics(input, MetricsConfig.getDefault());
        check.equal(file.recordCount(), metrics.recordCount(), name + ", record_count");
        if (file.content() != FileContent.DATA) {
            check.count("delete files");
            return;
        }
        check.count("data files");
        check.equal(file.columnSizes(), metrics.columnSizes(), name + ", column_sizes");
        check.equal(file.valueCounts(), metrics.valueCounts(), name + ", value_counts");
        check.equal(
                file.nullValueCounts(), metrics.nullValueCounts(), name + ", null_value_counts");
        checkOffsets(file, name);
        checkRows(file, input, name);
    }

    private void checkOffsets(ContentFile<?> file, String name) throws Exception {
        var path = new org.apache.hadoop.fs.Path(file.location());
        var input = HadoopInputFile.fromPath(path, new org.apache.hadoop.conf.Configuration());
        try (ParquetFileReader reader = ParquetFileReader.open(input)) {
            List<Long> offsets = reader.getRowGroups().stream()
                    .map(block -> block.getStartingPos())
                    .collect(Collectors.toList());
            check.equal(file.splitOffsets(), offsets, name + ", split_offsets");
        }
    }

    /** Each row is in its partition, and within the bounds of its columns. */
    private void checkRows(ContentFile<?> file, InputFile input, String name) throws Exception {
        Schema schema = table.schema();
        PartitionSpec spec = table.specs().get(file.specId());
        PartitionKey key = new PartitionKey(spec, schema);
        InternalRecordWrapper row = new InternalRecordWrapper(schema.asStruct());
        StructLike partition = StructLikeUtil.copy(file.partition());
        Comparator<StructLike> same = Comparators.forType(spec.partitionType());
        try (var rows = Parquet.read(input)
                .project(schema)
                .createReaderFunc(found -> GenericParquetReaders.buildReader(schema, found))
                .<Record>build()) {
            for (Record record : rows) {
                check.count("rows");
                row.wrap(record);
                key.partition(row);
                check.expect(
                        same.compare(key, partition) == 0,
                        name + ", a row of partition " + key.toPath() + " in " + partition);
                for (int at = 0; at < schema.columns().size(); at++) {
                    checkValue(file, schema.columns().get(at), row.get(at, Object.class), name);
                }
            }
        }
    }

    private void checkValue(
            ContentFile<?> file, Types.NestedField field, Object value, String name) {
        if (value == null || !field.type().isPrimitiveType()
                || (value instanceof Double number && number.isNaN())
                || (value instanceof Float real && real.isNaN())) {
            return;
        }
        Object lower = bound(file.lowerBounds(), field);
        Object upper = bound(file.upperBounds(), field);
        Comparator<Object> order = Comparators.forType(field.type().asPrimitiveType());
        boolean isInside = lower != null && order.compare(lower, value) <= 0
                && (upper == null ? isText(field.type()) : order.compare(value, upper) <= 0);
        check.count("values");
        check.expect(isInside, name + ", " + field.name() + " " + value + " is not within "
                + lower + " and " + upper);
    }

    /** An upper bound of a text may be left out: a cut one may have no text above it. */
    private static boolean isText(Type type) {
        return type.typeId() == Type.TypeID.STRING || type.typeId() == Type.TypeID.BINARY;
    }

    private static Object bound(Map<Integer, ByteBuffer> bounds, Types.NestedField field) {
        ByteBuffer bytes = bounds == null ? null : bounds.get(field.fieldId());
        return bytes == null ? null : Conversions.fromByteBuffer(field.type(), bytes);
    }
}
