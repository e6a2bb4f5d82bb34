//! [`FilesSource`]: files as a source.

use std::sync::Arc;

use frazil_connector_api::{
    ConnectorError, ConnectorErrorKind, Format, Intake, OptionSpec, Options, Position, Positions,
    Result, SchemaRef, Source, SourceConnector, SourceReader, SplitId,
};

use crate::line_reader::{LineReader, end_of_lines, length_of};
use crate::listing::Listing;
use crate::reader::FilesReader;

/// What INCLUDE knows of messages.
pub const INCLUDES: &[&str] = &["file", "offset"];

/// The options of `connector = 'files'`.
pub const OPTIONS: &[OptionSpec] = &[
    OptionSpec::required(
        "path",
        "a file, a directory (all files in it, not deeper), or a pattern with `*`, `?` or `[..]`",
    ),
    OptionSpec::with_default(
        "follow",
        "false",
        "`true`: new lines and new files appear, the stream never ends; `false`: it ends at the \
         end of the files",
    ),
];

/// `connector = 'files'`.
#[derive(Debug)]
pub struct Files;

impl SourceConnector for Files {
    fn name(&self) -> &str {
        "files"
    }

    fn options(&self) -> &[OptionSpec] {
        OPTIONS
    }

    fn includes(&self) -> &[&str] {
        INCLUDES
    }

    fn build(
        &self,
        options: Options,
        _schema: SchemaRef,
        format: Option<Arc<dyn Format>>,
    ) -> Result<Arc<dyn Source>> {
        build_files(options, format.ok_or_else(|| ConnectorError::needs_format(self.name()))?)
    }
}

/// Makes the source that the options of a WITH clause describe; each line goes to `format`.
///
/// # Errors
/// `Config` for a wrong option. Whether the files exist is looked at later, by
/// [`Source::splits`].
pub fn build_files(mut options: Options, format: Arc<dyn Format>) -> Result<Arc<dyn Source>> {
    options.take("connector");
    let path = options.require("path")?;
    let follow = options.parse("follow", false)?;
    options.finish(OPTIONS)?;
    Ok(Arc::new(FilesSource { listing: Listing::parse(&path)?, follow, format }))
}

#[derive(Debug)]
struct FilesSource {
    listing: Listing,
    follow: bool,
    format: Arc<dyn Format>,
}

impl Source for FilesSource {
    fn splits(&self) -> Result<Vec<SplitId>> {
        self.listing.files()
    }

    fn end_positions(&self) -> Result<Option<Positions>> {
        let end = |split: SplitId| {
            let end = if self.follow { end_of_lines(&split)? } else { length_of(&split)? };
            let end = i64::try_from(end);
            let end = end.map_err(|_| ConnectorError::internal("the offset is too large"))?;
            Ok((split, Position::Number(end)))
        };
        let listed = match self.splits() {
            // What was read may be gone.
            Err(error) if error.kind == ConnectorErrorKind::Target => Vec::new(),
            listed => listed?,
        };
        let ends = listed.into_iter().map(end).filter(|end| !is_missing(end));
        ends.collect::<Result<_>>().map(Some)
    }

    fn open(&self, splits: &Positions) -> Result<Box<dyn SourceReader>> {
        let mut removed = Vec::new();
        let mut files = Vec::new();
        for (split, position) in splits {
            let length = match length_of(split) {
                length if is_missing(&length) => {
                    removed.push((split.clone(), position.number().unwrap_or_default()));
                    continue;
                }
                length => length?,
            };
            let at = position.number().and_then(|at| u64::try_from(at).ok());
            let at = at.filter(|at| *at <= length);
            let at = at.ok_or_else(|| {
                ConnectorError::new(
                    ConnectorErrorKind::Target,
                    format!(
                        "file \"{}\" has {length} bytes and cannot be read from {position}",
                        split.0
                    ),
                )
                .with_hint("files must only grow; write new lines into a new file")
            })?;
            files.push(LineReader::new(split.clone(), at, !self.follow));
        }
        let intake = Intake::new(self.format.as_ref())?;
        let retires = self.listing.is_open();
        Ok(Box::new(FilesReader::new(files, removed, self.follow, retires, intake)))
    }
}

/// True for the error of a file that does not exist.
fn is_missing<T>(result: &Result<T>) -> bool {
    matches!(result, Err(error) if error.kind == ConnectorErrorKind::Target)
}

#[cfg(test)]
mod tests;
