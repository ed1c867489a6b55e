//! The checks and test grounds of the house, run as `cargo xtask`.

mod bench;
mod build;
mod docs;
mod fuzz;
mod house;
mod licence;
mod stages;
mod testhost;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::OnceLock;

use anyhow::{Result, bail};

const HELP: &str = "\
cargo xtask COMMAND

checks
  house                  floors, code map, licences, sources and duplicate versions of crates
  tidy                   long files and functions, first sentences, unsafe, machine paths, fault codes
building
  build [--release]      the program and the small static executables beside it; prints their folder
  docs [--check]         man pages and the OpenAPI document into docs/reference
test grounds
  testhost [--] CMD…     runs CMD in a test host of its own: namespaces, cgroups, an uplink, /dev
  test [--full]          the stages of `make test` (of `make test-full`: resumable, prints what is left)
  fresh                  `make run` in a fresh Debian tree, as an ordinary user
  perf [NAME] [ARG…]     a measurement of tests/perf, or their names
  soak [NAME] [ARG…]     an endurance run of tests/soak, or their names
  fuzz [TARGET…] [--seconds N]
                         the targets of fuzz/ for N seconds each (30), with coverage
";

fn main() -> ExitCode {
    // Asked before anything is built: cargo may put a new file in the place of this one while it runs.
    let _ = own_program();
    let mut args = std::env::args().skip(1);
    let command = args.next().unwrap_or_default();
    let rest: Vec<String> = args.collect();
    let done = match command.as_str() {
        "house" => house::check(),
        "tidy" => tidy::check(),
        "build" => build::command(&rest),
        "docs" => docs::run(&rest),
        "testhost" => return testhost::command(&rest),
        "test" => stages::run(&rest),
        "fresh" => stages::fresh::run(&rest),
        "perf" => bench::run("perf", &rest),
        "soak" => bench::run("soak", &rest),
        "fuzz" => fuzz::run(&rest),
        "" | "help" | "-h" | "--help" => {
            print!("{HELP}");
            Ok(())
        }
        _ => Err(anyhow::anyhow!(
            "no command {command:?}; `cargo xtask help` lists them"
        )),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask {command}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The root of the repository: where the workspace's Cargo.toml lies.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().map_or_else(|| here.to_owned(), Path::to_owned)
}

/// The path of this program as it was at the start; what lies there later is the same program, perhaps built anew.
fn own_program() -> Result<PathBuf> {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    if let Some(path) = PATH.get() {
        return Ok(path.clone());
    }
    let path = std::env::current_exe()?;
    Ok(PATH.get_or_init(|| path).clone())
}

/// The cargo that runs us, or the one on PATH.
fn cargo() -> std::process::Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = std::process::Command::new(program);
    command.current_dir(root());
    command
}

/// Prints findings and turns them into one error, or says that all is well.
fn conclude(what: &str, findings: &[String]) -> Result<()> {
    for finding in findings {
        println!("{finding}");
    }
    if findings.is_empty() {
        println!("{what}: in order");
        return Ok(());
    }
    bail!("{} findings", findings.len())
}
