//! Floating-point arithmetic, comparison and conversion of SSE to SSE4.1.

use super::Entry;
use super::lanes::From::{Neighbours, Product, Sum};
use super::lanes::Results::{Doubles, Narrowed, Never, Singles};

/// The instructions, by frame and operands.
pub(super) static TABLES: &[&[Entry]] = &[
    entries!(floating[Singles(4, Sum)], " xmm0, xmmword ptr [rdi + 16]":
        Addps_xmm_xmmm128 "addps", Subps_xmm_xmmm128 "subps", Addsubps_xmm_xmmm128 "addsubps",
    ),
    entries!(floating[Singles(4, Product)], " xmm0, xmmword ptr [rdi + 16]":
        Mulps_xmm_xmmm128 "mulps", Divps_xmm_xmmm128 "divps",
    ),
    entries!(floating[Singles(4, Neighbours)], " xmm0, xmmword ptr [rdi + 16]":
        Haddps_xmm_xmmm128 "haddps", Hsubps_xmm_xmmm128 "hsubps",
    ),
    entries!(floating[Never], " xmm0, xmmword ptr [rdi + 16]":
        Sqrtps_xmm_xmmm128 "sqrtps", Minps_xmm_xmmm128 "minps", Maxps_xmm_xmmm128 "maxps",
    ),
    entries!(floating[Doubles(2, Sum)], " xmm0, xmmword ptr [rdi + 16]":
        Addpd_xmm_xmmm128 "addpd", Subpd_xmm_xmmm128 "subpd", Addsubpd_xmm_xmmm128 "addsubpd",
    ),
    entries!(floating[Doubles(2, Product)], " xmm0, xmmword ptr [rdi + 16]":
        Mulpd_xmm_xmmm128 "mulpd", Divpd_xmm_xmmm128 "divpd",
    ),
    entries!(floating[Doubles(2, Neighbours)], " xmm0, xmmword ptr [rdi + 16]":
        Haddpd_xmm_xmmm128 "haddpd", Hsubpd_xmm_xmmm128 "hsubpd",
    ),
    entries!(floating[Never], " xmm0, xmmword ptr [rdi + 16]":
        Sqrtpd_xmm_xmmm128 "sqrtpd", Minpd_xmm_xmmm128 "minpd", Maxpd_xmm_xmmm128 "maxpd",
    ),
    entries!(floating[Singles(1, Sum)], " xmm0, dword ptr [rdi + 16]":
        Addss_xmm_xmmm32 "addss", Subss_xmm_xmmm32 "subss",
    ),
    entries!(floating[Singles(1, Product)], " xmm0, dword ptr [rdi + 16]":
        Mulss_xmm_xmmm32 "mulss", Divss_xmm_xmmm32 "divss",
    ),
    entries!(floating[Never], " xmm0, dword ptr [rdi + 16]":
        Sqrtss_xmm_xmmm32 "sqrtss", Minss_xmm_xmmm32 "minss", Maxss_xmm_xmmm32 "maxss",
    ),
    entries!(floating[Doubles(1, Sum)], " xmm0, qword ptr [rdi + 16]":
        Addsd_xmm_xmmm64 "addsd", Subsd_xmm_xmmm64 "subsd",
    ),
    entries!(floating[Doubles(1, Product)], " xmm0, qword ptr [rdi + 16]":
        Mulsd_xmm_xmmm64 "mulsd", Divsd_xmm_xmmm64 "divsd",
    ),
    entries!(floating[Never], " xmm0, qword ptr [rdi + 16]":
        Sqrtsd_xmm_xmmm64 "sqrtsd", Minsd_xmm_xmmm64 "minsd", Maxsd_xmm_xmmm64 "maxsd",
    ),
    entries!(floating[Narrowed(2)], " xmm0, xmmword ptr [rdi + 16]":
        Cvtpd2ps_xmm_xmmm128 "cvtpd2ps",
    ),
    entries!(floating[Narrowed(1)], " xmm0, qword ptr [rdi + 16]":
        Cvtsd2ss_xmm_xmmm64 "cvtsd2ss",
    ),
    entries!(plain, " xmm0, qword ptr [rdi + 16]":
        Cvtdq2pd_xmm_xmmm64 "cvtdq2pd",
    ),
    entries!(plain, " xmm0, dword ptr [rdi + 16]":
        Cvtsi2sd_xmm_rm32 "cvtsi2sd",
    ),
    entries!(floating[Never], " xmm0, xmmword ptr [rdi + 16]":
        Cvtdq2ps_xmm_xmmm128 "cvtdq2ps", Cvtps2dq_xmm_xmmm128 "cvtps2dq",
        Cvttps2dq_xmm_xmmm128 "cvttps2dq", Cvttpd2dq_xmm_xmmm128 "cvttpd2dq",
        Cvtpd2dq_xmm_xmmm128 "cvtpd2dq",
    ),
    entries!(floating[Never], " xmm0, qword ptr [rdi + 16]":
        Cvtps2pd_xmm_xmmm64 "cvtps2pd",
    ),
    entries!(floating[Never], " xmm0, dword ptr [rdi + 16]":
        Cvtss2sd_xmm_xmmm32 "cvtss2sd",
    ),
    entries!(floating[Never], " xmm0, dword ptr [rdi + 16]":
        Cvtsi2ss_xmm_rm32 "cvtsi2ss",
    ),
    entries!(floating[Never], " xmm0, qword ptr [rdi + 16]":
        Cvtsi2ss_xmm_rm64 "cvtsi2ss", Cvtsi2sd_xmm_rm64 "cvtsi2sd",
    ),
    entries!(floating_to_general[Never], " eax, dword ptr [rdi + 16]":
        Cvttss2si_r32_xmmm32 "cvttss2si", Cvtss2si_r32_xmmm32 "cvtss2si",
    ),
    entries!(floating_to_general[Never], " eax, qword ptr [rdi + 16]":
        Cvttsd2si_r32_xmmm64 "cvttsd2si", Cvtsd2si_r32_xmmm64 "cvtsd2si",
    ),
    entries!(floating_to_general[Never], " rax, dword ptr [rdi + 16]":
        Cvttss2si_r64_xmmm32 "cvttss2si", Cvtss2si_r64_xmmm32 "cvtss2si",
    ),
    entries!(floating_to_general[Never], " rax, qword ptr [rdi + 16]":
        Cvttsd2si_r64_xmmm64 "cvttsd2si", Cvtsd2si_r64_xmmm64 "cvtsd2si",
    ),
    entries!(floating_to_mmx[Never], " mm0, qword ptr [rdi + 16]":
        Cvttps2pi_mm_xmmm64 "cvttps2pi", Cvtps2pi_mm_xmmm64 "cvtps2pi",
    ),
    entries!(floating_to_mmx[Never], " mm0, xmmword ptr [rdi + 16]":
        Cvttpd2pi_mm_xmmm128 "cvttpd2pi", Cvtpd2pi_mm_xmmm128 "cvtpd2pi",
    ),
    entries!(floating_from_mmx[Never], " xmm0, qword ptr [rdi + 16]":
        Cvtpi2ps_xmm_mmm64 "cvtpi2ps", Cvtpi2pd_xmm_mmm64 "cvtpi2pd",
    ),
    entries!(floating_flags[Never], " xmm0, dword ptr [rdi + 16]":
        Ucomiss_xmm_xmmm32 "ucomiss", Comiss_xmm_xmmm32 "comiss",
    ),
    entries!(floating_flags[Never], " xmm0, qword ptr [rdi + 16]":
        Ucomisd_xmm_xmmm64 "ucomisd", Comisd_xmm_xmmm64 "comisd",
    ),
    immediates!(floating[Never], " xmm0, xmmword ptr [rdi + 16]":
        Cmpps_xmm_xmmm128_imm8 "cmpps" 8, Cmppd_xmm_xmmm128_imm8 "cmppd" 8,
        Roundps_xmm_xmmm128_imm8 "roundps" 16, Roundpd_xmm_xmmm128_imm8 "roundpd" 16,
    ),
    immediates!(floating[Never], " xmm0, dword ptr [rdi + 16]":
        Cmpss_xmm_xmmm32_imm8 "cmpss" 8, Roundss_xmm_xmmm32_imm8 "roundss" 16,
    ),
    immediates!(floating[Never], " xmm0, qword ptr [rdi + 16]":
        Cmpsd_xmm_xmmm64_imm8 "cmpsd" 8, Roundsd_xmm_xmmm64_imm8 "roundsd" 16,
    ),
];
