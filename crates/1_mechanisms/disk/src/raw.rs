//! Raw disks: a plain file, sparse or not, or a block device of the host.

use std::fs::File;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, FileTypeExt};

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use crate::image::{check_range, check_write, write_zero_bytes};
use crate::{Image, SECTOR};

/// Most buffers that the kernel takes in one call (`IOV_MAX`).
const MOST_BUFFERS: usize = 1024;

/// A disk whose bytes stand at the same offsets of a file or a block device.
#[derive(Debug)]
pub struct Raw {
    file: File,
    size: u64,
    read_only: bool,
}

impl Raw {
    /// A disk over an open file or block device. Its size is what the file has now, without a last part of a sector.
    ///
    /// # Errors
    /// The file is neither, or its size cannot be told.
    pub fn open(mut file: File, read_only: bool) -> io::Result<Self> {
        let metadata = file.metadata()?;
        let kind = metadata.file_type();
        let size = if kind.is_block_device() {
            file.seek(SeekFrom::End(0))?
        } else if kind.is_file() {
            metadata.len()
        } else {
            return Err(io::Error::new(
                ErrorKind::InvalidInput,
                "neither a file nor a block device",
            ));
        };
        Ok(Raw {
            file,
            size: size - size % SECTOR,
            read_only,
        })
    }

    /// Makes an empty, sparse disk of this size out of a new file.
    ///
    /// # Errors
    /// The size is no whole number of sectors, or the host refuses it.
    pub fn create(file: File, size: u64) -> io::Result<Self> {
        if !size.is_multiple_of(SECTOR) {
            return Err(io::Error::new(
                ErrorKind::InvalidInput,
                "size of a disk in whole sectors",
            ));
        }
        file.set_len(0)?;
        file.set_len(size)?;
        Raw::open(file, false)
    }

    /// Asks the file system for a hole or for zeroes; false when it knows no such thing.
    fn fallocate(&self, flags: FallocateFlags, offset: u64, len: u64) -> io::Result<bool> {
        if len == 0 {
            return Ok(true);
        }
        loop {
            return match rustix::fs::fallocate(&self.file, flags | FallocateFlags::KEEP_SIZE, offset, len) {
                Ok(()) => Ok(true),
                Err(Errno::INTR) => continue,
                // A block device wants whole blocks of its own size; EPERM comes from sealed memory files.
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::PERM) => Ok(false),
                Err(error) => Err(error.into()),
            };
        }
    }
}

impl Image for Raw {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_only(&self) -> bool {
        self.read_only
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        check_range(self.size, offset, buf.len() as u64)?;
        self.file.read_exact_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        check_write(self, offset, buf.len() as u64)?;
        self.file.write_all_at(buf, offset)
    }

    fn flush(&self) -> io::Result<()> {
        if self.read_only {
            return Ok(());
        }
        self.file.sync_data()
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        check_write(self, offset, len)?;
        self.fallocate(FallocateFlags::PUNCH_HOLE, offset, len).map(drop)
    }

    fn write_zeroes(&self, offset: u64, len: u64, may_unmap: bool) -> io::Result<()> {
        check_write(self, offset, len)?;
        let way = if may_unmap {
            FallocateFlags::PUNCH_HOLE
        } else {
            FallocateFlags::ZERO_RANGE
        };
        if self.fallocate(way, offset, len)? {
            return Ok(());
        }
        write_zero_bytes(|bytes, at| self.file.write_all_at(bytes, at), offset, len)
    }

    fn read_vectored_at(&self, bufs: &mut [IoSliceMut<'_>], mut offset: u64) -> io::Result<()> {
        let len = bufs
            .iter()
            .fold(0u64, |sum, buf| sum.saturating_add(buf.len() as u64));
        check_range(self.size, offset, len)?;
        for group in bufs.chunks_mut(MOST_BUFFERS) {
            let mut group = group;
            while !group.is_empty() {
                match rustix::io::preadv(&self.file, group, offset) {
                    Ok(0) if group.iter().any(|buf| !buf.is_empty()) => {
                        return Err(ErrorKind::UnexpectedEof.into());
                    }
                    Ok(n) => {
                        offset += n as u64;
                        IoSliceMut::advance_slices(&mut group, n);
                    }
                    Err(Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    fn write_vectored_at(&self, bufs: &[IoSlice<'_>], mut offset: u64) -> io::Result<()> {
        let len = bufs
            .iter()
            .fold(0u64, |sum, buf| sum.saturating_add(buf.len() as u64));
        check_write(self, offset, len)?;
        let mut bufs = bufs.to_vec();
        for group in bufs.chunks_mut(MOST_BUFFERS) {
            let mut group = group;
            while !group.is_empty() {
                match rustix::io::pwritev(&self.file, group, offset) {
                    Ok(0) if group.iter().any(|buf| !buf.is_empty()) => {
                        return Err(ErrorKind::WriteZero.into());
                    }
                    Ok(n) => {
                        offset += n as u64;
                        IoSlice::advance_slices(&mut group, n);
                    }
                    Err(Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    fn raw_file(&self) -> Option<BorrowedFd<'_>> {
        Some(self.file.as_fd())
    }
}
