//! Delivery of interrupts and exceptions through the descriptor table (SDM Vol. 3 chapter 7).

use crate::cpu::{Cpu, attr, seg};
use crate::exception::{Class, Exception, Why, vector};
use crate::flags;
use crate::memory::access::canonical;
use crate::op::Stop;
use crate::segments::{Descriptor, kind};

/// Where an event comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// INT n, INT3, INTO: the gate's privilege counts.
    Software,
    /// An exception of the processor, or INT1.
    Exception,
    /// An interrupt from outside, or NMI.
    External,
}

/// An event on its way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    pub(crate) vector: u8,
    pub(crate) source: Source,
    pub(crate) error: Option<u32>,
}

impl Event {
    /// The EXT bit of error codes.
    fn ext(&self) -> u32 {
        u32::from(self.source != Source::Software)
    }

    /// The error code that names its gate.
    fn gate_error(&self) -> u32 {
        u32::from(self.vector) * 8 + 2 + self.ext()
    }

    /// Whether RFLAGS is saved with RF set: faults, whose instruction is started again.
    fn restarts(&self) -> bool {
        self.source == Source::Exception
            && !matches!(
                self.vector,
                vector::DEBUG | vector::NMI | vector::BREAKPOINT | vector::OVERFLOW | vector::DOUBLE
            )
    }
}

impl Cpu {
    /// Delivers the exception that was raised, whatever happens on the way.
    ///
    /// # Errors
    /// `Stop` with a triple fault, or with something that is not supported.
    pub(crate) fn deliver_exception(&mut self) -> Result<(), Stop> {
        let first = self.exception;
        self.deliver_chain(
            Event {
                vector: first.vector,
                source: Source::Exception,
                error: first.error,
            },
            first.class(),
        )
    }

    /// Delivers an event from outside.
    ///
    /// # Errors
    /// As [`Cpu::deliver_exception`].
    pub(crate) fn deliver_external(&mut self, vector: u8) -> Result<(), Stop> {
        let event = Event {
            vector,
            source: Source::External,
            error: None,
        };
        self.deliver_chain(event, Class::Benign)
    }

    fn deliver_chain(&mut self, mut event: Event, mut class: Class) -> Result<(), Stop> {
        loop {
            let rip = self.rip;
            if self.deliver(event, rip).is_ok() {
                return Ok(());
            }
            if self.stop != Why::Exception {
                return Err(Stop);
            }
            let second = self.exception;
            let next = match (class, second.class()) {
                (Class::Double, Class::Contributory | Class::Page | Class::Double) => {
                    self.stop = Why::Shutdown;
                    return Err(Stop);
                }
                (Class::Contributory, Class::Contributory)
                | (Class::Page, Class::Contributory | Class::Page) => Exception {
                    vector: vector::DOUBLE,
                    error: Some(0),
                },
                _ => second,
            };
            class = next.class();
            event = Event {
                vector: next.vector,
                source: Source::Exception,
                error: next.error,
            };
        }
    }

    /// Delivers an event; `rip` is saved as the place to go on. Nothing has changed when it fails, but for accessed bits.
    pub(crate) fn deliver(&mut self, event: Event, rip: u64) -> Result<(), Stop> {
        self.activity = vcpu::state::Activity::Running;
        if event.source == Source::Exception && event.vector == vector::DEBUG {
            self.debug[5] &= !(1 << 13);
        }
        if !self.protected() {
            return self.deliver_real(event, rip);
        }
        if self.rflags & flags::VM != 0 {
            return self.unsupported("virtual-8086 mode");
        }
        if self.lma() {
            self.deliver_long(event, rip)
        } else {
            self.deliver_protected(event, rip)
        }
    }

    fn deliver_real(&mut self, event: Event, rip: u64) -> Result<(), Stop> {
        let at = u64::from(event.vector) * 4;
        if at + 3 > u64::from(self.idt.limit) {
            return self.protection(event.gate_error());
        }
        let gate = self.load_system::<u32>(self.idt.base.wrapping_add(at))?;
        let stack = self.registers[4];
        let values = [
            self.rflags() as u16,
            self.segments[seg::CS as usize].selector,
            rip as u16,
        ];
        for value in values {
            if let Err(stop) = self.push(value) {
                self.registers[4] = stack;
                return Err(stop);
            }
        }
        self.rflags &= !(flags::IF | flags::TF | flags::AC | flags::RF);
        self.set_real_code((gate >> 16) as u16);
        self.rip = u64::from(gate & 0xffff);
        Ok(())
    }

    /// Loads CS as real mode does.
    pub(crate) fn set_real_code(&mut self, selector: u16) {
        let code = &mut self.segments[seg::CS as usize];
        code.selector = selector;
        code.base = u64::from(selector) << 4;
        self.refresh_segments();
    }

