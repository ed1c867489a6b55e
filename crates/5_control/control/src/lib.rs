//! The control plane: admission, operations and the finding-again of guests, over all services.
//!
//! ```text
//!  door ──▶ Control ── admission (pure) ──▶ store: record + operation, one transaction
//!                                              │
//!             one queue per guest ◀── Runner ──┘
//!                    │ steps (launch, power, remove, amend)
//!                    ▼
//!     images · networks · shims        shims ── events ──▶ watch ──▶ adopt::follow
//! ```
//!
//! A guest's life as its record tells it:
//!
//! ```text
//!  defined ─▶ starting ─▶ running ⇄ paused
//!                │           │ stop, or its own end
//!                ▼           ▼
//!             failed ◀─ stopping ─▶ stopped ─▶ starting …
//! ```

pub mod admission;
mod adopt;
mod amend;
mod by_hand;
pub mod codes;
mod control;
mod copies;
mod disks;
mod doctor;
mod explain;
pub mod hardware;
mod house;
pub mod ids;
mod launch;
pub mod merge;
pub mod names;
mod nouns;
pub mod plan;
mod power;
pub mod records;
mod remove;
mod seen;
pub mod setup;
mod watch;

pub use control::Control;
pub use copies::Files;
pub use house::{House, Settings};
pub use ops::Actor;
pub use seen::Seen;
