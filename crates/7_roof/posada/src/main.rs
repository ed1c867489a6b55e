//! The program: command line, daemon and network process, chosen by the first word.

use std::env;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = env::args_os().skip(1);
    match args.next() {
        Some(word) if word == "daemon" => server::daemon_main(args),
        Some(word) if word == "net" => networks::serve(args),
        _ => cli::main(env::args_os()),
    }
}
