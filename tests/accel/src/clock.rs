//! A guest that looks at its paravirtual clock (Documentation/virt/kvm/x86/msr.rst, MSR_KVM_SYSTEM_TIME_NEW).

use iced_x86::code_asm::*;
use vcpu::state::msr;

use crate::states::DATA;
use crate::{Bench, Guest, STOP, states};

/// Where the guest keeps its time stamp.
const STAMP: u64 = DATA + 0x100;

/// A guest that asks for its clock at [`DATA`], stops, and then takes a time stamp before each stop.
///
/// # Panics
/// When the accelerator refuses it.
#[must_use]
pub fn guest(bench: &Bench) -> Guest {
    Guest::with(&*bench.accel, &states::long(0), |a| {
        let mut again = a.create_label();
        a.mov(ecx, msr::KVM_SYSTEM_TIME)?;
        a.mov(eax, DATA as u32 | 1)?;
        a.xor(edx, edx)?;
        a.wrmsr()?;
        a.set_label(&mut again)?;
        a.out(i32::from(STOP), al)?;
        a.rdtsc()?;
        a.mov(dword_ptr(STAMP), eax)?;
        a.mov(dword_ptr(STAMP + 4), edx)?;
        a.jmp(again)
    })
}

/// Runs to the next stop; tells the nanoseconds that the guest reads there (struct pvclock_vcpu_time_info).
///
/// # Panics
/// When the guest has no clock.
pub fn look(guest: &mut Guest) -> u64 {
    guest.run_to_stop();
    let version = guest.word(DATA) as u32;
    assert!(version != 0 && version.is_multiple_of(2), "version {version}");
    let system = guest.word(DATA + 16);
    let scale = guest.word(DATA + 24) as u32;
    let shift = (guest.word(DATA + 24) >> 32) as i8;
    let delta = guest.word(STAMP).wrapping_sub(guest.word(DATA + 8));
    let delta = if shift < 0 {
        delta >> -shift
    } else {
        delta << shift
    };
    system + (u128::from(delta) * u128::from(scale) >> 32) as u64
}

/// Looks, and holds what the guest reads against the machine's clock before and after.
///
/// # Panics
/// When it is not in between, by more than 50 ms.
pub fn compare(guest: &mut Guest) -> u64 {
    let machine = |guest: &Guest| guest.vm.save().expect("the clock is told").clock;
    let before = machine(guest);
    let read = look(guest);
    let after = machine(guest);
    let slack = 50_000_000;
    assert!(
        (before.saturating_sub(slack)..=after + slack).contains(&read),
        "the guest reads {read}, the machine {before} and then {after}"
    );
    read
}
