//! The processor behind /dev/kvm.
//!
//! [`Kvm`] is the [`Accel`] of the kernel's virtual machine monitor (Documentation/virt/kvm/api.rst). It opens nothing: the
//! descriptor of /dev/kvm is handed in. The interrupt chip is split: local APICs are the kernel's, the 8259 pair, the IOAPIC and
//! the PIT are devices of the machine.
//!
//! Time is the host's. A machine that pauses keeps [`vcpu::Vm::save`]'s state and gives it back with [`vcpu::Vm::restore`] before it
//! goes on: then the paravirtual clock has stood still, and each processor tells its guest so (KVM_KVMCLOCK_CTRL) when it runs again.
//!
//! What a thread that calls [`vcpu::Vcpu::run`] needs of a seccomp filter: ioctl, futex, rt_sigreturn, rt_sigprocmask, gettid, getpid;
//! a thread that kicks: tgkill, getpid.

mod capabilities;
mod exit;
mod gate;
mod identity;
mod kick;
mod measure;
mod msrs;
mod processor;
mod registers;
mod routes;
mod slots;
mod state;
mod sys;
mod vm;
mod xsave;

use std::os::fd::OwnedFd;
use std::sync::Arc;

use fault::{Code, Fault, OrFault, Result};
use vcpu::{Accel, Vm, VmConfig, cpuid::Leaf};

pub use measure::{LIMIT, Measured, measure, usable};

/// The descriptor is no /dev/kvm that can be used, or it refused a call.
pub const REFUSED: Code = Code("KVM001");
/// Guests run too slowly on it.
pub const TOO_SLOW: Code = Code("KVM002");
/// It lacks something that a machine needs.
pub const LACKS: Code = Code("KVM003");
/// A call into it did not come back.
pub const STUCK: Code = Code("KVM004");
/// Its time is the host's, and another was asked for.
pub const FOREIGN_CLOCK: Code = Code("KVM005");
/// A map of memory that cannot be.
pub const BAD_MAP: Code = Code("KVM006");
/// A processor stopped for a reason of the host's.
pub const STOPPED: Code = Code("KVM007");
/// A state that no processor of this host can have.
pub const BAD_STATE: Code = Code("KVM008");
/// The machine's time stamp counter has another frequency than the host's, which cannot change it.
pub const OTHER_FREQUENCY: Code = Code("KVM009");

/// The kernel's virtual machine monitor.
pub struct Kvm {
    kvm: kvm_ioctls::Kvm,
}

impl Kvm {
    /// Takes over a descriptor of /dev/kvm, opened for reading and writing.
    ///
    /// # Errors
    /// [`REFUSED`] when it is no such descriptor, [`LACKS`] when the kernel's KVM is not enough for a machine.
    pub fn from_fd(descriptor: OwnedFd) -> Result<Kvm> {
        let kvm = sys::kvm(descriptor);
        let version = kvm.get_api_version();
        if version != kvm_bindings::KVM_API_VERSION as i32 {
            return Err(Fault::new(REFUSED)
                .arg("call", "KVM_GET_API_VERSION")
                .because_of(format!("the answer is {version}")));
        }
        capabilities::check(&kvm)?;
        Ok(Kvm { kvm })
    }

    /// The same through another descriptor, for a thread of its own.
    fn duplicate(&self) -> Result<Kvm> {
        let kvm = sys::duplicate(&self.kvm).or_fault(|| refused("dup"))?;
        Ok(Kvm { kvm })
    }
}

impl Accel for Kvm {
    fn name(&self) -> &'static str {
        "kvm"
    }

    fn cpuid(&self) -> Result<Vec<Leaf>> {
        let supported = self
            .kvm
            .get_supported_cpuid(kvm_bindings::KVM_MAX_CPUID_ENTRIES)
            .or_fault(|| refused("KVM_GET_SUPPORTED_CPUID"))?;
        // The frequency is asked of a machine that is gone at once: older kernels tell it of processors only.
        let machine = self.kvm.create_vm().or_fault(|| refused("KVM_CREATE_VM"))?;
        let frequency = machine
            .create_vcpu(0)
            .and_then(|processor| processor.get_tsc_khz())
            .or_fault(|| refused("KVM_GET_TSC_KHZ"))?;
        Ok(identity::leaves(supported.as_slice(), frequency))
    }

    fn create(&self, config: VmConfig) -> Result<Arc<dyn Vm>> {
        if !config.clock.is_host() {
            return Err(Fault::new(FOREIGN_CLOCK));
        }
        Ok(Arc::new(vm::KvmVm::new(&self.kvm, config.ioapic_pins)?))
    }
}

/// The fault of a call that the kernel refused, still without its cause.
pub(crate) fn refused(call: &'static str) -> Fault {
    Fault::new(REFUSED).arg("call", call)
}
