package org.apache.iceberg;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import org.apache.iceberg.io.CloseableIterable;
import org.apache.iceberg.types.TypeUtil;
import org.apache.iceberg.types.Types;

/**
 * Asserts of a table's metadata what Iceberg's specification says of it, field by field.
 *
 * <p>It reads the manifests of every snapshot that the metadata has, and each live file of the
 * current one (see {@link FileCheck}). In Iceberg's package, since entries with their status and
 * sequence numbers are not public.
 */
public final class MetadataCheck {
    private final BaseTable table;
    private final TableMetadata metadata;
    private final List<String> problems = new ArrayList<>();
    private final Map<String, Integer> counts = new TreeMap<>();
    private final Map<String, List<Entry>> manifests = new HashMap<>();

    /** An entry of a manifest, with what it has from its manifest. */
    record Entry(
            ManifestEntry.Status status,
            long snapshot,
            Long sequence,
            Long fileSequence,
            ContentFile<?> file) {
        boolean isLive() {
            return status != ManifestEntry.Status.DELETED;
        }

        /** What makes a file one: deletion vectors share a file. */
        String name() {
            if (file instanceof DeleteFile delete && delete.contentOffset() != null) {
                return file.location() + "@" + delete.contentOffset();
            }
            return file.location();
        }
    }

    public MetadataCheck(BaseTable table) {
        this.table = table;
        this.metadata = table.operations().current();
    }

    /** What is wrong; nothing if all is right. */
    public List<String> problems() {
        return problems;
    }

    /** How many things of each kind were looked at. */
    public Map<String, Integer> counts() {
        return counts;
    }

    void count(String what) {
        counts.merge(what, 1, Integer::sum);
    }

    void expect(boolean isSo, String what) {
        if (!isSo) {
            problems.add(what);
        }
    }

    void equal(Object found, Object expected, String what) {
        expect(
                Objects.equals(found, expected),
                what + ": it is " + found + " and should be " + expected);
    }

    public void run() throws Exception {
        checkSchemas();
        checkHistory();
        Snapshot parent = null;
        for (Snapshot snapshot : bySequence()) {
            checkSnapshot(snapshot, parent);
            parent = snapshot;
        }
        Snapshot current = metadata.currentSnapshot();
        if (current != null) {
            FileCheck files = new FileCheck(this, table);
            for (Entry entry : entries(current)) {
                if (entry.isLive()) {
                    files.check(entry);
                }
            }
        }
    }

    private void checkSchemas() {
        int highest = 0;
        for (Schema schema : metadata.schemas()) {
            for (int id : TypeUtil.indexById(schema.asStruct()).keySet()) {
                highest = Math.max(highest, id);
            }
        }
        equal(metadata.lastColumnId(), highest, "last-column-id");
        Schema schema = metadata.schema();
        equal(schema.schemaId(), metadata.currentSchemaId(), "current-schema-id");
        for (int id : schema.identifierFieldIds()) {
            Types.NestedField field = schema.findField(id);
            expect(field != null && field.isRequired(), "identifier field " + id + " is required");
        }
        int partition = 999;
        for (PartitionSpec spec : metadata.specs()) {
            for (PartitionField field : spec.fields()) {
                partition = Math.max(partition, field.fieldId());
                expect(schema.findField(field.sourceId()) != null, "source of " + field);
            }
        }
        equal(metadata.lastAssignedPartitionId(), partition, "last-partition-id");
        expect(metadata.uuid() != null, "table-uuid");
        expect(metadata.sortOrder() != null, "default-sort-order-id");
    }

    /** The logs of snapshots and of metadata files, and what refers to a snapshot. */
    private void checkHistory() {
        Snapshot current = metadata.currentSnapshot();
        SnapshotRef main = metadata.ref(SnapshotRef.MAIN_BRANCH);
        if (current == null) {
            expect(main == null && metadata.snapshots().isEmpty(), "no current snapshot");
            return;
        }
        equal(main.snapshotId(), current.snapshotId(), "refs.main");
        equal(metadata.lastSequenceNumber(), current.sequenceNumber(), "last-sequence-number");
        long before = Long.MIN_VALUE;
        HistoryEntry last = null;
        for (HistoryEntry entry : metadata.snapshotLog()) {
            expect(entry.timestampMillis() >= before, "snapshot-log is in the order of time");
            before = entry.timestampMillis();
            last = entry;
            Snapshot snapshot = metadata.snapshot(entry.snapshotId());
            if (snapshot != null) {
                equal(entry.timestampMillis(), snapshot.timestampMillis(), "time in snapshot-log");
            }
        }
        equal(last.snapshotId(), current.snapshotId(), "end of snapshot-log");
        before = Long.MIN_VALUE;
        Set<String> files = new HashSet<>();
        for (TableMetadata.MetadataLogEntry entry : metadata.previousFiles()) {
            expect(entry.timestampMillis() >= before, "metadata-log is in the order of time");
            before = entry.timestampMillis();
            expect(files.add(entry.file()), "metadata-log has " + entry.file() + " twice");
            expect(table.io().newInputFile(entry.file()).exists(), entry.file() + " is there");
        }
        expect(!files.contains(metadata.metadataFileLocation()), "metadata-log has itself");
        expect(metadata.lastUpdatedMillis() >= before, "last-updated-ms");
        expect(metadata.lastUpdatedMillis() >= current.timestampMillis(), "last-updated-ms");
    }

