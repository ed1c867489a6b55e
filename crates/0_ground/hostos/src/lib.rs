//! Safe wrappers of the Linux calls that rustix does not offer; the general home of unsafe code.
