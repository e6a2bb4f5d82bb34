package org.apache.iceberg;

import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;

/** Counts what a snapshot adds, removes and has, and compares its summary with that. */
final class SummaryCheck {
    private final MetadataCheck check;
    private final String name;
    private final Snapshot snapshot;
    private final Snapshot parent;
    private final Map<String, Long> counted = new TreeMap<>();

    /** Names of Iceberg's own counts; what a sink adds for itself has its name before it. */
    private static final Set<String> PREFIXES = Set.of("added-", "removed-", "deleted-", "total-");

    SummaryCheck(MetadataCheck check, String name, Snapshot snapshot, Snapshot parent) {
        this.check = check;
        this.name = name;
        this.snapshot = snapshot;
        this.parent = parent;
    }

    void run(List<MetadataCheck.Entry> entries) {
        for (MetadataCheck.Entry entry : entries) {
            boolean isOurs = entry.snapshot() == snapshot.snapshotId();
            if (entry.isLive()) {
                count(entry.file(), "total-", "total-");
            }
            if (isOurs && entry.status() == ManifestEntry.Status.ADDED) {
                count(entry.file(), "added-", "added-");
            }
            if (isOurs && entry.status() == ManifestEntry.Status.DELETED) {
                // Data that goes is "deleted", what deletes it is "removed".
                count(entry.file(), "deleted-", "removed-");
            }
        }
        Map<String, Long> told = new TreeMap<>();
        Set<String> operations = Set.of("append", "overwrite", "delete", "replace");
        check.expect(operations.contains(snapshot.operation()), name + ", operation");
        snapshot.summary().forEach((key, value) -> {
            if (PREFIXES.stream().anyMatch(key::startsWith)) {
                told.put(key, Long.parseLong(value));
            }
        });
        Set<String> keys = new TreeSet<>(counted.keySet());
        keys.addAll(told.keySet());
        for (String key : keys) {
            boolean isAbsent = key.startsWith("total-") && !told.containsKey(key);
            check.expect(!isAbsent, name + ", summary has no " + key);
            long found = told.getOrDefault(key, 0L);
            check.equal(found, counted.getOrDefault(key, 0L), name + ", summary " + key);
            check.count("summary fields");
        }
        checkOperation();
    }

    /** An "append" adds data alone, and a "delete" adds none. */
    private void checkOperation() {
        boolean adds = counted.getOrDefault("added-data-files", 0L) > 0;
        boolean removes = counted.getOrDefault("deleted-data-files", 0L) > 0
                || counted.getOrDefault("added-delete-files", 0L) > 0;
        switch (snapshot.operation()) {
            case "append" -> check.expect(!removes, name + ", an append that deletes");
            case "delete" -> check.expect(!adds, name + ", a delete that adds data");
            default -> check.expect(
                    adds || removes || parent == null, name + ", a change of nothing");
        }
    }

    private void count(ContentFile<?> file, String data, String deletes) {
        boolean isTotal = data.equals("total-");
        // Deletion vectors share a file: each counts its own part.
        long size = file instanceof DeleteFile delete && delete.contentOffset() != null
                ? delete.contentSizeInBytes()
                : file.fileSizeInBytes();
        add(deletes + "files-size", size);
        if (file.content() == FileContent.DATA) {
            add(data + "data-files", 1);
            add(data + "records", file.recordCount());
            return;
        }
        add(deletes + "delete-files", 1);
        boolean isVector = ((DeleteFile) file).contentOffset() != null;
        if (file.content() == FileContent.EQUALITY_DELETES) {
            check.expect(false, name + " has an equality delete");
            return;
        }
        add(deletes + "position-deletes", file.recordCount());
        if (!isTotal) {
            add(deletes + (isVector ? "dvs" : "position-delete-files"), 1);
        }
    }

    private void add(String key, long count) {
        counted.merge(key, count, Long::sum);
    }
}