    private List<Snapshot> bySequence() {
        List<Snapshot> snapshots = new ArrayList<>(metadata.snapshots());
        snapshots.sort((one, two) -> Long.compare(one.sequenceNumber(), two.sequenceNumber()));
        return snapshots;
    }

    private void checkSnapshot(Snapshot snapshot, Snapshot parent) throws Exception {
        count("snapshots");
        String name = "snapshot " + snapshot.sequenceNumber();
        Long parentId = parent == null ? null : parent.snapshotId();
        long sequence = parent == null ? snapshot.sequenceNumber() : parent.sequenceNumber() + 1;
        if (parent != null || snapshot.sequenceNumber() == 1) {
            equal(snapshot.parentId(), parentId, name + ", parent-snapshot-id");
        }
        equal(snapshot.sequenceNumber(), sequence, name + ", sequence-number");
        expect(snapshot.sequenceNumber() > 0, name + ", sequence-number is above 0");
        expect(
                snapshot.schemaId() != null
                        && metadata.schemasById().containsKey(snapshot.schemaId()),
                name + ", schema-id");
        if (parent != null) {
            expect(snapshot.timestampMillis() >= parent.timestampMillis(), name + ", timestamp-ms");
        }
        for (ManifestFile manifest : snapshot.allManifests(table.io())) {
            checkManifest(manifest, snapshot);
        }
        checkFiles(snapshot, parent, name);
        checkRowIds(snapshot, parent, name);
        new SummaryCheck(this, name, snapshot, parent).run(entries(snapshot));
    }

    /** A manifest against its line in the manifest list. */
    private void checkManifest(ManifestFile manifest, Snapshot snapshot) throws Exception {
        String name = manifest.path().replaceAll(".*/", "");
        if (manifests.containsKey(manifest.path())) {
            return;
        }
        count("manifests");
        equal(manifest.snapshotId(), snapshot.snapshotId(), name + ", added_snapshot_id");
        equal(manifest.sequenceNumber(), snapshot.sequenceNumber(), name + ", sequence_number");
        expect(metadata.specsById().containsKey(manifest.partitionSpecId()), name + ", spec id");
        long length = table.io().newInputFile(manifest.path()).getLength();
        equal(manifest.length(), length, name + ", length");
        int[] files = new int[3];
        long[] rows = new long[3];
        long oldest = Long.MAX_VALUE;
        for (Entry entry : entries(manifest)) {
            files[entry.status().id()]++;
            rows[entry.status().id()] += entry.file().recordCount();
            if (entry.isLive()) {
                oldest = Math.min(oldest, entry.sequence());
            }
            checkEntry(entry, manifest, name + ", " + entry.name().replaceAll(".*/", ""));
        }
        equal(manifest.existingFilesCount(), files[0], name + ", existing_files_count");
        equal(manifest.addedFilesCount(), files[1], name + ", added_files_count");
        equal(manifest.deletedFilesCount(), files[2], name + ", deleted_files_count");
        equal(manifest.existingRowsCount(), rows[0], name + ", existing_rows_count");
        equal(manifest.addedRowsCount(), rows[1], name + ", added_rows_count");
        equal(manifest.deletedRowsCount(), rows[2], name + ", deleted_rows_count");
        if (files[0] + files[1] > 0) {
            equal(manifest.minSequenceNumber(), oldest, name + ", min_sequence_number");
        }
        PartitionSummaries.check(this, manifest, metadata.spec(manifest.partitionSpecId()), name,
                entries(manifest));
    }

    private void checkEntry(Entry entry, ManifestFile manifest, String name) {
        count("entries");
        boolean isData = manifest.content() == ManifestContent.DATA;
        ContentFile<?> file = entry.file();
        equal(file.content() == FileContent.DATA, isData, name + ", content");
        equal(file.specId(), manifest.partitionSpecId(), name + ", spec id");
        expect(entry.sequence() > 0, name + ", sequence_number");
        expect(entry.sequence() <= manifest.sequenceNumber(), name + ", sequence_number");
        equal(entry.sequence(), entry.fileSequence(), name + ", file_sequence_number");
        if (entry.status() == ManifestEntry.Status.ADDED) {
            equal(entry.snapshot(), manifest.snapshotId(), name + ", snapshot_id");
            equal(entry.sequence(), manifest.sequenceNumber(), name + ", sequence_number");
        }
        if (entry.status() == ManifestEntry.Status.DELETED) {
            equal(entry.snapshot(), manifest.snapshotId(), name + ", snapshot_id");
        }
        if (file instanceof DeleteFile delete && metadata.formatVersion() >= 3) {
            equal(file.format(), FileFormat.PUFFIN, name + ", format");
            expect(delete.referencedDataFile() != null, name + ", referenced_data_file");
            expect(delete.contentSizeInBytes() != null, name + ", content_size_in_bytes");
        }
    }

