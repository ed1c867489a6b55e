//! Single accesses to guest memory at host addresses: the one place where the interpreter dereferences them.
//!
//! On an x86-64 host every access up to eight bytes is one instruction of the host, so that what the architecture promises about
//! single accesses and their order between processors (SDM Vol. 3 §9.2) is what the host gives. Elsewhere aligned accesses are
//! atomic operations with acquire and release order, others go byte by byte.
#![allow(
    unsafe_code,
    reason = "reads and writes guest memory, which other processors and devices change at the same time"
)]

use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

/// Integers that lie in guest memory.
pub(crate) trait Plain: Sized + Copy {
    /// Reads at a host address.
    ///
    /// # Safety
    /// The bytes lie in mapped guest memory.
    unsafe fn load(at: usize) -> Self;
    /// Writes at a host address.
    ///
    /// # Safety
    /// The bytes lie in mapped guest memory.
    unsafe fn store(at: usize, value: Self);
    /// Replaces the old value by a new one in one step; tells the value found when that was another.
    ///
    /// # Safety
    /// The bytes lie in mapped guest memory, and the address is a multiple of the size.
    unsafe fn swap(at: usize, old: Self, new: Self) -> Result<(), Self>;
}

macro_rules! plain {
    ($($type:ty, $atomic:ty, $class:ident, $load:literal, $store:literal;)*) => {$(
        impl Plain for $type {
            #[inline(always)]
            unsafe fn load(at: usize) -> $type {
                #[cfg(target_arch = "x86_64")]
                {
                    let value;
                    // SAFETY: the caller promises mapped memory; the instruction only reads it.
                    unsafe {
                        std::arch::asm!($load, value = out($class) value, at = in(reg) at,
                            options(nostack, preserves_flags, readonly));
                    }
                    value
                }
                #[cfg(not(target_arch = "x86_64"))]
                {
                    if at % size_of::<$type>() == 0 {
                        // SAFETY: mapped and aligned; an atomic integer allows shared and changing memory.
                        return <$type>::from_le(unsafe { &*(at as *const $atomic) }.load(Ordering::Acquire));
                    }
                    let mut bytes = [0; size_of::<$type>()];
                    for (n, byte) in bytes.iter_mut().enumerate() {
                        // SAFETY: one byte of the mapped range.
                        *byte = unsafe { &*((at + n) as *const AtomicU8) }.load(Ordering::Acquire);
                    }
                    <$type>::from_le_bytes(bytes)
                }
            }

            #[inline(always)]
            unsafe fn store(at: usize, value: $type) {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: the caller promises mapped memory, of which no reference exists.
                unsafe {
                    std::arch::asm!($store, value = in($class) value, at = in(reg) at, options(nostack, preserves_flags));
                }
                #[cfg(not(target_arch = "x86_64"))]
                {
                    if at % size_of::<$type>() == 0 {
                        // SAFETY: mapped and aligned.
                        unsafe { &*(at as *const $atomic) }.store(value.to_le(), Ordering::Release);
                        return;
                    }
                    for (n, byte) in value.to_le_bytes().into_iter().enumerate() {
                        // SAFETY: one byte of the mapped range.
                        unsafe { &*((at + n) as *const AtomicU8) }.store(byte, Ordering::Release);
                    }
                }
            }

            #[inline(always)]
            unsafe fn swap(at: usize, old: $type, new: $type) -> Result<(), $type> {
                // SAFETY: mapped and aligned by the caller's promise; an atomic integer allows shared and changing memory.
                unsafe { &*(at as *const $atomic) }
                    .compare_exchange(old.to_le(), new.to_le(), Ordering::SeqCst, Ordering::SeqCst)
                    .map(drop)
                    .map_err(<$type>::from_le)
            }
        }
    )*};
}

plain! {
    u8, AtomicU8, reg_byte, "mov {value}, byte ptr [{at}]", "mov byte ptr [{at}], {value}";
    u16, AtomicU16, reg, "mov {value:x}, word ptr [{at}]", "mov word ptr [{at}], {value:x}";
    u32, AtomicU32, reg, "mov {value:e}, dword ptr [{at}]", "mov dword ptr [{at}], {value:e}";
    u64, AtomicU64, reg, "mov {value}, qword ptr [{at}]", "mov qword ptr [{at}], {value}";
}

/// Replaces 16 bytes in one step (CMPXCHG16B); tells the bytes found when they were others.
///
/// # Safety
/// The bytes lie in mapped guest memory, and the address is a multiple of 16.
pub(crate) unsafe fn swap_16(at: usize, old: (u64, u64), new: (u64, u64)) -> Result<(), (u64, u64)> {
    #[cfg(target_arch = "x86_64")]
    {
        let (low, high): (u64, u64);
        // SAFETY: the caller promises mapped, aligned memory; RBX is put back, since the compiler keeps it for itself.
        unsafe {
            std::arch::asm!(
                "xchg rsi, rbx",
                "lock cmpxchg16b [rdi]",
                "mov rbx, rsi",
                inout("rsi") new.0 => _,
                in("rdi") at,
                in("rcx") new.1,
                inout("rax") old.0 => low,
                inout("rdx") old.1 => high,
                options(nostack)
            );
        }
        if (low, high) == old {
            Ok(())
        } else {
            Err((low, high))
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        // One processor at a time holds the lock of locked instructions here; see `access`.
        // SAFETY: the caller promises mapped memory.
        unsafe {
            let found = (u64::load(at), u64::load(at + 8));
            if found == old {
                u64::store(at, new.0);
                u64::store(at + 8, new.1);
                Ok(())
            } else {
                Err(found)
            }
        }
    }
}

/// Copies within guest memory, lowest byte first in pieces of eight: the ranges do not overlap.
///
/// # Safety
/// Both ranges lie in mapped guest memory.
pub(crate) unsafe fn copy(from: usize, to: usize, len: usize) {
    // SAFETY: the caller promises mapped ranges apart from each other; a copy that mixes with another processor's writes is what
    // real hardware does too.
    unsafe { std::ptr::copy_nonoverlapping(from as *const u8, to as *mut u8, len) }
}

/// Fills guest memory with a repeated value.
///
/// # Safety
/// The range lies in mapped guest memory.
pub(crate) unsafe fn fill(at: usize, len: usize, byte: u8) {
    // SAFETY: the caller promises a mapped range.
    unsafe { std::ptr::write_bytes(at as *mut u8, byte, len) }
}

/// Reads bytes out.
///
/// # Safety
/// The range lies in mapped guest memory.
pub(crate) unsafe fn read(at: usize, bytes: &mut [u8]) {
    // SAFETY: the caller promises a mapped range; the target is ours.
    unsafe { std::ptr::copy_nonoverlapping(at as *const u8, bytes.as_mut_ptr(), bytes.len()) }
}
