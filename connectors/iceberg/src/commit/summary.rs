//! [`Totals`]: the counts in the summary of an Iceberg snapshot.

use std::collections::HashMap;

use iceberg::spec::{DataContentType, DataFile, Summary};

/// What a snapshot adds and removes.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    added: Counts,
    removed: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    data_files: i64,
    delete_files: i64,
    vectors: i64,
    records: i64,
    position_deletes: i64,
    bytes: i64,
}

impl Counts {
    fn count(&mut self, file: &DataFile) {
        let rows = file.record_count() as i64;
        // Vectors share a file; Iceberg's libraries count the part that is the vector's own.
        let part = file.content_size_in_bytes();
        self.bytes += part.unwrap_or(file.file_size_in_bytes() as i64);
        if file.content_type() == DataContentType::Data {
            self.data_files += 1;
            self.records += rows;
        } else {
            self.delete_files += 1;
            self.position_deletes += rows;
            self.vectors += i64::from(file.content_offset().is_some());
        }
    }
}

impl Totals {
    /// Counts a file that the snapshot adds.
    pub(crate) fn add(&mut self, file: &DataFile) {
        self.added.count(file);
    }

    /// Counts a file that the snapshot removes.
    pub(crate) fn remove(&mut self, file: &DataFile) {
        self.removed.count(file);
    }

    /// The summary after `parent`. A total that the parent does not tell is left out.
    pub(crate) fn summary(&self, parent: Option<&Summary>) -> HashMap<String, String> {
        let (added, removed) = (&self.added, &self.removed);
        let changes = [
            ("added-data-files", added.data_files),
            ("deleted-data-files", removed.data_files),
            ("added-delete-files", added.delete_files),
            ("removed-delete-files", removed.delete_files),
            ("added-dvs", added.vectors),
            ("removed-dvs", removed.vectors),
            ("added-position-delete-files", added.delete_files - added.vectors),
            ("removed-position-delete-files", removed.delete_files - removed.vectors),
            ("added-records", added.records),
            ("deleted-records", removed.records),
            ("added-position-deletes", added.position_deletes),
            ("removed-position-deletes", removed.position_deletes),
            ("added-files-size", added.bytes),
            ("removed-files-size", removed.bytes),
        ];
        let totals = [
            ("total-data-files", added.data_files - removed.data_files),
            ("total-delete-files", added.delete_files - removed.delete_files),
            ("total-records", added.records - removed.records),
            ("total-position-deletes", added.position_deletes - removed.position_deletes),
            ("total-equality-deletes", 0),
            ("total-files-size", added.bytes - removed.bytes),
        ];
        let changes = changes.into_iter().filter(|(_, value)| *value > 0);
        let totals = totals.into_iter().filter_map(|(name, change)| {
            let before = match parent {
                None => 0,
                Some(parent) => parent.additional_properties.get(name)?.parse::<i64>().ok()?,
            };
            Some((name, before + change))
        });
        changes.chain(totals).map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }
}
