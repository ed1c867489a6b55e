//! Archives (tar, ar) into a root directory: confined paths, hard links, devices, xattrs, sparse files.
