//! [`Kept`]: a part of a manifest that is written when it changes, not with each manifest.

use std::ops::Deref;
use std::sync::Arc;

use frazil_connector_api::CheckpointNumber;
use serde::{Deserialize, Serialize};

/// A part of a manifest, and the manifest that has it.
///
/// Manifests are written with each INSERT, and most of their parts are those of the manifest
/// before. Such a part is stored as the sequence of the manifest in which it was written.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(from = "Stored<T>", into = "Stored<T>", bound(serialize = "T: Clone + Serialize"))]
#[serde(bound(deserialize = "T: Default + Deserialize<'de>"))]
pub struct Kept<T> {
    value: Arc<T>,
    /// `None`: it has changed since the last manifest, and the next one has it.
    sequence: Option<CheckpointNumber>,
}

/// A part of a manifest as it is stored.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Stored<T> {
    /// Here.
    Here(Arc<T>),
    /// In the manifest of this sequence.
    In(CheckpointNumber),
}

impl<T> From<Kept<T>> for Stored<T> {
    fn from(kept: Kept<T>) -> Self {
        match kept.sequence {
            None => Self::Here(kept.value),
            Some(sequence) => Self::In(sequence),
        }
    }
}

impl<T: Default> From<Stored<T>> for Kept<T> {
    fn from(stored: Stored<T>) -> Self {
        match stored {
            Stored::Here(value) => Self { value, sequence: None },
            Stored::In(sequence) => Self { value: Arc::default(), sequence: Some(sequence) },
        }
    }
}

impl<T> Kept<T> {
    /// A part that no manifest has yet.
    pub fn new(value: T) -> Self {
        Self { value: Arc::new(value), sequence: None }
    }

    /// The value.
    pub fn value(&self) -> &Arc<T> {
        &self.value
    }

    /// The next manifest has this value, unless it is what the part has already.
    pub fn set(&mut self, value: Arc<T>) {
        if !Arc::ptr_eq(&self.value, &value) {
            *self = Self { value, sequence: None };
        }
    }

    /// True if no change has come between the two.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.value, &other.value)
    }

    /// The manifest that has it; `None` if the next one will.
    pub(super) fn sequence(&self) -> Option<CheckpointNumber> {
        self.sequence
    }

    /// A manifest that is durable has it, if none had it before.
    pub(super) fn is_written(&mut self, sequence: CheckpointNumber) {
        self.sequence.get_or_insert(sequence);
    }

    /// The next manifest has it again.
    pub(super) fn write_again(&mut self) {
        self.sequence = None;
    }

    /// What another manifest has of this part takes the place of a value that was not read.
    pub(super) fn resolve(&mut self, other: &Self) -> bool {
        self.value = Arc::clone(&other.value);
        other.sequence.is_none()
    }
}

impl<T: Clone> Kept<T> {
    /// Changes the value: the next manifest has it.
    pub fn edit(&mut self) -> &mut T {
        self.sequence = None;
        Arc::make_mut(&mut self.value)
    }
}

impl<T: Default> Default for Kept<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> Deref for Kept<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}
