//! The small executable: with `run`, executes one recipe and ends with its process; with `serve`, owns a running
//! container.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1).peekable();
    if args.peek().is_some_and(|word| word == "run") {
        let (number, word) = (args.nth(1), args.next());
        return run(number, word.is_some_and(|word| word == jail::launch::REPORT));
    }
    if args.peek().is_some_and(|word| word == "serve") {
        return engine_container::shim_main(args.skip(1));
    }
    eprintln!("posada-shim: this program is started by posada");
    ExitCode::from(2)
}

/// `posada-shim run FD [report]`: the recipe is read from an inherited descriptor.
fn run(number: Option<std::ffi::OsString>, report: bool) -> ExitCode {
    let number = number
        .and_then(|text| text.to_str()?.parse().ok())
        .filter(|number| *number > 2);
    match number.map(hostos::descriptors::inherited) {
        Some(Ok(fd)) => jail::run_recipe_from_fd(fd, report),
        _ => {
            eprintln!("posada-shim: run needs the number of an open descriptor");
            ExitCode::from(2)
        }
    }
}
