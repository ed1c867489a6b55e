//! The local APIC (SDM Vol. 3 chapter 12): interrupts by priority, messages between processors, the timer.

use std::sync::atomic::Ordering;

use vcpu::state::msr;

use crate::cpu::Cpu;
use crate::op::Stop;
use crate::shared::{Mailbox, Signal, request};

/// Offsets in the register page.
mod register {
    pub(super) const ID: u64 = 0x20;
    pub(super) const VERSION: u64 = 0x30;
    pub(super) const TPR: u64 = 0x80;
    pub(super) const PPR: u64 = 0xa0;
    pub(super) const EOI: u64 = 0xb0;
    pub(super) const LDR: u64 = 0xd0;
    pub(super) const DFR: u64 = 0xe0;
    pub(super) const SVR: u64 = 0xf0;
    pub(super) const ISR: u64 = 0x100;
    pub(super) const TMR: u64 = 0x180;
    pub(super) const IRR: u64 = 0x200;
    pub(super) const ESR: u64 = 0x280;
    pub(super) const ICR: u64 = 0x300;
    pub(super) const ICR_HIGH: u64 = 0x310;
    pub(super) const LVT: u64 = 0x320;
    pub(super) const INITIAL: u64 = 0x380;
    pub(super) const CURRENT: u64 = 0x390;
    /// In saved states only, in bytes that processors reserve: nanoseconds into the present tick of the timer.
    pub(super) const PHASE: u64 = 0x394;
    pub(super) const DIVIDE: u64 = 0x3e0;
    pub(super) const SELF: u64 = 0x3f0;
}

/// Local vector table, in the order of its registers.
mod lvt {
    pub(super) const TIMER: usize = 0;
    pub(super) const LINT0: usize = 3;
    pub(super) const ERROR: usize = 5;
    pub(super) const COUNT: usize = 6;
    pub(super) const MASKED: u32 = 1 << 16;
    pub(super) const PENDING: u32 = 1 << 12;
}

const ENABLED: u64 = 1 << 11;
const X2APIC: u64 = 1 << 10;
const BOOTSTRAP: u64 = 1 << 8;
/// Version: integrated APIC, six entries in the local vector table.
const VERSION: u32 = 0x0005_0014;

/// Error status bits.
const ERROR_SEND_VECTOR: u32 = 1 << 5;
const ERROR_RECEIVE_VECTOR: u32 = 1 << 6;
const ERROR_REGISTER: u32 = 1 << 7;

/// A set of vectors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Vectors([u32; 8]);

impl Vectors {
    fn set(&mut self, vector: u8, on: bool) {
        let (word, bit) = (usize::from(vector / 32), 1 << (vector % 32));
        if on {
            self.0[word] |= bit;
        } else {
            self.0[word] &= !bit;
        }
    }
    fn has(&self, vector: u8) -> bool {
        self.0[usize::from(vector / 32)] >> (vector % 32) & 1 != 0
    }
    fn highest(&self) -> Option<u8> {
        let word = (0..8).rev().find(|word| self.0[*word] != 0)?;
        Some((word as u32 * 32 + 31 - self.0[word].leading_zeros()) as u8)
    }
}

/// A local APIC.
#[derive(Clone, Debug, Default)]
pub(crate) struct Apic {
    /// IA32_APIC_BASE.
    pub(crate) base: u64,
    id: u32,
    tpr: u8,
    ldr: u32,
    dfr: u32,
    svr: u32,
    esr: u32,
    errors: u32,
    isr: Vectors,
    tmr: Vectors,
    irr: Vectors,
    icr: u64,
    lvt: [u32; lvt::COUNT],
    initial: u32,
    divide: u32,
    /// When the present count began, nanoseconds.
    started: u64,
    /// When the timer fires next, nanoseconds.
    deadline: Option<u64>,
    /// IA32_TSC_DEADLINE, 0 when not armed.
    tsc_deadline: u64,
}

