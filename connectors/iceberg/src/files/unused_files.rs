//! [`remove_files`]: files that were written and that no metadata names.

use iceberg::io::FileIO;

/// Removes files that no metadata names; best effort.
pub(crate) async fn remove_files(io: &FileIO, files: &[String]) {
    for path in files {
        if let Err(error) = io.delete(path).await {
            tracing::debug!(path, %error, "cannot remove an unused file");
        }
    }
}
