//! The suite against the container engine.

#[path = "suite/mod.rs"]
mod suite;

const SHIM: &str = env!("CARGO_BIN_EXE_container-shim");