impl Apic {
    /// Physical address of the register page; an impossible one when it is not in memory.
    #[inline]
    pub(crate) fn page(&self) -> u64 {
        if self.base & (ENABLED | X2APIC) == ENABLED {
            self.base & 0xffff_ffff_f000
        } else {
            u64::MAX
        }
    }

    fn x2apic(&self) -> bool {
        self.base & X2APIC != 0
    }

    /// Whether it is switched on at all.
    pub(crate) fn enabled(&self) -> bool {
        self.base & ENABLED != 0
    }

    fn software_enabled(&self) -> bool {
        self.enabled() && self.svr & 1 << 8 != 0
    }

    /// CR8.
    pub(crate) fn cr8(&self) -> u64 {
        u64::from(self.tpr >> 4)
    }

    fn ppr(&self) -> u8 {
        let serving = self.isr.highest().unwrap_or(0);
        if self.tpr >> 4 >= serving >> 4 {
            self.tpr
        } else {
            serving & 0xf0
        }
    }

    /// The vector that may be delivered now.
    pub(crate) fn deliverable(&self) -> Option<u8> {
        if !self.enabled() {
            return None;
        }
        let vector = self.irr.highest()?;
        (vector >> 4 > self.ppr() >> 4).then_some(vector)
    }

    /// Marks a vector as being served.
    pub(crate) fn accept(&mut self, vector: u8) {
        self.irr.set(vector, false);
        self.isr.set(vector, true);
    }

    /// Whether the 8259 pair's wire reaches the processor.
    pub(crate) fn passes_external(&self) -> bool {
        !self.enabled() || {
            let entry = self.lvt[lvt::LINT0];
            entry & lvt::MASKED == 0 && entry >> 8 & 7 == u32::from(Signal::EXTERNAL)
        }
    }

    /// When the timer fires next.
    pub(crate) fn deadline(&self) -> Option<u64> {
        self.deadline
    }

    fn take(&mut self, posted: [(u32, u32); 8]) {
        if !self.software_enabled() {
            return;
        }
        for (word, (waiting, level)) in posted.into_iter().enumerate() {
            // Vectors below 16 are errors.
            let legal = if word == 0 { waiting & !0xffff } else { waiting };
            if legal != waiting {
                self.errors |= ERROR_RECEIVE_VECTOR;
            }
            self.irr.0[word] |= legal;
            self.tmr.0[word] = self.tmr.0[word] & !legal | level & legal;
        }
    }

    fn timer_mode(&self) -> u32 {
        self.lvt[lvt::TIMER] >> 17 & 3
    }

    /// Bus clocks (nanoseconds) of one tick of the timer.
    fn divisor(&self) -> u64 {
        let code = self.divide & 3 | self.divide >> 1 & 4;
        if code == 7 { 1 } else { 2 << code }
    }

    fn current(&self, now: u64) -> u32 {
        if self.initial == 0 || self.timer_mode() == 2 {
            return 0;
        }
        let ticks = now.saturating_sub(self.started) / self.divisor();
        let initial = u64::from(self.initial);
        if self.timer_mode() == 1 {
            (initial - ticks % initial) as u32
        } else {
            initial.saturating_sub(ticks) as u32
        }
    }

    fn arm(&mut self, now: u64) {
        self.started = now;
        let span = u64::from(self.initial) * self.divisor();
        self.deadline = (self.initial != 0 && self.timer_mode() != 2).then(|| now.saturating_add(span));
    }

    /// After INIT; identity and base stay.
    pub(crate) fn reset(&mut self) {
        *self = Apic {
            base: self.base,
            id: self.id,
            dfr: u32::MAX,
            svr: 0xff,
            lvt: [lvt::MASKED; lvt::COUNT],
            ldr: if self.x2apic() { self.ldr } else { 0 },
            ..Apic::default()
        };
    }

