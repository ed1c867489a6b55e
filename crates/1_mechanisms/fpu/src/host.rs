//! What the host's processor can do, which bounds what a guest may be told.

use iced_x86::{Code, CpuidFeature as F};
use std::arch::is_x86_feature_detected;

/// The features of instructions in this crate that not every x86-64 host has.
const OPTIONAL: [F; 7] = [
    F::SSE3,
    F::SSSE3,
    F::SSE4_1,
    F::SSE4_2,
    F::AES,
    F::PCLMULQDQ,
    F::SHA,
];

fn has(feature: F) -> bool {
    match feature {
        F::SSE3 => is_x86_feature_detected!("sse3"),
        F::SSSE3 => is_x86_feature_detected!("ssse3"),
        F::SSE4_1 => is_x86_feature_detected!("sse4.1"),
        F::SSE4_2 => is_x86_feature_detected!("sse4.2"),
        F::AES => is_x86_feature_detected!("aes"),
        F::PCLMULQDQ => is_x86_feature_detected!("pclmulqdq"),
        F::SHA => is_x86_feature_detected!("sha"),
        _ => true,
    }
}

/// The optional features of this crate's instructions that the host has: announce no others of SSE3, SSSE3, SSE4.1,
/// SSE4.2, AES, PCLMULQDQ and SHA to a guest. x87, CMOV, MMX, SSE and SSE2 are there on every x86-64 host.
pub fn host_features() -> impl Iterator<Item = F> {
    OPTIONAL.into_iter().filter(|&feature| has(feature))
}

/// Whether the host has everything that `code` needs.
pub(crate) fn runs(code: Code) -> bool {
    code.cpuid_features().iter().all(|&feature| has(feature))
}
