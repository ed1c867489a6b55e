//! Lab 02, the first machine: Debian with its own kernel, by whatever executes it here; and beside containers on one network.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::time::Duration;

use labs::{Terminal, full, host, sh, until};

const MINUTE: Duration = Duration::from_secs(60);
/// What a boot may take on the software CPU of a small host that has other things to do.
const BOOT: Duration = Duration::from_secs(900);

#[test]
fn the_first_machine_as_written() {
    // A boot and an installation on the software CPU take minutes: part of the long run until they are faster.
    if !full() {
        return;
    }
    let (host, _turn) = host();
    host.ok("launch debian/12 db --vm --memory 512M --cpus 1 --disk 4G --publish 8020:80");
    let listed = host.ok("ls");
    let line = listed
        .lines()
        .find(|line| line.contains("db"))
        .expect("ls lists the machine");
    assert!(
        line.contains("running") && line.contains("machine"),
        "no phase or kind: {line}"
    );
    assert!(
        host.ok("exec db -- uname -r").contains("cloud-amd64"),
        "its own kernel runs"
    );
    let state = host.inside("db", "systemctl is-system-running --wait || systemctl --failed");
    assert_eq!(state.trim(), "running");

    let mut console = Terminal::new(&host.command(["console", "db"]));
    console.type_("\r");
    console.expect("db login:", BOOT);
    console.type_("\u{1}x");
    console.end(MINUTE);

    host.run(&["exec", "db", "--", "apt-get", "-qq", "update"]).ok();
    host.run(&[
        "exec",
        "-e",
        "DEBIAN_FRONTEND=noninteractive",
        "db",
        "--",
        "apt-get",
        "-qq",
        "install",
        "-y",
        "nginx",
    ])
    .ok();
    let page = || sh("curl -fsS --max-time 20 localhost:8020");
    until("nginx answers", MINUTE, || page().code == 0);
    assert!(page().ok().contains("nginx"));

    host.inside("db", "echo kept > /root/kept");
    host.ok("stop db --timeout 300");
    assert_eq!(host.phase("db"), "stopped");
    host.ok("start db");
    until("nginx answers again", BOOT, || page().code == 0);
    assert_eq!(
        host.inside("db", "cat /root/kept").trim(),
        "kept",
        "what was written is there after a stop and a start"
    );

    // Containers and machines find each other by name.
    host.ok("launch debian/12 web");
    assert!(host.inside("web", "getent hosts db").contains("10."));
    host.inside("db", "ping -c 2 -W 10 web || getent hosts web");
    host.purge(&["db", "web"]);
}
