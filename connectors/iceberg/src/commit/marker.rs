//! Marks of a sink's commits in its table: which commit was the last, and whether it is ours.
//!
//! ```text
//! frazil.<sink>.commit      id of the last commit, random: it says which changes are visible
//! frazil.<sink>.checkpoint  its checkpoint, for people
//! frazil.<sink>.fence       the process that prepared it
//! ```
//!
//! Properties outlive snapshots that are expired or compacted away. The commits of a sink are a
//! chain: each committable names the commit before it, and is only good right after that one.
//! **Invariant:** a commit that the data directory does not know is never taken for one of its own,
//! so changes are never called visible that are not. It is there if the data directory was restored
//! from an older copy, or if two copies of it are in use.

use std::collections::HashMap;
use std::fmt;

use frazil_connector_api::{
    CheckpointNumber, CommitMark, ConnectorError, ConnectorErrorKind, Fence, LastCommit, Result,
    Resume,
};
use iceberg::spec::TableMetadata;
use uuid::Uuid;

use crate::error::target;
use crate::row_delta::{Marker, bad_property};
use crate::table_name::TableName;

/// How a committable stands to its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The table has it as the sink's last commit.
    Visible,
    /// The table has the commit before it.
    Next,
}

/// Names of the properties.
struct Names {
    commit: String,
    checkpoint: String,
    fence: String,
}

impl Names {
    fn new(sink_id: Uuid) -> Self {
        Self {
            commit: format!("frazil.{sink_id}.commit"),
            checkpoint: format!("frazil.{sink_id}.checkpoint"),
            fence: format!("frazil.{sink_id}.fence"),
        }
    }
}

/// What marks a commit in the table and in its snapshot.
pub(crate) fn marker(sink_id: Uuid, snapshot_id: i64, mark: &CommitMark) -> Marker {
    let names = Names::new(sink_id);
    let CommitMark { checkpoint, fence, id } = mark;
    let entry = |name: &str, value: &dyn fmt::Display| (name.to_string(), value.to_string());
    Marker {
        snapshot_id,
        summary: HashMap::from([
            entry("frazil.sink-id", &sink_id),
            entry("frazil.commit-id", id),
            entry("frazil.checkpoint", checkpoint),
            entry("frazil.fence", fence),
        ]),
        properties: HashMap::from([
            entry(&names.commit, id),
            entry(&names.checkpoint, checkpoint),
            entry(&names.fence, fence),
        ]),
    }
}

/// The sink's last commit in the table.
///
/// # Errors
/// `Target` if the marks are damaged.
pub(crate) fn last_commit(metadata: &TableMetadata, sink_id: Uuid) -> Result<Option<CommitMark>> {
    let names = Names::new(sink_id);
    let properties = metadata.properties();
    let number = |name: &str| {
        let value = properties.get(name).map_or("", String::as_str);
        value.parse().map_err(|_| bad_property(name, value))
    };
    let Some(id) = properties.get(&names.commit) else {
        return match properties.get(&names.checkpoint) {
            None => Ok(None),
            Some(_) => Err(bad_property(&names.commit, "")),
        };
    };
    Ok(Some(CommitMark {
        id: id.parse().map_err(|_| bad_property(&names.commit, id))?,
        checkpoint: CheckpointNumber(number(&names.checkpoint)?),
        fence: Fence(number(&names.fence)?),
    }))
}

/// How the commit `mark`, which comes after `previous`, stands to the table.
///
/// # Errors
/// `Fenced` if the table's last commit is of a newer process; `Target` if it is neither of the two.
pub(crate) fn standing(
    table: &TableName,
    metadata: &TableMetadata,
    sink_id: Uuid,
    previous: Option<Uuid>,
    mark: &CommitMark,
) -> Result<Standing> {
    let found = last_commit(metadata, sink_id)?;
    check_fence(table, found, mark.fence, Some(mark.checkpoint))?;
    match found {
        Some(found) if found.id == mark.id => Ok(Standing::Visible),
        found if found.map(|found| found.id) == previous => Ok(Standing::Next),
        found => Err(unknown(table, found, Some(mark.checkpoint))),
    }
}

/// Compares the table's last commit with what the data directory knows, where nothing is prepared.
///
/// # Errors
/// As [`standing`].
pub(crate) fn check_resume(
    table: &TableName,
    metadata: &TableMetadata,
    sink_id: Uuid,
    resume: &Resume,
) -> Result<()> {
    let found = last_commit(metadata, sink_id)?;
    let last = resume.last.mark();
    check_fence(table, found, resume.fence, last.map(|last| last.checkpoint))?;
    match &resume.last {
        LastCommit::Prepared(_) => Ok(()),
        _ if found.map(|found| found.id) == last.map(|last| last.id) => Ok(()),
        _ => Err(unknown(table, found, last.map(|last| last.checkpoint))),
    }
}

fn check_fence(
    table: &TableName,
    found: Option<CommitMark>,
    fence: Fence,
    checkpoint: Option<CheckpointNumber>,
) -> Result<()> {
    let Some(found) = found.filter(|found| found.fence > fence) else { return Ok(()) };
    let message = format!(
        "table \"{table}\" has checkpoint {} of the sink by a newer process with fence {}; this \
         process has fence {fence}, and the last checkpoint of its data directory is {}",
        found.checkpoint,
        found.fence,
        shown(checkpoint),
    );
    Err(ConnectorError::new(ConnectorErrorKind::Fenced, message).with_hint(format!(
        "stop this process if another one runs on its data directory; if none does, {RESTORED}"
    )))
}

const RESTORED: &str = "the data directory may have been restored from an older copy: put the \
                        newest one back, or drop the sink and create it again";

fn unknown(
    table: &TableName,
    found: Option<CommitMark>,
    known: Option<CheckpointNumber>,
) -> ConnectorError {
    let known = shown(known);
    let Some(found) = found else {
        return target(format!(
            "table \"{table}\" has no commit of the sink, but the data directory knows of \
             checkpoint {known}"
        ))
        .with_hint(
            "the table was replaced or its properties were removed: drop the sink and create it \
             again",
        );
    };
    target(format!(
        "table \"{table}\" is ahead of the data directory: it has checkpoint {} of the sink, which \
         the data directory does not know; the last one there is {known}",
        found.checkpoint
    ))
    .with_hint(RESTORED)
}

fn shown(checkpoint: Option<CheckpointNumber>) -> String {
    checkpoint.map_or("none".to_string(), |checkpoint| checkpoint.to_string())
}
