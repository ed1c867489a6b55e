//! What x87, MMX, SSE and AES instructions do, by the host's own.

mod area;
mod core_does;
mod environment;
mod host;
mod operands;
mod state;
pub mod vector;
pub mod x87;

pub use area::{AreaForm, COMPONENT_SSE, COMPONENT_X87, XSAVE_BYTES, xsave_writes};
pub use core_does::CORE_DOES;
pub use environment::EnvironmentForm;
pub use host::host_features;
pub use operands::{Operands, SimdException, Xmm};
pub use state::{Extended, Fpu, Gp, LastInstruction, MXCSR_INIT, MXCSR_MASK};
pub use vector::{VectorOp, vector};
pub use x87::{Pending, Store, X87Op, X87Operands, x87};

/// Every instruction that this crate executes on this host.
pub fn supported() -> impl Iterator<Item = iced_x86::Code> {
    vector::vectors()
        .map(|op| op.code)
        .chain(x87::x87_ops().map(|op| op.code))
}
