//! The header of a qcow2 image and what of it is refused.
//!
//! Follows QEMU's `docs/interop/qcow2.rst`, sections "Header" and "Feature name table".

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt};

use fault::{Fault, OrFault, Result};

use crate::{BACKING, CORRUPT, DAMAGED, DIRTY, ENCRYPTED, EXTERNAL_DATA, FEATURE, IO, SECTOR};

/// First bytes of every qcow2 image.
pub(crate) const MAGIC: &[u8] = b"QFI\xfb";

/// Most bytes of the first-level table, as QEMU has it.
pub(super) const MOST_L1: u64 = 32 << 20;
/// Most bytes of the refcount table, as QEMU has it.
pub(super) const MOST_REFCOUNT_TABLE: u64 = 8 << 20;
/// Bits of a host offset that an entry can hold.
pub(super) const OFFSET_BITS: u32 = 56;

const INCOMPATIBLE_DIRTY: u64 = 1;
const INCOMPATIBLE_CORRUPT: u64 = 1 << 1;
const INCOMPATIBLE_EXTERNAL: u64 = 1 << 2;
const INCOMPATIBLE_COMPRESSION: u64 = 1 << 3;
const INCOMPATIBLE_EXTENDED_L2: u64 = 1 << 4;

/// Where the autoclear features stand: whoever writes an image clears those that it does not keep up.
pub(super) const AUTOCLEAR_AT: u64 = 88;
/// Where offset and length of the refcount table stand.
pub(super) const REFCOUNT_TABLE_AT: u64 = 48;

/// How compressed clusters are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    /// Raw deflate.
    Zlib,
    /// Zstandard frames.
    Zstd,
}

/// What is known of an image from its header; all offsets are aligned and all sizes bounded.
#[derive(Clone, Debug)]
pub(super) struct Header {
    pub(super) version: u32,
    pub(super) cluster_bits: u32,
    /// Bytes of the disk.
    pub(super) size: u64,
    /// Entries of the first-level table that the disk needs.
    pub(super) l1_len: usize,
    pub(super) l1_offset: u64,
    pub(super) refcount_table_offset: u64,
    pub(super) refcount_table_clusters: u32,
    /// A refcount has `1 << refcount_order` bits.
    pub(super) refcount_order: u32,
    pub(super) autoclear: u64,
    pub(super) compression: Compression,
}

impl Header {
    /// Reads and checks the header.
    pub(super) fn read(file: &File, read_only: bool) -> Result<Self> {
        let mut bytes = [0; 112];
        let have = read_up_to(file, &mut bytes, 0).or_fault(|| Fault::new(IO))?;
        if have < 72 || !bytes.starts_with(MAGIC) {
            return Err(damaged("no header"));
        }
        let version = be32(&bytes, 4);
        match version {
            2 => bytes[72..].fill(0),
            3 if have >= 104 => {}
            3 => return Err(damaged("header cut off")),
            other => return Err(Fault::new(FEATURE).arg("what", format!("version {other}"))),
        }
        let compression = refuse_features(&bytes, version, read_only)?;
        let header = Header {
            version,
            cluster_bits: be32(&bytes, 20),
            size: be64(&bytes, 24) / SECTOR * SECTOR,
            l1_len: 0,
            l1_offset: be64(&bytes, 40),
            refcount_table_offset: be64(&bytes, 48),
            refcount_table_clusters: be32(&bytes, 56),
            refcount_order: if version == 2 { 4 } else { be32(&bytes, 96) },
            autoclear: be64(&bytes, 88),
            compression,
        };
        header.checked(u64::from(be32(&bytes, 36)))
    }

    fn checked(mut self, l1_entries: u64) -> Result<Self> {
        if !(9..=21).contains(&self.cluster_bits) {
            return Err(damaged("cluster size"));
        }
        if self.refcount_order > 6 {
            return Err(damaged("refcount width"));
        }
        let l1_len = self.size.div_ceil(1 << (2 * self.cluster_bits - 3));
        if l1_len > l1_entries || l1_len * 8 > MOST_L1 {
            return Err(damaged("length of the first-level table"));
        }
        self.l1_len = usize::try_from(l1_len).map_err(|_| damaged("length of the first-level table"))?;
        let aligned = |offset: u64| {
            offset.is_multiple_of(self.cluster_size()) && offset > 0 && offset < 1 << OFFSET_BITS
        };
        if l1_len > 0 && !aligned(self.l1_offset) {
            return Err(damaged("offset of the first-level table"));
        }
        let table = u64::from(self.refcount_table_clusters) << self.cluster_bits;
        if !aligned(self.refcount_table_offset) || table == 0 || table > MOST_REFCOUNT_TABLE {
            return Err(damaged("refcount table"));
        }
        Ok(self)
    }

