//! Loads, stores and locked updates of guest memory by linear address.
#![allow(
    unsafe_code,
    reason = "uses the host addresses that the translation cache and the map answer with"
)]

use guestmem::PAGE;

use super::raw::{self, Plain};
use super::walk::{Access, walk};
use crate::cpu::Cpu;
use crate::int::Int;
use crate::op::{Op, Stop};

/// Held during locked updates that no single operation of the host can do: they cross a page, are not aligned, or go to a device.
static SPLIT_LOCK: std::sync::Mutex<()> = std::sync::Mutex::new(());

/// The stack segment's number: what is not canonical there is a stack fault.
const STACK: u8 = 2;

impl Cpu {
    /// Linear address of the memory operand of an instruction, of so many bytes; checked against its segment.
    #[inline(always)]
    pub(crate) fn address(&mut self, op: &Op, len: u64, write: bool) -> Result<u64, Stop> {
        let offset = self.registers[op.base as usize & 31]
            .wrapping_add(self.registers[op.index as usize & 31] << (op.scale & 3))
            .wrapping_add(op.disp);
        if op.flat {
            return Ok(offset.wrapping_add(self.bases[op.seg as usize & 7]));
        }
        self.segmented(op.seg, offset & op.form.address_mask(), len, write)
    }

    /// Offset of the memory operand in its segment.
    #[inline(always)]
    pub(crate) fn offset(&self, op: &Op) -> u64 {
        let offset = self.registers[op.base as usize & 31]
            .wrapping_add(self.registers[op.index as usize & 31] << (op.scale & 3))
            .wrapping_add(op.disp);
        offset & op.form.address_mask()
    }

    /// Linear address of an offset in a segment, checked.
    #[inline]
    pub(crate) fn segmented(&mut self, seg: u8, offset: u64, len: u64, write: bool) -> Result<u64, Stop> {
        if self.long {
            return Ok(offset.wrapping_add(self.bases[seg as usize & 7]));
        }
        let limits = &self.limits[seg as usize & 7];
        let end = if write { limits.write } else { limits.read };
        if offset + len > end {
            self.check_segment(seg, offset, len, write)?;
        }
        Ok(offset.wrapping_add(self.bases[seg as usize & 7]) & 0xffff_ffff)
    }

    /// Reads at a linear address; `seg` only decides which exception an impossible address raises.
    #[inline(always)]
    pub(crate) fn load<T: Int>(&mut self, linear: u64, seg: u8) -> Result<T, Stop> {
        if let Some(at) = self.tlb.readable(linear, T::BYTES) {
            // SAFETY: an entry of the translation cache that covers all bytes; see the head of `memory`.
            return Ok(unsafe { T::load(at) });
        }
        self.load_slow(linear, seg)
    }

    /// Writes at a linear address.
    #[inline(always)]
    pub(crate) fn store<T: Int>(&mut self, linear: u64, seg: u8, value: T) -> Result<(), Stop> {
        if let Some(at) = self.tlb.writable(linear, T::BYTES) {
            // SAFETY: as in `load`, with permission to write.
            unsafe { T::store(at, value) };
            return Ok(());
        }
        self.store_slow(linear, seg, value)
    }

    /// Reads, changes and writes back; faults before anything has changed. Not atomic.
    #[inline(always)]
    pub(crate) fn modify<T: Int>(
        &mut self,
        linear: u64,
        seg: u8,
        change: impl FnOnce(&mut Cpu, T) -> T,
    ) -> Result<(), Stop> {
        if let Some(at) = self.tlb.writable(linear, T::BYTES) {
            // SAFETY: as in `store`.
            let old = unsafe { T::load(at) };
            let new = change(self, old);
            // SAFETY: as in `store`; `change` works on registers and flags and leaves the map alone.
            unsafe { T::store(at, new) };
            return Ok(());
        }
        self.probe(linear, T::BYTES, seg, true)?;
        let old = self.load_slow::<T>(linear, seg)?;
        let new = change(self, old);
        self.store_slow(linear, seg, new)
    }