    /// Tells senders what the destination of their messages is compared with.
    pub(crate) fn publish(&self, mailbox: &Mailbox) {
        mailbox.logical.store(self.ldr, Ordering::Relaxed);
        mailbox.format.store(self.dfr, Ordering::Relaxed);
        mailbox.x2apic.store(self.x2apic(), Ordering::Relaxed);
    }

    /// The register page as saved states have it.
    pub(crate) fn save(&self, now: u64) -> Vec<u8> {
        let mut page = vec![0; 1024];
        let mut put = |offset: u64, value: u32| {
            page[offset as usize..][..4].copy_from_slice(&value.to_le_bytes());
        };
        put(register::ID, if self.x2apic() { self.id } else { self.id << 24 });
        put(register::VERSION, VERSION);
        put(register::TPR, u32::from(self.tpr));
        put(register::PPR, u32::from(self.ppr()));
        put(register::LDR, self.ldr);
        put(register::DFR, self.dfr);
        put(register::SVR, self.svr);
        for (offset, vectors) in [
            (register::ISR, &self.isr),
            (register::TMR, &self.tmr),
            (register::IRR, &self.irr),
        ] {
            for (n, word) in vectors.0.iter().enumerate() {
                put(offset + 16 * n as u64, *word);
            }
        }
        put(register::ESR, self.esr);
        put(register::ICR, self.icr as u32);
        put(register::ICR_HIGH, (self.icr >> 32) as u32);
        for (n, entry) in self.lvt.iter().enumerate() {
            put(register::LVT + 16 * n as u64, *entry);
        }
        put(register::INITIAL, self.initial);
        put(register::CURRENT, self.current(now));
        // Nothing but a timer that counts has a phase.
        if self.initial != 0 && self.deadline.is_some() && self.timer_mode() != 2 {
            let phase = now.saturating_sub(self.started) % self.divisor();
            put(register::PHASE, phase as u32);
        }
        put(register::DIVIDE, self.divide);
        page
    }

    /// From a register page; what is missing is 0. The timer goes on from its current count.
    pub(crate) fn restore(&mut self, page: &[u8], base: u64, number: u32, now: u64) {
        let get = |offset: u64| {
            let at = offset as usize;
            page.get(at..at + 4)
                .and_then(|bytes| bytes.try_into().ok())
                .map_or(0, u32::from_le_bytes)
        };
        let vectors = |offset: u64| Vectors(std::array::from_fn(|n| get(offset + 16 * n as u64)));
        *self = Apic {
            base,
            id: number,
            tpr: get(register::TPR) as u8,
            ldr: get(register::LDR),
            dfr: get(register::DFR) | 0x0fff_ffff,
            svr: get(register::SVR),
            esr: get(register::ESR),
            errors: 0,
            isr: vectors(register::ISR),
            tmr: vectors(register::TMR),
            irr: vectors(register::IRR),
            icr: u64::from(get(register::ICR)) | u64::from(get(register::ICR_HIGH)) << 32,
            lvt: std::array::from_fn(|n| get(register::LVT + 16 * n as u64)),
            initial: get(register::INITIAL),
            divide: get(register::DIVIDE),
            started: now,
            deadline: None,
            tsc_deadline: 0,
        };
        if self.x2apic() {
            self.ldr = (number >> 4) << 16 | 1 << (number & 15);
        }
        let current = get(register::CURRENT);
        if self.initial != 0 && self.timer_mode() != 2 && (current != 0 || self.timer_mode() == 1) {
            let phase = u64::from(get(register::PHASE)) % self.divisor();
            let gone = u64::from(self.initial.saturating_sub(current)) * self.divisor() + phase;
            let left = (u64::from(self.initial) * self.divisor()).saturating_sub(gone);
            self.started = now.saturating_sub(gone);
            self.deadline = Some(now.saturating_add(left));
        }
    }
}

impl Cpu {
    /// Sets the task priority by CR8.
    pub(crate) fn set_cr8(&mut self, value: u64) {
        self.apic.tpr = (value as u8) << 4;
    }

