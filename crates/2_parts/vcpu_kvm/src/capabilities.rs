//! What a machine needs of the kernel's KVM.

use fault::{Fault, Result};
use kvm_bindings as kb;

use crate::LACKS;

/// Capabilities without which no machine of ours can be. All of them are in Linux since 5.10 at the latest.
const NEEDED: &[(&str, u32)] = &[
    ("KVM_CAP_USER_MEMORY", kb::KVM_CAP_USER_MEMORY),
    ("KVM_CAP_READONLY_MEM", kb::KVM_CAP_READONLY_MEM),
    ("KVM_CAP_SET_TSS_ADDR", kb::KVM_CAP_SET_TSS_ADDR),
    ("KVM_CAP_IRQCHIP", kb::KVM_CAP_IRQCHIP),
    ("KVM_CAP_SPLIT_IRQCHIP", kb::KVM_CAP_SPLIT_IRQCHIP),
    ("KVM_CAP_X2APIC_API", kb::KVM_CAP_X2APIC_API),
    ("KVM_CAP_SIGNAL_MSI", kb::KVM_CAP_SIGNAL_MSI),
    ("KVM_CAP_IRQ_ROUTING", kb::KVM_CAP_IRQ_ROUTING),
    ("KVM_CAP_IOEVENTFD", kb::KVM_CAP_IOEVENTFD),
    ("KVM_CAP_IOEVENTFD_ANY_LENGTH", kb::KVM_CAP_IOEVENTFD_ANY_LENGTH),
    ("KVM_CAP_IMMEDIATE_EXIT", kb::KVM_CAP_IMMEDIATE_EXIT),
    ("KVM_CAP_EXT_CPUID", kb::KVM_CAP_EXT_CPUID),
    ("KVM_CAP_MP_STATE", kb::KVM_CAP_MP_STATE),
    ("KVM_CAP_VCPU_EVENTS", kb::KVM_CAP_VCPU_EVENTS),
    ("KVM_CAP_DEBUGREGS", kb::KVM_CAP_DEBUGREGS),
    ("KVM_CAP_XSAVE", kb::KVM_CAP_XSAVE),
    ("KVM_CAP_XCRS", kb::KVM_CAP_XCRS),
    ("KVM_CAP_USER_NMI", kb::KVM_CAP_USER_NMI),
    ("KVM_CAP_ADJUST_CLOCK", kb::KVM_CAP_ADJUST_CLOCK),
    ("KVM_CAP_GET_TSC_KHZ", kb::KVM_CAP_GET_TSC_KHZ),
    ("KVM_CAP_TSC_DEADLINE_TIMER", kb::KVM_CAP_TSC_DEADLINE_TIMER),
];

/// Refuses a KVM that lacks something, by its name.
pub(crate) fn check(kvm: &kvm_ioctls::Kvm) -> Result<()> {
    match NEEDED
        .iter()
        .find(|(_, number)| kvm.check_extension_raw((*number).into()) <= 0)
    {
        Some((name, _)) => Err(Fault::new(LACKS).arg("capability", name)),
        None => Ok(()),
    }
}
