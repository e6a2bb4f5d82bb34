//! [`Listing`]: which files a path stands for.

use std::path::{Path, PathBuf};

use frazil_connector_api::{ConnectorError, ConnectorErrorKind, Result, SplitId};

/// A file, the files of a directory, or the files that a pattern matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Listing {
    Path(PathBuf),
    Pattern(String),
}

impl Listing {
    /// # Errors
    /// `Config` if the pattern cannot be read.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        // A file may have such characters in its name.
        if !text.contains(['*', '?', '[']) || Path::new(text).exists() {
            return Ok(Self::Path(PathBuf::from(text)));
        }
        glob::Pattern::new(text).map_err(|error| {
            ConnectorError::config(format!("path \"{text}\" is not a pattern")).with_source(error)
        })?;
        Ok(Self::Pattern(text.to_string()))
    }

    /// True if it may stand for other files tomorrow: not for the path of one file.
    pub(crate) fn is_open(&self) -> bool {
        match self {
            Self::Path(path) => path.is_dir(),
            Self::Pattern(_) => true,
        }
    }

    /// The files that exist now, in the order of their paths.
    ///
    /// # Errors
    /// `Target` if a path without a pattern does not exist; `Unavailable` if it cannot be read.
    pub(crate) fn files(&self) -> Result<Vec<SplitId>> {
        let paths = match self {
            Self::Path(path) if path.is_dir() => files_of_directory(path)?,
            Self::Path(path) if path.is_file() => vec![path.clone()],
            Self::Path(path) => {
                return Err(ConnectorError::new(
                    ConnectorErrorKind::Target,
                    format!("path \"{}\" does not exist", path.display()),
                )
                .with_hint("name a file, a directory or a pattern such as \"lines/*.json\""));
            }
            Self::Pattern(pattern) => files_of_pattern(pattern)?,
        };
        let mut splits: Vec<_> = paths.into_iter().map(split_of).collect::<Result<_>>()?;
        splits.sort();
        Ok(splits)
    }
}

fn files_of_directory(directory: &Path) -> Result<Vec<PathBuf>> {
    let unreadable = |error| cannot_list(&directory.display().to_string(), error);
    let mut paths = Vec::new();
    for entry in directory.read_dir().map_err(unreadable)? {
        paths.push(entry.map_err(unreadable)?.path());
    }
    paths.retain(|path| is_finished_file(path));
    Ok(paths)
}

fn files_of_pattern(pattern: &str) -> Result<Vec<PathBuf>> {
    let paths = glob::glob(pattern).map_err(|error| {
        ConnectorError::config(format!("path \"{pattern}\" is not a pattern")).with_source(error)
    })?;
    let paths: std::result::Result<Vec<_>, _> = paths.collect();
    let mut paths = paths.map_err(|error| cannot_list(pattern, error.into()))?;
    paths.retain(|path| is_finished_file(path));
    Ok(paths)
}

fn is_finished_file(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    !name.starts_with(b".") && !name.starts_with(b"_") && path.is_file()
}

fn split_of(path: PathBuf) -> Result<SplitId> {
    path.into_os_string().into_string().map(SplitId).map_err(|name| {
        ConnectorError::new(
            ConnectorErrorKind::Target,
            format!("the name of file \"{}\" is not UTF-8", name.to_string_lossy()),
        )
        .with_hint("rename the file")
    })
}

fn cannot_list(what: &str, error: std::io::Error) -> ConnectorError {
    ConnectorError::unavailable(format!("cannot list \"{what}\"")).with_source(error)
}
