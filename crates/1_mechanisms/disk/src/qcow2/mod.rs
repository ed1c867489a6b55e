//! qcow2 images, versions 2 and 3, read and written.
//!
//! Follows QEMU's `docs/interop/qcow2.rst`. Compressed clusters are read and, when they are written to, replaced by
//! plain ones; snapshots that are present stay as they are. Images that need more than that – a backing file, a data
//! file, encryption, extended second-level entries – are refused by name, and so are those that were not closed well.
//!
//! Readers, and writers into clusters that exist, share a lock and work side by side; what changes tables is alone.

mod create;
mod header;
mod layout;
mod packed;
mod refcounts;
mod tables;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use fault::{Fault, OrFault, Result};

pub use create::CreateOptions;
pub(crate) use header::MAGIC;

use crate::image::{check_range, check_write, write_zero_bytes};
use crate::{IO, Image};
use header::{AUTOCLEAR_AT, Header, damaged, read_up_to};
use layout::{COPIED, Layout, Place, ZERO};
use packed::Last;
use tables::corrupt;

/// An open qcow2 image.
pub struct Qcow2 {
    file: File,
    read_only: bool,
    size: u64,
    cluster_bits: u32,
    layout: RwLock<Layout>,
    last: Mutex<Last>,
}

impl Qcow2 {
    /// Opens an image.
    ///
    /// # Errors
    /// [`IO`]; [`crate::DAMAGED`] when it contradicts itself; [`crate::BACKING`], [`crate::EXTERNAL_DATA`],
    /// [`crate::ENCRYPTED`], [`crate::FEATURE`] for what is not read here; for writing also [`crate::DIRTY`] and
    /// [`crate::CORRUPT`].
    pub fn open(file: File, read_only: bool) -> Result<Self> {
        let header = Header::read(&file, read_only)?;
        if !read_only && header.autoclear != 0 {
            // Nobody keeps these features up (bitmaps) from now on.
            file.write_all_at(&[0; 8], AUTOCLEAR_AT)
                .or_fault(|| Fault::new(IO))?;
        }
        let (size, cluster_bits) = (header.size, header.cluster_bits);
        let layout = Layout::read(&file, header).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => damaged("a table lies behind the end of the file"),
            _ => Fault::new(IO).because(error),
        })?;
        Ok(Qcow2 {
            file,
            read_only,
            size,
            cluster_bits,
            layout: RwLock::new(layout),
            last: Mutex::default(),
        })
    }

    /// The layout is right after every step, also when a thread dies in the middle.
    fn shared(&self) -> RwLockReadGuard<'_, Layout> {
        self.layout.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn exclusive(&self) -> RwLockWriteGuard<'_, Layout> {
        self.layout.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn cluster_size(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// How many clusters a range touches.
    fn clusters(&self, offset: u64, len: usize) -> u64 {
        (offset % self.cluster_size() + len as u64).div_ceil(self.cluster_size())
    }

    /// Bytes from an offset to the end of a run of clusters that begins in the offset's cluster, at most `len`.
    fn run_bytes(&self, offset: u64, clusters: u64, len: usize) -> usize {
        let within = offset % self.cluster_size();
        usize::try_from((clusters << self.cluster_bits) - within)
            .unwrap_or(usize::MAX)
            .min(len)
    }

    /// Reads bytes that stand at one place of a kind.
    fn read_place(&self, layout: &Layout, place: Place, within: u64, buf: &mut [u8]) -> io::Result<()> {
        match place {
            Place::Nowhere | Place::Reserved { .. } => buf.fill(0),
            Place::At { offset, .. } => {
                // A file may end before its last cluster does: what is missing is zero.
                let have = read_up_to(&self.file, buf, offset + within)?;
                buf[have..].fill(0);
            }
            Place::Packed(packed) => {
                let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
                let plain =
                    last.unpack(&self.file, packed, layout.header.compression, self.cluster_size())?;
                let from = usize::try_from(within).map_err(io::Error::other)?;
                let piece = plain
                    .get(from..from + buf.len())
                    .ok_or_else(|| corrupt("a compressed cluster"))?;
                buf.copy_from_slice(piece);
            }
        }
        Ok(())
    }

    /// Writes as much from the front of the buffer as goes into clusters that exist; how much that was.
    fn write_in_place(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        let layout = self.shared();
        let (place, clusters) = layout.find(&self.file, offset, self.clusters(offset, buf.len()))?;
        let Place::At {
            offset: host,
            copied: true,
        } = place
        else {
            return Ok(0);
        };
        if (host >> self.cluster_bits) + clusters > layout.refcounts.end() {
            return Err(corrupt("a cluster behind the end of the file"));
        }
        let n = self.run_bytes(offset, clusters, buf.len());
        self.file
            .write_all_at(&buf[..n], host + offset % self.cluster_size())?;
        Ok(n)
    }

    /// Writes a piece inside of one cluster, which gets a place of its own when it has none.
    fn write_cluster(&self, layout: &mut Layout, buf: &[u8], offset: u64) -> io::Result<()> {
        let size = self.cluster_size();
        let within = offset % size;
        let (place, _) = layout.find(&self.file, offset, 1)?;
        if let Place::At {
            offset: host,
            copied: true,
        } = place
        {
            // Another writer was faster.
            return self.file.write_all_at(buf, host + within);
        }
        layout.prepare(&self.file, offset)?;
        let reserved = match place {
            Place::Reserved {
                offset: host,
                copied: true,
            } if (host >> self.cluster_bits) < layout.refcounts.end() => Some(host >> self.cluster_bits),
            _ => None,
        };
        let (cluster, fresh) = match reserved {
            Some(cluster) => (cluster, false),
            None => layout.allocate(&self.file)?,
        };
        let host = cluster << self.cluster_bits;
        let zero = matches!(place, Place::Nowhere | Place::Reserved { .. });
        let written = if buf.len() as u64 == size || fresh && zero {
            self.file.write_all_at(buf, host + within)
        } else {
            self.compose(layout, place, buf, within)
                .and_then(|whole| self.file.write_all_at(&whole, host))
        };
        if let Err(error) = written {
            if reserved.is_none() {
                layout.refcounts.undo(&self.file, cluster)?;
            }
            return Err(error);
        }
        layout.set(&self.file, offset, host | COPIED)?;
        if reserved.is_none() {
            layout.give_up(place);
        }
        if layout.refcounts.is_crowded() {
            layout.write(&self.file)?;
        }
        Ok(())
    }

    /// The bytes of a whole cluster with a piece of it replaced.
    fn compose(&self, layout: &Layout, place: Place, buf: &[u8], within: u64) -> io::Result<Vec<u8>> {
        let mut whole = vec![0; usize::try_from(self.cluster_size()).map_err(io::Error::other)?];
        self.read_place(layout, place, 0, &mut whole)?;
        let from = usize::try_from(within).map_err(io::Error::other)?;
        whole[from..from + buf.len()].copy_from_slice(buf);
        Ok(whole)
    }

    /// Goes over whole clusters and takes their places away, or with `keep` leaves them their space and makes them
    /// read as zeroes.
    fn drop_clusters(&self, mut offset: u64, end: u64, keep: bool) -> io::Result<()> {
        while offset < end {
            let mut layout = self.exclusive();
            let most = (end - offset).div_ceil(self.cluster_size());
            let (place, clusters) = layout.find(&self.file, offset, most)?;
            if place == Place::Nowhere {
                offset += clusters << self.cluster_bits;
                continue;
            }
            for _ in 0..clusters {
                let (place, _) = layout.find(&self.file, offset, 1)?;
                match place {
                    Place::At {
                        offset: host,
                        copied: true,
                    }
                    | Place::Reserved {
                        offset: host,
                        copied: true,
                    } if keep => {
                        if layout.header.version >= 3 {
                            layout.set(&self.file, offset, host | COPIED | ZERO)?;
                        } else {
                            let write = |bytes: &[u8], at| self.file.write_all_at(bytes, at);
                            write_zero_bytes(write, host, self.cluster_size())?;
                        }
                    }
                    _ => {
                        layout.set(&self.file, offset, 0)?;
                        layout.give_up(place);
                    }
                }
                offset += self.cluster_size();
            }
            if layout.refcounts.is_crowded() {
                layout.write(&self.file)?;
            }
        }
        Ok(())
    }

    /// Makes a piece inside of one cluster zero, unless it is already.
    fn zero_piece(&self, offset: u64, len: u64) -> io::Result<()> {
        if len == 0 {
            return Ok(());
        }
        let (place, _) = self.shared().find(&self.file, offset, 1)?;
        match place {
            Place::Nowhere | Place::Reserved { .. } => Ok(()),
            _ => write_zero_bytes(|bytes, at| self.write_at(bytes, at), offset, len),
        }
    }

    /// The part of a range that is whole clusters; the last one of the disk may be cut off.
    fn whole_clusters(&self, offset: u64, len: u64) -> (u64, u64) {
        let (size, end) = (self.cluster_size(), offset + len);
        let first = offset.next_multiple_of(size).min(end);
        let last = if end == self.size { end } else { end - end % size };
        (first, last.max(first))
    }
}

