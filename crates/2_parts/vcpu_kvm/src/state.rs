//! A processor's state out of KVM and into it.
//!
//! The orders are those that api.rst and the other users of KVM need. Out: KVM_GET_MP_STATE comes first, for it takes INIT and
//! start-up messages that wait, which changes registers; events come last, for other calls may change them. Into: system registers
//! before the local APIC (its base is among them), the local APIC before the model-specific registers (the TSC deadline starts its
//! timer), general registers before the events (setting them drops exceptions), the activity last.

use fault::{Fault, OrFault, Result};
use kvm_bindings as kb;
use kvm_ioctls::VcpuFd;
use vcpu::cpuid::Leaf;
use vcpu::state::{Activity, CpuState, Events, STATE_VERSION};

use crate::msrs::Known;
use crate::{BAD_STATE, refused, registers, sys, xsave};

/// What is needed beside the descriptor to save and restore.
pub(crate) struct Layout {
    pub number: u32,
    pub leaves: Vec<Leaf>,
    pub xsave_size: usize,
    pub msrs: Known,
}

fn bad(what: impl Into<String>) -> Fault {
    Fault::new(BAD_STATE).arg("what", what.into())
}

pub(crate) fn save(fd: &VcpuFd, layout: &Layout) -> Result<CpuState> {
    let mut state = CpuState::reset(layout.number);
    state.msrs.clear();
    let activity = fd.get_mp_state().or_fault(|| refused("KVM_GET_MP_STATE"))?;
    state.activity = match activity.mp_state {
        kb::KVM_MP_STATE_HALTED => Activity::Halted,
        kb::KVM_MP_STATE_UNINITIALIZED => Activity::WaitForInit,
        kb::KVM_MP_STATE_INIT_RECEIVED => Activity::WaitForStartup,
        _ => Activity::Running,
    };
    registers::general_from(&fd.get_regs().or_fault(|| refused("KVM_GET_REGS"))?, &mut state);
    registers::system_from(&fd.get_sregs().or_fault(|| refused("KVM_GET_SREGS"))?, &mut state);
    let xcrs = fd.get_xcrs().or_fault(|| refused("KVM_GET_XCRS"))?;
    state.xcr0 = xcrs.xcrs[..(xcrs.nr_xcrs as usize).min(xcrs.xcrs.len())]
        .iter()
        .find(|xcr| xcr.xcr == 0)
        .map_or(1, |xcr| xcr.value);
    let area = sys::get_xsave(fd, layout.xsave_size).or_fault(|| refused("KVM_GET_XSAVE2"))?;
    state.xsave = xsave::save(area, state.xcr0, &layout.leaves);
    let debug = fd.get_debug_regs().or_fault(|| refused("KVM_GET_DEBUGREGS"))?;
    state.debug = [
        debug.db[0],
        debug.db[1],
        debug.db[2],
        debug.db[3],
        debug.dr6,
        debug.dr7,
    ];
    let apic = fd.get_lapic().or_fault(|| refused("KVM_GET_LAPIC"))?;
    state.apic = apic.regs.iter().map(|byte| byte.cast_unsigned()).collect();
    layout.msrs.save(fd, &mut state)?;
    state.events = events_from(&fd.get_vcpu_events().or_fault(|| refused("KVM_GET_VCPU_EVENTS"))?);
    Ok(state)
}

pub(crate) fn restore(fd: &VcpuFd, layout: &Layout, state: &CpuState) -> Result<()> {
    if state.version != STATE_VERSION {
        return Err(bad(format!("version {}", state.version)));
    }
    let apic = apic_to(&state.apic).ok_or_else(|| bad("local APIC"))?;
    let area = xsave::restore(&state.xsave, layout.xsave_size).ok_or_else(|| bad("XSAVE area"))?;
    fd.set_sregs(&registers::system_to(state))
        .or_fault(|| bad("segments or control registers"))?;
    fd.set_regs(&registers::general_to(state))
        .or_fault(|| bad("general registers"))?;
    let mut xcrs = kb::kvm_xcrs {
        nr_xcrs: 1,
        ..kb::kvm_xcrs::default()
    };
    xcrs.xcrs[0].value = state.xcr0;
    fd.set_xcrs(&xcrs)
        .or_fault(|| bad(format!("XCR0 = {:#x}", state.xcr0)))?;
    sys::set_xsave(fd, &area).or_fault(|| bad("XSAVE area"))?;
    let [db0, db1, db2, db3, dr6, dr7] = state.debug;
    let debug = kb::kvm_debugregs {
        db: [db0, db1, db2, db3],
        dr6,
        dr7,
        ..kb::kvm_debugregs::default()
    };
    fd.set_debug_regs(&debug).or_fault(|| bad("debug registers"))?;
    fd.set_lapic(&apic).or_fault(|| bad("local APIC"))?;
    layout.msrs.restore(fd, state)?;
    fd.set_vcpu_events(&events_to(&state.events))
        .or_fault(|| bad("events"))?;
    let mp_state = match state.activity {
        Activity::Running => kb::KVM_MP_STATE_RUNNABLE,
        Activity::Halted => kb::KVM_MP_STATE_HALTED,
        Activity::WaitForInit => kb::KVM_MP_STATE_UNINITIALIZED,
        Activity::WaitForStartup => kb::KVM_MP_STATE_INIT_RECEIVED,
    };
    fd.set_mp_state(kb::kvm_mp_state { mp_state })
        .or_fault(|| bad("activity"))
}

