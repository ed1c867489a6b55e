//! The state of one processor while it runs, and what is derived from it.

use std::sync::Arc;

use vcpu::state::{Activity, Segment, Table};

use crate::apic::Apic;
use crate::exception::{Exception, Why};
use crate::flags::{self, Flags};
use crate::memory::map::Map;
use crate::memory::tlb::{self, Tlb};
use crate::memory::walk::Mode;
use crate::op::Stop;
use crate::outside::Outside;
use crate::shared::{Mailbox, Shared};

/// Numbers of segment registers, as in instructions.
pub(crate) mod seg {
    pub(crate) const ES: u8 = 0;
    pub(crate) const CS: u8 = 1;
    pub(crate) const SS: u8 = 2;
    pub(crate) const DS: u8 = 3;
    pub(crate) const FS: u8 = 4;
    pub(crate) const GS: u8 = 5;
}

/// Bits of CR0.
pub(crate) mod cr0 {
    pub(crate) const PE: u64 = 1;
    pub(crate) const MP: u64 = 1 << 1;
    pub(crate) const EM: u64 = 1 << 2;
    pub(crate) const TS: u64 = 1 << 3;
    pub(crate) const ET: u64 = 1 << 4;
    pub(crate) const NE: u64 = 1 << 5;
    pub(crate) const WP: u64 = 1 << 16;
    pub(crate) const AM: u64 = 1 << 18;
    pub(crate) const NW: u64 = 1 << 29;
    pub(crate) const CD: u64 = 1 << 30;
    pub(crate) const PG: u64 = 1 << 31;
}

/// Bits of CR4.
pub(crate) mod cr4 {
    pub(crate) const VME: u64 = 1;
    pub(crate) const PVI: u64 = 1 << 1;
    pub(crate) const TSD: u64 = 1 << 2;
    pub(crate) const DE: u64 = 1 << 3;
    pub(crate) const PSE: u64 = 1 << 4;
    pub(crate) const PAE: u64 = 1 << 5;
    pub(crate) const MCE: u64 = 1 << 6;
    pub(crate) const PGE: u64 = 1 << 7;
    pub(crate) const PCE: u64 = 1 << 8;
    pub(crate) const OSFXSR: u64 = 1 << 9;
    pub(crate) const OSXMMEXCPT: u64 = 1 << 10;
    pub(crate) const UMIP: u64 = 1 << 11;
    pub(crate) const FSGSBASE: u64 = 1 << 16;
    pub(crate) const PCIDE: u64 = 1 << 17;
    pub(crate) const OSXSAVE: u64 = 1 << 18;
    pub(crate) const SMEP: u64 = 1 << 20;
    pub(crate) const SMAP: u64 = 1 << 21;
}

/// Bits of EFER.
pub(crate) mod efer {
    pub(crate) const SCE: u64 = 1;
    pub(crate) const LME: u64 = 1 << 8;
    pub(crate) const LMA: u64 = 1 << 10;
    pub(crate) const NXE: u64 = 1 << 11;
}

/// Attributes of segments as [`Segment`] has them.
pub(crate) mod attr {
    pub(crate) const TYPE: u32 = 15;
    pub(crate) const CODE: u32 = 8;
    pub(crate) const CONFORMING: u32 = 4;
    pub(crate) const DOWN: u32 = 4;
    /// Writable for data, readable for code.
    pub(crate) const RW: u32 = 2;
    pub(crate) const S: u32 = 1 << 4;
    pub(crate) const PRESENT: u32 = 1 << 7;
    pub(crate) const LONG: u32 = 1 << 13;
    pub(crate) const BIG: u32 = 1 << 14;
    pub(crate) const GRANULAR: u32 = 1 << 15;
    pub(crate) const UNUSABLE: u32 = 1 << 16;
}

/// The first offsets of a segment that may not be read and written; 0 when each access needs a closer look.
#[derive(Clone, Copy, Default)]
pub(crate) struct Limits {
    pub(crate) read: u64,
    pub(crate) write: u64,
}

/// What keeps interrupts away for one instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum Shadow {
    /// Nothing.
    #[default]
    None,
    /// STI.
    Sti,
    /// A load of SS.
    Stack,
}

