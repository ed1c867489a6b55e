//! The program: command line, daemon and network process, chosen by the first word.
fn main() {}
