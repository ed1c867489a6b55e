//! The small executable that owns a running machine: its shim, and, in a jail of its own, the machine.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1).peekable();
    if args.peek().is_some_and(|word| word == "serve") {
        return engine_machine::shim_main(args.skip(1));
    }
    eprintln!("posada-machine: this program is started by posada");
    ExitCode::from(2)
}
