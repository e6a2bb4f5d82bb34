//! [`FolderLock`]: a folder that one process has for itself.

use std::fs::{File, TryLockError};
use std::path::Path;

use crate::error::{Error, ErrorKind, Result};

/// The file of a folder that is locked; it stays when the lock is released.
const LOCK_FILE: &str = "lock";

/// A folder that one process has for itself. The kernel releases it when the process ends, however
/// it ends.
#[derive(Debug)]
pub struct FolderLock {
    _file: File,
}

impl FolderLock {
    /// Locks a folder; `None` on a file system that knows no locks.
    ///
    /// # Errors
    /// `Fenced` if another process has it; `Unavailable` if the lock's file cannot be made.
    pub(super) fn take(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(LOCK_FILE);
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(|error| {
            let message = format!("data directory \"{}\" cannot be used", folder.display());
            let detail = format!("{}: {error}", path.display());
            Error::new(ErrorKind::Unavailable, message).with_detail(detail)
        })?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(TryLockError::WouldBlock) => {
                let folder = folder.display();
                let message = format!("another process uses data directory \"{folder}\"");
                Err(Error::new(ErrorKind::Fenced, message).with_hint(
                    "connect to its server with frazil --connect URL, or stop that process first",
                ))
            }
            Err(TryLockError::Error(error)) => {
                tracing::warn!(%error, "the data directory cannot be locked");
                Ok(None)
            }
        }
    }
}