    /// As [`Cpu::modify`], in one step for all processors. `change` may be called several times.
    pub(crate) fn atomic<T: Int, X>(
        &mut self,
        linear: u64,
        seg: u8,
        change: impl Fn(T) -> (T, X),
    ) -> Result<X, Stop> {
        if linear & (T::BYTES - 1) == 0 {
            let mut at = self.tlb.writable(linear, T::BYTES);
            if at.is_none() {
                self.probe(linear, T::BYTES, seg, true)?;
                at = self.tlb.writable(linear, T::BYTES);
            }
            if let Some(at) = at {
                // SAFETY: as in `store`.
                let mut old = unsafe { T::load(at) };
                loop {
                    let (new, extra) = change(old);
                    // SAFETY: as in `store`, and aligned.
                    match unsafe { T::swap(at, old, new) } {
                        Ok(()) => return Ok(extra),
                        Err(found) => old = found,
                    }
                }
            }
        }
        self.probe(linear, T::BYTES, seg, true)?;
        self.atomic_slow(linear, seg, change)
    }

    fn atomic_slow<T: Int, X>(
        &mut self,
        linear: u64,
        seg: u8,
        change: impl Fn(T) -> (T, X),
    ) -> Result<X, Stop> {
        if let (true, Ok(Some(at))) = (
            linear & (T::BYTES - 1) == 0,
            self.memory_at(linear, seg, T::BYTES),
        ) {
            // A watched or code page: one step all the same, and then what a write there entails.
            // SAFETY: `memory_at` answers with an address inside of a writable region.
            let mut old = unsafe { T::load(at.host) };
            loop {
                let (new, extra) = change(old);
                // SAFETY: the same, and aligned.
                match unsafe { T::swap(at.host, old, new) } {
                    Ok(()) => {
                        self.wrote(at.physical, T::BYTES);
                        self.watch(linear, T::BYTES, true);
                        return Ok(extra);
                    }
                    Err(found) => old = found,
                }
            }
        }
        let lock = SPLIT_LOCK.lock();
        let old = self.load_slow::<T>(linear, seg)?;
        let (new, extra) = change(old);
        self.store_slow(linear, seg, new)?;
        drop(lock);
        Ok(extra)
    }

    /// CMPXCHG16B: compares with `old` and writes `new` if equal; tells what was found.
    pub(crate) fn swap_16(
        &mut self,
        linear: u64,
        seg: u8,
        old: (u64, u64),
        new: (u64, u64),
    ) -> Result<(u64, u64), Stop> {
        self.probe(linear, 16, seg, true)?;
        if let Some(at) = self.tlb.writable(linear, 16) {
            // SAFETY: as in `store`, and the caller checked the alignment.
            return Ok(match unsafe { raw::swap_16(at, old, new) } {
                Ok(()) => old,
                Err(found) => found,
            });
        }
        let lock = SPLIT_LOCK.lock();
        let found = (
            self.load_slow(linear, seg)?,
            self.load_slow(linear.wrapping_add(8), seg)?,
        );
        let write = if found == old { new } else { found };
        self.store_slow(linear, seg, write.0)?;
        self.store_slow(linear.wrapping_add(8), seg, write.1)?;
        drop(lock);
        Ok(found)
    }

    /// Raises what an access would raise, and brings its pages into the translation cache.
    pub(crate) fn probe(&mut self, linear: u64, len: u64, seg: u8, write: bool) -> Result<(), Stop> {
        let linear = self.wrap(linear);
        self.check_canonical(linear, len, seg)?;
        self.check_alignment(linear, len)?;
        self.translate(linear, write)?;
        let last = self.wrap(linear.wrapping_add(len - 1));
        if (last ^ linear) >> 12 != 0 {
            self.translate(last & !0xfff, write)?;
        }
        Ok(())
    }

    #[inline]
    fn wrap(&self, linear: u64) -> u64 {
        if self.mode.long {
            linear
        } else {
            linear & 0xffff_ffff
        }
    }