impl Image for Qcow2 {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_only(&self) -> bool {
        self.read_only
    }

    fn read_at(&self, mut buf: &mut [u8], mut offset: u64) -> io::Result<()> {
        check_range(self.size, offset, buf.len() as u64)?;
        while !buf.is_empty() {
            // Held while the bytes are read, so that their clusters are not given to others meanwhile.
            let layout = self.shared();
            let (place, clusters) = layout.find(&self.file, offset, self.clusters(offset, buf.len()))?;
            let n = self.run_bytes(offset, clusters, buf.len());
            let (piece, rest) = buf.split_at_mut(n);
            self.read_place(&layout, place, offset % self.cluster_size(), piece)?;
            buf = rest;
            offset += n as u64;
        }
        Ok(())
    }

    fn write_at(&self, mut buf: &[u8], mut offset: u64) -> io::Result<()> {
        check_write(self, offset, buf.len() as u64)?;
        while !buf.is_empty() {
            let mut n = self.write_in_place(buf, offset)?;
            if n == 0 {
                n = self.run_bytes(offset, 1, buf.len());
                self.write_cluster(&mut self.exclusive(), &buf[..n], offset)?;
            }
            buf = &buf[n..];
            offset += n as u64;
        }
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        if self.read_only {
            return Ok(());
        }
        if self.shared().is_dirty() {
            self.exclusive().write(&self.file)?;
        }
        self.file.sync_data()
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        check_write(self, offset, len)?;
        let (first, last) = self.whole_clusters(offset, len);
        self.drop_clusters(first, last, false)
    }

    fn write_zeroes(&self, offset: u64, len: u64, may_unmap: bool) -> io::Result<()> {
        check_write(self, offset, len)?;
        let (first, last) = self.whole_clusters(offset, len);
        self.zero_piece(offset, first - offset)?;
        self.drop_clusters(first, last, !may_unmap)?;
        self.zero_piece(last, offset + len - last)
    }
}

impl Drop for Qcow2 {
    fn drop(&mut self) {
        if !self.read_only {
            // What the guest has flushed is durable; a failure here loses what it has not.
            let _ = self.exclusive().write(&self.file);
        }
    }
}
