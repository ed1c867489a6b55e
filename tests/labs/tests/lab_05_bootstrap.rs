//! Lab 05, a jail: a root file system from the signed archive, entered with /proc, locale and users right.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::path::Path;

use labs::{Look, full, host, sh};

#[test]
fn a_tree_is_bootstrapped_and_entered() {
    let (host, _turn) = host();
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    let jail = folder.path().join("jail").display().to_string();
    host.run(&["bootstrap", "debian/12", &jail, "--variant", "minbase"])
        .ok();

    // A Debian of the asked release, fully configured, with what dpkg and apt need.
    let version = std::fs::read_to_string(format!("{jail}/etc/debian_version")).unwrap();
    assert!(version.starts_with("12"), "{version}");
    let status = std::fs::read_to_string(format!("{jail}/var/lib/dpkg/status")).unwrap();
    let states = status.lines().filter(|line| line.starts_with("Status: "));
    assert!(states.clone().count() > 60 && states.clone().all(|line| line == "Status: install ok installed"));
    assert!(
        !Path::new(&format!("{jail}/usr/sbin/policy-rc.d")).exists(),
        "the protection against starting services stays behind"
    );

    let before = Look::now();
    let inside = |script: &str| host.run(&["jail", &jail, "--", "sh", "-c", script]);
    assert_eq!(inside("id -un; pwd").ok().lines().next(), Some("root"));
    assert!(
        inside("ls /proc/self/status /dev/null")
            .ok()
            .contains("/proc/self/status")
    );
    assert_eq!(inside("exit 4").code, 4);
    assert!(
        !inside("perl -e 1; bash -c true").err.contains("locale"),
        "a program complains of its locale"
    );
    inside("dpkg --audit && apt-get -qq update && apt-get -qq install -y --no-install-recommends file >/dev/null && file /bin/sh").ok();
    assert_eq!(
        Look::now().new_since(&before),
        Vec::<String>::new(),
        "something stays mounted"
    );
}

#[test]
fn an_archive_of_the_tree_is_written_and_can_be_launched() {
    let (host, _turn) = host();
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    let file = folder.path().join("rootfs.tar.zst").display().to_string();
    host.run(&["bootstrap", "debian/12", &file, "--include", "systemd-sysv,dbus"])
        .ok();
    assert!(std::fs::metadata(&file).unwrap().len() > 20 << 20);
    host.run(&["launch", &format!("file:{file}"), "fromfile"]).ok();
    assert_eq!(host.phase("fromfile"), "running");
    host.purge(&["fromfile"]);
}

#[test]
fn the_package_set_is_that_of_mmdebstrap() {
    if sh("command -v mmdebstrap").code != 0 {
        return labs::skip(
            "the_package_set_is_that_of_mmdebstrap",
            "mmdebstrap is not installed",
        );
    }
    if !full() {
        return; // A second bootstrap by another tool: only in the long run.
    }
    let (host, _turn) = host();
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    let (ours, theirs) = (folder.path().join("ours"), folder.path().join("theirs"));
    host.run(&[
        "bootstrap",
        "debian/12",
        &ours.display().to_string(),
        "--variant",
        "minbase",
    ])
    .ok();
    sh(&format!(
        "mmdebstrap --quiet --variant=minbase bookworm {}",
        theirs.display()
    ))
    .ok();
    let packages = |tree: &Path| {
        let query = format!(
            "dpkg-query --admindir={}/var/lib/dpkg -W -f '${{Package}} ${{Version}}\\n' | sort",
            tree.display()
        );
        sh(&query).ok()
    };
    assert_eq!(packages(&ours), packages(&theirs));
}

#[test]
fn other_releases_and_bad_requests_are_told_apart() {
    let (host, _turn) = host();
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    let tree = folder.path().join("x").display().to_string();
    let said = host.run(&["bootstrap", "debian/99", &tree]);
    assert!(said.code != 0 && said.err.contains("debian/99"), "{said:?}");
    assert!(!Path::new(&tree).exists(), "a failed bootstrap leaves a tree");
    let said = host.run(&["bootstrap", "debian/12", &tree, "--include", "no-such-package"]);
    assert!(said.code != 0 && said.err.contains("no-such-package"), "{said:?}");
    assert!(!Path::new(&tree).exists(), "a failed bootstrap leaves a tree");
    std::fs::create_dir(&tree).unwrap();
    std::fs::write(format!("{tree}/mine"), "").unwrap();
    let said = host.run(&["bootstrap", "debian/12", &tree]);
    assert!(said.code != 0, "a folder with files in it was taken");
    assert!(Path::new(&format!("{tree}/mine")).exists());
}

#[test]
fn an_archive_signed_by_nobody_we_know_is_refused() {
    let (host, _turn) = host();
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    let tree = folder.path().join("x").display().to_string();
    let keyring = folder.path().join("empty.gpg");
    std::fs::write(&keyring, b"").unwrap();
    let said = host.run(&[
        "bootstrap",
        "debian/12",
        &tree,
        "--keyring",
        &keyring.display().to_string(),
    ]);
    assert!(said.code != 0 && said.err.contains("error["), "{said:?}");
    assert!(!Path::new(&tree).exists());
}
