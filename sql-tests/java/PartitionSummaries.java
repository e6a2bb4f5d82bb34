package org.apache.iceberg;

import java.nio.ByteBuffer;
import java.util.Comparator;
import java.util.List;
import org.apache.iceberg.types.Comparators;
import org.apache.iceberg.types.Conversions;
import org.apache.iceberg.types.Type;
import org.apache.iceberg.types.Types;

/** The partition bounds of a manifest in its manifest list, against its entries. */
final class PartitionSummaries {
    private PartitionSummaries() {}

    static void check(
            MetadataCheck check,
            ManifestFile manifest,
            PartitionSpec spec,
            String name,
            List<MetadataCheck.Entry> entries) {
        List<ManifestFile.PartitionFieldSummary> summaries = manifest.partitions();
        int count = spec.fields().size();
        if (summaries == null) {
            check.expect(count == 0, name + ", partitions");
            return;
        }
        check.equal(summaries.size(), count, name + ", partitions");
        for (int at = 0; at < Math.min(count, summaries.size()); at++) {
            Types.NestedField field = spec.partitionType().fields().get(at);
            checkField(check, summaries.get(at), field.type(), name + ", partition " + field.name(),
                    at, entries);
        }
    }

    private static void checkField(
            MetadataCheck check,
            ManifestFile.PartitionFieldSummary summary,
            Type type,
            String name,
            int at,
            List<MetadataCheck.Entry> entries) {
        Comparator<Object> order = Comparators.forType(type.asPrimitiveType());
        boolean hasNull = false;
        Object lowest = null;
        Object highest = null;
        for (MetadataCheck.Entry entry : entries) {
            Object value = entry.file().partition().get(at, Object.class);
            if (value == null) {
                hasNull = true;
                continue;
            }
            lowest = lowest == null || order.compare(value, lowest) < 0 ? value : lowest;
            highest = highest == null || order.compare(value, highest) > 0 ? value : highest;
        }
        check.count("partition summaries");
        check.equal(summary.containsNull(), hasNull, name + ", contains_null");
        checkBound(check, summary.lowerBound(), type, lowest, order, name + ", lower_bound");
        checkBound(check, summary.upperBound(), type, highest, order, name + ", upper_bound");
    }

    private static void checkBound(
            MetadataCheck check,
            ByteBuffer bound,
            Type type,
            Object value,
            Comparator<Object> order,
            String name) {
        Object found = bound == null ? null : Conversions.fromByteBuffer(type, bound);
        boolean isSame = found == null || value == null
                ? found == value
                : order.compare(found, value) == 0;
        check.expect(isSame, name + ": it is " + found + " and should be " + value);
    }
}
