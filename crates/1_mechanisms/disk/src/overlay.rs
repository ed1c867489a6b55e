//! A disk that forgets: reads come from a base, writes go to a temporary sparse file.
//!
//! Each cluster of the disk is either still the base's or copied into the temporary file, where it stands at its own
//! offset; a bitmap in memory tells which. Nothing is ever written to the base, and everything written is gone when
//! the overlay is dropped, because the file has no name.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use rustix::fs::FallocateFlags;

use crate::Image;
use crate::image::{check_range, check_write, write_zero_bytes};

/// Bytes that are copied together when a part of them is written for the first time.
const CLUSTER: u64 = 64 << 10;

/// A writable disk over a base that stays as it is (`--ephemeral`).
pub struct Overlay<I> {
    base: I,
    file: File,
    /// One bit a cluster: set when the file holds it. Exclusive while a cluster is copied.
    held: RwLock<Vec<u64>>,
}

impl<I: Image> Overlay<I> {
    /// An overlay that keeps what is written in this file, which should be new and without a name (`O_TMPFILE` or a
    /// memory file): its content is overwritten.
    ///
    /// # Errors
    /// The file cannot be made as large as the base.
    pub fn new(base: I, file: File) -> io::Result<Self> {
        file.set_len(0)?;
        file.set_len(base.size())?;
        let words = base.size().div_ceil(CLUSTER).div_ceil(64);
        let words = usize::try_from(words).map_err(io::Error::other)?;
        Ok(Overlay {
            base,
            file,
            held: RwLock::new(vec![0; words]),
        })
    }

    /// The bitmap is right after every step, also when a thread dies in the middle.
    fn shared(&self) -> RwLockReadGuard<'_, Vec<u64>> {
        self.held
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn exclusive(&self) -> RwLockWriteGuard<'_, Vec<u64>> {
        self.held
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Writes the bytes of one piece that lies inside of one cluster.
    fn write_piece(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let cluster = offset / CLUSTER;
        {
            let held = self.shared();
            if holds(&held, cluster) {
                return self.file.write_all_at(buf, offset);
            }
        }
        let mut held = self.exclusive();
        if !holds(&held, cluster) {
            let start = cluster * CLUSTER;
            let len = CLUSTER.min(self.base.size() - start);
            if (buf.len() as u64) < len {
                let mut whole = vec![0; usize::try_from(len).map_err(io::Error::other)?];
                self.base.read_at(&mut whole, start)?;
                let from = usize::try_from(offset - start).map_err(io::Error::other)?;
                whole[from..from + buf.len()].copy_from_slice(buf);
                self.file.write_all_at(&whole, start)?;
            } else {
                self.file.write_all_at(buf, offset)?;
            }
            hold(&mut held, cluster);
            return Ok(());
        }
        self.file.write_all_at(buf, offset)
    }

    /// Makes whole clusters zero without writing their bytes, as far as the file can punch holes.
    fn zero_clusters(&self, offset: u64, len: u64) -> io::Result<()> {
        let mut held = self.exclusive();
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        if rustix::fs::fallocate(&self.file, flags, offset, len).is_err() {
            write_zero_bytes(|bytes, at| self.file.write_all_at(bytes, at), offset, len)?;
        }
        for cluster in offset / CLUSTER..(offset + len).div_ceil(CLUSTER) {
            hold(&mut held, cluster);
        }
        Ok(())
    }
}

fn holds(held: &[u64], cluster: u64) -> bool {
    usize::try_from(cluster / 64)
        .ok()
        .and_then(|word| held.get(word))
        .is_some_and(|word| word >> (cluster % 64) & 1 == 1)
}

fn hold(held: &mut [u64], cluster: u64) {
    if let Some(word) = usize::try_from(cluster / 64)
        .ok()
        .and_then(|word| held.get_mut(word))
    {
        *word |= 1 << (cluster % 64);
    }
}

/// The pieces of a range that lie in one cluster each: offset and length.
fn pieces(offset: u64, len: u64) -> impl Iterator<Item = (u64, usize)> {
    let end = offset + len;
    let mut at = offset;
    std::iter::from_fn(move || {
        let here = at;
        let next = ((here / CLUSTER + 1) * CLUSTER).min(end);
        at = next;
        (here < end).then(|| (here, usize::try_from(next - here).unwrap_or_default()))
    })
}

impl<I: Image> Image for Overlay<I> {
    fn size(&self) -> u64 {
        self.base.size()
    }

    fn read_only(&self) -> bool {
        false
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        check_range(self.size(), offset, buf.len() as u64)?;
        let held = self.shared();
        let mut rest = buf;
        for (at, len) in pieces(offset, rest.len() as u64) {
            let (piece, later) = rest.split_at_mut(len);
            if holds(&held, at / CLUSTER) {
                self.file.read_exact_at(piece, at)?;
            } else {
                self.base.read_at(piece, at)?;
            }
            rest = later;
        }
        Ok(())
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        check_write(self, offset, buf.len() as u64)?;
        let mut rest = buf;
        for (at, len) in pieces(offset, buf.len() as u64) {
            let (piece, later) = rest.split_at(len);
            self.write_piece(piece, at)?;
            rest = later;
        }
        Ok(())
    }

    /// Nothing has to outlive the overlay: there is nothing to make durable.
    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.write_zeroes(offset, len, true)
    }

    fn write_zeroes(&self, offset: u64, len: u64, _may_unmap: bool) -> io::Result<()> {
        check_write(self, offset, len)?;
        let end = offset + len;
        let first = offset.next_multiple_of(CLUSTER).min(end);
        let last = if end == self.size() {
            end
        } else {
            (end - end % CLUSTER).max(first)
        };
        write_zero_bytes(|bytes, at| self.write_at(bytes, at), offset, first - offset)?;
        if first < last {
            self.zero_clusters(first, last - first)?;
        }
        write_zero_bytes(|bytes, at| self.write_at(bytes, at), last, end - last)
    }
}