    /// Reads the register page in memory.
    pub(crate) fn apic_read(&mut self, offset: u64, len: u64) -> u64 {
        // Accesses are 32 bits at a multiple of 16; parts of them are what devices make of them.
        let value = self.apic_register(offset & !15).unwrap_or(0);
        let shift = 8 * (offset & 15);
        if shift >= 32 {
            return 0;
        }
        u64::from(value) >> shift & crate::op::mask(len)
    }

    /// Writes the register page in memory.
    pub(crate) fn apic_write(&mut self, offset: u64, len: u64, value: u64) {
        if offset & 15 == 0 && len >= 4 {
            if offset == register::ICR {
                let high = self.apic.icr >> 32 << 32;
                self.apic.icr = high | value & 0xffff_ffff;
                self.send_message();
            } else if offset == register::ICR_HIGH {
                self.apic.icr = self.apic.icr & 0xffff_ffff | value << 32;
            } else if self.set_apic_register(offset, value as u32).is_none() {
                self.apic_error(ERROR_REGISTER);
            }
        }
        self.cut = true;
    }

    fn apic_register(&mut self, offset: u64) -> Option<u32> {
        let apic = &self.apic;
        let vectors = |set: &Vectors, from: u64| set.0[((offset - from) >> 4) as usize];
        Some(match offset {
            register::ID if apic.x2apic() => apic.id,
            register::ID => apic.id << 24,
            register::VERSION => VERSION,
            register::TPR => u32::from(apic.tpr),
            register::PPR => u32::from(apic.ppr()),
            register::LDR => apic.ldr,
            register::DFR if !apic.x2apic() => apic.dfr,
            register::SVR => apic.svr,
            register::ISR..register::TMR => vectors(&apic.isr, register::ISR),
            register::TMR..register::IRR => vectors(&apic.tmr, register::TMR),
            register::IRR..register::ESR => vectors(&apic.irr, register::IRR),
            register::ESR => apic.esr,
            register::ICR => apic.icr as u32,
            register::ICR_HIGH if !apic.x2apic() => (apic.icr >> 32) as u32,
            register::LVT..register::INITIAL => apic.lvt[((offset - register::LVT) >> 4) as usize],
            register::INITIAL => apic.initial,
            register::CURRENT => {
                let now = self.now();
                self.apic.current(now)
            }
            register::DIVIDE => apic.divide,
            // Arbitration priority and remote read are there in the old mode.
            0x90 | 0xc0 if !apic.x2apic() => 0,
            _ => return None,
        })
    }

    fn set_apic_register(&mut self, offset: u64, value: u32) -> Option<()> {
        match offset {
            register::TPR => self.apic.tpr = value as u8,
            register::EOI => self.end_interrupt(),
            register::LDR if !self.apic.x2apic() => self.apic.ldr = value & 0xff00_0000,
            register::DFR if !self.apic.x2apic() => self.apic.dfr = value | 0x0fff_ffff,
            register::SVR => {
                self.apic.svr = value & 0x3ff;
                if value & 1 << 8 == 0 {
                    for entry in &mut self.apic.lvt {
                        *entry |= lvt::MASKED;
                    }
                }
            }
            register::ESR => self.apic.esr = std::mem::take(&mut self.apic.errors),
            register::LVT..register::INITIAL => {
                self.set_lvt(((offset - register::LVT) >> 4) as usize, value);
            }
            register::INITIAL => {
                self.apic.initial = value;
                let now = self.now();
                if self.apic.timer_mode() != 2 {
                    self.apic.arm(now);
                }
            }
            register::DIVIDE => {
                let now = self.now();
                let current = self.apic.current(now);
                self.apic.divide = value & 11;
                if self.apic.deadline.is_some() && self.apic.timer_mode() != 2 {
                    // The count goes on from where it is, with ticks of the new length.
                    let gone = u64::from(self.apic.initial - current.min(self.apic.initial));
                    self.apic.started = now.saturating_sub(gone * self.apic.divisor());
                    self.apic.deadline = Some(now.saturating_add(u64::from(current) * self.apic.divisor()));
                }
            }
            register::ID if !self.apic.x2apic() => {}
            0x90 | 0xc0 if !self.apic.x2apic() => {}
            register::VERSION | register::PPR | register::CURRENT if !self.apic.x2apic() => {}
            register::ISR..register::ESR if !self.apic.x2apic() => {}
            _ => return None,
        }
        self.apic.publish(&self.mailbox);
        Some(())
    }

