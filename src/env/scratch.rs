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
//! **Invariant:** a piece has one owner, who alone can write to it after it was made, if it is of
//! values that change ([`ScratchValues`]); no file is ever shortened.

#![expect(unsafe_code, reason = "a mapped file is memory only if nobody else writes to it")]

use std::fs::File;
use std::io;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut, Range};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use memmap2::{MmapOptions, MmapRaw, UncheckedAdvice};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::Resident;

/// Bytes of a file; a larger piece has one of its own.
const FILE_BYTES: usize = if cfg!(test) { 1 << 20 } else { 256 << 20 };

/// Pieces begin at multiples of this: holes consist of whole pages.
const PAGE: usize = 4096;

/// Local files for what does not fit into memory. Clones share them.
#[derive(Debug, Clone)]
pub struct Scratch {
    directory: Arc<PathBuf>,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    /// The file that takes new pieces, and where the next one begins.
    current: Option<(Arc<ScratchFile>, usize)>,
    /// Files that have pieces.
    files: Vec<Weak<ScratchFile>>,
    /// Resident memory of other mapped files, such as the program's own.
    other_resident: Option<usize>,
    /// Bytes of the files that may be resident; `None`: all.
    resident_max: Option<usize>,
}

#[derive(Debug)]
struct ScratchFile {
    file: File,
    /// Shared and writable; who may write where is said by [`Piece`].
    map: MmapRaw,
}

impl ScratchFile {
    fn create(directory: &PathBuf, bytes: usize) -> io::Result<Self> {
        std::fs::create_dir_all(directory)?;
        let file = tempfile::tempfile_in(directory)?;
        file.set_len(bytes as u64)?;
        // The file has no name, so this process alone can open it. It is never shortened.
        let map = MmapOptions::new().len(bytes).map_raw(&file)?;
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

/// A range of a file, which is this piece's alone.
#[derive(Debug)]
struct Piece {
    file: Arc<ScratchFile>,
    range: Range<usize>,
}

impl Piece {
    fn start(&self) -> *mut u8 {
        self.file.map.as_mut_ptr().wrapping_add(self.range.start)
    }
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the range lies in the mapping, which lives as long as the file. It is written
        // before a piece can be read, and later only by `ScratchValues`, whose piece nobody else
        // has.
        unsafe { std::slice::from_raw_parts(self.start(), self.range.len()) }
    }
}

/// Values in a scratch file, which their owner reads and writes as memory.
#[derive(Debug)]
pub struct ScratchValues<T> {
    piece: Piece,
    count: usize,
    values: PhantomData<T>,
}

impl<T: FromBytes + IntoBytes + Immutable> Deref for ScratchValues<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `keep_values` wrote so many values here, at a multiple of the page size; any
        // bytes are a value. Only `deref_mut` changes them, which borrows the whole.
        unsafe { std::slice::from_raw_parts(self.piece.start().cast(), self.count) }
    }
}

impl<T: FromBytes + IntoBytes + Immutable> DerefMut for ScratchValues<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`; the piece is this object's alone, which is borrowed for writing.
        unsafe { std::slice::from_raw_parts_mut(self.piece.start().cast(), self.count) }
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let end = self.range.end.next_multiple_of(PAGE);
        self.file.punch_hole(&(self.range.start..end));
    }
}

impl Scratch {
    /// Files in a directory, which is made when the first piece comes. All of their pages may be
    /// resident.
    pub fn new(directory: PathBuf) -> Self {
        Self { directory: Arc::new(directory), inner: Arc::default() }
    }

    /// From now on so many bytes of the files may be resident: see [`Scratch::trim`].
    pub fn set_resident_max(&self, bytes: usize) {
        self.lock().resident_max = Some(bytes);
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
        match bytes.is_empty() {
            true => Ok(Bytes::new()),
            false => Ok(Bytes::from_owner(self.write(bytes)?)),
        }
    }

    /// Writes values and gives them back as a slice of a mapped file, which can be changed. Their
    /// disk space is taken here, so that a change does not meet a full disk.
    ///
    /// # Errors
    /// As [`Scratch::keep`].
    pub fn keep_values<T: FromBytes + IntoBytes + Immutable>(
        &self,
        values: &[T],
    ) -> io::Result<ScratchValues<T>> {
        const { assert!(align_of::<T>() <= PAGE) };
        let piece = self.write(values.as_bytes())?;
        Ok(ScratchValues { piece, count: values.len(), values: PhantomData })
    }

    fn write(&self, bytes: &[u8]) -> io::Result<Piece> {
        let file = {
            let mut inner = self.lock();
            inner.other_resident.get_or_insert_with(|| Resident::now().files);
            inner.place(&self.directory, bytes.len())?
        };
        let (file, start) = file;
        // Dropped if it cannot be written: what was written of it is given back.
        let piece = Piece { file, range: start..start + bytes.len() };
        piece.file.file.write_all_at(bytes, start as u64)?;
        Ok(piece)
    }

    /// True if an address lies in one of the files.
    pub fn holds(&self, address: *const u8) -> bool {
        let files = self.lock().files.iter().filter_map(Weak::upgrade).collect::<Vec<_>>();
        files.iter().any(|file| {
            let start = file.map.as_ptr();
            (start..start.wrapping_add(file.map.len())).contains(&address)
        })
    }

    /// Gives the resident pages of the files back to the page cache, if they are more than may be
    /// resident. What was written to them stays: the page cache has it.
    ///
    /// Whoever reads rows at random calls it now and then: a page that is not mapped brings those
    /// around it along, 64 KiB in all on Linux.
    pub fn trim(&self) {
        let mut inner = self.lock();
        let (Some(other), Some(most)) = (inner.other_resident, inner.resident_max) else { return };
        if Resident::now().files.saturating_sub(other) <= most {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_change_and_keep_what_was_written_when_their_pages_go() {
        let folder = tempfile::tempdir().unwrap();
        let scratch = Scratch::new(folder.path().join("scratch"));
        let first: Vec<u64> = (0..5000).collect();
        let mut values = scratch.keep_values(&first).unwrap();
        let mut others = scratch.keep_values(&[7_u32; 3]).unwrap();
        assert_eq!(*values, first);
        for index in (0..values.len()).step_by(3) {
            values[index] += 1_000_000;
        }
        scratch.set_resident_max(0);
        scratch.trim();
        others[1] = 8;
        let wanted = (0..5000).map(|it| if it % 3 == 0 { it + 1_000_000 } else { it });
        assert!(values.iter().copied().eq(wanted));
        assert_eq!(*others, [7, 8, 7]);
        assert!(scratch.keep_values::<u64>(&[]).unwrap().is_empty());
    }

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
        scratch.set_resident_max(0);
        scratch.trim();
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
