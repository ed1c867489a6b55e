//! Runs of bytes within single pages: what repeated string instructions do when nothing special is in the way.
#![allow(
    unsafe_code,
    reason = "uses the host addresses that the translation cache answers with"
)]

use guestmem::PAGE;

use super::raw;
use crate::cpu::Cpu;
use crate::int::Int;

/// Bytes from an address to the end of its page.
fn rest(linear: u64) -> u64 {
    PAGE - (linear & (PAGE - 1))
}

impl Cpu {
    /// Copies up to so many bytes forward, whole elements within the pages; tells how many. 0: go the slow way.
    pub(crate) fn copy_run<T: Int>(&mut self, from: u64, to: u64, most: u64) -> u64 {
        let len = most.min(rest(from)).min(rest(to)) & !(T::BYTES - 1);
        if len == 0 {
            return 0;
        }
        let (Some(source), Some(target)) = (self.tlb.readable(from, len), self.tlb.writable(to, len)) else {
            return 0;
        };
        if source.abs_diff(target) < len as usize {
            return 0;
        }
        // SAFETY: entries of the translation cache that cover both ranges, which do not overlap.
        unsafe { raw::copy(source, target, len as usize) };
        len
    }

    /// Fills up to so many bytes with an element; tells how many. 0: go the slow way.
    pub(crate) fn fill_run<T: Int>(&mut self, to: u64, value: T, most: u64) -> u64 {
        let len = most.min(rest(to)) & !(T::BYTES - 1);
        if len == 0 {
            return 0;
        }
        let Some(target) = self.tlb.writable(to, len) else {
            return 0;
        };
        let bytes = value.wide().to_le_bytes();
        let same = bytes[..T::BYTES as usize].iter().all(|byte| *byte == bytes[0]);
        // SAFETY: an entry of the translation cache that covers the range.
        unsafe {
            if same {
                raw::fill(target, len as usize, bytes[0]);
            } else {
                for n in (0..len as usize).step_by(T::BYTES as usize) {
                    T::store(target + n, value);
                }
            }
        }
        len
    }

    /// Reads up to so many bytes of code at a physical address within its page; tells how many.
    pub(crate) fn read_code(&self, physical: u64, bytes: &mut [u8]) -> usize {
        let len = bytes.len().min(rest(physical) as usize);
        match self.map.find(physical) {
            // SAFETY: inside of the region, which is made of whole pages.
            Some(region) => unsafe { raw::read(region.host(physical), &mut bytes[..len]) },
            // Nothing answers: ones, which are no instruction.
            None => bytes[..len].fill(0xff),
        }
        len
    }
}