    fn set_lvt(&mut self, number: usize, value: u32) {
        const KNOWN: [u32; lvt::COUNT] = [0x7_00ff, 0x1_07ff, 0x1_07ff, 0x1_a7ff, 0x1_a7ff, 0x1_00ff];
        let before = self.apic.timer_mode();
        let mut value = value & KNOWN[number] | self.apic.lvt[number] & lvt::PENDING;
        if !self.apic.software_enabled() {
            value |= lvt::MASKED;
        }
        self.apic.lvt[number] = value;
        if number == lvt::TIMER && self.apic.timer_mode() != before {
            self.apic.deadline = None;
            self.apic.initial = 0;
            self.apic.tsc_deadline = 0;
        }
    }

    /// EOI.
    fn end_interrupt(&mut self) {
        let Some(vector) = self.apic.isr.highest() else {
            return;
        };
        self.apic.isr.set(vector, false);
        if self.apic.tmr.has(vector) {
            self.apic.tmr.set(vector, false);
            self.sync_clock();
            self.io().end_of_interrupt(vector);
        }
    }

    /// Sends what the interrupt command register says.
    fn send_message(&mut self) {
        let icr = self.apic.icr;
        let signal = Signal {
            mode: (icr >> 8 & 7) as u8,
            vector: icr as u8,
            level: false,
        };
        let deassert = icr & 1 << 15 != 0 && icr & 1 << 14 == 0;
        if signal.mode == Signal::INIT && deassert {
            return;
        }
        if matches!(signal.mode, Signal::FIXED | Signal::LOWEST) && signal.vector < 16 {
            self.apic_error(ERROR_SEND_VECTOR);
            return;
        }
        let me = self.number;
        match icr >> 18 & 3 {
            1 => signal.deliver(&self.mailbox),
            2 => {
                self.shared.others(me, |mailbox| signal.deliver(mailbox));
                signal.deliver(&self.mailbox);
            }
            3 => self.shared.others(me, |mailbox| signal.deliver(mailbox)),
            _ => {
                let wide = self.apic.x2apic();
                let high = (icr >> 32) as u32;
                let destination = if wide { high } else { high >> 24 };
                let logical = icr & 1 << 11 != 0;
                self.shared.send(destination, logical, wide, signal);
            }
        }
    }

    /// Reads a register of x2APIC mode.
    pub(crate) fn x2apic_read(&mut self, number: u32) -> Option<u64> {
        if !self.apic.x2apic() {
            return None;
        }
        let offset = u64::from(number - 0x800) << 4;
        match offset {
            register::ICR => Some(self.apic.icr),
            register::EOI | register::SELF | register::ICR_HIGH => None,
            _ => self.apic_register(offset).map(u64::from),
        }
    }

    /// Writes a register of x2APIC mode.
    pub(crate) fn x2apic_write(&mut self, number: u32, value: u64) -> Result<(), Stop> {
        if !self.apic.x2apic() {
            return self.protection(0);
        }
        let offset = u64::from(number - 0x800) << 4;
        match offset {
            register::ICR => {
                self.apic.icr = value & !(1 << 12);
                self.send_message();
            }
            register::SELF if value <= 0xff => self.mailbox.post(value as u8, false),
            register::EOI | register::ESR if value != 0 => return self.protection(0),
            _ if value >> 32 != 0 => return self.protection(0),
            register::ICR_HIGH | register::SELF => return self.protection(0),
            _ => {
                if self.set_apic_register(offset, value as u32).is_none() {
                    return self.protection(0);
                }
            }
        }
        Ok(())
    }

