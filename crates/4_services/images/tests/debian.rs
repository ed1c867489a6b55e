//! Against the real archive and mmdebstrap: part of the full tests, since both need the network and minutes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends where its ground fails"
)]

mod kit;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use images::{BootstrapRequest, Patience, Variant};

fn ours(dir: &Path, release: &str, variant: Variant, include: &[&str]) -> BTreeSet<String> {
    ours_of(None, None, dir, release, variant, include)
}

fn ours_of(
    arch: Option<&str>,
    mirror: Option<&str>,
    dir: &Path,
    release: &str,
    variant: Variant,
    include: &[&str],
) -> BTreeSet<String> {
    let target = dir.join(format!("ours-{release}"));
    let request = BootstrapRequest {
        image: format!("debian/{release}").parse().unwrap(),
        target: target.clone(),
        arch: arch.map(str::to_owned),
        variant,
        include: include.iter().map(|name| (*name).to_owned()).collect(),
        exclude: Vec::new(),
        components: Vec::new(),
        mirror: mirror.map(str::to_owned),
        keyring: None,
        cache_dir: dir.join("cache"),
        worker_exe: kit::bin().join("posada-worker"),
        shim_exe: kit::bin().join("posada-shim"),
        ids: jail::recipe::IdRange {
            base: 1_300_000_000,
            count: 65_536,
        },
        patience: Patience::default(),
        now: None,
    };
    images::bootstrap(&request, &model::Unwatched).unwrap();
    installed(&target)
}

fn theirs(dir: &Path, release: &str, variant: &str, include: &[&str]) -> BTreeSet<String> {
    let target = dir.join(format!("theirs-{release}"));
    let mut command = Command::new("mmdebstrap");
    command.args(["--quiet", &format!("--variant={variant}")]);
    if !include.is_empty() {
        command.arg(format!("--include={}", include.join(",")));
    }
    let output = command
        .arg(release)
        .arg(&target)
        .output()
        .expect("mmdebstrap is installed");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    installed(&target)
}

/// Name, version and state of every package, as the tree's dpkg has them.
fn installed(tree: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(tree.join("var/lib/dpkg/status")).unwrap();
    archive::deb822::paragraphs(&text)
        .map(|p| {
            let value = |name| archive::deb822::field(p, name).unwrap_or_default();
            format!("{} {} {}", value("Package"), value("Version"), value("Status"))
        })
        .collect()
}

/// Everything of a tree but caches, logs, times and what names the machine that it was made on.
fn listing(tree: &Path) -> BTreeSet<String> {
    const LEFT_OUT: &[&str] = &[
        "./dev",
        "./run",
        "./var/cache",
        "./var/log",
        "./var/lib/apt/lists",
        "./var/lib/apt/extended_states",
        "./etc/apt/sources.list",
        "./etc/hostname",
        "./etc/resolv.conf",
    ];
    let output = Command::new("find")
        .args([".", "-printf", "%p %y %m %U:%G %l\n"])
        .current_dir(tree)
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter(|line| !LEFT_OUT.iter().any(|path| line.starts_with(path)))
        .map(str::to_owned)
        .collect()
}

#[test]
fn full_minbase_is_that_of_mmdebstrap_in_packages_and_files() {
    let dir = tempfile::tempdir().unwrap();
    for release in ["bookworm", "trixie", "bullseye"] {
        let ours = ours(dir.path(), release, Variant::Minbase, &[]);
        let theirs = theirs(dir.path(), release, "minbase", &[]);
        assert_eq!(ours, theirs, "{release}");
        if release == "bookworm" {
            let ours = listing(&dir.path().join("ours-bookworm"));
            let theirs = listing(&dir.path().join("theirs-bookworm"));
            let difference: Vec<_> = ours.symmetric_difference(&theirs).collect();
            assert!(difference.is_empty(), "{difference:#?}");
        }
    }
}

#[test]
fn full_other_variants_and_inclusions_choose_as_apt_does() {
    let dir = tempfile::tempdir().unwrap();
    let include = [
        "systemd-sysv",
        "dbus",
        "libpam-systemd",
        "openssh-server",
        "nginx",
    ];
    assert_eq!(
        ours(dir.path(), "bookworm", Variant::Minbase, &include),
        theirs(dir.path(), "bookworm", "minbase", &include)
    );
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(
        ours(dir.path(), "bookworm", Variant::Buildd, &[]),
        theirs(dir.path(), "bookworm", "buildd", &[])
    );
}

/// A machine of 64 bits makes and runs the trees of its 32-bit sister; without the security suite, of which caches in
/// front of the archive do not hold every architecture whole.
#[cfg(target_arch = "x86_64")]
#[test]
fn full_a_tree_of_another_architecture_is_made_and_runs() {
    const MIRROR: &str = "http://deb.debian.org/debian";
    let dir = tempfile::tempdir().unwrap();
    let ours = ours_of(
        Some("i386"),
        Some(MIRROR),
        dir.path(),
        "bookworm",
        Variant::Minbase,
        &[],
    );
    let tree = dir.path().join("ours-bookworm");
    let told = Command::new("chroot")
        .arg(&tree)
        .args(["dpkg", "--print-architecture"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&told.stdout), "i386\n");
    let theirs = dir.path().join("theirs");
    let output = Command::new("mmdebstrap")
        .args(["--quiet", "--variant=minbase", "--architectures=i386", "bookworm"])
        .arg(&theirs)
        .args(["bookworm", "bookworm-updates"].map(|suite| format!("deb {MIRROR} {suite} main")))
        .output()
        .expect("mmdebstrap is installed");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(ours, installed(&theirs));
}
