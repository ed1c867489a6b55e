//! Reaching a processor inside KVM_RUN from another thread: a signal, and the flag that makes KVM_RUN return at once.
//!
//! ```text
//! others:     kicked = true ; immediate_exit = 1 ; signal to the thread
//! its thread: immediate_exit = 0 ; look at kicked (and at everything else that others change) ; KVM_RUN
//! ```
//!
//! Whichever comes first, nothing is missed: either the thread sees the change before KVM_RUN, or KVM_RUN sees the flag, or the
//! signal ends it. The flag lies in `struct kvm_run`, which is mapped once more for it.
#![allow(
    unsafe_code,
    reason = "a page shared with the kernel, a signal handler, signals to threads"
)]

use std::ptr::NonNull;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, Ordering};

use kvm_ioctls::VcpuFd;
use rustix::mm::{MapFlags, ProtFlags};

use crate::sys;

const PAGE: usize = 4096;

/// One processor as other threads reach it.
pub(crate) struct Door {
    run: NonNull<u8>,
    thread: AtomicI32,
    kicked: AtomicBool,
    inside: AtomicBool,
}

// SAFETY: the page is mapped until the door is dropped and is reached through atomics only.
unsafe impl Send for Door {}
// SAFETY: as above.
unsafe impl Sync for Door {}

impl Drop for Door {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`; nobody else has its address.
        let _ = unsafe { rustix::mm::munmap(self.run.as_ptr().cast(), PAGE) };
    }
}

/// The signal that ends KVM_RUN: its handler does nothing.
fn signal() -> libc::c_int {
    libc::SIGRTMIN()
}

extern "C" fn nothing(_: libc::c_int) {}

/// Installs the handler, once in a process. Without SA_RESTART, although KVM_RUN does not care.
fn install() {
    static DONE: Once = Once::new();
    DONE.call_once(|| {
        // SAFETY: zeros are a valid `sigaction`; the handler does nothing and so may interrupt anything.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as usize;
            libc::sigemptyset(&raw mut action.sa_mask);
            libc::sigaction(signal(), &raw const action, std::ptr::null_mut());
        }
    });
}

impl Door {
    pub(crate) fn new(processor: &VcpuFd) -> std::io::Result<Door> {
        install();
        // SAFETY: a new mapping at an address that the kernel chooses; the first page of a processor's descriptor is its kvm_run.
        let run = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                PAGE,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                sys::descriptor(processor),
                0,
            )?
        };
        Ok(Door {
            run: NonNull::new(run.cast()).expect("mmap never returns a null mapping"),
            thread: AtomicI32::new(0),
            kicked: AtomicBool::new(false),
            inside: AtomicBool::new(false),
        })
    }

    /// Sets or clears the flag with which KVM_RUN returns at once.
    pub(crate) fn at_once(&self, on: bool) {
        let offset = std::mem::offset_of!(kvm_bindings::kvm_run, immediate_exit);
        // SAFETY: inside the mapped page; the kernel reads this byte, and other threads reach it through this function only.
        let flag = unsafe { AtomicU8::from_ptr(self.run.as_ptr().add(offset)) };
        flag.store(on.into(), Ordering::SeqCst);
    }

    /// Makes the present or next KVM_RUN come back, unless the thread clears the flag first and so sees what has changed.
    pub(crate) fn poke(&self) {
        self.at_once(true);
        let thread = self.thread.load(Ordering::SeqCst);
        if thread != 0 {
            // SAFETY: a signal whose handler does nothing, to a thread of this process (or, should it have ended meanwhile, to
            // another one of it or none).
            unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, signal()) };
        }
    }

    /// Whether it was kicked since the last look.
    pub(crate) fn take_kick(&self) -> bool {
        self.kicked.swap(false, Ordering::SeqCst)
    }

    /// Notes whether the thread is inside KVM_RUN or about to enter it.
    pub(crate) fn set_inside(&self, inside: bool) {
        self.inside.store(inside, Ordering::SeqCst);
    }

    pub(crate) fn is_inside(&self) -> bool {
        self.inside.load(Ordering::SeqCst)
    }

    /// Makes this thread the one that runs the processor, and lets the signal through to it.
    pub(crate) fn attend(&self) -> Attending<'_> {
        // SAFETY: the set is a local; unblocking a signal with a handler is always allowed.
        unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            libc::sigaddset(&raw mut set, signal());
            libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut());
        }
        let thread = rustix::thread::gettid().as_raw_nonzero().get();
        self.thread.store(thread, Ordering::SeqCst);
        Attending(self)
    }
}

/// As long as it lives, its thread runs the processor.
pub(crate) struct Attending<'a>(&'a Door);

impl Drop for Attending<'_> {
    fn drop(&mut self) {
        self.0.thread.store(0, Ordering::SeqCst);
    }
}

impl vcpu::Kick for Door {
    fn kick(&self) {
        self.kicked.store(true, Ordering::SeqCst);
        self.poke();
    }
}