    /// Bytes of a cluster.
    pub(super) fn cluster_size(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// Entries of a second-level table, as a power of two.
    pub(super) fn l2_bits(&self) -> u32 {
        self.cluster_bits - 3
    }

    /// Refcounts in a refcount block.
    pub(super) fn refcounts_per_block(&self) -> u64 {
        1 << (self.cluster_bits + 3 - self.refcount_order)
    }

    /// Whether this host offset lies in the header, the first-level table or the refcount table, where no data and no
    /// other table can be.
    pub(super) fn is_metadata(&self, offset: u64) -> bool {
        let size = self.cluster_size();
        let within = |start: u64, len: u64| offset >= start && offset - start < len.next_multiple_of(size);
        within(0, size)
            || within(self.l1_offset, self.l1_len as u64 * 8)
            || within(
                self.refcount_table_offset,
                u64::from(self.refcount_table_clusters) * size,
            )
    }
}

/// Refuses what this reader does not know, and tells the compression.
fn refuse_features(bytes: &[u8], version: u32, read_only: bool) -> Result<Compression> {
    if be64(bytes, 8) != 0 {
        return Err(Fault::new(BACKING));
    }
    if be32(bytes, 32) != 0 {
        return Err(Fault::new(ENCRYPTED));
    }
    let incompatible = be64(bytes, 72);
    if incompatible & INCOMPATIBLE_EXTERNAL != 0 {
        return Err(Fault::new(EXTERNAL_DATA));
    }
    if incompatible & INCOMPATIBLE_EXTENDED_L2 != 0 {
        return Err(Fault::new(FEATURE).arg("what", "extended_l2"));
    }
    let known = INCOMPATIBLE_DIRTY | INCOMPATIBLE_CORRUPT | INCOMPATIBLE_EXTERNAL | INCOMPATIBLE_COMPRESSION;
    if incompatible & !known != 0 {
        return Err(Fault::new(FEATURE).arg("what", format!("incompatible features {incompatible:#x}")));
    }
    if !read_only && incompatible & INCOMPATIBLE_CORRUPT != 0 {
        return Err(Fault::new(CORRUPT));
    }
    if !read_only && incompatible & INCOMPATIBLE_DIRTY != 0 {
        return Err(Fault::new(DIRTY));
    }
    let has_kind = version >= 3 && be32(bytes, 100) >= 105;
    match (incompatible & INCOMPATIBLE_COMPRESSION != 0, has_kind, bytes[104]) {
        (false, _, _) | (true, true, 0) => Ok(Compression::Zlib),
        (true, true, 1) => Ok(Compression::Zstd),
        (true, _, kind) => Err(Fault::new(FEATURE).arg("what", format!("compression type {kind}"))),
    }
}

/// A fault that names what of the image is damaged.
pub(super) fn damaged(what: &str) -> Fault {
    Fault::new(DAMAGED).arg("what", what)
}

/// Reads what there is at an offset, up to the end of the file.
pub(super) fn read_up_to(file: &File, buf: &mut [u8], offset: u64) -> std::io::Result<usize> {
    let mut have = 0;
    while have < buf.len() {
        match file.read_at(&mut buf[have..], offset.saturating_add(have as u64)) {
            Ok(0) => break,
            Ok(n) => have += n,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(have)
}

/// Bytes of a file or a block device.
pub(super) fn file_len(mut file: &File) -> std::io::Result<u64> {
    let metadata = file.metadata()?;
    if metadata.file_type().is_block_device() {
        return file.seek(SeekFrom::End(0));
    }
    Ok(metadata.len())
}

pub(super) fn be32(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..at + 4)
        .map_or(0, |b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
}

pub(super) fn be64(bytes: &[u8], at: usize) -> u64 {
    u64::from(be32(bytes, at)) << 32 | u64::from(be32(bytes, at + 4))
}
