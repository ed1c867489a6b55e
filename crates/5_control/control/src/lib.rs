//! The control plane: admission, reconcilers and operations over all services.
pub mod admission;
pub mod codes;
pub mod ids;
pub mod merge;
pub mod names;
pub mod plan;
pub mod records;
pub mod setup;
