//! What CPUID tells: features from the table of instructions, and the hypervisor's leaves.
//!
//! The vendor is Intel's, since its rules are the ones followed where vendors differ (SYSENTER everywhere, SYSCALL in 64-bit mode
//! only, null selectors clear bases), and because IA32_ARCH_CAPABILITIES lets a processor without speculation say so: kernels then
//! leave out what would only cost time. Family 6, model 0x2c is that of processors with this set of features; the name is ours.

use vcpu::cpuid::{self, Leaf};

use crate::cpu::{Cpu, cr4};

/// The components of the XSAVE area: x87 and SSE.
pub(crate) const XCR0: u64 = 3;
/// Size of the XSAVE area.
const XSAVE_SIZE: u32 = 576;
const NAME: &[u8; 48] = b"Posada software CPU\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

const fn bits(numbers: &[u32]) -> u32 {
    let mut word = 0;
    let mut n = 0;
    while n < numbers.len() {
        word |= 1 << numbers[n];
        n += 1;
    }
    word
}

/// Leaf 1 ECX: SSE3, PCLMULQDQ, SSSE3, CX16, PCID, SSE4.1, SSE4.2, x2APIC, MOVBE, POPCNT, TSC deadline, AES, XSAVE, RDRAND,
/// hypervisor.
const LEAF1_ECX: u32 = bits(&[0, 1, 9, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 30, 31]);
/// Leaf 1 EDX: FPU, DE, PSE, TSC, MSR, PAE, CX8, APIC, SEP, MTRR, PGE, CMOV, PAT, PSE-36, CLFLUSH, MMX, FXSR, SSE, SSE2.
const LEAF1_EDX: u32 = bits(&[0, 2, 3, 4, 5, 6, 8, 9, 11, 12, 13, 15, 16, 17, 19, 23, 24, 25, 26]);
/// Leaf 7 EBX: FSGSBASE, TSC_ADJUST, BMI1, SMEP, BMI2, ERMS, INVPCID, RDSEED, ADX, SMAP, CLFLUSHOPT.
const LEAF7_EBX: u32 = bits(&[0, 1, 3, 7, 8, 9, 10, 18, 19, 20, 23]);
/// Leaf 7 ECX: UMIP.
const LEAF7_ECX: u32 = bits(&[2]);
/// Leaf 7 EDX: FSRM, IBRS and IBPB, ARCH_CAPABILITIES, SSBD.
const LEAF7_EDX: u32 = bits(&[4, 26, 29, 31]);
/// Leaf 0x8000_0001 ECX: LAHF, LZCNT, PREFETCHW.
const EXTENDED_ECX: u32 = bits(&[0, 5, 8]);
/// Leaf 0x8000_0001 EDX: SYSCALL, NX, 1 GiB pages, RDTSCP, long mode.
const EXTENDED_EDX: u32 = bits(&[11, 20, 26, 27, 29]);

/// Bits of leaf 1 that the host must have, since `fpu` executes them by the host's own instructions: (bit, name).
const HOST_ECX: &[(u32, &str)] = &[
    (0, "sse3"),
    (1, "pclmulqdq"),
    (9, "ssse3"),
    (19, "sse4.1"),
    (20, "sse4.2"),
    (25, "aes"),
];

fn leaf(function: u32, index: Option<u32>, [eax, ebx, ecx, edx]: [u32; 4]) -> Leaf {
    Leaf {
        function,
        index,
        eax,
        ebx,
        ecx,
        edx,
    }
}

fn word(bytes: &[u8], n: usize) -> u32 {
    u32::from_le_bytes([bytes[4 * n], bytes[4 * n + 1], bytes[4 * n + 2], bytes[4 * n + 3]])
}

/// Leaf 1 ECX as far as the host goes.
fn leaf1_ecx() -> u32 {
    let missing = HOST_ECX
        .iter()
        .filter(|(_, name)| !crate::ops::float::host_has(name))
        .fold(0, |missing, (bit, _)| missing | 1 << bit);
    LEAF1_ECX & !missing
}