    /** The live files of a snapshot are its parent's, less what it removed, and what it added. */
    private void checkFiles(Snapshot snapshot, Snapshot parent, String name) throws Exception {
        Set<String> live = new TreeSet<>();
        Set<String> expected = new TreeSet<>();
        if (parent != null) {
            for (Entry entry : entries(parent)) {
                if (entry.isLive()) {
                    expected.add(entry.name());
                }
            }
        }
        Map<String, Entry> data = new HashMap<>();
        for (Entry entry : entries(snapshot)) {
            boolean isOurs = entry.snapshot() == snapshot.snapshotId();
            if (isOurs && entry.status() == ManifestEntry.Status.ADDED) {
                expect(expected.add(entry.name()), name + " adds a file that was there");
            } else if (isOurs && entry.status() == ManifestEntry.Status.DELETED) {
                expect(expected.remove(entry.name()), name + " removes a file that was not there");
            }
            if (entry.isLive()) {
                expect(live.add(entry.name()), name + " has a file twice: " + entry.name());
                if (entry.file().content() == FileContent.DATA) {
                    data.put(entry.file().location(), entry);
                }
            }
        }
        if (parent != null || snapshot.sequenceNumber() == 1) {
            equal(live, expected, name + ", live files");
        }
        Set<String> marked = new HashSet<>();
        for (Entry entry : entries(snapshot)) {
            if (!entry.isLive() || !(entry.file() instanceof DeleteFile delete)) {
                continue;
            }
            String target = delete.referencedDataFile();
            if (target != null) {
                Entry of = data.get(target);
                expect(of != null, name + ", a delete file of a file that is not live: " + target);
                expect(
                        of == null || entry.sequence() >= of.sequence(),
                        name + ", a delete file that is older than its data file");
                expect(
                        delete.contentOffset() == null || marked.add(target),
                        name + ", two deletion vectors of " + target);
            }
        }
    }

    private void checkRowIds(Snapshot snapshot, Snapshot parent, String name) throws Exception {
        if (metadata.formatVersion() < 3) {
            equal(snapshot.firstRowId(), null, name + ", first-row-id");
            return;
        }
        long first = snapshot.firstRowId();
        long end = first + snapshot.addedRows();
        if (parent != null && parent.firstRowId() != null) {
            equal(first, parent.firstRowId() + parent.addedRows(), name + ", first-row-id");
        }
        if (snapshot == metadata.currentSnapshot()) {
            equal(metadata.nextRowId(), end, "next-row-id");
        }
        // Ranges of row ids by their beginning: no row has the id of another.
        TreeMap<Long, Long> ranges = new TreeMap<>();
        for (Entry entry : entries(snapshot)) {
            if (!(entry.file() instanceof DataFile file) || !entry.isLive()) {
                continue;
            }
            Long id = file.firstRowId();
            expect(id != null, name + ", first_row_id of " + file.location());
            if (id == null) {
                continue;
            }
            Long other = ranges.put(id, id + file.recordCount());
            expect(other == null, name + ", two files with first_row_id " + id);
            expect(id + file.recordCount() <= end, name + ", row ids above next-row-id");
            boolean isNew = entry.status() == ManifestEntry.Status.ADDED
                    && entry.snapshot() == snapshot.snapshotId();
            expect(!isNew || id >= first, name + ", an old row id for a new row");
        }
        long before = 0;
        for (Map.Entry<Long, Long> range : ranges.entrySet()) {
            expect(range.getKey() >= before, name + ", row ids that overlap at " + range.getKey());
            before = range.getValue();
        }
    }

    List<Entry> entries(Snapshot snapshot) throws Exception {
        List<Entry> all = new ArrayList<>();
        for (ManifestFile manifest : snapshot.allManifests(table.io())) {
            all.addAll(entries(manifest));
        }
        return all;
    }

    private List<Entry> entries(ManifestFile manifest) throws Exception {
        List<Entry> known = manifests.get(manifest.path());
        if (known != null) {
            return known;
        }
        List<Entry> found = new ArrayList<>();
        if (manifest.content() == ManifestContent.DATA) {
            try (var reader = ManifestFiles.read(manifest, table.io(), metadata.specsById())) {
                collect(reader.entries(), found);
            }
        } else {
            try (var reader =
                    ManifestFiles.readDeleteManifest(manifest, table.io(), metadata.specsById())) {
                collect(reader.entries(), found);
            }
        }
        manifests.put(manifest.path(), found);
        return found;
    }

    private static <F extends ContentFile<F>> void collect(
            CloseableIterable<ManifestEntry<F>> entries, List<Entry> into) {
        for (ManifestEntry<F> entry : entries) {
            into.add(new Entry(
                    entry.status(),
                    entry.snapshotId(),
                    entry.dataSequenceNumber(),
                    entry.fileSequenceNumber(),
                    entry.file().copy()));
        }
    }
}
