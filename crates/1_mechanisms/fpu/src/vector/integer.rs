//! What works on XMM registers without rounding: integers, logic, shuffles, strings, AES, SHA and carry-less products.

use super::Entry;

/// The instructions, by frame and operands.
pub(super) static TABLES: &[&[Entry]] = &[
    entries!(implicit, " xmm1, xmmword ptr [rdi + 16], xmm0":
        Pblendvb_xmm_xmmm128 "pblendvb", Blendvps_xmm_xmmm128 "blendvps", Blendvpd_xmm_xmmm128 "blendvpd",
        Sha256rnds2_xmm_xmmm128 "sha256rnds2",
    ),
    entries!(plain, " xmm0, xmmword ptr [rdi + 16]":
        Unpcklps_xmm_xmmm128 "unpcklps", Unpcklpd_xmm_xmmm128 "unpcklpd", Unpckhps_xmm_xmmm128 "unpckhps",
        Unpckhpd_xmm_xmmm128 "unpckhpd", Rsqrtps_xmm_xmmm128 "rsqrtps", Rcpps_xmm_xmmm128 "rcpps",
        Andps_xmm_xmmm128 "andps", Andpd_xmm_xmmm128 "andpd", Andnps_xmm_xmmm128 "andnps",
        Andnpd_xmm_xmmm128 "andnpd", Orps_xmm_xmmm128 "orps", Orpd_xmm_xmmm128 "orpd",
        Xorps_xmm_xmmm128 "xorps", Xorpd_xmm_xmmm128 "xorpd", Punpcklbw_xmm_xmmm128 "punpcklbw",
        Punpcklwd_xmm_xmmm128 "punpcklwd", Punpckldq_xmm_xmmm128 "punpckldq",
        Packsswb_xmm_xmmm128 "packsswb", Pcmpgtb_xmm_xmmm128 "pcmpgtb", Pcmpgtw_xmm_xmmm128 "pcmpgtw",
        Pcmpgtd_xmm_xmmm128 "pcmpgtd", Packuswb_xmm_xmmm128 "packuswb", Punpckhbw_xmm_xmmm128 "punpckhbw",
        Punpckhwd_xmm_xmmm128 "punpckhwd", Punpckhdq_xmm_xmmm128 "punpckhdq",
        Packssdw_xmm_xmmm128 "packssdw", Punpcklqdq_xmm_xmmm128 "punpcklqdq",
        Punpckhqdq_xmm_xmmm128 "punpckhqdq", Pcmpeqb_xmm_xmmm128 "pcmpeqb", Pcmpeqw_xmm_xmmm128 "pcmpeqw",
        Pcmpeqd_xmm_xmmm128 "pcmpeqd", Psrlw_xmm_xmmm128 "psrlw", Psrld_xmm_xmmm128 "psrld",
        Psrlq_xmm_xmmm128 "psrlq", Paddq_xmm_xmmm128 "paddq", Pmullw_xmm_xmmm128 "pmullw",
        Psubusb_xmm_xmmm128 "psubusb", Psubusw_xmm_xmmm128 "psubusw", Pminub_xmm_xmmm128 "pminub",
        Pand_xmm_xmmm128 "pand", Paddusb_xmm_xmmm128 "paddusb", Paddusw_xmm_xmmm128 "paddusw",
        Pmaxub_xmm_xmmm128 "pmaxub", Pandn_xmm_xmmm128 "pandn", Pavgb_xmm_xmmm128 "pavgb",
        Psraw_xmm_xmmm128 "psraw", Psrad_xmm_xmmm128 "psrad", Pavgw_xmm_xmmm128 "pavgw",
        Pmulhuw_xmm_xmmm128 "pmulhuw", Pmulhw_xmm_xmmm128 "pmulhw", Psubsb_xmm_xmmm128 "psubsb",
        Psubsw_xmm_xmmm128 "psubsw", Pminsw_xmm_xmmm128 "pminsw", Por_xmm_xmmm128 "por",
        Paddsb_xmm_xmmm128 "paddsb", Paddsw_xmm_xmmm128 "paddsw", Pmaxsw_xmm_xmmm128 "pmaxsw",
        Pxor_xmm_xmmm128 "pxor", Psllw_xmm_xmmm128 "psllw", Pslld_xmm_xmmm128 "pslld",
        Psllq_xmm_xmmm128 "psllq", Pmuludq_xmm_xmmm128 "pmuludq", Pmaddwd_xmm_xmmm128 "pmaddwd",
        Psadbw_xmm_xmmm128 "psadbw", Psubb_xmm_xmmm128 "psubb", Psubw_xmm_xmmm128 "psubw",
        Psubd_xmm_xmmm128 "psubd", Psubq_xmm_xmmm128 "psubq", Paddb_xmm_xmmm128 "paddb",
        Paddw_xmm_xmmm128 "paddw", Paddd_xmm_xmmm128 "paddd", Pshufb_xmm_xmmm128 "pshufb",
        Phaddw_xmm_xmmm128 "phaddw", Phaddd_xmm_xmmm128 "phaddd", Phaddsw_xmm_xmmm128 "phaddsw",
        Pmaddubsw_xmm_xmmm128 "pmaddubsw", Phsubw_xmm_xmmm128 "phsubw", Phsubd_xmm_xmmm128 "phsubd",
        Phsubsw_xmm_xmmm128 "phsubsw", Psignb_xmm_xmmm128 "psignb", Psignw_xmm_xmmm128 "psignw",
        Psignd_xmm_xmmm128 "psignd", Pmulhrsw_xmm_xmmm128 "pmulhrsw", Pabsb_xmm_xmmm128 "pabsb",
        Pabsw_xmm_xmmm128 "pabsw", Pabsd_xmm_xmmm128 "pabsd", Pmuldq_xmm_xmmm128 "pmuldq",
        Pcmpeqq_xmm_xmmm128 "pcmpeqq", Packusdw_xmm_xmmm128 "packusdw", Pcmpgtq_xmm_xmmm128 "pcmpgtq",
        Pminsb_xmm_xmmm128 "pminsb", Pminsd_xmm_xmmm128 "pminsd", Pminuw_xmm_xmmm128 "pminuw",
        Pminud_xmm_xmmm128 "pminud", Pmaxsb_xmm_xmmm128 "pmaxsb", Pmaxsd_xmm_xmmm128 "pmaxsd",
        Pmaxuw_xmm_xmmm128 "pmaxuw", Pmaxud_xmm_xmmm128 "pmaxud", Pmulld_xmm_xmmm128 "pmulld",
        Phminposuw_xmm_xmmm128 "phminposuw", Sha1nexte_xmm_xmmm128 "sha1nexte",
        Sha1msg1_xmm_xmmm128 "sha1msg1", Sha1msg2_xmm_xmmm128 "sha1msg2",
        Sha256msg1_xmm_xmmm128 "sha256msg1", Sha256msg2_xmm_xmmm128 "sha256msg2",
        Aesimc_xmm_xmmm128 "aesimc", Aesenc_xmm_xmmm128 "aesenc", Aesenclast_xmm_xmmm128 "aesenclast",
        Aesdec_xmm_xmmm128 "aesdec", Aesdeclast_xmm_xmmm128 "aesdeclast",
    ),
    entries!(plain, " xmm0, qword ptr [rdi + 16]":
        Pmovsxbw_xmm_xmmm64 "pmovsxbw", Pmovsxwd_xmm_xmmm64 "pmovsxwd", Pmovsxdq_xmm_xmmm64 "pmovsxdq",
        Pmovzxbw_xmm_xmmm64 "pmovzxbw", Pmovzxwd_xmm_xmmm64 "pmovzxwd", Pmovzxdq_xmm_xmmm64 "pmovzxdq",
    ),
    entries!(plain, " xmm0, dword ptr [rdi + 16]":
        Rsqrtss_xmm_xmmm32 "rsqrtss", Rcpss_xmm_xmmm32 "rcpss", Pmovsxbd_xmm_xmmm32 "pmovsxbd",
        Pmovsxwq_xmm_xmmm32 "pmovsxwq", Pmovzxbd_xmm_xmmm32 "pmovzxbd", Pmovzxwq_xmm_xmmm32 "pmovzxwq",
    ),
    entries!(plain, " xmm0, word ptr [rdi + 16]":
        Pmovsxbq_xmm_xmmm16 "pmovsxbq", Pmovzxbq_xmm_xmmm16 "pmovzxbq",
    ),
    entries!(to_general, " eax, xmm1":
        Pmovmskb_r32_xmm "pmovmskb", Pmovmskb_r64_xmm "pmovmskb",
    ),
    entries!(plain_flags, " xmm0, xmmword ptr [rdi + 16]":
        Ptest_xmm_xmmm128 "ptest",
    ),
    entries!(count, " xmm0, xmmword ptr [rdi + 16]":
        Psrlw_xmm_imm8 "psrlw", Psraw_xmm_imm8 "psraw", Psllw_xmm_imm8 "psllw", Psrld_xmm_imm8 "psrld",
        Psrad_xmm_imm8 "psrad", Pslld_xmm_imm8 "pslld", Psrlq_xmm_imm8 "psrlq", Psllq_xmm_imm8 "psllq",
    ),
    immediates!(plain, " xmm0, xmmword ptr [rdi + 16]":
        Pshufd_xmm_xmmm128_imm8 "pshufd" 256, Pshufhw_xmm_xmmm128_imm8 "pshufhw" 256,
        Pshuflw_xmm_xmmm128_imm8 "pshuflw" 256, Shufps_xmm_xmmm128_imm8 "shufps" 256,
        Shufpd_xmm_xmmm128_imm8 "shufpd" 4, Blendps_xmm_xmmm128_imm8 "blendps" 16,
        Blendpd_xmm_xmmm128_imm8 "blendpd" 4, Pblendw_xmm_xmmm128_imm8 "pblendw" 256,
        Palignr_xmm_xmmm128_imm8 "palignr" 256, Mpsadbw_xmm_xmmm128_imm8 "mpsadbw" 8,
        Pclmulqdq_xmm_xmmm128_imm8 "pclmulqdq" 32, Sha1rnds4_xmm_xmmm128_imm8 "sha1rnds4" 4,
        Aeskeygenassist_xmm_xmmm128_imm8 "aeskeygenassist" 256,
    ),
];
