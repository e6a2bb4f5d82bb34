//! [`Scratch`]: local files for what does not fit into memory, which are read as memory.
//!
//! ```text
//! a file, sparse and without a name:   [piece][hole][piece][not written yet …]
//! its mapping, for reading:            ▲ a piece is a slice of it
//! ```
//!
//! Files are opened without a name, so that nothing of them survives the process. A piece that is
//! dropped leaves a hole in its file, and its disk space is free at once.
//!
//! **Invariant:** a piece is written once, before anyone can read it; no file is ever shortened.

#![expect(unsafe_code, reason = "a mapped file is memory only if nobody else writes to it")]

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use memmap2::{Mmap, MmapOptions, UncheckedAdvice};

/// Bytes of a file; a larger piece has one of its own.
const FILE_BYTES: usize = if cfg!(test) { 1 << 20 } else { 256 << 20 };

/// Pieces begin at multiples of this: holes consist of whole pages.
const PAGE: usize = 4096;

/// Local files for what does not fit into memory.
#[derive(Debug)]
pub struct Scratch {
    directory: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// The file that takes new pieces, and where the next one begins.
    current: Option<(Arc<ScratchFile>, usize)>,
    /// Files that have pieces.
    files: Vec<Weak<ScratchFile>>,
    /// Resident memory of other mapped files, such as the program's own.
    other_resident: Option<usize>,
}

#[derive(Debug)]
struct ScratchFile {
    file: File,
    map: Mmap,
}

impl ScratchFile {
    fn create(directory: &PathBuf, bytes: usize) -> io::Result<Self> {
        std::fs::create_dir_all(directory)?;
        let file = tempfile::tempfile_in(directory)?;
        file.set_len(bytes as u64)?;
        // SAFETY: the file has no name, so this process alone can open it. It is written only by
        // `Scratch::keep`, in ranges that no slice of the mapping has been handed out for, and is
        // never shortened.
        let map = unsafe { MmapOptions::new().len(bytes).map(&file)? };
        Ok(Self { file, map })
    }

    /// Gives the disk space of a range back. It stays where that cannot be done.
    fn punch_hole(&self, range: &Range<usize>) {
        let (Ok(start), Ok(length)) = (i64::try_from(range.start), i64::try_from(range.len()))
        else {
            return;
        };
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        // SAFETY: the descriptor is open, and nobody reads the range any more.
        unsafe { libc::fallocate(self.file.as_raw_fd(), mode, start, length) };
    }
}

/// A slice of a file's mapping.
struct Piece {
    file: Arc<ScratchFile>,
    range: Range<usize>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.file.map[self.range.clone()]
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let end = self.range.end.next_multiple_of(PAGE);
        self.file.punch_hole(&(self.range.start..end));
    }
}

impl Scratch {
    /// Files in a directory, which is made when the first piece comes.
    pub fn new(directory: PathBuf) -> Self {
        Self { directory, inner: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes bytes and gives them back as a slice of a mapped file, at an address that is a
    /// multiple of 4096.
    ///
    /// # Errors
    /// The disk's, such as that it is full.
    pub fn keep(&self, bytes: &[u8]) -> io::Result<Bytes> {
        if bytes.is_empty() {
            return Ok(Bytes::new());
        }
        let file = {
            let mut inner = self.lock();
            inner.other_resident.get_or_insert_with(resident_file_bytes);
            inner.place(&self.directory, bytes.len())?
        };
        let (file, start) = file;
        // Dropped if it cannot be written: what was written of it is given back.
        let piece = Piece { file, range: start..start + bytes.len() };
        piece.file.file.write_all_at(bytes, start as u64)?;
        Ok(Bytes::from_owner(piece))
    }

    /// True if an address lies in one of the files.
    pub fn holds(&self, address: *const u8) -> bool {
        let files = self.lock().files.iter().filter_map(Weak::upgrade).collect::<Vec<_>>();
        files.iter().any(|file| file.map.as_ptr_range().contains(&address))
    }

    /// Gives the resident pages of the files back to the page cache, if they are more than `share`
    /// bytes.
    pub fn trim(&self, share: usize) {
        let mut inner = self.lock();
        let Some(other) = inner.other_resident else { return };
        if resident_file_bytes().saturating_sub(other) <= share {
            return;
        }
        inner.files.retain(|file| match file.upgrade() {
            None => false,
            Some(file) => {
                // SAFETY: the mapping is shared and backed by the file: a page that is given up is
                // read again from there.
                let _ = unsafe { file.map.unchecked_advise(UncheckedAdvice::DontNeed) };
                true
            }
        });
    }

    /// Disk space in bytes.
    ///
    /// # Errors
    /// The disk's.
    pub fn disk_bytes(&self) -> io::Result<u64> {
        use std::os::unix::fs::MetadataExt;
        let files: Vec<_> = self.lock().files.iter().filter_map(Weak::upgrade).collect();
        let blocks = files.iter().map(|file| file.file.metadata().map(|it| it.blocks() * 512));
        blocks.sum()
    }
}

impl Inner {
    /// A range of a file for a piece of so many bytes.
    fn place(
        &mut self,
        directory: &PathBuf,
        bytes: usize,
    ) -> io::Result<(Arc<ScratchFile>, usize)> {
        let size = bytes.next_multiple_of(PAGE);
        if let Some((file, next)) = &mut self.current
            && *next + size <= file.map.len()
        {
            let start = *next;
            *next += size;
            return Ok((Arc::clone(file), start));
        }
        let file = Arc::new(ScratchFile::create(directory, FILE_BYTES.max(size))?);
        self.files.retain(|file| file.strong_count() > 0);
        self.files.push(Arc::downgrade(&file));
        self.current = Some((Arc::clone(&file), size));
        Ok((file, 0))
    }
}

/// Resident memory of the process that is backed by files, in bytes; 0 if the system does not tell.
fn resident_file_bytes() -> usize {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("RssFile:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<usize>().ok());
    kilobytes.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_stay_as_they_are_and_leave_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let scratch = Scratch::new(folder.path().join("scratch"));
        let bytes = |number: u8| vec![number; 70_000 + usize::from(number)];
        let mut pieces: Vec<Bytes> =
            (0..40).map(|number| scratch.keep(&bytes(number)).unwrap()).collect();
        for (number, piece) in (0..40).zip(&pieces) {
            assert_eq!(*piece, bytes(number));
            assert!(
                scratch.holds(piece.as_ptr()) && (piece.as_ptr() as usize).is_multiple_of(PAGE)
            );
        }
        scratch.trim(0);
        assert_eq!(pieces[7].slice(10..), bytes(7)[10..]);
        // Larger than a file.
        let large = scratch.keep(&vec![9; FILE_BYTES + 1]).unwrap();
        assert_eq!(large.len(), FILE_BYTES + 1);
        // Files have no names: a process that is killed leaves nothing.
        assert_eq!(std::fs::read_dir(folder.path().join("scratch")).unwrap().count(), 0);
        drop(large);
        let before = scratch.disk_bytes().unwrap();
        pieces.truncate(3);
        let after = scratch.disk_bytes().unwrap();
        assert!(after < before / 4, "{before} {after}");
        assert_eq!(pieces[2], bytes(2));
        assert!(scratch.keep(&[]).unwrap().is_empty());
        assert!(!scratch.holds(std::ptr::from_ref(&before).cast()));
    }
}
