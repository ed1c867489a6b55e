//! Reads and writes of a plain file straight from and to guest memory: `preadv2` and `pwritev2`.
#![allow(
    unsafe_code,
    reason = "hands addresses of guest memory to system calls that read and write it in place"
)]

use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, OwnedFd};

use guestmem::Block;

use super::execute::{Ended, Executor, Kind, Transfer};

/// Does one transfer at a time.
pub(super) struct InPlace {
    file: OwnedFd,
    vectors: Vec<libc::iovec>,
}

// SAFETY: the addresses in `vectors` are used only within `transfer`, where they are filled in.
unsafe impl Send for InPlace {}

/// Fills in where a transfer's pieces lie in this process.
pub(super) fn vectors(transfer: &Transfer, block: &Block, vectors: &mut Vec<libc::iovec>) -> io::Result<()> {
    vectors.clear();
    for segment in transfer.segments() {
        let host = block.host(segment.offset, u64::from(segment.len));
        let host = host.map_err(io::Error::other)?;
        vectors.push(libc::iovec {
            iov_base: host.start.cast(),
            iov_len: host.len,
        });
    }
    Ok(())
}

/// Marks what a read has filled.
pub(super) fn written(transfer: &Transfer, block: &Block) {
    if transfer.kind == Kind::Read {
        for segment in transfer.segments() {
            block.written(segment.offset, u64::from(segment.len));
        }
    }
}

impl InPlace {
    pub(super) fn new(file: OwnedFd) -> Self {
        InPlace {
            file,
            vectors: Vec::new(),
        }
    }

    /// Does the whole of a transfer.
    pub(super) fn transfer(&mut self, transfer: &Transfer, block: &Block) -> io::Result<()> {
        if transfer.kind == Kind::Flush {
            return Ok(rustix::fs::fdatasync(&self.file)?);
        }
        vectors(transfer, block, &mut self.vectors)?;
        let mut offset = transfer.offset;
        let mut vectors = &mut self.vectors[..];
        while !vectors.is_empty() {
            let count = vectors.len().min(1024) as libc::c_int;
            let at = libc::off_t::try_from(offset).map_err(|_| ErrorKind::InvalidInput)?;
            let (fd, first) = (self.file.as_raw_fd(), vectors.as_ptr());
            let done = match transfer.kind {
                // SAFETY: `count` vectors from `first` on are valid; each names memory of `block`, which lives through the call and
                // which others may write at any time: no reference to it exists.
                Kind::Read => unsafe { libc::preadv2(fd, first, count, at, 0) },
                kind => {
                    let durable = kind == Kind::Write { durable: true };
                    let flags = if durable { libc::RWF_DSYNC } else { 0 };
                    // SAFETY: as above; the memory is only read.
                    unsafe { libc::pwritev2(fd, first, count, at, flags) }
                }
            };
            match usize::try_from(done) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(done) => {
                    offset += done as u64;
                    vectors = advance(vectors, done);
                }
                Err(_) => {
                    let error = io::Error::last_os_error();
                    if error.kind() != ErrorKind::Interrupted {
                        return Err(error);
                    }
                }
            }
        }
        written(transfer, block);
        Ok(())
    }
}

/// What is left behind so many bytes.
fn advance(mut vectors: &mut [libc::iovec], mut bytes: usize) -> &mut [libc::iovec] {
    while let Some(first) = vectors.first_mut() {
        if bytes < first.iov_len {
            // SAFETY: within the range that the vector names.
            first.iov_base = unsafe { first.iov_base.cast::<u8>().add(bytes) }.cast();
            first.iov_len -= bytes;
            break;
        }
        bytes -= first.iov_len;
        vectors = &mut vectors[1..];
    }
    vectors
}

impl Executor for InPlace {
    fn start(&mut self, transfer: Box<Transfer>, block: &Block) -> Option<Ended> {
        let outcome = self.transfer(&transfer, block);
        Some((transfer, outcome))
    }
}