/// One processor. What instructions touch most comes first.
#[repr(C)]
pub(crate) struct Cpu {
    /// General registers; see [`crate::op::Op`] for the others.
    pub(crate) registers: [u64; 32],
    /// Arithmetic flags.
    pub(crate) flags: Flags,
    /// Instruction pointer; while a block runs that of its beginning or of the branch target.
    pub(crate) rip: u64,
    /// The other flags of RFLAGS; the arithmetic ones are 0.
    pub(crate) rflags: u64,
    /// Linear bases of the segments, 0 for those without one in 64-bit mode.
    pub(crate) bases: [u64; 8],
    /// Limits of the segments outside of 64-bit mode.
    pub(crate) limits: [Limits; 8],
    /// The block ends after the present instruction.
    pub(crate) cut: bool,
    /// 64-bit mode.
    pub(crate) long: bool,
    /// Privilege level.
    pub(crate) cpl: u8,
    /// 16, 32 or 64: default sizes of the code segment.
    pub(crate) bits: u8,
    /// The bits of the stack pointer.
    pub(crate) stack_mask: u64,
    /// Number of the present instruction in its block.
    pub(crate) at: u64,
    /// Instruction pointer after the present instruction, where an instruction that leaves the block needs it.
    pub(crate) next: u64,
    /// Instructions retired before the present block.
    pub(crate) retired: u64,
    pub(crate) tlb: Tlb,

    pub(crate) segments: [Segment; 6],
    pub(crate) ldt: Segment,
    pub(crate) task: Segment,
    pub(crate) gdt: Table,
    pub(crate) idt: Table,
    pub(crate) cr0: u64,
    pub(crate) cr2: u64,
    pub(crate) cr3: u64,
    pub(crate) cr4: u64,
    pub(crate) efer: u64,
    pub(crate) xcr0: u64,
    /// DR0–DR3, DR6, DR7.
    pub(crate) debug: [u64; 6],
    pub(crate) msrs: crate::msr::Msrs,
    pub(crate) fpu: Box<fpu::Fpu>,
    pub(crate) scratch: Box<crate::ops::float::Scratch>,
    pub(crate) mode: Mode,
    /// Alignment is checked at this privilege level.
    pub(crate) aligned: bool,
    /// An access of the processor itself: supervisor's rights.
    pub(crate) implicit: bool,
    /// Some debug register watches data.
    pub(crate) watching: bool,
    /// Something outside was accessed since the last look at requests.
    pub(crate) accessed: bool,
    /// Some debug register watches code.
    pub(crate) breakpoints: bool,
    /// Causes of a debug exception that waits for the end of the instruction (DR6).
    pub(crate) debug_pending: u64,
    pub(crate) shadow: Shadow,
    pub(crate) nmi_pending: bool,
    pub(crate) nmi_masked: bool,
    pub(crate) activity: Activity,
    /// Restored events that come before the next instruction.
    pub(crate) pending_exception: Option<(u8, Option<u32>)>,
    pub(crate) pending_interrupt: Option<u8>,
    /// Why the last instruction did not complete.
    pub(crate) stop: Why,
    pub(crate) exception: Exception,
    /// Writes to pages with decoded code.
    pub(crate) code_writes: Vec<(u64, u32)>,
    /// With a counting clock: pages of tables that translations in the cache came from.
    pub(crate) tables: std::collections::BTreeSet<u64>,
    /// Pages that are written are noted.
    pub(crate) logging: bool,
    pub(crate) map: Arc<Map>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) apic: Apic,
    pub(crate) time: crate::time::Time,
    pub(crate) cpuid: Vec<vcpu::cpuid::Leaf>,
    /// The devices, while [`vcpu::Vcpu::run`] is on the stack.
    pub(crate) outside: Outside,
    pub(crate) number: u32,
    /// Base and limit of the code segment that remembered ways to code depend on.
    pub(crate) code_segment: (u64, u32),
}

impl Cpu {
    /// RFLAGS as a whole.
    pub(crate) fn rflags(&self) -> u64 {
        self.rflags | self.flags.bits() | 2
    }

    /// Sets RFLAGS as a whole.
    pub(crate) fn set_rflags(&mut self, bits: u64) {
        const SYSTEM: u64 = flags::TF
            | flags::IF
            | flags::DF
            | flags::IOPL
            | flags::NT
            | flags::RF
            | flags::VM
            | flags::AC
            | flags::VIF
            | flags::VIP
            | flags::ID;
        self.flags.set_bits(bits);
        let changed = (self.rflags ^ bits) & (flags::AC | flags::VM);
        self.rflags = bits & SYSTEM;
        if changed != 0 {
            self.refresh_access();
        }
    }

    /// I/O privilege level.
    pub(crate) fn iopl(&self) -> u8 {
        (self.rflags >> 12 & 3) as u8
    }

