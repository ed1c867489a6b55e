//! Segment descriptors: reading them, checking them, loading segment registers (SDM Vol. 3 chapters 3 and 6).

use vcpu::state::Segment;

use crate::cpu::{Cpu, attr, seg};
use crate::exception::vector;
use crate::op::Stop;

/// Types of system descriptors.
pub(crate) mod kind {
    pub(crate) const TSS_16: u32 = 1;
    pub(crate) const LDT: u32 = 2;
    pub(crate) const TSS_16_BUSY: u32 = 3;
    pub(crate) const CALL_GATE_16: u32 = 4;
    pub(crate) const TASK_GATE: u32 = 5;
    pub(crate) const INTERRUPT_GATE_16: u32 = 6;
    pub(crate) const TRAP_GATE_16: u32 = 7;
    pub(crate) const TSS: u32 = 9;
    pub(crate) const TSS_BUSY: u32 = 11;
    pub(crate) const CALL_GATE: u32 = 12;
    pub(crate) const INTERRUPT_GATE: u32 = 14;
    pub(crate) const TRAP_GATE: u32 = 15;
}

/// A descriptor of eight bytes, and where it stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Descriptor {
    pub(crate) raw: u64,
    /// Its linear address.
    pub(crate) at: u64,
    pub(crate) selector: u16,
}

impl Descriptor {
    pub(crate) fn attributes(&self) -> u32 {
        (self.raw >> 40) as u32 & 0xf0ff
    }
    pub(crate) fn base(&self) -> u64 {
        self.raw >> 16 & 0xff_ffff | self.raw >> 32 & 0xff00_0000
    }
    pub(crate) fn limit(&self) -> u32 {
        let limit = (self.raw & 0xffff | self.raw >> 32 & 0xf_0000) as u32;
        if self.attributes() & attr::GRANULAR != 0 {
            limit << 12 | 0xfff
        } else {
            limit
        }
    }
    /// Type field.
    pub(crate) fn kind(&self) -> u32 {
        self.attributes() & attr::TYPE
    }
    pub(crate) fn dpl(&self) -> u8 {
        (self.attributes() >> 5 & 3) as u8
    }
    pub(crate) fn present(&self) -> bool {
        self.attributes() & attr::PRESENT != 0
    }
    pub(crate) fn system(&self) -> bool {
        self.attributes() & attr::S == 0
    }
    pub(crate) fn code(&self) -> bool {
        !self.system() && self.attributes() & attr::CODE != 0
    }
    pub(crate) fn conforming(&self) -> bool {
        self.attributes() & attr::CONFORMING != 0
    }
    /// Readable code or writable data.
    pub(crate) fn rw(&self) -> bool {
        self.attributes() & attr::RW != 0
    }
    /// Selector without its privilege level, as error codes have it.
    pub(crate) fn error(&self) -> u32 {
        u32::from(self.selector & !3)
    }
    /// As a segment register holds it.
    pub(crate) fn segment(&self) -> Segment {
        Segment {
            selector: self.selector,
            base: self.base(),
            limit: self.limit(),
            attributes: self.attributes(),
        }
    }
    /// Gate: target selector.
    pub(crate) fn gate_selector(&self) -> u16 {
        (self.raw >> 16) as u16
    }
    /// Gate: target offset, 32 bits.
    pub(crate) fn gate_offset(&self) -> u64 {
        self.raw & 0xffff | self.raw >> 32 & 0xffff_0000
    }
}

/// A segment register with a null selector.
pub(crate) fn null(selector: u16) -> Segment {
    Segment {
        selector,
        base: 0,
        limit: 0,
        attributes: attr::UNUSABLE,
    }
}

impl Cpu {
    /// Reads the descriptor of a selector. `fault` is the vector raised when it lies outside of its table.
    pub(crate) fn descriptor(&mut self, selector: u16, fault: u8) -> Result<Descriptor, Stop> {
        self.descriptor_ext(selector, fault, 0)
    }

    /// The same during the delivery of an event, whose error codes have the bit `ext`.
    pub(crate) fn descriptor_ext(&mut self, selector: u16, fault: u8, ext: u32) -> Result<Descriptor, Stop> {
        let (base, limit) = if selector & 4 != 0 {
            if self.ldt.attributes & attr::UNUSABLE != 0 || self.ldt.selector & !3 == 0 {
                return self.raise(fault, Some(u32::from(selector & !3) | ext));
            }
            (self.ldt.base, u64::from(self.ldt.limit))
        } else {
            (self.gdt.base, u64::from(self.gdt.limit))
        };
        let offset = u64::from(selector & !7);
        if offset + 7 > limit {
            return self.raise(fault, Some(u32::from(selector & !3) | ext));
        }
        let at = base.wrapping_add(offset);
        let raw = self.load_system::<u64>(at)?;
        Ok(Descriptor { raw, at, selector })
    }

    /// The upper half of the base of a 16-byte descriptor (long mode).
    pub(crate) fn upper_base(&mut self, descriptor: &Descriptor) -> Result<u64, Stop> {
        let table_limit = if descriptor.selector & 4 != 0 {
            u64::from(self.ldt.limit)
        } else {
            u64::from(self.gdt.limit)
        };
        if u64::from(descriptor.selector & !7) + 15 > table_limit {
            return self.protection(descriptor.error());
        }
        let upper = self.load_system::<u64>(descriptor.at.wrapping_add(8))?;
        if upper >> 40 & 0x1f != 0 {
            return self.protection(descriptor.error());
        }
        Ok(upper << 32)
    }

