//! A recipe of confinement and its execution: namespaces, ids, mounts, cgroups, capabilities, seccomp.
//!
//! One mechanism for containers, for helpers that read hostile bytes, and later for the sandbox of machines.
//! The recipe is data; planning is pure; the core that forks is small.

pub mod cgroup;
pub mod recipe;