    /// Protected mode.
    #[inline]
    pub(crate) fn protected(&self) -> bool {
        self.cr0 & cr0::PE != 0
    }

    /// EFER.LMA.
    #[inline]
    pub(crate) fn lma(&self) -> bool {
        self.efer & efer::LMA != 0
    }

    /// Derives everything from the control registers, the segments and the flags.
    pub(crate) fn refresh(&mut self) {
        self.mode = Mode {
            paging: self.cr0 & cr0::PG != 0,
            wide: self.cr4 & cr4::PAE != 0,
            long: self.lma(),
            large: self.cr4 & cr4::PSE != 0,
            global: self.cr4 & cr4::PGE != 0,
            protect: self.cr0 & cr0::WP != 0,
            no_execute: self.efer & efer::NXE != 0,
            smep: self.cr4 & cr4::SMEP != 0,
            smap: self.cr4 & cr4::SMAP != 0,
        };
        self.refresh_segments();
    }

    /// Derives everything from the segments.
    pub(crate) fn refresh_segments(&mut self) {
        let code = self.segments[seg::CS as usize];
        self.long = self.lma() && code.attributes & attr::LONG != 0;
        self.bits = match () {
            () if self.long => 64,
            () if self.protected() && code.attributes & attr::BIG != 0 => 32,
            () if !self.protected() && code.attributes & attr::BIG != 0 => 32,
            () => 16,
        };
        let stack = self.segments[seg::SS as usize];
        self.stack_mask = match () {
            () if self.long => u64::MAX,
            () if stack.attributes & attr::BIG != 0 => 0xffff_ffff,
            () => 0xffff,
        };
        self.cpl = if self.protected() {
            (stack.attributes >> 5 & 3) as u8
        } else {
            0
        };
        for number in 0..6 {
            self.refresh_segment(number);
        }
        let place = if self.long {
            (0, u32::MAX)
        } else {
            (code.base, code.limit)
        };
        if place != self.code_segment {
            self.code_segment = place;
            self.tlb.new_epoch();
        }
        self.refresh_access();
    }

    fn refresh_segment(&mut self, number: usize) {
        let segment = self.segments[number];
        let flat = self.long && number < seg::FS as usize;
        self.bases[number] = if flat { 0 } else { segment.base };
        let mut limits = Limits::default();
        if !self.protected() {
            limits.read = u64::from(segment.limit) + 1;
            limits.write = limits.read;
        } else if segment.attributes & attr::UNUSABLE == 0 && segment.attributes & attr::PRESENT != 0 {
            let end = u64::from(segment.limit) + 1;
            let rw = segment.attributes & attr::RW != 0;
            if segment.attributes & attr::CODE != 0 {
                limits.read = if rw { end } else { 0 };
            } else if segment.attributes & attr::DOWN == 0 {
                limits.read = end;
                limits.write = if rw { end } else { 0 };
            }
        }
        self.limits[number] = limits;
    }

    /// Derives which accesses are allowed from privilege level and RFLAGS.AC.
    pub(crate) fn refresh_access(&mut self) {
        let ac = self.rflags & flags::AC != 0;
        self.aligned = self.cpl == 3 && ac && self.cr0 & cr0::AM != 0;
        let table = match () {
            () if self.aligned => tlb::Table::Empty,
            () if self.cpl == 3 => tlb::Table::User,
            () if ac && self.mode.smap => tlb::Table::Open,
            () => tlb::Table::Supervisor,
        };
        self.tlb.select(table);
    }

    /// What remembered ways to code depend on: in this address space, and for global pages.
    #[inline]
    pub(crate) fn code_keys(&self) -> (u64, u64) {
        let level = u64::from(self.cpl == 3) << 2 | u64::from(self.bits >> 5);
        (self.tlb.code_key() | level, self.tlb.global_code_key() | level)
    }

    /// A closer look at an access that the limits of its segment do not allow at first sight.
    #[cold]
    pub(crate) fn check_segment(
        &mut self,
        number: u8,
        offset: u64,
        len: u64,
        write: bool,
    ) -> Result<(), Stop> {
        if number >= 6 {
            return Ok(());
        }
        let segment = self.segments[number as usize];
        let attributes = segment.attributes;
        let data = attributes & attr::CODE == 0;
        let usable = attributes & attr::UNUSABLE == 0;
        let allowed = !self.protected()
            || usable
                && if write {
                    data && attributes & attr::RW != 0
                } else {
                    data || attributes & attr::RW != 0
                };
        let limit = u64::from(segment.limit);
        let last = offset + (len - 1);
        let inside = if self.protected() && data && attributes & attr::DOWN != 0 {
            let top = if attributes & attr::BIG != 0 {
                0xffff_ffff
            } else {
                0xffff
            };
            offset > limit && last <= top
        } else {
            last <= limit
        };
        if allowed && inside {
            return Ok(());
        }
        if number == seg::SS && usable {
            self.stack_fault(0)
        } else {
            self.protection(0)
        }
    }

