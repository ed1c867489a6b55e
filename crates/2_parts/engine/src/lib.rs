//! The contracts of engines and instances, the plan they are given, and the protocol between daemon and shim.

mod contract;
mod plan;
pub mod protocol;

pub use contract::*;
pub use plan::*;
