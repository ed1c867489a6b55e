//! Far jumps, calls and returns, IRET (SDM Vol. 3 §6.8, Vol. 2 under CALL, JMP, RET, IRET).

use crate::cpu::{Cpu, attr, seg};
use crate::deliver::InnerStack;
use crate::exception::vector;
use crate::flags;
use crate::memory::access::canonical;
use crate::op::{Stop, mask};
use crate::segments::{Descriptor, kind};

/// How a far transfer came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Far {
    /// JMP.
    Jump,
    /// CALL, with operand size and the place to return to.
    Call { size: u64, next: u64 },
}

impl Cpu {
    /// Far JMP or CALL; sets `rip`.
    pub(crate) fn far(&mut self, selector: u16, offset: u64, how: Far) -> Result<(), Stop> {
        if !self.protected() {
            if offset > u64::from(self.segments[seg::CS as usize].limit) {
                return self.protection(0);
            }
            if let Far::Call { size, next } = how {
                let code = u64::from(self.segments[seg::CS as usize].selector);
                self.enter_level(None, 0, &[code, next], size, 0)?;
            }
            self.set_real_code(selector);
            self.rip = offset;
            return Ok(());
        }
        if selector & !3 == 0 {
            return self.protection(0);
        }
        let found = self.descriptor(selector, vector::PROTECTION)?;
        if found.system() {
            return self.far_system(&found, how);
        }
        let rpl = (selector & 3) as u8;
        let fits = found.code()
            && if found.conforming() {
                found.dpl() <= self.cpl
            } else {
                rpl <= self.cpl && found.dpl() == self.cpl
            };
        if !fits {
            return self.protection(found.error());
        }
        self.check_code(&found)?;
        self.check_target(&found, offset)?;
        let found = self.mark_accessed(found)?;
        if let Far::Call { size, next } = how {
            let code = u64::from(self.segments[seg::CS as usize].selector);
            self.enter_level(None, self.cpl, &[code, next], size, 0)?;
        }
        self.enter_code(found, self.cpl);
        self.refresh_segments();
        self.rip = offset;
        Ok(())
    }

    /// Presence and sizes of a code segment that is to be entered.
    fn check_code(&mut self, code: &Descriptor) -> Result<(), Stop> {
        let both = attr::LONG | attr::BIG;
        if self.lma() && code.attributes() & both == both {
            return self.protection(code.error());
        }
        if !code.present() {
            return self.raise(vector::NOT_PRESENT, Some(code.error()));
        }
        Ok(())
    }

    fn check_target(&mut self, code: &Descriptor, offset: u64) -> Result<(), Stop> {
        let long = self.lma() && code.attributes() & attr::LONG != 0;
        let good = if long {
            canonical(offset)
        } else {
            offset <= u64::from(code.limit())
        };
        if good { Ok(()) } else { self.protection(0) }
    }

    fn far_system(&mut self, found: &Descriptor, how: Far) -> Result<(), Stop> {
        let rpl = (found.selector & 3) as u8;
        if found.dpl() < self.cpl || found.dpl() < rpl {
            return self.protection(found.error());
        }
        let long = self.lma();
        match found.kind() {
            kind::CALL_GATE => {}
            kind::CALL_GATE_16 if !long => {}
            kind::TSS | kind::TSS_16 if !long => {
                if !found.present() {
                    return self.raise(vector::NOT_PRESENT, Some(found.error()));
                }
                return self.far_task(found.selector, how);
            }
            kind::TASK_GATE if !long => {
                if !found.present() {
                    return self.raise(vector::NOT_PRESENT, Some(found.error()));
                }
                return self.far_task(found.gate_selector(), how);
            }
            _ => return self.protection(found.error()),
        }
        if !found.present() {
            return self.raise(vector::NOT_PRESENT, Some(found.error()));
        }
        self.call_gate(found, how)
    }