    /// The gate of an event in a table of entries of so many bytes; and its upper half in long mode.
    fn gate(&mut self, event: Event, size: u64) -> Result<(Descriptor, u64), Stop> {
        let offset = u64::from(event.vector) * size;
        if offset + size - 1 > u64::from(self.idt.limit) {
            return self.protection(event.gate_error());
        }
        let at = self.idt.base.wrapping_add(offset);
        let raw = self.load_system::<u64>(at)?;
        let upper = if size == 16 {
            self.load_system::<u64>(at.wrapping_add(8))?
        } else {
            0
        };
        let gate = Descriptor { raw, at, selector: 0 };
        let allowed = match gate.kind() {
            _ if !gate.system() => false,
            kind::INTERRUPT_GATE | kind::TRAP_GATE => true,
            kind::INTERRUPT_GATE_16 | kind::TRAP_GATE_16 | kind::TASK_GATE => size == 8,
            _ => false,
        };
        if !allowed || event.source == Source::Software && gate.dpl() < self.cpl {
            return self.protection(event.gate_error());
        }
        if !gate.present() {
            return self.raise(vector::NOT_PRESENT, Some(event.gate_error()));
        }
        Ok((gate, upper))
    }

    /// The code segment that a gate leads to, and the privilege level there.
    fn gate_code(&mut self, event: Event, gate: &Descriptor) -> Result<(Descriptor, u8), Stop> {
        let selector = gate.gate_selector();
        if selector & !3 == 0 {
            return self.protection(event.ext());
        }
        let code = self.descriptor_ext(selector, vector::PROTECTION, event.ext())?;
        let long = self.lma();
        let shape = code.attributes() & (attr::LONG | attr::BIG);
        if !code.code() || code.dpl() > self.cpl || long && shape != attr::LONG {
            return self.protection(code.error() | event.ext());
        }
        if !code.present() {
            return self.raise(vector::NOT_PRESENT, Some(code.error() | event.ext()));
        }
        let level = if code.conforming() { self.cpl } else { code.dpl() };
        Ok((code, level))
    }

    fn saved_flags(&self, event: Event) -> u64 {
        let bits = self.rflags();
        if event.restarts() { bits | flags::RF } else { bits }
    }

    fn enter_handler(&mut self, gate: &Descriptor) {
        self.rflags &= !(flags::TF | flags::NT | flags::RF | flags::VM);
        if gate.kind() & 1 == 0 {
            self.rflags &= !flags::IF;
        }
    }

    fn deliver_long(&mut self, event: Event, rip: u64) -> Result<(), Stop> {
        let (gate, upper) = self.gate(event, 16)?;
        let (code, level) = self.gate_code(event, &gate)?;
        let ist = gate.raw >> 32 & 7;
        let outer = level < self.cpl;
        let top = if ist != 0 {
            self.long_stack(28 + 8 * ist, event)?
        } else if outer {
            self.long_stack(4 + 8 * u64::from(level), event)?
        } else {
            self.registers[4]
        } & !15;
        let mut values = [
            u64::from(self.segments[seg::SS as usize].selector),
            self.registers[4],
            self.saved_flags(event),
            u64::from(self.segments[seg::CS as usize].selector),
            rip,
            0,
        ];
        let mut count = 5;
        if let Some(error) = event.error {
            values[5] = u64::from(error);
            count = 6;
        }
        let target = gate.gate_offset() | upper << 32;
        if !canonical(target) {
            return self.protection(event.ext());
        }
        if !canonical(top.wrapping_sub(8 * count as u64)) {
            return self.stack_fault(event.ext());
        }
        let code = self.mark_accessed(code)?;
        self.push_frame(top, &values[..count], level)?;
        if outer {
            let mut stack = crate::segments::null(u16::from(level));
            stack.attributes |= u32::from(level) << 5;
            self.segments[seg::SS as usize] = stack;
        }
        self.registers[4] = top.wrapping_sub(8 * count as u64);
        self.enter_code(code, level);
        self.enter_handler(&gate);
        self.refresh_segments();
        self.rip = target;
        Ok(())
    }

    /// Writes a frame below `top`; the lowest page is tried first so that nothing is written when one is missing.
    fn push_frame(&mut self, top: u64, values: &[u64], level: u8) -> Result<(), Stop> {
        let write = |cpu: &mut Cpu| {
            let bottom = top.wrapping_sub(8 * values.len() as u64);
            cpu.probe(bottom, 8, seg::SS, true)?;
            for (n, value) in values.iter().enumerate() {
                cpu.store(top.wrapping_sub(8 * (n as u64 + 1)), seg::SS, *value)?;
            }
            Ok(())
        };
        if level < 3 {
            self.as_system(write)
        } else {
            write(self)
        }
    }

    /// Puts a code segment into CS with a privilege level; `refresh_segments` is the caller's.
    pub(crate) fn enter_code(&mut self, code: Descriptor, level: u8) {
        let mut segment = code.segment();
        segment.selector = segment.selector & !3 | u16::from(level);
        self.segments[seg::CS as usize] = segment;
    }

    /// A stack pointer of the 64-bit task state.
    fn long_stack(&mut self, offset: u64, event: Event) -> Result<u64, Stop> {
        if offset + 7 > u64::from(self.task.limit) {
            return self.raise(
                vector::TASK,
                Some(u32::from(self.task.selector & !3) | event.ext()),
            );
        }
        let top = self.load_system::<u64>(self.task.base.wrapping_add(offset))?;
        if !canonical(top) {
            return self.stack_fault(event.ext());
        }
        Ok(top)
    }

