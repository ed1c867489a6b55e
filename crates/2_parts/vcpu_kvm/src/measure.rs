//! Whether this KVM is fit for machines: how long a tiny guest takes for a million instructions.
//!
//! KVM without help from the processor exists: nested without hardware support, or software that emulates a guest's kernel
//! instruction by instruction. It answers every question like a real one; only running a guest tells. The guest runs in long mode with
//! paging, in ring 0, as kernels do: CPUID, then a loop. Real hardware needs about a millisecond, most of it for making the machine.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use fault::{Fault, OrFault, Result};
use guestmem::Block;
use vcpu::state::{CpuState, Segment, msr};
use vcpu::time::{HostClock, HostRandom};
use vcpu::{Accel, Access, Io, Kick, Slot, VmConfig, cpuid};

use crate::{Kvm, STUCK, TOO_SLOW, refused};

/// The longest time that a usable KVM takes.
pub const LIMIT: Duration = Duration::from_millis(50);
/// Then the guest is stopped.
const PATIENCE: Duration = Duration::from_millis(200);
/// Then the call that runs the guest is given up, with its thread.
const DESPAIR: Duration = Duration::from_secs(2);

/// Instructions of the guest's loop.
const INSTRUCTIONS: u64 = 1_000_000;

/// How the tiny guest did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    /// Instructions that it had to run.
    pub instructions: u64,
    /// How long it ran: to its end, or until it was stopped.
    pub time: Duration,
    /// Whether it came to its end.
    pub finished: bool,
}

/// Runs the tiny guest, for at most 200 ms.
///
/// # Errors
/// Those of making a machine; [`STUCK`] when KVM does not even let itself be interrupted (its thread is then left behind).
pub fn measure(kvm: &Kvm) -> Result<Measured> {
    let kvm = kvm.duplicate()?;
    let (tell, told) = mpsc::channel();
    let (hand, handed) = mpsc::channel();
    std::thread::Builder::new()
        .name("kvm-probe".into())
        .spawn(move || {
            let _ = tell.send(guest(&kvm, &hand));
        })
        .or_fault(|| refused("clone"))?;
    let kick: Option<Arc<dyn Kick>> = handed.recv_timeout(DESPAIR).ok();
    let stuck = || Fault::new(STUCK).arg("seconds", DESPAIR.as_secs());
    match told.recv_timeout(PATIENCE) {
        Ok(measured) => measured,
        Err(mpsc::RecvTimeoutError::Disconnected) => Err(stuck()),
        Err(mpsc::RecvTimeoutError::Timeout) => {
            if let Some(kick) = kick {
                kick.kick();
            }
            told.recv_timeout(DESPAIR).map_err(|_| stuck())?
        }
    }
}

/// Refuses a KVM that is too slow, with the figure.
///
/// # Errors
/// [`TOO_SLOW`] when the guest took longer than [`LIMIT`] or was stopped.
pub fn usable(measured: &Measured) -> Result<()> {
    if measured.finished && measured.time <= LIMIT {
        return Ok(());
    }
    Err(Fault::new(TOO_SLOW)
        .arg("time", measured.time.as_millis())
        .arg("limit", LIMIT.as_millis())
        .arg("finished", if measured.finished { "yes" } else { "no" }))
}

/// Ends the run when the guest writes to its port.
#[derive(Default)]
struct End(AtomicBool);

impl Io for End {
    fn port_read(&self, _: u16, data: &mut [u8]) {
        data.fill(0xff);
    }
    fn port_write(&self, port: u16, _: &[u8]) {
        self.0.fetch_or(port == PORT, Ordering::Relaxed);
    }
    fn mmio_read(&self, _: u64, data: &mut [u8]) {
        data.fill(0xff);
    }
    fn mmio_write(&self, _: u64, _: &[u8]) {}
    fn acknowledge(&self) -> u8 {
        0
    }
    fn end_of_interrupt(&self, _: u8) {}
    fn stopping(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

const PORT: u16 = 0xf4;
const CODE: u64 = 0x8000;
const TABLES: u64 = 0x1000;

/// `xor eax, eax; cpuid; mov ecx, 500000; again: dec ecx; jnz again; out 0xf4, al; hlt`
const PROGRAM: &[u8] = &[
    0x31, 0xc0, 0x0f, 0xa2, 0xb9, 0x20, 0xa1, 0x07, 0x00, 0xff, 0xc9, 0x75, 0xfc, 0xe6, 0xf4, 0xf4,
];

/// Long mode with the first 2 MiB mapped as they are, interrupts off, at the program.
fn long_mode() -> CpuState {
    let mut state = CpuState::reset(0);
    let segment = |selector, attributes| Segment {
        selector,
        base: 0,
        limit: u32::MAX,
        attributes,
    };
    state.segments = [segment(0x10, 0xc093); 6];
    state.segments[1] = segment(8, 0xa09b);
    (state.cr0, state.cr3, state.cr4) = (0x8000_0033, TABLES, 0x20);
    state.set_msr(msr::EFER, 0x500);
    (state.rip, state.registers[4]) = (CODE, CODE);
    state
}

fn guest(kvm: &Kvm, hand: &mpsc::Sender<Arc<dyn Kick>>) -> Result<Measured> {
    let block = Block::new("kvm-probe", 2 << 20).or_fault(|| refused("memfd_create"))?;
    let inside = "the block is larger than this";
    for (address, entry) in [(TABLES, 0x2003_u64), (0x2000, 0x3003), (0x3000, 0x83)] {
        block.write(address, &entry.to_le_bytes()).expect(inside);
    }
    block.write(CODE, PROGRAM).expect(inside);
    let leaves = cpuid::for_processor(&kvm.cpuid()?, 0, 1);
    let vm = kvm.create(VmConfig {
        clock: Arc::new(HostClock::new(0)),
        random: Arc::new(HostRandom),
        ioapic_pins: 24,
    })?;
    vm.map(&[Slot {
        start: 0,
        len: block.len(),
        block,
        offset: 0,
        access: Access::ReadWrite,
    }])?;
    let mut processor = vm.vcpu(0, &leaves)?;
    processor.restore(&long_mode())?;
    let _ = hand.send(processor.kick());
    let end = End::default();
    let begin = Instant::now();
    processor.run(&end)?;
    Ok(Measured {
        instructions: INSTRUCTIONS,
        time: begin.elapsed(),
        finished: end.stopping(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_and_unfinished_runs_are_refused_with_their_figure() {
        let run = |millis, finished| Measured {
            instructions: INSTRUCTIONS,
            time: Duration::from_millis(millis),
            finished,
        };
        assert!(usable(&run(2, true)).is_ok());
        assert!(usable(&run(2, false)).is_err());
        let fault = usable(&run(80, true)).unwrap_err();
        assert!(fault.is(TOO_SLOW));
        assert!(fault.args().any(|pair| pair == ("time", "80")));
    }

    #[test]
    fn measuring_ends_with_a_figure_or_a_named_fault_where_there_is_a_kvm() {
        let Ok(file) = std::fs::File::options().read(true).write(true).open("/dev/kvm") else {
            println!("skipped: no /dev/kvm");
            return;
        };
        let begin = Instant::now();
        match Kvm::from_fd(file.into()).and_then(|kvm| measure(&kvm)) {
            Ok(measured) => println!("{measured:?}: {:?}", usable(&measured)),
            Err(fault) => println!("{fault}"),
        }
        assert!(begin.elapsed() < Duration::from_secs(20));
    }
}
