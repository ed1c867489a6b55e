//! One virtual machine: from a plan to its parts, and its life.
//!
//! ```text
//!  plan + descriptors ─► parts (memory, bus, devices, processors) ─► running ⇄ paused ─► ended
//!                                                                                  │ reset, power off, crash
//!                                                                                  ▼
//!                                                          the process exits; its shim knows the policy
//! ```
//!
//! The machine is a process of its own, a child of its guest's shim, confined before the first guest instruction. It opens nothing:
//! its shim hands it descriptors over a [`control`] connection and speaks to it there.

pub mod control;
pub mod cpus;
mod front;
pub mod life;
mod load;
pub mod machine;
mod map;
mod packet;
mod parts;
pub mod plan;
pub mod process;
mod screen;
mod serial;
