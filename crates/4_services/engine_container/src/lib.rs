//! The container engine: a plan becomes a jail, owned by a shim.