    fn deliver_protected(&mut self, event: Event, rip: u64) -> Result<(), Stop> {
        let (gate, _) = self.gate(event, 8)?;
        if gate.kind() == kind::TASK_GATE {
            return self.task_gate(gate.gate_selector(), event.error, rip, event.ext());
        }
        let wide = gate.kind() & 8 != 0;
        let (code, level) = self.gate_code(event, &gate)?;
        let size = if wide { 4 } else { 2 };
        let target = if wide {
            gate.gate_offset()
        } else {
            gate.gate_offset() & 0xffff
        };
        if target > u64::from(code.limit()) {
            return self.protection(event.ext());
        }
        let mut frame = Frame {
            values: [0; 6],
            count: 0,
            size,
        };
        let outer = level < self.cpl;
        let stack = if outer {
            frame.add(u64::from(self.segments[seg::SS as usize].selector));
            frame.add(self.registers[4]);
            Some(self.inner_stack(level, event.ext())?)
        } else {
            None
        };
        frame.add(self.saved_flags(event));
        frame.add(u64::from(self.segments[seg::CS as usize].selector));
        frame.add(rip);
        if let Some(error) = event.error {
            frame.add(u64::from(error));
        }
        let code = self.mark_accessed(code)?;
        self.enter_level(stack, level, &frame.values[..frame.count], size, event.ext())?;
        self.enter_code(code, level);
        self.enter_handler(&gate);
        self.refresh_segments();
        self.rip = target;
        Ok(())
    }
}

/// What is pushed, outermost first.
struct Frame {
    values: [u64; 6],
    count: usize,
    size: u64,
}

impl Frame {
    fn add(&mut self, value: u64) {
        self.values[self.count] = value & crate::op::mask(self.size);
        self.count += 1;
    }
}

/// The stack of an inner privilege level.
pub(crate) struct InnerStack {
    pub(crate) segment: vcpu::state::Segment,
    pub(crate) pointer: u64,
}

impl Cpu {
    /// The stack that the task state has for a privilege level (SDM Vol. 3 §6.8.5), checked.
    pub(crate) fn inner_stack(&mut self, level: u8, ext: u32) -> Result<InnerStack, Stop> {
        let wide = self.task.attributes & 8 != 0;
        let (offset, last) = if wide {
            (4 + 8 * u64::from(level), 5)
        } else {
            (2 + 4 * u64::from(level), 3)
        };
        if offset + last > u64::from(self.task.limit) {
            return self.raise(vector::TASK, Some(u32::from(self.task.selector & !3) | ext));
        }
        let at = self.task.base.wrapping_add(offset);
        let (pointer, selector) = if wide {
            let pointer = self.load_system::<u32>(at)?;
            (u64::from(pointer), self.load_system::<u16>(at.wrapping_add(4))?)
        } else {
            let pointer = self.load_system::<u16>(at)?;
            (u64::from(pointer), self.load_system::<u16>(at.wrapping_add(2))?)
        };
        if selector & !3 == 0 {
            return self.raise(vector::TASK, Some(ext));
        }
        let found = self.descriptor_ext(selector, vector::TASK, ext)?;
        if self.bad_stack(&found, level) {
            return self.raise(vector::TASK, Some(found.error() | ext));
        }
        if !found.present() {
            return self.raise(vector::STACK, Some(found.error() | ext));
        }
        let segment = self.mark_accessed(found)?.segment();
        Ok(InnerStack { segment, pointer })
    }

    /// Pushes values onto the present stack or that of an inner level, and switches to it.
    pub(crate) fn enter_level(
        &mut self,
        stack: Option<InnerStack>,
        level: u8,
        values: &[u64],
        size: u64,
        ext: u32,
    ) -> Result<(), Stop> {
        let before = (self.segments[seg::SS as usize], self.registers[4]);
        let inner = stack.is_some();
        if let Some(stack) = stack {
            self.segments[seg::SS as usize] = stack.segment;
            self.registers[4] = stack.pointer;
            self.refresh_segments();
        }
        let pushed = self.push_all(values, size);
        if let Err(stop) = pushed {
            (self.segments[seg::SS as usize], self.registers[4]) = before;
            self.refresh_segments();
            if inner && self.stop == Why::Exception && self.exception.vector == vector::STACK {
                self.exception.error = Some(ext);
            }
            return Err(stop);
        }
        debug_assert!(!inner || self.cpl == level);
        Ok(())
    }

    fn push_all(&mut self, values: &[u64], size: u64) -> Result<(), Stop> {
        // The lowest first: nothing is written when the stack has no room or a page is missing.
        let bytes = size * values.len() as u64;
        let lowest = self.registers[4].wrapping_sub(bytes) & self.stack_mask;
        let linear = self.segmented(seg::SS, lowest, size, true)?;
        self.probe(linear, size, seg::SS, true)?;
        for value in values {
            if size == 8 {
                self.push(*value)?;
            } else if size == 4 {
                self.push(*value as u32)?;
            } else {
                self.push(*value as u16)?;
            }
        }
        Ok(())
    }
}