    fn check_canonical(&mut self, linear: u64, len: u64, seg: u8) -> Result<(), Stop> {
        if self.mode.long {
            for address in [linear, linear.wrapping_add(len - 1)] {
                if !canonical(address) {
                    return if seg == STACK {
                        self.stack_fault(0)
                    } else {
                        self.protection(0)
                    };
                }
            }
        }
        Ok(())
    }

    fn check_alignment(&mut self, linear: u64, len: u64) -> Result<(), Stop> {
        if self.aligned && !self.implicit && len.is_power_of_two() && linear & (len.min(8) - 1) != 0 {
            return self.alignment();
        }
        Ok(())
    }

    fn data_access(&self, write: bool) -> Access {
        Access {
            write,
            fetch: false,
            user: self.cpl == 3 && !self.implicit,
            open: !self.implicit && self.rflags & crate::flags::AC != 0,
        }
    }

    /// Physical address of a linear one for data, by the walker; notes the page in the translation cache.
    pub(crate) fn translate(&mut self, linear: u64, write: bool) -> Result<u64, Stop> {
        if self.tlb.adopt(linear, write)
            && let Some(physical) = self.tlb.physical(linear)
        {
            return Ok(physical | linear & 0xfff);
        }
        let access = self.data_access(write);
        let walked = match walk(&self.map, &self.mode, self.cr3, linear, access) {
            Ok(walked) => walked,
            Err(code) => return self.page_fault(linear, code),
        };
        self.claim_tables(&walked.entries);
        let physical = walked.found.physical;
        if self.watched(linear) {
            return Ok(physical | linear & 0xfff);
        }
        if let Some(region) = self.map.find(physical)
            && physical & !0xfff != self.apic.page()
        {
            let page = region.page(physical);
            let mut writable = walked.writable && region.writable && !region.block.is_code(page);
            if self.logging {
                writable &= write;
                if writable {
                    region.block.mark_dirty(page);
                }
            }
            self.tlb
                .fill(linear, walked.found, region.host(physical), writable);
        }
        Ok(physical | linear & 0xfff)
    }

    #[cold]
    #[inline(never)]
    fn load_slow<T: Int>(&mut self, linear: u64, seg: u8) -> Result<T, Stop> {
        let linear = self.wrap(linear);
        self.check_canonical(linear, T::BYTES, seg)?;
        self.check_alignment(linear, T::BYTES)?;
        let physical = self.translate(linear, false)?;
        let inside = (PAGE - (linear & 0xfff)).min(T::BYTES);
        self.watch(linear, T::BYTES, false);
        if inside == T::BYTES {
            return Ok(T::cut(self.read_physical(physical, T::BYTES)));
        }
        let second = self.translate(self.wrap(linear.wrapping_add(inside)), false)?;
        let low = self.read_bytes(physical, inside);
        let high = self.read_bytes(second, T::BYTES - inside);
        Ok(T::cut(low | high << (8 * inside)))
    }

    #[cold]
    #[inline(never)]
    fn store_slow<T: Int>(&mut self, linear: u64, seg: u8, value: T) -> Result<(), Stop> {
        let linear = self.wrap(linear);
        self.check_canonical(linear, T::BYTES, seg)?;
        self.check_alignment(linear, T::BYTES)?;
        let physical = self.translate(linear, true)?;
        let inside = (PAGE - (linear & 0xfff)).min(T::BYTES);
        if inside == T::BYTES {
            self.watch(linear, T::BYTES, true);
            self.write_physical(physical, T::BYTES, value.wide());
            return Ok(());
        }
        let second = self.translate(self.wrap(linear.wrapping_add(inside)), true)?;
        self.watch(linear, T::BYTES, true);
        let bytes = value.wide().to_le_bytes();
        for (n, byte) in bytes.iter().enumerate().take(T::BYTES as usize) {
            let n = n as u64;
            let at = if n < inside {
                physical + n
            } else {
                second + n - inside
            };
            self.write_physical(at, 1, u64::from(*byte));
        }
        Ok(())
    }

    fn read_bytes(&mut self, physical: u64, len: u64) -> u64 {
        (0..len).fold(0, |value, n| {
            value | self.read_physical(physical + n, 1) << (8 * n)
        })
    }

