//! The suite against crun: it tests the suite, not crun.
#![allow(clippy::unwrap_used)] // Helpers of tests are tests too.

#[path = "suite/mod.rs"]
mod suite;

const SHIM: &str = env!("CARGO_BIN_EXE_crun-shim");
