//! A window of an image as an image: a partition, for example.

use std::io;

use crate::Image;
use crate::image::{check_range, check_write};

/// The bytes of an image from an offset on, up to a length.
#[derive(Debug, Clone)]
pub struct Slice<I> {
    image: I,
    start: u64,
    size: u64,
}

impl<I: Image> Slice<I> {
    /// The window of `size` bytes at `start`.
    ///
    /// # Errors
    /// The window does not lie inside of the image.
    pub fn new(image: I, start: u64, size: u64) -> io::Result<Self> {
        check_range(image.size(), start, size)?;
        Ok(Slice { image, start, size })
    }
}

impl<I: Image> Image for Slice<I> {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_only(&self) -> bool {
        self.image.read_only()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        check_range(self.size, offset, buf.len() as u64)?;
        self.image.read_at(buf, self.start + offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        check_write(self, offset, buf.len() as u64)?;
        self.image.write_at(buf, self.start + offset)
    }

    fn flush(&self) -> io::Result<()> {
        self.image.flush()
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        check_write(self, offset, len)?;
        self.image.discard(self.start + offset, len)
    }

    fn write_zeroes(&self, offset: u64, len: u64, may_unmap: bool) -> io::Result<()> {
        check_write(self, offset, len)?;
        self.image.write_zeroes(self.start + offset, len, may_unmap)
    }
}
