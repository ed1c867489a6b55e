//! Why KVM_RUN came back, and the bytes that pass through the page it shares with us.
#![allow(
    unsafe_code,
    reason = "struct kvm_run holds a union, and data at offsets that the kernel tells"
)]

use kvm_bindings as kb;
use kvm_ioctls::VcpuFd;
use vcpu::Io;

/// Reasons of an exit that a machine knows.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// The guest reached for something outside: the access has been done, and is completed by the next KVM_RUN.
    Access,
    /// A local APIC ended a level-triggered interrupt.
    EndOfInterrupt(u8),
    /// The processor can take an external interrupt now.
    Window,
    /// A triple fault.
    TripleFault,
    /// A signal, an immediate exit, or a wake-up of a processor that waits for start-up.
    Interrupted,
    /// Nothing that a guest can do: the reason in words.
    Unexpected(String),
}

/// Enters the guest, and does what it reaches for when it comes back.
pub(crate) fn enter(
    processor: &mut VcpuFd,
    io: &dyn Io,
    before: impl FnOnce(),
    after: impl FnOnce(),
) -> Exit {
    before();
    let entered = match processor.run() {
        Ok(_) => Ok(()),
        Err(error) => Err(error.errno()),
    };
    after();
    match entered {
        Err(libc::EINTR | libc::EAGAIN) => return Exit::Interrupted,
        Err(error) => {
            let error = std::io::Error::from_raw_os_error(error);
            return Exit::Unexpected(format!("KVM_RUN: {error}"));
        }
        Ok(()) => {}
    }
    let run = processor.get_kvm_run();
    match run.exit_reason {
        kb::KVM_EXIT_IO => port(run, io),
        kb::KVM_EXIT_MMIO => mmio(run, io),
        kb::KVM_EXIT_IOAPIC_EOI => {
            // SAFETY: the reason says which member of the union the kernel has written; any byte is a vector.
            Exit::EndOfInterrupt(unsafe { run.__bindgen_anon_1.eoi.vector })
        }
        kb::KVM_EXIT_IRQ_WINDOW_OPEN => Exit::Window,
        kb::KVM_EXIT_SHUTDOWN => Exit::TripleFault,
        kb::KVM_EXIT_INTR => Exit::Interrupted,
        reason => Exit::Unexpected(describe(run, reason)),
    }
}

/// A port access; that of a string instruction has several items of one size.
fn port(run: &mut kb::kvm_run, io: &dyn Io) -> Exit {
    // SAFETY: the reason says which member of the union the kernel has written; it is made of integers.
    let access = unsafe { run.__bindgen_anon_1.io };
    let size = usize::from(access.size);
    let len = size * access.count as usize;
    let start = std::ptr::from_mut(run).cast::<u8>();
    // SAFETY: the kernel puts the data into the pages that follow the structure, which kvm-ioctls has mapped with it
    // (KVM_GET_VCPU_MMAP_SIZE), and changes them only inside KVM_RUN. The slice does not overlap the structure.
    let data = unsafe { std::slice::from_raw_parts_mut(start.add(access.data_offset as usize), len) };
    for item in data.chunks_exact_mut(size.max(1)) {
        if u32::from(access.direction) == kb::KVM_EXIT_IO_OUT {
            io.port_write(access.port, item);
        } else {
            io.port_read(access.port, item);
        }
    }
    Exit::Access
}

fn mmio(run: &mut kb::kvm_run, io: &dyn Io) -> Exit {
    // SAFETY: as in `port`; the guest's data is eight bytes, of which `len` count.
    let access = unsafe { &mut run.__bindgen_anon_1.mmio };
    let address = access.phys_addr;
    let len = (access.len as usize).min(access.data.len());
    let data = &mut access.data[..len];
    if access.is_write != 0 {
        io.mmio_write(address, data);
    } else {
        io.mmio_read(address, data);
    }
    Exit::Access
}

fn describe(run: &kb::kvm_run, reason: u32) -> String {
    match reason {
        kb::KVM_EXIT_FAIL_ENTRY => {
            // SAFETY: the reason says which member of the union the kernel has written; it is made of integers.
            let entry = unsafe { run.__bindgen_anon_1.fail_entry };
            let why = entry.hardware_entry_failure_reason;
            format!("the host's processor refuses to enter the guest ({why:#x})")
        }
        kb::KVM_EXIT_INTERNAL_ERROR => {
            // SAFETY: as above.
            let error = unsafe { run.__bindgen_anon_1.internal };
            let data = &error.data[..(error.ndata as usize).min(error.data.len())];
            match error.suberror {
                kb::KVM_INTERNAL_ERROR_EMULATION => {
                    // SAFETY: as above; this member begins like the other.
                    let failure = unsafe { run.__bindgen_anon_1.emulation_failure };
                    // SAFETY: integers again, an inner union of one member.
                    let bytes = unsafe { failure.__bindgen_anon_1.__bindgen_anon_1 };
                    let known = failure.ndata > 0
                        && failure.flags & u64::from(kb::KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES)
                            != 0;
                    let len = if known {
                        usize::from(bytes.insn_size).min(15)
                    } else {
                        0
                    };
                    format!(
                        "KVM cannot emulate an instruction ({:02x?})",
                        &bytes.insn_bytes[..len]
                    )
                }
                suberror => format!("internal error {suberror} of KVM ({data:x?})"),
            }
        }
        _ => format!("KVM_EXIT {reason}"),
    }
}
