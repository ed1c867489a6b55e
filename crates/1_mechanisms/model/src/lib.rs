//! The nouns of Posada: specs, names, sizes and the bodies of the API; no input or output.
//!
//! Every stored noun has the same frame, [`Record`]: `id`, `name`, `project`, `spec` (what is wanted),
//! `status` (what is observed), `revision`. What the API takes and gives are these types themselves.

pub mod api;
mod guest;
mod image;
mod name;
mod network;
mod operation;
mod record;
mod size;
mod time;

pub use guest::*;
pub use image::*;
pub use name::*;
pub use network::*;
pub use operation::*;
pub use record::*;
pub use size::*;
pub use time::*;
