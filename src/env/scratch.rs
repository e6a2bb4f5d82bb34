//! [`Scratch`]: local files for what does not fit into memory, which are read as memory.
//!
//! ```text
//! a file, sparse and without a name:   [piece][hole][piece][not written yet …]
//! its mapping, for reading in order:   ▲ a piece is a slice of it
//! ```
//!
//! Files are opened without a name, so that nothing of them survives the process. A piece that is
//! dropped leaves a hole in its file, and its disk space is free at once.
//!
//! There are two ways to read. The mapping is for pieces that are read in order. A value at a
//! random place is read by a system call ([`ScratchReader`], [`ScratchValues`]): a page fault costs
//! five times as much, and maps the 64 KiB around the value.
//!
//! **Invariant:** a piece is not written again after it was made; no file is ever shortened.

#![expect(unsafe_code, reason = "a mapped file is memory only if nobody else writes to it")]

use std::fs::File;
use std::io;
use std::marker::PhantomData;
use std::ops::Range;
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
    map: MmapRaw,
}

impl ScratchFile {
    fn create(directory: &PathBuf, bytes: usize) -> io::Result<Self> {
        std::fs::create_dir_all(directory)?;
        let file = tempfile::tempfile_in(directory)?;
        file.set_len(bytes as u64)?;
        // The file has no name, so this process alone can open it. It is never shortened.
        let map = MmapOptions::new().len(bytes).map_raw_read_only(&file)?;
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

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        let start = self.file.map.as_ptr().wrapping_add(self.range.start);
        // SAFETY: the range lies in the mapping, which lives as long as the file. It was written
        // before the piece was given to anybody, and is not written again.
        unsafe { std::slice::from_raw_parts(start, self.range.len()) }
    }
}

/// Values in a scratch file, which are read one by one or all at once.
#[derive(Debug)]
pub struct ScratchValues<T> {
    piece: Piece,
    count: usize,
    values: PhantomData<T>,
}

impl<T: Copy + FromBytes + IntoBytes + Immutable> ScratchValues<T> {
    /// Number of values.
    pub fn count(&self) -> usize {
        self.count
    }

    /// One of the values.
    ///
    /// # Errors
    /// The disk's.
    pub fn get(&self, index: usize) -> io::Result<T> {
        assert!(index < self.count, "a scratch file holds {} values: {index}", self.count);
        let mut value = T::new_zeroed();
        let start = self.piece.range.start + index * size_of::<T>();
        self.piece.file.file.read_exact_at(value.as_mut_bytes(), start as u64)?;
        Ok(value)
    }

    /// All values.
    ///
    /// # Errors
    /// The disk's.
    pub fn all(&self) -> io::Result<Vec<T>> {
        let mut values = vec![T::new_zeroed(); self.count];
        let start = self.piece.range.start as u64;
        self.piece.file.file.read_exact_at(values.as_mut_slice().as_mut_bytes(), start)?;
        Ok(values)
    }
}

/// The files as they were at one time, to copy from any place of them; see [`Scratch::reader`].
#[derive(Debug)]
pub struct ScratchReader {
    /// By the address of their mapping.
    files: Vec<Arc<ScratchFile>>,
}

impl ScratchReader {
    /// Copies a slice. One of a mapped file is copied without a page being mapped.
    ///
    /// # Errors
    /// The disk's.
    ///
    /// # Panics
    /// If the slices are not of one length.
    pub fn copy(&self, from: &[u8], to: &mut [u8]) -> io::Result<()> {
        assert_eq!(from.len(), to.len(), "a slice is copied as a whole");
        let start = from.as_ptr();
        let after = self.files.partition_point(|file| file.map.as_ptr() <= start);
        if let Some(file) = after.checked_sub(1).map(|before| &self.files[before]) {
            let offset = start as usize - file.map.as_ptr() as usize;
            if offset + from.len() <= file.map.len() {
                return file.file.read_exact_at(to, offset as u64);
            }
        }
        to.copy_from_slice(from);
        Ok(())
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

    /// Writes values, to be read one by one.
    ///
    /// # Errors
    /// As [`Scratch::keep`].
    pub fn keep_values<T: IntoBytes + Immutable>(
        &self,
        values: &[T],
    ) -> io::Result<ScratchValues<T>> {
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

    /// Reads the files as they are now. What is kept after this call may be copied as well, by a
    /// page fault.
    pub fn reader(&self) -> ScratchReader {
        let mut files: Vec<_> = self.lock().files.iter().filter_map(Weak::upgrade).collect();
        files.sort_unstable_by_key(|file| file.map.as_ptr());
        ScratchReader { files }
    }

    /// Gives the resident pages of the files back to the page cache, if they are more than may be
    /// resident.
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
    fn values_are_read_one_by_one_and_all_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let scratch = Scratch::new(folder.path().join("scratch"));
        let first: Vec<u64> = (0..5000).collect();
        let values = scratch.keep_values(&first).unwrap();
        let others = scratch.keep_values(&[7_u32, 8, 9]).unwrap();
        assert_eq!(values.all().unwrap(), first);
        assert!([0, 1, 511, 512, 4999].into_iter().all(|at| values.get(at).unwrap() == at as u64));
        assert_eq!((others.count(), others.get(2).unwrap()), (3, 9));
        assert!(scratch.keep_values::<u64>(&[]).unwrap().all().unwrap().is_empty());
    }

    #[test]
    fn a_reader_copies_from_all_files_and_from_the_heap() {
        let folder = tempfile::tempdir().unwrap();
        let scratch = Scratch::new(folder.path().join("scratch"));
        let piece = |number: u8| vec![number; FILE_BYTES / 3];
        let pieces: Vec<Bytes> =
            (0..7).map(|number| scratch.keep(&piece(number)).unwrap()).collect();
        let reader = scratch.reader();
        let late = scratch.keep(&piece(7)).unwrap();
        let heap = piece(8);
        let all = pieces.iter().map(Bytes::as_ref).chain([late.as_ref(), &heap]);
        for (number, from) in (0_u8..).zip(all) {
            for range in [0..0, 0..1, 4095..9000, from.len() - 3..from.len()] {
                let mut to = vec![99; range.len()];
                reader.copy(&from[range], &mut to).unwrap();
                assert!(to.iter().all(|byte| *byte == number));
            }
        }
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
