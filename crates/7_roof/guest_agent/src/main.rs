//! The small executable that runs inside machines for their host.

use std::process::ExitCode;

fn main() -> ExitCode {
    agent::guest::main(std::env::args_os().skip(1))
}
