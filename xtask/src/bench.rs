//! `cargo xtask perf` and `soak`: starts one program of `tests/perf` or `tests/soak`, or lists them.
//!
//! Both folders are packages; each measurement is an executable of its own (`src/bin/NAME.rs`), whose first `//!`
//! sentence says what it measures. They run in a test host, with the program built as users run it.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::{build, cargo, root, testhost};

/// `cargo xtask perf|soak [NAME] [ARG…]`.
pub fn run(family: &str, args: &[String]) -> Result<()> {
    let known = names(family)?;
    let Some((name, rest)) = args.split_first() else {
        for (name, sentence) in known {
            println!("{name:<16} {sentence}");
        }
        return Ok(());
    };
    if !known.iter().any(|(known, _)| known == name) {
        bail!("no {family} is called {name:?}; `cargo xtask {family}` lists them");
    }
    let bin = build::assemble(build::Kind::Release)?;
    let built = cargo()
        .args(["build", "--release", "--package", family, "--bin", name])
        .status()?;
    if !built.success() {
        bail!("the build of {name} ended with {built}");
    }
    let mut command = vec![bin.join(name).display().to_string()];
    command.extend(rest.iter().cloned());
    testhost::run(&command, &[("POSADA_BIN", bin.display().to_string())])
}

/// Names of a family's executables with their first sentence, sorted.
fn names(family: &str) -> Result<Vec<(String, String)>> {
    let folder: PathBuf = root().join("tests").join(family).join("src/bin");
    let mut found = Vec::new();
    if !folder.is_dir() {
        return Ok(found);
    }
    for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path)?;
            let sentence = text
                .lines()
                .next()
                .unwrap_or_default()
                .trim_start_matches("//! ")
                .to_owned();
            let name = path
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            found.push((name, sentence));
        }
    }
    found.sort();
    Ok(found)
}
