//! Between the running state and the saved one; reset, INIT and start-up.

use vcpu::state::{Activity, CpuState, Events, STATE_VERSION, msr};

use crate::cpu::{Cpu, Shadow, cr0, cr4, efer, seg};
use crate::memory::walk::PHYSICAL_BITS;

/// Why a state cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadState(pub(crate) &'static str);

impl Cpu {
    /// The state as others know it.
    pub(crate) fn save(&mut self) -> CpuState {
        let mut registers = [0; 16];
        registers.copy_from_slice(&self.registers[..16]);
        let now = self.now();
        // What waits in the mailbox is part of the local APIC.
        let requests = self.mailbox.requests.load(std::sync::atomic::Ordering::SeqCst);
        self.collect_interrupts(requests, false);
        self.nmi_pending |= requests & crate::shared::request::NMI != 0;
        self.mailbox.requests.fetch_and(
            !(crate::shared::request::INTERRUPT | crate::shared::request::NMI),
            std::sync::atomic::Ordering::SeqCst,
        );
        CpuState {
            version: STATE_VERSION,
            registers,
            rip: self.rip,
            rflags: self.rflags(),
            segments: self.segments,
            ldt: self.ldt,
            task: self.task,
            gdt: self.gdt,
            idt: self.idt,
            cr0: self.cr0,
            cr2: self.cr2,
            cr3: self.cr3,
            cr4: self.cr4,
            cr8: self.apic.cr8(),
            xcr0: self.xcr0,
            debug: self.debug,
            msrs: self.save_msrs(),
            xsave: self.save_vectors(),
            apic: self.apic.save(now),
            events: Events {
                exception: self.pending_exception.or_else(|| self.pending_debug()),
                interrupt: self.pending_interrupt,
                sti_shadow: self.shadow == Shadow::Sti,
                mov_ss_shadow: self.shadow == Shadow::Stack,
                nmi_pending: self.nmi_pending,
                nmi_masked: self.nmi_masked,
            },
            activity: self.activity,
            retired: Some(self.retired),
        }
    }

    /// A debug trap that waits becomes an exception that waits, with its causes in DR6.
    fn pending_debug(&mut self) -> Option<(u8, Option<u32>)> {
        if self.debug_pending == 0 {
            return None;
        }
        self.debug[4] |= std::mem::take(&mut self.debug_pending);
        self.pending_exception = Some((crate::exception::vector::DEBUG, None));
        self.pending_exception
    }

    /// Puts a state in place.
    pub(crate) fn restore(&mut self, state: &CpuState) -> Result<(), BadState> {
        check(state)?;
        self.registers[..16].copy_from_slice(&state.registers);
        self.rip = state.rip;
        self.segments = state.segments;
        (self.ldt, self.task) = (state.ldt, state.task);
        (self.gdt, self.idt) = (state.gdt, state.idt);
        (self.cr0, self.cr2, self.cr3, self.cr4) = (state.cr0 | cr0::ET, state.cr2, state.cr3, state.cr4);
        self.efer = state.msr(msr::EFER).unwrap_or(0);
        self.xcr0 = state.xcr0;
        self.debug = state.debug;
        self.retired = state.retired.unwrap_or(self.retired);
        self.at = 0;
        self.join_clock();
        self.set_rflags(state.rflags);
        self.restore_vectors(&state.xsave)?;
        let base = state.msr(msr::APIC_BASE).unwrap_or(0xfee0_0800);
        let now = self.now();
        self.restore_msrs(&state.msrs);
        self.apic.restore(&state.apic, base, self.number, now);
        self.set_cr8(state.cr8);
        self.apic.publish(&self.mailbox);
        self.restore_tsc_deadline(&state.msrs);
        self.pending_exception = state.events.exception;
        self.pending_interrupt = state.events.interrupt;
        self.shadow = match (state.events.mov_ss_shadow, state.events.sti_shadow) {
            (true, _) => Shadow::Stack,
            (_, true) => Shadow::Sti,
            _ => Shadow::None,
        };
        self.nmi_pending = state.events.nmi_pending;
        self.nmi_masked = state.events.nmi_masked;
        self.activity = state.activity;
        self.debug_pending = 0;
        self.code_writes.clear();
        self.tlb.flush();
        let pcid = if self.cr4 & cr4::PCIDE != 0 {
            self.cr3 as u16 & 0xfff
        } else {
            0
        };
        self.tlb.switch(pcid, true);
        self.refresh();
        self.refresh_debug();
        Ok(())
    }

    /// INIT (SDM Vol. 3 table 10-1): as after reset, but x87, XMM, time and a part of the MSRs stay.
    pub(crate) fn initialise(&mut self) {
        let fresh = CpuState::reset(self.number);
        let mut state = self.save();
        let kept = [state.xsave.clone(), fresh.apic.clone()];
        let msrs = std::mem::take(&mut state.msrs);
        state = CpuState {
            xcr0: state.xcr0,
            retired: state.retired,
            cr0: fresh.cr0 & !(cr0::CD | cr0::NW) | state.cr0 & (cr0::CD | cr0::NW),
            ..fresh
        };
        let [xsave, apic] = kept;
        state.xsave = xsave;
        state.apic = apic;
        for (register, value) in msrs {
            let cleared = matches!(
                register,
                msr::EFER | msr::FS_BASE | msr::GS_BASE | msr::TSC_DEADLINE | msr::KVM_PV_EOI
            );
            if !cleared {
                state.set_msr(register, value);
            }
        }
        state.activity = if self.number == 0 {
            Activity::Running
        } else {
            Activity::WaitForStartup
        };
        self.restore(&state)
            .expect("a reset state with the present XSAVE area is legal");
    }

    /// A start-up message: real mode at the page that the vector names.
    pub(crate) fn start_up(&mut self, vector: u8) {
        let code = &mut self.segments[seg::CS as usize];
        code.selector = u16::from(vector) << 8;
        code.base = u64::from(vector) << 12;
        self.rip = 0;
        self.activity = Activity::Running;
        self.refresh_segments();
    }
}

/// What a processor could never be in.
fn check(state: &CpuState) -> Result<(), BadState> {
    if state.version > STATE_VERSION {
        return Err(BadState("a newer version of Posada wrote it"));
    }
    if state.apic.len() != 1024 {
        return Err(BadState("the registers of the local APIC"));
    }
    // Legacy area and header (SDM Vol. 1 §13.4).
    if state.xsave.len() < 576 {
        return Err(BadState("the XSAVE area"));
    }
    let paging = state.cr0 & cr0::PG != 0;
    let flags = state.msr(msr::EFER).unwrap_or(0);
    let long = flags & efer::LMA != 0;
    if paging && state.cr0 & cr0::PE == 0 || state.cr0 >> 32 != 0 {
        return Err(BadState("CR0"));
    }
    if state.cr4 & !crate::ops::control::CR4_KNOWN != 0 || long && state.cr4 & cr4::PAE == 0 {
        return Err(BadState("CR4"));
    }
    let known = efer::SCE | efer::LME | efer::LMA | efer::NXE;
    if flags & !known != 0 || long != (paging && flags & efer::LME != 0) {
        return Err(BadState("EFER"));
    }
    if state.cr3 >> PHYSICAL_BITS != 0 {
        return Err(BadState("CR3"));
    }
    if state.xcr0 & 1 == 0 || state.xcr0 & !crate::cpuid::XCR0 != 0 {
        return Err(BadState("XCR0"));
    }
    if state.cr8 > 15 {
        return Err(BadState("CR8"));
    }
    Ok(())
}
