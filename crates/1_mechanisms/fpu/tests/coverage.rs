//! Every instruction of the announced feature sets is known here, or is the core's with a reason.

use fpu::{CORE_DOES, host_features, supported, vector, x87};
use iced_x86::{Code, CpuidFeature as F, EncodingKind};
use std::collections::HashSet;

const SETS: [F; 16] = [
    F::FPU,
    F::FPU287,
    F::FPU387,
    F::MMX,
    F::SSE,
    F::SSE2,
    F::SSE3,
    F::SSSE3,
    F::SSE4_1,
    F::SSE4_2,
    F::AES,
    F::PCLMULQDQ,
    F::FXSR,
    F::SHA,
    F::XSAVE,
    F::XSAVEOPT,
];

/// The codes of the sets that a decoder meets: instructions that begin with WAIT decode as two.
fn wanted() -> impl Iterator<Item = Code> {
    let of_sets = |code: &Code| code.cpuid_features().iter().any(|feature| SETS.contains(feature));
    Code::values()
        .filter(of_sets)
        .filter(|code| code.encoding() == EncodingKind::Legacy && !code.op_code().fwait())
}

#[test]
fn every_instruction_of_the_sets_is_known_or_the_cores() {
    let has: HashSet<F> = host_features().collect();
    let optional = [
        F::SSE3,
        F::SSSE3,
        F::SSE4_1,
        F::SSE4_2,
        F::AES,
        F::PCLMULQDQ,
        F::SHA,
    ];
    let runs = |code: &Code| {
        code.cpuid_features()
            .iter()
            .all(|f| !optional.contains(f) || has.contains(f))
    };
    let core = |code: &Code| CORE_DOES.iter().any(|(mnemonic, _)| *mnemonic == code.mnemonic());
    let unknown: Vec<_> = wanted()
        .filter(|code| runs(code) && !core(code) && vector(*code).is_none() && x87(*code).is_none())
        .collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[test]
fn an_instruction_has_one_home() {
    let codes: Vec<_> = supported().collect();
    assert_eq!(codes.iter().collect::<HashSet<_>>().len(), codes.len());
    let twice: Vec<_> = codes
        .iter()
        .filter(|code| CORE_DOES.iter().any(|(m, _)| *m == code.mnemonic()))
        .collect();
    assert!(twice.is_empty(), "{twice:?}");
    assert!(codes.len() > 500, "{}", codes.len());
}

#[test]
fn an_integer_instruction_is_nobodys() {
    assert!(vector(Code::Add_r32_rm32).is_none());
    assert!(x87(Code::Add_r32_rm32).is_none());
    assert!(vector(Code::VEX_Vaddps_xmm_xmm_xmmm128).is_none());
}
