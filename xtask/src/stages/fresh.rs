//! `cargo xtask fresh`: two commands on a fresh Debian, proven: a minbase tree with git, make, sudo and an ordinary
//! user, a clone of this repository, `make run` (or another target) in it, inside a test host.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{root, testhost};

/// The Debian that the README promises.
const SUITE: &str = "bookworm";

/// `cargo xtask fresh [TARGET]`; TARGET is `run` when absent.
pub fn run(args: &[String]) -> Result<()> {
    let target = args.first().map_or("run", String::as_str);
    let cache = testhost::cache_dir();
    std::fs::create_dir_all(&cache)?;
    let tree = cache.join(format!("fresh-{SUITE}.tar"));
    if !tree.exists() {
        let unfinished = tree.with_extension("part");
        let made = Command::new("mmdebstrap")
            .args([
                "--variant=minbase",
                "--format=tar",
                "--include=git,make,sudo,ca-certificates",
                SUITE,
            ])
            .arg(&unfinished)
            .args(["deb http://deb.debian.org/debian bookworm main"])
            .args(["deb http://deb.debian.org/debian bookworm-updates main"])
            .args(["deb http://deb.debian.org/debian-security bookworm-security main"])
            .status()
            .context("mmdebstrap (Debian: apt-get install mmdebstrap)")?;
        if !made.success() {
            bail!("mmdebstrap ended with {made}");
        }
        std::fs::rename(&unfinished, &tree)?;
    }
    // A bundle, because root may not read the repository of an ordinary user through git.
    let bundle = cache.join("fresh.bundle");
    let mut pack = Command::new("git");
    pack.current_dir(root())
        .args(["bundle", "create", "--quiet"])
        .arg(&bundle)
        .args(["HEAD", "--branches"]);
    let packed = pack.status().context("git bundle")?;
    if !packed.success() {
        bail!("git bundle ended with {packed}");
    }
    let script = root().join("scripts/fresh.sh");
    let words = [
        script.display().to_string(),
        tree.display().to_string(),
        bundle.display().to_string(),
        target.into(),
    ];
    testhost::run(&words, &[])
}
