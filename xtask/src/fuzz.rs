//! `cargo xtask fuzz`: the targets of `fuzz/` under libFuzzer, with the compiler that builds the rest.
//!
//! What cargo-fuzz does, without its nightly compiler: coverage by LLVM's own instrumentation
//! (<https://clang.llvm.org/docs/SanitizerCoverage.html>), no sanitizer. Overflow checks and debug assertions are on.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{cargo, root};

/// Flags by which code counts the edges that it takes.
const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Cdebug-assertions -Coverflow-checks \
    --cfg fuzzing";

/// `cargo xtask fuzz [TARGET…] [--seconds N]`: each target for N seconds (30); what crashes one is kept in
/// `target/fuzz/TARGET`.
pub fn run(args: &[String]) -> Result<()> {
    let mut seconds = 30u32;
    let mut wanted = Vec::new();
    let mut words = args.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--seconds" => {
                let text = words.next().context("--seconds wants a number")?;
                seconds = text.parse().context("--seconds wants a number")?;
            }
            name => wanted.push(name.to_owned()),
        }
    }
    let known = targets(&root().join("fuzz/fuzz_targets"))?;
    if let Some(unknown) = wanted.iter().find(|name| !known.contains(name)) {
        bail!("no target {unknown}; there are {}", known.join(", "));
    }
    if wanted.is_empty() {
        wanted = known;
    }
    let folder = root().join("target/fuzz");
    // A target named explicitly keeps the flags from the build scripts.
    let host = host_triple()?;
    let built = cargo()
        .args([
            "build",
            "--locked",
            "--release",
            "--target",
            &host,
            "--manifest-path",
        ])
        .arg(root().join("fuzz/Cargo.toml"))
        .arg("--target-dir")
        .arg(&folder)
        .env("RUSTFLAGS", COVERAGE)
        .status()?;
    if !built.success() {
        bail!("the build of the targets ended with {built}");
    }
    for target in wanted {
        println!("== fuzz {target}: {seconds} s");
        let corpus = folder.join("corpus").join(&target);
        let found = folder.join(&target);
        std::fs::create_dir_all(&corpus)?;
        std::fs::create_dir_all(&found)?;
        let ended = Command::new(folder.join(&host).join("release").join(&target))
            .arg(format!("-max_total_time={seconds}"))
            .args(["-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1"])
            .arg(format!("-artifact_prefix={}/", found.display()))
            .arg(&corpus)
            .status()?;
        if !ended.success() {
            bail!(
                "{target} ended with {ended}; what it choked on is in {}",
                found.display()
            );
        }
    }
    Ok(())
}

fn targets(folder: &Path) -> Result<Vec<String>> {
    let mut names: Vec<String> = std::fs::read_dir(folder)?
        .flatten()
        .filter_map(|entry| Some(entry.path().file_stem()?.to_string_lossy().into_owned()))
        .collect();
    names.sort();
    Ok(names)
}

fn host_triple() -> Result<String> {
    let told = Command::new("rustc").arg("-vV").output()?;
    let told = String::from_utf8_lossy(&told.stdout);
    let line = told.lines().find_map(|line| line.strip_prefix("host: "));
    line.map(str::to_owned).context("rustc does not tell its host")
}