    /// Whether a debug register watches data in this page: its accesses take the slow path.
    pub(crate) fn watched(&self, linear: u64) -> bool {
        self.watching
            && (0..4).any(|n| {
                self.data_watch(n).is_some_and(|(start, len)| {
                    start >> 12 == linear >> 12 || start.wrapping_add(len - 1) >> 12 == linear >> 12
                })
            })
    }

    /// What a debug register watches: start and length, when it is on and for data.
    fn data_watch(&self, number: usize) -> Option<(u64, u64)> {
        let control = self.debug[5];
        let on = control >> (2 * number) & 3 != 0;
        let kind = control >> (16 + 4 * number) & 3;
        let len = match control >> (18 + 4 * number) & 3 {
            0 => 1,
            1 => 2,
            2 => 8,
            _ => 4,
        };
        (on && (kind == 1 || kind == 3)).then(|| (self.debug[number] & !(len - 1), len))
    }

    /// Notes which debug registers an access meets.
    pub(crate) fn watch(&mut self, linear: u64, len: u64, write: bool) {
        if !self.watching || self.implicit {
            return;
        }
        for number in 0..4 {
            let Some((start, size)) = self.data_watch(number) else {
                continue;
            };
            let writes_only = self.debug[5] >> (16 + 4 * number) & 3 == 1;
            let meets = linear < start.wrapping_add(size) && start < linear.wrapping_add(len);
            if meets && (write || !writes_only) {
                self.debug_pending |= 1 << number;
                self.cut = true;
            }
        }
    }

    /// Pushes a value of operand size.
    #[inline(always)]
    pub(crate) fn push<T: crate::int::Int>(&mut self, value: T) -> Result<(), Stop> {
        if self.long {
            let at = self.registers[4].wrapping_sub(T::BYTES);
            self.store(at, seg::SS, value)?;
            self.registers[4] = at;
            return Ok(());
        }
        let at = self.registers[4].wrapping_sub(T::BYTES) & self.stack_mask;
        let linear = self.segmented(seg::SS, at, T::BYTES, true)?;
        self.store(linear, seg::SS, value)?;
        self.set_stack(at);
        Ok(())
    }

    /// Reads the value on top of the stack (or `above` bytes over it).
    #[inline(always)]
    pub(crate) fn peek<T: crate::int::Int>(&mut self, above: u64) -> Result<T, Stop> {
        let at = self.registers[4].wrapping_add(above);
        if self.long {
            return self.load(at, seg::SS);
        }
        let linear = self.segmented(seg::SS, at & self.stack_mask, T::BYTES, false)?;
        self.load(linear, seg::SS)
    }

    /// Adds to the stack pointer.
    #[inline(always)]
    pub(crate) fn release(&mut self, bytes: u64) {
        if self.long {
            self.registers[4] = self.registers[4].wrapping_add(bytes);
        } else {
            self.set_stack(self.registers[4].wrapping_add(bytes));
        }
    }

    /// Sets as much of the stack pointer as the stack segment's size has.
    #[inline(always)]
    pub(crate) fn set_stack(&mut self, value: u64) {
        let mask = self.stack_mask;
        let kept = if mask == 0xffff {
            self.registers[4] & !mask
        } else {
            0
        };
        self.registers[4] = kept | value & mask;
    }

    /// The physical address behind a linear one, without marking anything.
    pub(crate) fn look_up(&mut self, linear: u64) -> Option<u64> {
        crate::memory::walk::look(&self.map, &self.mode, self.cr3, linear)
    }

    /// The registers in words, for faults.
    pub(crate) fn describe(&self) -> String {
        let code = &self.segments[seg::CS as usize];
        format!(
            "cs {:#x} rip {:#x} rflags {:#x} cr0 {:#x} cr2 {:#x} cr3 {:#x} cr4 {:#x} efer {:#x} registers {:x?}",
            code.selector,
            self.rip,
            self.rflags(),
            self.cr0,
            self.cr2,
            self.cr3,
            self.cr4,
            self.efer,
            &self.registers[..16]
        )
    }
}
