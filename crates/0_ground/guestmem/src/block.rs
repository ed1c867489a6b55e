//! One piece of memory of a guest: a sealed memory file, mapped shared.
#![allow(
    unsafe_code,
    reason = "maps memory and copies from and to it, which the guest changes at the same time"
)]

use std::ffi::c_void;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::mm::{Advice, MapFlags, ProtFlags};

use crate::OutOfRange;
use crate::pages::{DirtyPages, PAGE, Pages};

/// Memory of a guest. A clone is the same memory.
#[derive(Clone)]
pub struct Block(Arc<Inner>);

struct Inner {
    file: OwnedFd,
    base: NonNull<u8>,
    len: u64,
    pages: Pages,
}

// SAFETY: the mapping lives as long as `Inner`; every access through it is a raw copy or an atomic operation.
unsafe impl Send for Inner {}
// SAFETY: as above; no reference into the mapping is ever made.
unsafe impl Sync for Inner {}

impl Drop for Inner {
    fn drop(&mut self) {
        // SAFETY: `base` and `len` are those of the mapping made in `Block::new`; nobody else can hold it any more but through a
        // `HostRange`, whose user promised to keep the block.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.len as usize) };
    }
}

/// Where a range of a block lies in this process, for system calls that read or write guest memory in place, and for processors.
/// Valid as long as a clone of the block is kept. Whoever writes through it calls [`Block::written`] afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostRange {
    /// First byte.
    pub start: *mut u8,
    /// Length in bytes.
    pub len: usize,
}

// SAFETY: a plain address; using it is unsafe wherever it is done.
unsafe impl Send for HostRange {}

impl Block {
    /// Memory of zeros; `len` is rounded up to whole pages. Host memory is taken page by page when it is touched first.
    ///
    /// # Errors
    /// When the host refuses the memory file or the mapping.
    pub fn new(name: &str, len: u64) -> std::io::Result<Block> {
        let len = len.div_ceil(PAGE).max(1) * PAGE;
        let file = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        rustix::fs::ftruncate(&file, len)?;
        rustix::fs::fcntl_add_seals(&file, SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
        Self::map(file, len)
    }

    /// Maps a memory file that came from elsewhere (a saved machine, another process).
    ///
    /// # Errors
    /// When the file is not sealed against shrinking (touching a missing page would kill us), or the host refuses the mapping.
    pub fn from_file(file: OwnedFd) -> std::io::Result<Block> {
        let seals = rustix::fs::fcntl_get_seals(&file)?;
        let len = rustix::fs::fstat(&file)?.st_size as u64;
        if !seals.contains(SealFlags::SHRINK) || len == 0 || !len.is_multiple_of(PAGE) {
            return Err(std::io::ErrorKind::InvalidInput.into());
        }
        Self::map(file, len)
    }

    fn map(file: OwnedFd, len: u64) -> std::io::Result<Block> {
        let size = usize::try_from(len).map_err(|_| std::io::ErrorKind::OutOfMemory)?;
        // SAFETY: a new mapping at an address that the kernel chooses; nothing of ours is overlaid.
        let base = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                size,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED | MapFlags::NORESERVE,
                &file,
                0,
            )?
        };
        let base = NonNull::new(base.cast::<u8>()).expect("mmap never returns a null mapping");
        // SAFETY: the range is the mapping just made; the advice changes no contents. Refused advice costs speed only.
        let _ = unsafe { rustix::mm::madvise(base.as_ptr().cast::<c_void>(), size, Advice::LinuxHugepage) };
        Ok(Block(Arc::new(Inner {
            file,
            base,
            len,
            pages: Pages::new(len),
        })))
    }

    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.0.len
    }

    /// Never: a block has at least one page.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The memory file behind it.
    #[must_use]
    pub fn file(&self) -> BorrowedFd<'_> {
        self.0.file.as_fd()
    }

    /// Whether both are the same memory.
    #[must_use]
    pub fn is(&self, other: &Block) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    fn check(&self, offset: u64, len: u64) -> Result<*mut u8, OutOfRange> {
        if offset.checked_add(len).is_none_or(|end| end > self.0.len) {
            return Err(OutOfRange { address: offset, len });
        }
        // SAFETY: `offset` is at most the length of the mapping.
        Ok(unsafe { self.0.base.as_ptr().add(offset as usize) })
    }

    /// Where a range lies in this process.
    ///
    /// # Errors
    /// When it is not all inside.
    pub fn host(&self, offset: u64, len: u64) -> Result<HostRange, OutOfRange> {
        Ok(HostRange {
            start: self.check(offset, len)?,
            len: len as usize,
        })
    }

    /// Copies memory out.
    ///
    /// # Errors
    /// When the range is not all inside; then nothing is copied.
    pub fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<(), OutOfRange> {
        let from = self.check(offset, bytes.len() as u64)?;
        // SAFETY: the source was checked; the target is ours and elsewhere. The guest may write meanwhile: then the copy is a mixture,
        // as on real hardware.
        unsafe { std::ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), bytes.len()) };
        Ok(())
    }

    /// Copies bytes into memory and marks the pages as written.
    ///
    /// # Errors
    /// When the range is not all inside; then nothing is copied.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), OutOfRange> {
        let to = self.check(offset, bytes.len() as u64)?;
        // SAFETY: as in `read`, the other way round.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
        self.written(offset, bytes.len() as u64);
        Ok(())
    }

    /// Fills a range with one byte and marks the pages as written.
    ///
    /// # Errors
    /// When the range is not all inside.
    pub fn fill(&self, offset: u64, len: u64, byte: u8) -> Result<(), OutOfRange> {
        let to = self.check(offset, len)?;
        // SAFETY: the range was checked.
        unsafe { std::ptr::write_bytes(to, byte, len as usize) };
        self.written(offset, len);
        Ok(())
    }

    /// Gives the host memory behind whole pages back; they read as zeros. Partial pages at the ends are kept.
    ///
    /// # Errors
    /// When the range is not all inside, or the host refuses.
    pub fn discard(&self, offset: u64, len: u64) -> std::io::Result<()> {
        self.check(offset, len).map_err(std::io::Error::other)?;
        let start = offset.next_multiple_of(PAGE);
        let end = (offset + len) / PAGE * PAGE;
        if start < end {
            use rustix::fs::FallocateFlags as F;
            rustix::fs::fallocate(&self.0.file, F::PUNCH_HOLE | F::KEEP_SIZE, start, end - start)?;
            self.written(start, end - start);
        }
        Ok(())
    }

    /// Marks pages as written by something other than a processor of the guest, which then decodes their code anew.
    pub fn written(&self, offset: u64, len: u64) {
        self.0.pages.written(offset, len);
    }

    /// Marks one page (its number in the block) as written, without telling processors. For processors themselves.
    ///
    /// # Panics
    /// When the block has no such page, as the other functions that take page numbers.
    pub fn mark_dirty(&self, page: u64) {
        self.0.pages.mark_dirty(page);
    }

    /// Marks a page as holding decoded code: writes from elsewhere are then collected for [`Block::take_rewritten`].
    pub fn mark_code(&self, page: u64) {
        self.0.pages.mark_code(page);
    }

    /// Takes the mark of [`Block::mark_code`] away.
    pub fn clear_code(&self, page: u64) {
        self.0.pages.clear_code(page);
    }

    /// Whether a page holds decoded code.
    #[must_use]
    pub fn is_code(&self, page: u64) -> bool {
        self.0.pages.is_code(page)
    }

    /// Whether pages with decoded code were written by devices since the last [`Block::take_rewritten`]. Cheap.
    #[must_use]
    pub fn any_rewritten(&self) -> bool {
        self.0.pages.any_rewritten()
    }

    /// The pages with decoded code that devices have written since the last call.
    #[must_use]
    pub fn take_rewritten(&self) -> Vec<u32> {
        self.0.pages.take_rewritten()
    }

    /// The pages written since the last call, by devices and by processors that keep the marks themselves.
    #[must_use]
    pub fn take_dirty(&self) -> DirtyPages {
        self.0.pages.take_dirty()
    }
}