    /// Reads 1, 2, 4 or 8 bytes in one page at a physical address.
    pub(crate) fn read_physical(&mut self, physical: u64, len: u64) -> u64 {
        if physical & !0xfff == self.apic.page() {
            return self.apic_read(physical & 0xfff, len);
        }
        if let Some(region) = self.map.find(physical) {
            let at = region.host(physical);
            // SAFETY: inside of the region, since it is made of whole pages and the access ends in the page.
            return unsafe {
                match len {
                    1 => u8::load(at).wide(),
                    2 => u16::load(at).wide(),
                    4 => u32::load(at).wide(),
                    _ => u64::load(at),
                }
            };
        }
        let mut bytes = [0; 8];
        self.sync_clock();
        self.io().mmio_read(physical, &mut bytes[..len as usize]);
        self.cut = true;
        u64::from_le_bytes(bytes)
    }

    /// Writes 1, 2, 4 or 8 bytes in one page at a physical address.
    pub(crate) fn write_physical(&mut self, physical: u64, len: u64, value: u64) {
        if physical & !0xfff == self.apic.page() {
            return self.apic_write(physical & 0xfff, len, value);
        }
        if let Some(region) = self.map.find(physical)
            && region.writable
        {
            let at = region.host(physical);
            // SAFETY: as in `read_physical`.
            unsafe {
                match len {
                    1 => u8::store(at, value as u8),
                    2 => u16::store(at, value as u16),
                    4 => u32::store(at, value as u32),
                    _ => u64::store(at, value),
                }
            }
            return self.wrote(physical, len);
        }
        self.cut = true;
        if self.shared.ring(physical, len) {
            return;
        }
        self.sync_clock();
        self.io()
            .mmio_write(physical, &value.to_le_bytes()[..len as usize]);
    }

    /// What a write by the slow path entails: marks of the page, code that was decoded from it.
    pub(crate) fn wrote(&mut self, physical: u64, len: u64) {
        let Some(region) = self.map.find(physical) else {
            return;
        };
        let page = region.page(physical);
        if self.logging {
            region.block.mark_dirty(page);
        }
        if region.block.is_code(page) {
            self.code_writes.push((physical, len as u32));
            self.cut = true;
        }
    }

    /// Where a whole write of so many bytes goes in memory; `None` when it is a device's or crosses a page.
    fn memory_at(&mut self, linear: u64, seg: u8, len: u64) -> Result<Option<Place>, Stop> {
        let linear = self.wrap(linear);
        self.check_canonical(linear, len, seg)?;
        let physical = self.translate(linear, true)?;
        if (linear & 0xfff) + len > PAGE || physical & !0xfff == self.apic.page() {
            return Ok(None);
        }
        let region = self.map.find(physical).filter(|region| region.writable);
        Ok(region.map(|region| Place {
            physical,
            host: region.host(physical),
        }))
    }

    /// Reads with the processor's own rights: descriptor tables, task state.
    pub(crate) fn load_system<T: Int>(&mut self, linear: u64) -> Result<T, Stop> {
        self.as_system(|cpu| cpu.load(linear, 0))
    }

    /// Writes with the processor's own rights.
    pub(crate) fn store_system<T: Int>(&mut self, linear: u64, value: T) -> Result<(), Stop> {
        self.as_system(|cpu| cpu.store(linear, 0, value))
    }

    /// Does accesses with the processor's own rights, whatever the privilege level is.
    pub(crate) fn as_system<R>(&mut self, work: impl FnOnce(&mut Cpu) -> R) -> R {
        let table = self.tlb.selected();
        self.tlb.select(super::tlb::Table::Supervisor);
        let before = std::mem::replace(&mut self.implicit, true);
        let result = work(self);
        self.implicit = before;
        self.tlb.select(table);
        result
    }
}

/// A place in memory, for an update in one step.
struct Place {
    physical: u64,
    host: usize,
}

/// Whether bits 47–63 are equal (SDM Vol. 1 §3.3.7.1).
#[inline]
pub(crate) fn canonical(address: u64) -> bool {
    ((address as i64) << 16 >> 16) as u64 == address
}