    fn call_gate(&mut self, gate: &Descriptor, how: Far) -> Result<(), Stop> {
        let long = self.lma();
        let size = match (long, gate.kind()) {
            (true, _) => 8,
            (false, kind::CALL_GATE) => 4,
            _ => 2,
        };
        let mut offset = gate.gate_offset() & mask(size.min(4));
        if long {
            offset |= self.upper_base(gate)?;
        }
        let selector = gate.gate_selector();
        if selector & !3 == 0 {
            return self.protection(0);
        }
        let code = self.descriptor(selector, vector::PROTECTION)?;
        let shape = code.attributes() & (attr::LONG | attr::BIG);
        let inner = code.dpl() < self.cpl && !code.conforming();
        let fits = code.code()
            && code.dpl() <= self.cpl
            && (!long || shape == attr::LONG)
            && !(how == Far::Jump && inner);
        if !fits {
            return self.protection(code.error());
        }
        if !code.present() {
            return self.raise(vector::NOT_PRESENT, Some(code.error()));
        }
        self.check_target(&code, offset)?;
        let code = self.mark_accessed(code)?;
        let level = if inner { code.dpl() } else { self.cpl };
        if let Far::Call { next, .. } = how {
            let count = (gate.raw >> 32 & 31) as usize;
            self.gate_frame(inner, level, size, next, if long { 0 } else { count })?;
        }
        self.enter_code(code, level);
        self.refresh_segments();
        self.rip = offset;
        Ok(())
    }

    /// Pushes what a call through a gate pushes.
    fn gate_frame(
        &mut self,
        inner: bool,
        level: u8,
        size: u64,
        next: u64,
        parameters: usize,
    ) -> Result<(), Stop> {
        let mut values = [0; 35];
        let mut count = 0;
        let mut stack = None;
        let code = u64::from(self.segments[seg::CS as usize].selector);
        if inner {
            values[0] = u64::from(self.segments[seg::SS as usize].selector);
            values[1] = self.registers[4];
            count = 2;
            for n in (0..parameters as u64).rev() {
                values[count] = match size {
                    4 => u64::from(self.peek::<u32>(4 * n)?),
                    _ => u64::from(self.peek::<u16>(2 * n)?),
                };
                count += 1;
            }
            stack = Some(if size == 8 {
                self.inner_stack_long(level)?
            } else {
                self.inner_stack(level, 0)?
            });
        }
        values[count] = code;
        values[count + 1] = next;
        self.enter_level(stack, level, &values[..count + 2], size, 0)
    }

    fn inner_stack_long(&mut self, level: u8) -> Result<InnerStack, Stop> {
        let offset = 4 + 8 * u64::from(level);
        if offset + 7 > u64::from(self.task.limit) {
            return self.raise(vector::TASK, Some(u32::from(self.task.selector & !3)));
        }
        let pointer = self.load_system::<u64>(self.task.base.wrapping_add(offset))?;
        if !canonical(pointer) {
            return self.stack_fault(0);
        }
        let mut segment = crate::segments::null(u16::from(level));
        segment.attributes |= u32::from(level) << 5;
        Ok(InnerStack { segment, pointer })
    }

    /// Reads a value of `size` bytes `above` bytes over the top of the stack.
    fn peek_sized(&mut self, size: u64, above: u64) -> Result<u64, Stop> {
        Ok(match size {
            8 => self.peek::<u64>(above)?,
            4 => u64::from(self.peek::<u32>(above)?),
            _ => u64::from(self.peek::<u16>(above)?),
        })
    }

    /// Far RET, releasing `extra` bytes of parameters.
    pub(crate) fn far_return(&mut self, size: u64, extra: u64) -> Result<(), Stop> {
        let offset = self.peek_sized(size, 0)?;
        let selector = self.peek_sized(size, size)? as u16;
        if !self.protected() {
            if offset > u64::from(self.segments[seg::CS as usize].limit) {
                return self.protection(0);
            }
            self.release(2 * size + extra);
            self.set_real_code(selector);
            self.rip = offset;
            return Ok(());
        }
        self.return_to(selector, offset, size, 2 * size, extra, None)
    }

