//! The suite against crun: it tests the suite, not crun.

#[path = "suite/mod.rs"]
mod suite;

const SHIM: &str = env!("CARGO_BIN_EXE_crun-shim");
