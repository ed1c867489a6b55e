//! `cargo xtask build`: the program and the small static executables that stand beside it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use cargo_metadata::{Metadata, MetadataCommand};

use crate::{cargo, root};

/// Which executables: of a test (one profile for binaries, tests and labs) or as installed.
#[derive(Clone, Copy, PartialEq)]
pub enum Kind {
    /// Optimised a little, with every check on.
    Dev,
    /// As a user runs it.
    Release,
}

/// `cargo xtask build [--release]`.
pub fn command(args: &[String]) -> Result<()> {
    let kind = match args {
        [] => Kind::Dev,
        [word] if word == "--release" => Kind::Release,
        _ => bail!("usage: cargo xtask build [--release]"),
    };
    println!("{}", assemble(kind)?.display());
    Ok(())
}

/// Builds what is not up to date; returns the folder in which `posada` and its small executables lie.
pub fn assemble(kind: Kind) -> Result<PathBuf> {
    let metadata = MetadataCommand::new()
        .no_deps()
        .current_dir(root())
        .exec()
        .context("cargo metadata")?;
    let target = metadata.target_directory.as_std_path();
    let folder = target.join(if kind == Kind::Release { "release" } else { "debug" });

    let mut program = cargo();
    match kind {
        // The same choice of packages as the tests make, so that features agree and nothing is built twice.
        Kind::Dev => program.args(["build", "--locked", "--workspace", "--all-targets"]),
        Kind::Release => program.args(["build", "--locked", "--package", "posada", "--release"]),
    };
    run(&mut program)?;

    let small = small_executables(&metadata);
    if small.is_empty() {
        return Ok(folder);
    }
    let triple = host_triple()?;
    let mut static_ones = cargo();
    // Only what is built for a named target gets these flags: build scripts and macros cannot be static.
    let flags = format!(
        "CARGO_TARGET_{}_RUSTFLAGS",
        triple.to_uppercase().replace('-', "_")
    );
    static_ones
        .env(flags, "-C target-feature=+crt-static")
        .env_remove("RUSTFLAGS");
    static_ones.args(["build", "--locked", "--target", &triple]);
    for (package, _) in &small {
        static_ones.args(["--package", package, "--features", &format!("{package}/static")]);
    }
    let profile = if kind == Kind::Release { "small" } else { "dev" };
    static_ones.args(["--profile", profile]);
    run(&mut static_ones)?;

    let built = target
        .join(&triple)
        .join(if kind == Kind::Release { "small" } else { "debug" });
    for (_, executable) in &small {
        place(&built.join(executable), &folder.join(executable))?;
    }
    Ok(folder)
}

/// Packages of the roof beside `posada` itself, with the executables they make.
fn small_executables(metadata: &Metadata) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for package in metadata.workspace_packages() {
        if !package.manifest_path.as_str().contains("/crates/7_roof/") || package.name == "posada" {
            continue;
        }
        for target in package.targets.iter().filter(|target| target.is_bin()) {
            found.push((package.name.to_string(), target.name.clone()));
        }
    }
    found
}

/// The triple of this machine, as rustc calls it.
pub fn host_triple() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let told = Command::new(rustc).arg("-vV").output().context("rustc -vV")?;
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    let line = told.lines().find_map(|line| line.strip_prefix("host: "));
    line.map(str::to_owned).context("rustc -vV names no host")
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("{command:?}"))?;
    if !status.success() {
        bail!("the build ended with {status}");
    }
    Ok(())
}

/// Puts a file in its place by rename, so that running processes keep the old one; nothing when it is there already.
fn place(from: &Path, to: &Path) -> Result<()> {
    let new = std::fs::read(from).with_context(|| from.display().to_string())?;
    if std::fs::read(to).is_ok_and(|old| old == new) {
        return Ok(());
    }
    let fresh = to.with_extension(format!("new-{}", std::process::id()));
    std::fs::copy(from, &fresh).with_context(|| fresh.display().to_string())?;
    std::fs::rename(&fresh, to).with_context(|| to.display().to_string())
}