/// All leaves, without topology.
pub(crate) fn leaves() -> Vec<Leaf> {
    let vendor = b"GenuineIntel";
    let name = |n: usize| std::array::from_fn(|m| word(NAME, 4 * n + m));
    let signature = b"KVMKVMKVM\0\0\0";
    let hypervisor = [
        cpuid::HYPERVISOR_TIMING,
        word(signature, 0),
        word(signature, 1),
        word(signature, 2),
    ];
    let paravirtual = cpuid::FEATURE_CLOCK | cpuid::FEATURE_PV_EOI | cpuid::FEATURE_CLOCK_STABLE;
    let khz = crate::time::NOMINAL_KHZ as u32;
    vec![
        leaf(0, None, [0x16, word(vendor, 0), word(vendor, 2), word(vendor, 1)]),
        leaf(1, None, [0x206c1, 0x800, leaf1_ecx(), LEAF1_EDX]),
        leaf(2, None, [1, 0, 0, 0]),
        // One level of caches, for software that wants to see some: 32 KiB of 8 ways.
        leaf(4, Some(0), [0x121, 7 << 22 | 63, 63, 0]),
        leaf(4, Some(1), [0x122, 7 << 22 | 63, 63, 0]),
        leaf(4, Some(2), [0, 0, 0, 0]),
        leaf(6, None, [1 << 2, 0, 0, 0]),
        leaf(7, Some(0), [0, LEAF7_EBX, LEAF7_ECX, LEAF7_EDX]),
        leaf(0xd, Some(0), [XCR0 as u32, XSAVE_SIZE, XSAVE_SIZE, 0]),
        leaf(0xd, Some(1), [1, 0, 0, 0]),
        leaf(0x15, None, [1, 1, khz * 1000, 0]),
        leaf(0x16, None, [1000, 1000, 1000, 0]),
        leaf(cpuid::HYPERVISOR, None, hypervisor),
        leaf(cpuid::HYPERVISOR_FEATURES, None, [paravirtual, 0, 0, 0]),
        leaf(cpuid::HYPERVISOR_TIMING, None, [khz, khz, 0, 0]),
        leaf(0x8000_0000, None, [0x8000_0008, 0, 0, 0]),
        leaf(0x8000_0001, None, [0, 0, EXTENDED_ECX, EXTENDED_EDX]),
        leaf(0x8000_0002, None, name(0)),
        leaf(0x8000_0003, None, name(1)),
        leaf(0x8000_0004, None, name(2)),
        leaf(0x8000_0006, None, [0, 0, 0x100_6040, 0]),
        // The time-stamp counter never stops nor changes its rate.
        leaf(0x8000_0007, None, [0, 0, 0, 1 << 8]),
        leaf(
            0x8000_0008,
            None,
            [48 << 8 | crate::memory::walk::PHYSICAL_BITS, 0, 0, 0],
        ),
    ]
}

impl Cpu {
    /// The answer to CPUID: EAX, EBX, ECX, EDX.
    pub(crate) fn cpuid_answer(&self, function: u32, index: u32) -> [u32; 4] {
        let Some(leaf) = cpuid::find(&self.cpuid, function, index) else {
            return [0; 4];
        };
        let mut ecx = leaf.ecx;
        if function == 1 {
            ecx &= !(1 << 27);
            ecx |= u32::from(self.cr4 & cr4::OSXSAVE != 0) << 27;
        }
        [leaf.eax, leaf.ebx, ecx, leaf.edx]
    }

    /// Frequency of the time-stamp counter that the leaves promise.
    pub(crate) fn promised_khz(leaves: &[Leaf]) -> u64 {
        cpuid::find(leaves, cpuid::HYPERVISOR_TIMING, 0)
            .map(|leaf| u64::from(leaf.eax))
            .filter(|khz| *khz >= 1000)
            .unwrap_or(crate::time::NOMINAL_KHZ)
    }
}
