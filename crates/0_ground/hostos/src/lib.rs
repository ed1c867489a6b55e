//! Safe wrappers of the Linux calls that rustix does not offer; the general home of unsafe code.

pub mod bpf;
pub mod descriptors;
pub mod exec;
pub mod ids;
pub mod mounting;
pub mod netlink;
pub mod process;
pub mod seccomp;
pub mod signal;