    /// The common part of far RET and IRET: checks the code segment, switches the stack to an outer level.
    /// `popped` bytes lie on the stack before SP and SS.
    fn return_to(
        &mut self,
        selector: u16,
        offset: u64,
        size: u64,
        popped: u64,
        extra: u64,
        flags: Option<u64>,
    ) -> Result<(), Stop> {
        let rpl = (selector & 3) as u8;
        if selector & !3 == 0 {
            return self.protection(0);
        }
        let code = self.descriptor(selector, vector::PROTECTION)?;
        let dpl_fits = if code.conforming() {
            code.dpl() <= rpl
        } else {
            code.dpl() == rpl
        };
        if !code.code() || rpl < self.cpl || !dpl_fits {
            return self.protection(code.error());
        }
        self.check_code(&code)?;
        let outer = rpl > self.cpl;
        let stack = if outer || flags.is_some() && self.long {
            let pointer = self.peek_sized(size, popped + extra)?;
            let selector = self.peek_sized(size, popped + extra + size)? as u16;
            Some((self.outer_stack(&code, selector, rpl)?, pointer))
        } else {
            None
        };
        self.check_target(&code, offset)?;
        let code = self.mark_accessed(code)?;
        match stack {
            Some((segment, pointer)) => {
                self.segments[seg::SS as usize] = segment;
                if let Some(bits) = flags {
                    self.return_flags(bits, size);
                }
                self.enter_code(code, rpl);
                self.refresh_segments();
                let pointer = pointer.wrapping_add(if outer { extra } else { 0 });
                if self.long {
                    self.registers[4] = pointer & mask(size);
                } else if self.stack_mask == 0xffff && size == 4 {
                    // What lies above a 16-bit stack pointer comes along.
                    self.registers[4] = pointer & 0xffff_ffff;
                } else {
                    self.set_stack(pointer);
                }
                if outer {
                    self.drop_inner_segments();
                }
            }
            None => {
                self.release(popped + extra);
                if let Some(bits) = flags {
                    self.return_flags(bits, size);
                }
                self.enter_code(code, rpl);
                self.refresh_segments();
            }
        }
        self.rip = offset;
        Ok(())
    }

    /// Checks the stack segment of a return.
    fn outer_stack(
        &mut self,
        code: &Descriptor,
        selector: u16,
        level: u8,
    ) -> Result<vcpu::state::Segment, Stop> {
        if selector & !3 == 0 {
            let long = self.lma() && code.attributes() & attr::LONG != 0;
            if !long || level == 3 || (selector & 3) as u8 != level {
                return self.protection(0);
            }
            let mut segment = crate::segments::null(selector);
            segment.attributes |= u32::from(level) << 5;
            return Ok(segment);
        }
        let found = self.descriptor(selector, vector::PROTECTION)?;
        if self.bad_stack(&found, level) {
            return self.protection(found.error());
        }
        if !found.present() {
            return self.stack_fault(found.error());
        }
        Ok(self.mark_accessed(found)?.segment())
    }

    /// RFLAGS as IRET takes them at the present privilege level.
    fn return_flags(&mut self, bits: u64, size: u64) {
        let mut change = flags::ARITHMETIC | flags::TF | flags::DF | flags::NT;
        if size > 2 {
            change |= flags::RF | flags::AC | flags::ID;
            if self.cpl == 0 {
                change |= flags::VIF | flags::VIP;
            }
        }
        if self.cpl <= self.iopl() {
            change |= flags::IF;
        }
        if self.cpl == 0 {
            change |= flags::IOPL;
        }
        let new = self.rflags() & !change | bits & change;
        self.set_rflags(new & !flags::VM);
    }

    /// IRET; sets `rip`.
    pub(crate) fn interrupt_return(&mut self, size: u64) -> Result<(), Stop> {
        if self.protected() && self.rflags & flags::NT != 0 {
            if self.lma() {
                return self.protection(0);
            }
            return self.task_return();
        }
        let offset = self.peek_sized(size, 0)?;
        let selector = self.peek_sized(size, size)? as u16;
        let bits = self.peek_sized(size, 2 * size)?;
        if !self.protected() {
            if offset > u64::from(self.segments[seg::CS as usize].limit) {
                return self.protection(0);
            }
            self.release(3 * size);
            self.set_real_code(selector);
            self.return_flags(bits, size);
            self.rip = offset;
            return Ok(());
        }
        if !self.lma() && bits & flags::VM != 0 && self.cpl == 0 && size == 4 {
            return self.unsupported("virtual-8086 mode");
        }
        self.return_to(selector, offset, size, 3 * size, 0, Some(bits))
    }
}
