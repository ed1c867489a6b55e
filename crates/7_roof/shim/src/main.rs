//! The process that owns a running container: small, static, without threads.
fn main() {}
