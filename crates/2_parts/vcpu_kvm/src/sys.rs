//! Calls into KVM that kvm-ioctls leaves unsafe or does not have.
#![allow(
    unsafe_code,
    reason = "ioctls that take addresses, and descriptors handed over by number"
)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};

use guestmem::HostRange;
use kvm_bindings::{kvm_ioeventfd, kvm_userspace_memory_region};
use kvm_ioctls::{VcpuFd, VmFd};

/// `_IOR(KVMIO, 0xa4, struct kvm_xsave)`.
const KVM_GET_XSAVE: libc::c_ulong = 0x9000_aea4;
/// `_IOW(KVMIO, 0xa5, struct kvm_xsave)`; reads as many bytes as KVM_CAP_XSAVE2 tells.
const KVM_SET_XSAVE: libc::c_ulong = 0x5000_aea5;
/// `_IOR(KVMIO, 0xcf, struct kvm_xsave)`; writes as many bytes as KVM_CAP_XSAVE2 tells.
const KVM_GET_XSAVE2: libc::c_ulong = 0x9000_aecf;
/// `_IOW(KVMIO, 0x79, struct kvm_ioeventfd)`.
const KVM_IOEVENTFD: libc::c_ulong = 0x4040_ae79;

/// Bytes of `struct kvm_xsave`, the least that KVM_CAP_XSAVE2 tells.
pub(crate) const XSAVE_LEAST: usize = 4096;

/// The descriptor as kvm-ioctls has it.
pub(crate) fn kvm(descriptor: OwnedFd) -> kvm_ioctls::Kvm {
    // SAFETY: the descriptor is ours alone and handed over. That it may not be KVM's is found out by asking for the version.
    unsafe { kvm_ioctls::Kvm::from_raw_fd(descriptor.into_raw_fd()) }
}

/// Another descriptor of the same.
pub(crate) fn duplicate(of: &kvm_ioctls::Kvm) -> io::Result<kvm_ioctls::Kvm> {
    // SAFETY: it keeps its descriptor open for as long as it is borrowed.
    let descriptor = unsafe { BorrowedFd::borrow_raw(of.as_raw_fd()) };
    Ok(kvm(descriptor.try_clone_to_owned()?))
}

/// A descriptor of a processor, borrowed.
pub(crate) fn descriptor(processor: &VcpuFd) -> BorrowedFd<'_> {
    // SAFETY: the processor keeps its descriptor open for as long as it is borrowed.
    unsafe { BorrowedFd::borrow_raw(processor.as_raw_fd()) }
}

/// Sets, changes or (with a size of 0) takes away a memory slot. The caller keeps the block of `host` for as long as the slot is.
pub(crate) fn set_memory(
    vm: &VmFd,
    slot: u32,
    flags: u32,
    start: u64,
    size: u64,
    host: HostRange,
) -> io::Result<()> {
    let region = kvm_userspace_memory_region {
        slot,
        flags,
        guest_phys_addr: start,
        memory_size: size,
        userspace_addr: host.start as u64,
    };
    assert!(size <= host.len as u64, "a slot is no longer than its memory");
    // SAFETY: the range is mapped memory of a block, which the map of memory keeps until the slot is gone; guest memory is never a
    // reference of Rust's, so the guest may write it at any time.
    unsafe { vm.set_user_memory_region(region) }.map_err(from_errno)
}

/// Makes writes to an address, of any length, add 1 to an event descriptor; or takes that away.
pub(crate) fn doorbell(vm: &VmFd, address: u64, event: BorrowedFd<'_>, on: bool) -> io::Result<()> {
    let doorbell = kvm_ioeventfd {
        addr: address,
        len: 0,
        fd: event.as_raw_fd(),
        flags: if on {
            0
        } else {
            1 << kvm_bindings::kvm_ioeventfd_flag_nr_deassign
        },
        ..kvm_ioeventfd::default()
    };
    // SAFETY: the kernel reads the structure only, which is as long as the number of the call says.
    check(unsafe { libc::ioctl(vm.as_raw_fd(), KVM_IOEVENTFD, &raw const doorbell) })
}

/// The XSAVE area of a processor, `size` bytes as KVM_CAP_XSAVE2 told (at least [`XSAVE_LEAST`]).
pub(crate) fn get_xsave(processor: &VcpuFd, size: usize) -> io::Result<Vec<u8>> {
    let mut area = vec![0; size.max(XSAVE_LEAST)];
    let call = if size > XSAVE_LEAST {
        KVM_GET_XSAVE2
    } else {
        KVM_GET_XSAVE
    };
    // SAFETY: KVM_GET_XSAVE writes 4096 bytes, KVM_GET_XSAVE2 as many as the capability told; the area has them.
    check(unsafe { libc::ioctl(processor.as_raw_fd(), call, area.as_mut_ptr()) })?;
    Ok(area)
}

/// Puts an XSAVE area in place. It must have the size that KVM_CAP_XSAVE2 told.
pub(crate) fn set_xsave(processor: &VcpuFd, area: &[u8]) -> io::Result<()> {
    assert!(
        area.len() >= XSAVE_LEAST,
        "the kernel reads at least one struct kvm_xsave"
    );
    // SAFETY: the kernel reads as many bytes as the capability told, which the callers allocate.
    check(unsafe { libc::ioctl(processor.as_raw_fd(), KVM_SET_XSAVE, area.as_ptr()) })
}

fn check(answer: libc::c_int) -> io::Result<()> {
    match answer {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// The error of a call of kvm-ioctls as an error of the operating system, with its words.
pub(crate) fn from_errno(error: kvm_ioctls::Error) -> io::Error {
    io::Error::from_raw_os_error(error.errno())
}
