//! Many reads and writes of a plain file at once: an I/O ring that can do nothing else.
#![allow(
    unsafe_code,
    reason = "hands addresses of guest memory to the kernel, which reads and writes it until the transfer ends"
)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use guestmem::Block;
use io_uring::register::Restriction;
use io_uring::{IoUring, opcode, squeue, types};

use super::execute::{Ended, Executor, Kind, Transfer};
use super::inplace::{InPlace, vectors, written};

/// Transfers under way at once.
const MOST: usize = 128;

/// A transfer under way. The vectors stay until it ends, for kernels that read them late.
struct Slot {
    transfer: Box<Transfer>,
    block: Block,
}

/// The ring.
pub(super) struct Uring {
    ring: IoUring,
    slots: Vec<Option<Slot>>,
    vectors: Vec<Vec<libc::iovec>>,
    free: Vec<usize>,
    /// Submitted or about to be.
    under_way: usize,
    /// For what the ring has done in part.
    rest: InPlace,
}

// SAFETY: the addresses in `vectors` belong to blocks that the slots keep; nothing here is bound to a thread.
unsafe impl Send for Uring {}

impl Uring {
    /// A ring on this file, which may read, write and sync it and nothing else.
    pub(super) fn new(file: OwnedFd) -> io::Result<Self> {
        let ring = IoUring::builder().setup_r_disabled().build(MOST as u32)?;
        if !ring.params().is_feature_nodrop() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let submitter = ring.submitter();
        submitter.register_files(&[file.as_raw_fd()])?;
        submitter.register_restrictions(&mut [
            Restriction::sqe_op(opcode::Readv::CODE),
            Restriction::sqe_op(opcode::Writev::CODE),
            Restriction::sqe_op(opcode::Fsync::CODE),
            Restriction::sqe_flags_required(squeue::Flags::FIXED_FILE.bits()),
        ])?;
        submitter.register_enable_rings()?;
        Ok(Uring {
            ring,
            slots: (0..MOST).map(|_| None).collect(),
            vectors: vec![Vec::new(); MOST],
            free: (0..MOST).rev().collect(),
            under_way: 0,
            rest: InPlace::new(file),
        })
    }

    /// What became of a slot; the rest of a transfer that was done in part is done here.
    fn end(&mut self, number: usize, result: i32) -> Option<Ended> {
        let Slot { mut transfer, block } = self.slots.get_mut(number)?.take()?;
        self.free.push(number);
        self.under_way -= 1;
        let done = match u64::try_from(result) {
            Ok(done) => done,
            Err(_) if result == -libc::EINTR || result == -libc::EAGAIN => 0,
            Err(_) => return Some((transfer, Err(io::Error::from_raw_os_error(-result)))),
        };
        if transfer.kind == Kind::Flush && result >= 0 {
            return Some((transfer, Ok(())));
        }
        written(&transfer, &block);
        if done >= transfer.len && transfer.kind != Kind::Flush {
            return Some((transfer, Ok(())));
        }
        transfer.skip += done;
        transfer.offset += done;
        transfer.len -= done.min(transfer.len);
        let outcome = self.rest.transfer(&transfer, &block);
        Some((transfer, outcome))
    }
}

impl Executor for Uring {
    fn start(&mut self, transfer: Box<Transfer>, block: &Block) -> Option<Ended> {
        let Some(number) = self.free.pop() else {
            let outcome = self.rest.transfer(&transfer, block);
            return Some((transfer, outcome));
        };
        let list = &mut self.vectors[number];
        if let Err(error) = vectors(&transfer, block, list) {
            self.free.push(number);
            return Some((transfer, Err(error)));
        }
        let file = types::Fixed(0);
        let (first, count) = (list.as_ptr(), list.len() as u32);
        let entry = match transfer.kind {
            Kind::Flush => opcode::Fsync::new(file)
                .flags(types::FsyncFlags::DATASYNC)
                .build(),
            Kind::Read => opcode::Readv::new(file, first, count)
                .offset(transfer.offset)
                .build(),
            Kind::Write { durable } => opcode::Writev::new(file, first, count)
                .offset(transfer.offset)
                .rw_flags(if durable { libc::RWF_DSYNC } else { 0 })
                .build(),
        };
        let entry = entry.user_data(number as u64);
        self.slots[number] = Some(Slot {
            transfer,
            block: block.clone(),
        });
        self.under_way += 1;
        // SAFETY: the vectors and the memory that they name stay until the transfer ends: `vectors[number]` is not touched and the
        // block is kept by the slot, and dropping the ring waits for all of them.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        pushed.expect("the ring has an entry for every slot");
        None
    }

    fn has_room(&self) -> bool {
        !self.free.is_empty()
    }

    fn submit(&mut self) {
        while !self.ring.submission().is_empty() {
            match self.ring.submit() {
                Err(error)
                    if error
                        .raw_os_error()
                        .is_some_and(|code| [libc::EINTR, libc::EAGAIN, libc::EBUSY].contains(&code)) => {}
                // What the kernel does not take at all stays in the ring and is tried with the next.
                Ok(_) | Err(_) => break,
            }
        }
    }

    fn finish(&mut self, wait: bool, _block: &Block) -> Option<Ended> {
        loop {
            let entry = self.ring.completion().next();
            if let Some(entry) = entry {
                return self.end(entry.user_data() as usize, entry.result());
            }
            if !wait || self.under_way == 0 {
                return None;
            }
            if let Err(error) = self.ring.submit_and_wait(1)
                && error.kind() != io::ErrorKind::Interrupted
                && error.raw_os_error() != Some(libc::EBUSY)
            {
                return None;
            }
        }
    }

    fn waker(&self) -> Option<BorrowedFd<'_>> {
        // SAFETY: the descriptor is the ring's, which is borrowed as long.
        Some(unsafe { BorrowedFd::borrow_raw(self.ring.as_raw_fd()) })
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        // The kernel may still write into guest memory.
        while self.under_way > 0 {
            let entry = self.ring.completion().next();
            match entry {
                Some(_) => self.under_way -= 1,
                None if self.ring.submit_and_wait(1).is_err() => {
                    // Not even waiting works: the memory must stay for good.
                    self.slots.drain(..).flatten().for_each(std::mem::forget);
                    std::mem::forget(std::mem::take(&mut self.vectors));
                    return;
                }
                None => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn the_ring_reads_its_file_and_does_nothing_else() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 4096]).unwrap();
        let mut ring = match Uring::new(file.into()) {
            Ok(ring) => ring,
            Err(error) => {
                eprintln!("skipped: this kernel gives no such ring: {error}");
                return;
            }
        };
        assert!(ring.finish(true, &Block::new("test", 1).unwrap()).is_none());
        let forbidden = opcode::Nop::new().build();
        // SAFETY: the entry names no memory.
        unsafe { ring.ring.submission().push(&forbidden) }.unwrap();
        ring.ring.submit_and_wait(1).unwrap();
        let entry = ring.ring.completion().next().unwrap();
        assert_eq!(entry.result(), -libc::EACCES);
    }
}
