//! A revisioned key/value store with watch, embedded in the daemon.
