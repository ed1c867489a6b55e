//! The contract of every disk: bytes at offsets, read and written by several threads at once.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::os::fd::BorrowedFd;
use std::sync::Arc;

/// Bytes of a sector, the unit in which guests address a disk.
pub const SECTOR: u64 = 512;

/// A disk: a fixed number of bytes that are read and written at offsets.
///
/// All calls block. Every access lies inside of the disk or fails with [`ErrorKind::InvalidInput`]; one that fails
/// in the middle may have been done in part. A full host file system shows as an error for which [`is_full`] holds:
/// the same call may be repeated when there is space again. What is written is seen by later reads at once and is
/// durable when a later [`Image::flush`] has returned.
pub trait Image: Send + Sync {
    /// Bytes of the disk.
    fn size(&self) -> u64;

    /// Whether the disk cannot be written; writing then fails with [`ErrorKind::ReadOnlyFilesystem`].
    fn read_only(&self) -> bool;

    /// Fills the buffer with the bytes at this offset.
    ///
    /// # Errors
    /// Outside of the disk, or the host cannot read.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes all bytes of the buffer at this offset.
    ///
    /// # Errors
    /// Outside of the disk, the disk is read-only, or the host cannot write.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;

    /// Makes durable what has been written.
    ///
    /// # Errors
    /// The host cannot write.
    fn flush(&self) -> io::Result<()>;

    /// Says that nobody needs these bytes any more: they may read as anything until they are written again. A hint,
    /// which an image may ignore or follow in part.
    ///
    /// # Errors
    /// Outside of the disk, the disk is read-only, or the host cannot write.
    fn discard(&self, offset: u64, len: u64) -> io::Result<()>;

    /// Makes these bytes zero; with `may_unmap` their space may be given back to the host.
    ///
    /// # Errors
    /// Outside of the disk, the disk is read-only, or the host cannot write.
    fn write_zeroes(&self, offset: u64, len: u64, may_unmap: bool) -> io::Result<()>;

    /// Fills several buffers, one after the other, with the bytes at this offset.
    ///
    /// # Errors
    /// As [`Image::read_at`].
    fn read_vectored_at(&self, bufs: &mut [IoSliceMut<'_>], mut offset: u64) -> io::Result<()> {
        for buf in bufs {
            self.read_at(buf, offset)?;
            offset = offset.saturating_add(buf.len() as u64);
        }
        Ok(())
    }

    /// Writes several buffers, one after the other, at this offset.
    ///
    /// # Errors
    /// As [`Image::write_at`].
    fn write_vectored_at(&self, bufs: &[IoSlice<'_>], mut offset: u64) -> io::Result<()> {
        for buf in bufs {
            self.write_at(buf, offset)?;
            offset = offset.saturating_add(buf.len() as u64);
        }
        Ok(())
    }

    /// The file behind the disk when every byte of the disk stands at the same offset of the file, so that a device
    /// may read and write the file itself (io_uring, preadv2). The user checks bounds and [`Image::read_only`].
    fn raw_file(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// Whether an error says that the host's file system or the quota is full.
#[must_use]
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// Checks that a range lies inside of a disk of this size.
pub(crate) fn check_range(size: u64, offset: u64, len: u64) -> io::Result<()> {
    match offset.checked_add(len) {
        Some(end) if end <= size => Ok(()),
        _ => Err(io::Error::new(
            ErrorKind::InvalidInput,
            "access outside of the disk",
        )),
    }
}

/// Checks a range and that the disk may be written.
pub(crate) fn check_write(image: &(impl Image + ?Sized), offset: u64, len: u64) -> io::Result<()> {
    if image.read_only() {
        return Err(ErrorKind::ReadOnlyFilesystem.into());
    }
    check_range(image.size(), offset, len)
}

/// Writes zeroes as data, for files that know no other way.
pub(crate) fn write_zero_bytes(
    mut write: impl FnMut(&[u8], u64) -> io::Result<()>,
    mut offset: u64,
    len: u64,
) -> io::Result<()> {
    static ZEROES: [u8; 64 << 10] = [0; 64 << 10];
    let end = offset.saturating_add(len);
    while offset < end {
        let n = (end - offset).min(ZEROES.len() as u64);
        write(&ZEROES[..usize::try_from(n).unwrap_or(ZEROES.len())], offset)?;
        offset += n;
    }
    Ok(())
}

macro_rules! forward {
    ($($pointer:ty),*) => {$(
        impl<I: Image + ?Sized> Image for $pointer {
            fn size(&self) -> u64 {
                (**self).size()
            }
            fn read_only(&self) -> bool {
                (**self).read_only()
            }
            fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
                (**self).read_at(buf, offset)
            }
            fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
                (**self).write_at(buf, offset)
            }
            fn flush(&self) -> io::Result<()> {
                (**self).flush()
            }
            fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
                (**self).discard(offset, len)
            }
            fn write_zeroes(&self, offset: u64, len: u64, may_unmap: bool) -> io::Result<()> {
                (**self).write_zeroes(offset, len, may_unmap)
            }
            fn read_vectored_at(&self, bufs: &mut [IoSliceMut<'_>], offset: u64) -> io::Result<()> {
                (**self).read_vectored_at(bufs, offset)
            }
            fn write_vectored_at(&self, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
                (**self).write_vectored_at(bufs, offset)
            }
            fn raw_file(&self) -> Option<BorrowedFd<'_>> {
                (**self).raw_file()
            }
        }
    )*};
}

forward!(&I, Box<I>, Arc<I>);