    /// Writes IA32_APIC_BASE.
    pub(crate) fn set_apic_base(&mut self, value: u64) -> Result<(), Stop> {
        let known = 0x3fff_ffff_f000 | ENABLED | X2APIC | BOOTSTRAP;
        let was = self.apic.base;
        let mode = |base: u64| (base & ENABLED != 0, base & X2APIC != 0);
        // Transitions of SDM Vol. 3 figure 12-27.
        let illegal = matches!(
            (mode(was), mode(value)),
            (_, (false, true)) | ((false, _), (_, true)) | ((true, true), (true, false))
        );
        if value & !known != 0 || illegal {
            return self.protection(0);
        }
        self.apic.base = value & !BOOTSTRAP | was & BOOTSTRAP;
        if value & ENABLED == 0 && was & ENABLED != 0 {
            self.apic.reset();
        }
        if self.apic.x2apic() && was & X2APIC == 0 {
            self.apic.ldr = (self.apic.id >> 4) << 16 | 1 << (self.apic.id & 15);
        }
        self.apic.publish(&self.mailbox);
        self.tlb.flush();
        Ok(())
    }

    /// IA32_TSC_DEADLINE.
    pub(crate) fn tsc_deadline(&self) -> u64 {
        if self.apic.timer_mode() == 2 {
            self.apic.tsc_deadline
        } else {
            0
        }
    }

    /// Writes IA32_TSC_DEADLINE.
    pub(crate) fn set_tsc_deadline(&mut self, value: u64) {
        if self.apic.timer_mode() != 2 {
            return;
        }
        self.apic.tsc_deadline = value;
        self.apic.deadline = (value != 0).then(|| self.when_tsc(value));
    }

    /// Takes posted interrupts, and lets the timer fire when its time has come.
    pub(crate) fn collect_interrupts(&mut self, requests: u32, look: bool) {
        if requests & request::INTERRUPT != 0 {
            self.apic.take(self.mailbox.posted());
        }
        if !look {
            return;
        }
        let Some(deadline) = self.apic.deadline else {
            return;
        };
        let now = self.now();
        if now < deadline {
            return;
        }
        let entry = self.apic.lvt[lvt::TIMER];
        if entry & lvt::MASKED == 0 && self.apic.software_enabled() && entry as u8 >= 16 {
            self.apic.irr.set(entry as u8, true);
            self.apic.tmr.set(entry as u8, false);
        }
        self.apic.tsc_deadline = 0;
        self.apic.deadline = None;
        if self.apic.timer_mode() == 1 && self.apic.initial != 0 {
            // Late periods are skipped, not made up for.
            let span = u64::from(self.apic.initial) * self.apic.divisor();
            let periods = (now - self.apic.started) / span;
            self.apic.started = self.apic.started.saturating_add(periods * span);
            self.apic.deadline = Some(self.apic.started.saturating_add(span));
        }
    }

    /// Puts a timer deadline back as it was saved.
    pub(crate) fn restore_tsc_deadline(&mut self, states: &[(u32, u64)]) {
        let saved = states.iter().find(|(number, _)| *number == msr::TSC_DEADLINE);
        if let Some((_, value)) = saved
            && *value != 0
        {
            self.set_tsc_deadline(*value);
        }
    }

    /// Notes an error of the local APIC, and raises its interrupt.
    fn apic_error(&mut self, error: u32) {
        self.apic.errors |= error;
        let entry = self.apic.lvt[lvt::ERROR];
        if entry & lvt::MASKED == 0 && entry as u8 >= 16 {
            self.apic.irr.set(entry as u8, true);
        }
    }
}
