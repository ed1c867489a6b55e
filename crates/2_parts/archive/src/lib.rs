//! A signed Debian archive, from its indexes to a root tree: parse, verify, resolve.
