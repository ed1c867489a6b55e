//! One virtual processor under KVM: the loop around KVM_RUN.
//!
//! Before each KVM_RUN the thread looks at what others may have changed (see `kick`): a kick, the gate, the wire of the 8259 pair.
//! An access to a device is completed by the next KVM_RUN; before the loop is left it is completed by one that returns at once, so
//! that a saved state never stands in the middle of an instruction.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use fault::{Fault, OrFault, Result};
use kvm_bindings as kb;
use kvm_ioctls::VcpuFd;
use vcpu::cpuid::{self, HYPERVISOR_TIMING, Leaf};
use vcpu::state::CpuState;
use vcpu::{Halt, Io, Kick, Vcpu};

use crate::exit::{self, Exit};
use crate::kick::Door;
use crate::msrs::Known;
use crate::state::{self, Layout};
use crate::vm::Shared;
use crate::{OTHER_FREQUENCY, STOPPED, identity, refused};

/// An access may be handed out in pieces (8 bytes of MMIO each, a page of string port input); one instruction has fewer than this.
const PIECES: u32 = 1024;

/// A virtual processor.
pub(crate) struct KvmVcpu {
    fd: VcpuFd,
    door: Arc<Door>,
    shared: Arc<Shared>,
    layout: Layout,
    /// An access was handed out and the instruction is not completed yet.
    unfinished: bool,
    /// The value of [`Shared::clock_set`] at the last look.
    clock_set: u64,
}

impl KvmVcpu {
    pub(crate) fn new(shared: &Arc<Shared>, number: u32, leaves: &[Leaf]) -> Result<KvmVcpu> {
        let fd = shared
            .vm
            .create_vcpu(number.into())
            .or_fault(|| refused("KVM_CREATE_VCPU"))?;
        let door = Door::new(&fd).or_fault(|| refused("mmap of KVM_CREATE_VCPU"))?;
        set_frequency(&fd, leaves)?;
        // Registers of paravirtual features that CPUID does not tell raise a fault. Linux before 5.10 cannot, which harms nobody.
        let _ = fd.enable_cap(&kb::kvm_enable_cap {
            cap: kb::KVM_CAP_ENFORCE_PV_FEATURE_CPUID,
            args: [1, 0, 0, 0],
            ..kb::kvm_enable_cap::default()
        });
        let entries = kb::CpuId::from_entries(&identity::entries(leaves))
            .map_err(|_| refused("KVM_SET_CPUID2").because_of("too many leaves"))?;
        fd.set_cpuid2(&entries).or_fault(|| refused("KVM_SET_CPUID2"))?;
        let layout = Layout {
            number,
            leaves: leaves.to_vec(),
            xsave_size: shared.xsave_size,
            msrs: Known::of(&fd)?,
        };
        state::restore(&fd, &layout, &CpuState::reset(number))?;
        let door = Arc::new(door);
        shared.gate.add(Arc::clone(&door));
        Ok(KvmVcpu {
            fd,
            door,
            shared: Arc::clone(shared),
            layout,
            unfinished: false,
            clock_set: 0,
        })
    }

    /// One KVM_RUN, through the gate.
    fn enter(&mut self, io: &dyn Io) -> Result<Exit> {
        let (gate, door) = (&self.shared.gate, &self.door);
        let exit = exit::enter(&mut self.fd, io, || gate.enter(door), || gate.leave(door));
        self.unfinished = exit == Exit::Access;
        match exit {
            Exit::Unexpected(reason) => Err(self.stopped(reason)),
            exit => Ok(exit),
        }
    }

    /// Completes an access whose answer the kernel has not taken yet.
    fn complete(&mut self, io: &dyn Io) -> Result<()> {
        let mut pieces = 0;
        while self.unfinished {
            pieces += 1;
            if pieces > PIECES {
                return Err(self.stopped("an instruction does not come to its end".into()));
            }
            self.door.at_once(true);
            if let Exit::EndOfInterrupt(vector) = self.enter(io)? {
                io.end_of_interrupt(vector);
            }
        }
        Ok(())
    }

    fn stopped(&self, reason: String) -> Fault {
        let fault = Fault::new(STOPPED)
            .arg("number", self.layout.number)
            .because_of(reason);
        match (self.fd.get_regs(), self.fd.get_sregs()) {
            (Ok(regs), Ok(sregs)) => fault.because_of(format!(
                "rip {:#x} rflags {:#x} rax {:#x} rcx {:#x} rdx {:#x} rbx {:#x} rsp {:#x} rbp {:#x} rsi {:#x} rdi {:#x} \
                 cs {:#x} ss {:#x} cr0 {:#x} cr2 {:#x} cr3 {:#x} cr4 {:#x} efer {:#x}",
                regs.rip,
                regs.rflags,
                regs.rax,
                regs.rcx,
                regs.rdx,
                regs.rbx,
                regs.rsp,
                regs.rbp,
                regs.rsi,
                regs.rdi,
                sregs.cs.selector,
                sregs.ss.selector,
                sregs.cr0,
                sregs.cr2,
                sregs.cr3,
                sregs.cr4,
                sregs.efer
            )),
            _ => fault,
        }
    }