    /// Sets the accessed bit of a code or data descriptor; the answer has it too.
    pub(crate) fn mark_accessed(&mut self, descriptor: Descriptor) -> Result<Descriptor, Stop> {
        if descriptor.raw >> 40 & 1 == 0 {
            let at = descriptor.at.wrapping_add(5);
            self.as_system(|cpu| cpu.atomic::<u8, ()>(at, 0, |byte| (byte | 1, ())))?;
        }
        Ok(Descriptor {
            raw: descriptor.raw | 1 << 40,
            ..descriptor
        })
    }

    /// Sets or clears the busy bit of a task's descriptor.
    pub(crate) fn mark_busy(&mut self, descriptor: &Descriptor, busy: bool) -> Result<(), Stop> {
        let at = descriptor.at.wrapping_add(5);
        let change = |byte: u8| (if busy { byte | 2 } else { byte & !2 }, ());
        self.as_system(|cpu| cpu.atomic::<u8, ()>(at, 0, change))
    }

    /// MOV, POP, LSS and the like: loads a segment register that is not CS.
    pub(crate) fn load_segment(&mut self, number: u8, selector: u16) -> Result<(), Stop> {
        let loaded = if self.protected() {
            self.checked_segment(number, selector, vector::PROTECTION)?
        } else {
            Segment {
                selector,
                base: u64::from(selector) << 4,
                ..self.segments[number as usize]
            }
        };
        self.segments[number as usize] = loaded;
        self.refresh_segments();
        Ok(())
    }

    /// The segment of a selector after all checks of a load into data segment register `number`.
    pub(crate) fn checked_segment(&mut self, number: u8, selector: u16, fault: u8) -> Result<Segment, Stop> {
        let rpl = (selector & 3) as u8;
        if selector & !3 == 0 {
            if number != seg::SS {
                return Ok(null(selector));
            }
            if self.long && self.cpl != 3 && rpl == self.cpl {
                let mut segment = null(selector);
                segment.attributes |= u32::from(self.cpl) << 5;
                return Ok(segment);
            }
            return self.raise(fault, Some(0));
        }
        let found = self.descriptor(selector, fault)?;
        let bad = if number == seg::SS {
            self.bad_stack(&found, self.cpl)
        } else {
            found.system()
                || found.code() && !found.rw()
                || !(found.code() && found.conforming()) && (rpl > found.dpl() || self.cpl > found.dpl())
        };
        if bad {
            return self.raise(fault, Some(found.error()));
        }
        if !found.present() {
            let absent = if number == seg::SS {
                vector::STACK
            } else {
                vector::NOT_PRESENT
            };
            return self.raise(absent, Some(found.error()));
        }
        Ok(self.mark_accessed(found)?.segment())
    }

    /// Whether a descriptor can be no stack at a privilege level.
    pub(crate) fn bad_stack(&self, found: &Descriptor, level: u8) -> bool {
        found.system()
            || found.code()
            || !found.rw()
            || found.dpl() != level
            || (found.selector & 3) as u8 != level
    }

    /// After a return to an outer level: data segments that it may not use become null.
    pub(crate) fn drop_inner_segments(&mut self) {
        let long = self.lma();
        for number in [seg::ES, seg::DS, seg::FS, seg::GS] {
            let segment = &mut self.segments[number as usize];
            let dpl = (segment.attributes >> 5 & 3) as u8;
            let conforming = segment.attributes & attr::CODE != 0
                && segment.attributes & attr::CONFORMING != 0
                && segment.attributes & attr::S != 0;
            if segment.attributes & attr::UNUSABLE == 0 && !conforming && dpl < self.cpl {
                let base = segment.base;
                *segment = null(0);
                segment.base = if long { base } else { 0 };
            }
        }
        self.refresh_segments();
    }

    /// LLDT.
    pub(crate) fn load_ldt(&mut self, selector: u16) -> Result<(), Stop> {
        if selector & !3 == 0 {
            self.ldt = null(selector);
            return Ok(());
        }
        if selector & 4 != 0 {
            return self.protection(u32::from(selector & !3));
        }
        let found = self.descriptor(selector, vector::PROTECTION)?;
        if !found.system() || found.kind() != kind::LDT {
            return self.protection(found.error());
        }
        if !found.present() {
            return self.raise(vector::NOT_PRESENT, Some(found.error()));
        }
        let mut segment = found.segment();
        if self.lma() {
            segment.base |= self.upper_base(&found)?;
        }
        self.ldt = segment;
        Ok(())
    }

    /// LTR.
    pub(crate) fn load_task(&mut self, selector: u16) -> Result<(), Stop> {
        if selector & !3 == 0 || selector & 4 != 0 {
            return self.protection(u32::from(selector & !3));
        }
        let found = self.descriptor(selector, vector::PROTECTION)?;
        let fits = found.kind() == kind::TSS || found.kind() == kind::TSS_16 && !self.lma();
        if !found.system() || !fits {
            return self.protection(found.error());
        }
        if !found.present() {
            return self.raise(vector::NOT_PRESENT, Some(found.error()));
        }
        let mut segment = found.segment();
        if self.lma() {
            segment.base |= self.upper_base(&found)?;
        }
        segment.attributes |= 2;
        self.mark_busy(&found, true)?;
        self.task = segment;
        Ok(())
    }
}
