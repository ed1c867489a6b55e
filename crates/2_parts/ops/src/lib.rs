//! Long work as stored operations: idempotent steps with undo, progress and cancelling.
//!
//! ```text
//!            submit (one transaction with the spec)
//!                  │
//!               queued ──── one queue per target, in order ────▶ running
//!                                                                  │ step 1 … step n
//!                              a step fails, or cancelled          ▼
//!   failed / cancelled ◀── undo the steps begun, last first ◀──  done
//! ```
//!
//! A [`Kind`] of operation is a list of [`Step`]s. The record tells which steps are done; a new daemon goes on with
//! the first that is not, so each step must lead to the same end when it runs again after having run, wholly or
//! partly. [`harness`] proves that for a kind.

pub mod harness;
mod runner;
mod work;

use std::fmt::Write as _;

use fault::{Code, Fault, Result};
use model::Id;

pub use runner::{Actor, New, Runner};
pub use work::Work;

/// The operation does not exist.
pub const UNKNOWN: Code = Code("OPS002");
/// A step panicked: a defect of ours.
pub const DEFECT: Code = Code("OPS003");
/// The operation's kind is not known to this version.
pub const KIND_UNKNOWN: Code = Code("OPS004");
/// The operation has ended and cannot be cancelled.
pub const ENDED: Code = Code("OPS005");
/// A note or argument that an operation's record should hold is missing or broken.
pub const RECORD_INCOMPLETE: Code = Code("OPS006");

/// One step of a kind of operation, over a context `C` that reaches everything it works on.
pub struct Step<C: ?Sized> {
    /// Message id, as `step-fetch`.
    pub name: &'static str,
    /// Does it. May run again after having run, wholly or partly.
    pub run: fn(&C, &mut Work) -> Result<()>,
    /// Takes back whatever `run` may have done, wholly, partly or not at all.
    pub undo: fn(&C, &mut Work) -> Result<()>,
}

/// A kind of operation.
pub struct Kind<C: ?Sized> {
    /// What it is called in records: `launch`.
    pub name: &'static str,
    /// Its steps, in order.
    pub steps: Vec<Step<C>>,
    /// Told when it failed or was cancelled, after the undo; may run more than once.
    pub abandoned: fn(&C, &mut Work, &Fault) -> Result<()>,
}

/// A step's undo or a kind's `abandoned` that has nothing to do.
///
/// # Errors
/// None.
pub fn nothing<C: ?Sized>(_: &C, _: &mut Work) -> Result<()> {
    Ok(())
}

/// A fresh identity: 128 random bits.
#[must_use]
pub fn fresh_id() -> Id {
    let mut bytes = [0u8; 16];
    let mut filled = 0;
    while filled < bytes.len() {
        match rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty()) {
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            // getrandom(2) fails only where the call is missing, before Linux 3.17.
            Err(error) => panic!("getrandom: {error}"),
        }
    }
    let mut text = String::with_capacity(32);
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    Id(text)
}