macro_rules! atomics {
    ($($load:ident $store:ident $swap:ident $type:ty, $atomic:ty;)*) => {
        impl Block {
            $(
                /// Reads a little-endian value that lies at a multiple of its size, in one piece.
                ///
                /// # Errors
                /// When it is not inside or not aligned.
                pub fn $load(&self, offset: u64, order: Ordering) -> Result<$type, OutOfRange> {
                    Ok(<$type>::from_le(self.atomic::<$atomic>(offset)?.load(order)))
                }

                /// Writes a little-endian value at a multiple of its size, in one piece, and marks the page as written.
                ///
                /// # Errors
                /// When it is not inside or not aligned.
                pub fn $store(&self, offset: u64, value: $type, order: Ordering) -> Result<(), OutOfRange> {
                    self.atomic::<$atomic>(offset)?.store(value.to_le(), order);
                    self.written(offset, size_of::<$type>() as u64);
                    Ok(())
                }

                /// Replaces a value if it is the expected one; tells the value found.
                ///
                /// # Errors
                /// When it is not inside or not aligned.
                pub fn $swap(&self, offset: u64, old: $type, new: $type) -> Result<Result<$type, $type>, OutOfRange> {
                    let swapped = self.atomic::<$atomic>(offset)?
                        .compare_exchange(old.to_le(), new.to_le(), Ordering::SeqCst, Ordering::SeqCst)
                        .map(<$type>::from_le)
                        .map_err(<$type>::from_le);
                    if swapped.is_ok() {
                        self.written(offset, size_of::<$type>() as u64);
                    }
                    Ok(swapped)
                }
            )*
        }
    };
}

atomics! {
    load_u8 store_u8 swap_u8 u8, AtomicU8;
    load_u16 store_u16 swap_u16 u16, AtomicU16;
    load_u32 store_u32 swap_u32 u32, AtomicU32;
    load_u64 store_u64 swap_u64 u64, AtomicU64;
}

impl Block {
    fn atomic<A>(&self, offset: u64) -> Result<&A, OutOfRange> {
        let size = size_of::<A>() as u64;
        let at = self.check(offset, size)?;
        if !offset.is_multiple_of(size) {
            return Err(OutOfRange {
                address: offset,
                len: size,
            });
        }
        // SAFETY: inside the mapping, aligned (the base is a page's), and `A` is an atomic integer, for which shared and changing
        // memory is what it is made for. The reference does not leave this file.
        Ok(unsafe { &*at.cast::<A>() })
    }
}
