//! The checks and test grounds of the house, run as `cargo xtask`.
fn main() {}