    /// Takes the 8259 pair's interrupt if the processor can, else asks to be told when it can.
    fn take_external(&mut self, io: &dyn Io) -> Result<()> {
        let mut raised = self.shared.external.load(Ordering::SeqCst);
        if raised && !self.unfinished && self.fd.get_kvm_run().ready_for_interrupt_injection != 0 {
            self.inject(io)?;
            self.fd.get_kvm_run().ready_for_interrupt_injection = 0;
            raised = self.shared.external.load(Ordering::SeqCst);
        }
        self.fd.get_kvm_run().request_interrupt_window = raised.into();
        Ok(())
    }

    /// Makes an acknowledged interrupt the next event, as if the kernel had acknowledged it itself. KVM_INTERRUPT would do it too, but
    /// what it notes is in no saved state until the guest takes it; here the processor stands at a boundary where it may be taken.
    fn inject(&mut self, io: &dyn Io) -> Result<()> {
        let get = || refused("KVM_GET_VCPU_EVENTS");
        let mut events = self.fd.get_vcpu_events().or_fault(get)?;
        if events.interrupt.injected != 0 {
            return Ok(());
        }
        events.interrupt.injected = 1;
        events.interrupt.soft = 0;
        events.interrupt.nr = io.acknowledge();
        // What no flag marks is left alone: a non-maskable interrupt may come in at any time.
        events.flags = 0;
        self.fd
            .set_vcpu_events(&events)
            .or_fault(|| refused("KVM_SET_VCPU_EVENTS"))?;
        let activity = self.fd.get_mp_state().or_fault(|| refused("KVM_GET_MP_STATE"))?;
        if activity.mp_state == kb::KVM_MP_STATE_HALTED {
            let running = kb::kvm_mp_state {
                mp_state: kb::KVM_MP_STATE_RUNNABLE,
            };
            self.fd
                .set_mp_state(running)
                .or_fault(|| refused("KVM_SET_MP_STATE"))?;
        }
        Ok(())
    }

    /// After the machine's clock was put back: tells the guest that it was stopped, so that its watchdogs stay quiet.
    fn tell_pause(&mut self) -> Result<()> {
        let set = self.shared.clock_set.load(Ordering::SeqCst);
        if set != self.clock_set {
            self.clock_set = set;
            match self.fd.kvmclock_ctrl() {
                // EINVAL: the guest has no paravirtual clock.
                Err(error) if error.errno() != libc::EINVAL => {
                    return Err(refused("KVM_KVMCLOCK_CTRL").because(error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Gives the time stamp counter the frequency that the leaves tell.
fn set_frequency(fd: &VcpuFd, leaves: &[Leaf]) -> Result<()> {
    let Some(wanted) = cpuid::find(leaves, HYPERVISOR_TIMING, 0).map(|leaf| leaf.eax) else {
        return Ok(());
    };
    let host = fd.get_tsc_khz().or_fault(|| refused("KVM_GET_TSC_KHZ"))?;
    if wanted == 0 || wanted == host {
        return Ok(());
    }
    fd.set_tsc_khz(wanted).or_fault(|| {
        Fault::new(OTHER_FREQUENCY)
            .arg("wanted", wanted)
            .arg("host", host)
    })
}

impl Vcpu for KvmVcpu {
    fn run(&mut self, io: &dyn Io) -> Result<Halt> {
        let door = Arc::clone(&self.door);
        let _attending = door.attend();
        self.tell_pause()?;
        loop {
            door.at_once(false);
            if door.take_kick() {
                self.complete(io)?;
                return Ok(Halt::Kicked);
            }
            if self.layout.number == 0 {
                self.take_external(io)?;
            }
            match self.enter(io)? {
                Exit::Access => {}
                Exit::EndOfInterrupt(vector) => io.end_of_interrupt(vector),
                Exit::TripleFault => return Ok(Halt::TripleFault),
                Exit::Window | Exit::Interrupted | Exit::Unexpected(_) => continue,
            }
            if io.stopping() {
                self.complete(io)?;
                return Ok(Halt::Kicked);
            }
        }
    }

    fn kick(&self) -> Arc<dyn Kick> {
        Arc::clone(&self.door) as Arc<dyn Kick>
    }

    fn stop_at(&mut self, _retired: Option<u64>) -> bool {
        false
    }

    fn retired(&self) -> Option<u64> {
        None
    }

    fn save(&mut self) -> Result<CpuState> {
        state::save(&self.fd, &self.layout)
    }

    fn restore(&mut self, state: &CpuState) -> Result<()> {
        state::restore(&self.fd, &self.layout, state)?;
        self.fd.get_kvm_run().ready_for_interrupt_injection = 0;
        Ok(())
    }

    fn nmi(&mut self) -> Result<()> {
        self.fd.nmi().or_fault(|| refused("KVM_NMI"))
    }

    fn translate(&mut self, linear: u64) -> Option<u64> {
        let translation = self.fd.translate_gva(linear).ok()?;
        (translation.valid != 0).then_some(translation.physical_address)
    }
}
