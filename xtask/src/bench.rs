//! `cargo xtask perf` and `soak`: runs one piece of `tests/perf` or `tests/soak`, or lists them.
//!
//! Each is a package with one executable of the same name that takes the name of a piece, and `--list`. They run in a
//! test host, with the program built as users run it.

use anyhow::{Result, bail};

use crate::{build, cargo, testhost};

/// `cargo xtask perf|soak [NAME] [ARG…]`.
pub fn run(family: &str, args: &[String]) -> Result<()> {
    let bin = build::assemble(build::Kind::Release)?;
    let built = cargo()
        .args(["build", "--locked", "--release", "--package", family])
        .status()?;
    if !built.success() {
        bail!("the build of {family} ended with {built}");
    }
    let program = bin.join(family).display().to_string();
    if args.is_empty() || args == ["--list"] {
        std::process::Command::new(program).arg("--list").status()?;
        return Ok(());
    }
    let mut command = vec![program];
    command.extend(args.iter().cloned());
    testhost::run(&command, &[("POSADA_BIN", bin.display().to_string())])
}