fn apic_to(page: &[u8]) -> Option<kb::kvm_lapic_state> {
    let mut apic = kb::kvm_lapic_state::default();
    if page.len() != apic.regs.len() {
        return None;
    }
    for (to, from) in apic.regs.iter_mut().zip(page) {
        *to = from.cast_signed();
    }
    Some(apic)
}

fn events_from(events: &kb::kvm_vcpu_events) -> Events {
    let exception = &events.exception;
    let interrupt = &events.interrupt;
    Events {
        // INT3 and INTO are executed again, as software interrupts are: their length is not told.
        exception: (exception.injected != 0 && exception.nr != 3 && exception.nr != 4).then(|| {
            let code = (exception.has_error_code != 0).then_some(exception.error_code);
            (exception.nr, code)
        }),
        interrupt: (interrupt.injected != 0 && interrupt.soft == 0).then_some(interrupt.nr),
        sti_shadow: u32::from(interrupt.shadow) & kb::KVM_X86_SHADOW_INT_STI != 0,
        mov_ss_shadow: u32::from(interrupt.shadow) & kb::KVM_X86_SHADOW_INT_MOV_SS != 0,
        nmi_pending: events.nmi.pending != 0 || events.nmi.injected != 0,
        nmi_masked: events.nmi.masked != 0 && events.nmi.injected == 0,
    }
}

fn events_to(events: &Events) -> kb::kvm_vcpu_events {
    let mut to = kb::kvm_vcpu_events {
        flags: kb::KVM_VCPUEVENT_VALID_NMI_PENDING | kb::KVM_VCPUEVENT_VALID_SHADOW,
        ..kb::kvm_vcpu_events::default()
    };
    if let Some((vector, code)) = events.exception {
        to.exception.injected = 1;
        to.exception.nr = vector;
        to.exception.has_error_code = code.is_some().into();
        to.exception.error_code = code.unwrap_or(0);
    }
    if let Some(vector) = events.interrupt {
        to.interrupt.injected = 1;
        to.interrupt.nr = vector;
    }
    let shadow = |on, bit: u32| if on { bit as u8 } else { 0 };
    to.interrupt.shadow = shadow(events.sti_shadow, kb::KVM_X86_SHADOW_INT_STI)
        | shadow(events.mov_ss_shadow, kb::KVM_X86_SHADOW_INT_MOV_SS);
    to.nmi.pending = events.nmi_pending.into();
    to.nmi.masked = events.nmi_masked.into();
    to
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn events_survive_the_way_to_kvm_and_back(
            exception in proptest::option::of((5u8..32, proptest::option::of(any::<u32>()))),
            interrupt in proptest::option::of(any::<u8>()),
            flags in any::<[bool; 4]>()
        ) {
            let [sti_shadow, mov_ss_shadow, nmi_pending, nmi_masked] = flags;
            let events = Events { exception, interrupt, sti_shadow, mov_ss_shadow, nmi_pending, nmi_masked };
            prop_assert_eq!(events_from(&events_to(&events)), events);
        }
    }

    #[test]
    fn an_nmi_that_was_taken_but_not_delivered_waits_again() {
        let mut events = kb::kvm_vcpu_events::default();
        events.nmi.injected = 1;
        events.nmi.masked = 1;
        let saved = events_from(&events);
        assert!(saved.nmi_pending && !saved.nmi_masked);
    }

    #[test]
    fn a_local_apic_of_another_length_is_none() {
        assert!(apic_to(&[0; 1023]).is_none());
        assert!(apic_to(&[0xff; 1024]).is_some());
    }
}
