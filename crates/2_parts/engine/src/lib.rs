//! The contracts of engines and instances, the plan they are given, and the protocol between daemon and shim.

pub mod attach;
mod contract;
mod plan;
pub mod protocol;
pub mod shim;
pub mod wire;

pub use contract::*;
pub use plan::*;
pub use shim::spawn;
