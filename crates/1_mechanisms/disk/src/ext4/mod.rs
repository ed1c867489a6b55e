//! The ext4 file system, read-only.
