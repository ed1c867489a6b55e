//! Faults: processes of ours killed, mean requests, lying guests. No guest is lost, nothing is half done.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::time::Duration;

use labs::{alive, host, kill, sh, until};
use rustix::process::Signal;

const SOON: Duration = Duration::from_secs(30);

#[test]
fn a_guest_outlives_the_daemon_and_reboots_without_it() {
    let (host, _turn) = host();
    host.launch("alone", "");
    let guest = host.guest("alone");
    let pid = guest["status"]["pid"].as_u64().unwrap() as u32;
    let shim = guest["status"]["shim_pid"].as_u64().unwrap() as u32;
    // From within, so that the guest reboots while no daemon is there.
    host.inside("alone", "systemd-run --on-active=3 reboot 2>/dev/null");
    host.kill_daemon();
    assert!(alive(pid) && alive(shim));
    until("the guest has rebooted without a daemon", SOON * 2, || {
        !alive(pid)
    });
    assert!(alive(shim), "the shim stays");
    assert!(
        !std::path::Path::new(labs::SOCKET).exists() || host.daemon_pid().is_none(),
        "nobody started a daemon"
    );
    until("it is up again", SOON * 2, || {
        host.posada("exec alone -- systemctl is-system-running --wait")
            .out
            .trim()
            == "running"
    });
    let after = host.guest("alone");
    assert_eq!(
        after["status"]["shim_pid"].as_u64(),
        Some(u64::from(shim)),
        "the new daemon adopts the shim"
    );
    assert_eq!(after["status"]["restarts"], 1);
    assert_eq!(after["id"], guest["id"]);
    assert_eq!(
        after["status"]["nics"], guest["status"]["nics"],
        "the address is kept"
    );
    assert!(
        host.inside("alone", "getent hosts deb.debian.org")
            .contains("deb.debian.org")
    );
    host.purge(&["alone"]);
}

#[test]
fn names_are_resolved_with_the_daemon_dead() {
    let (host, _turn) = host();
    host.launch_sleeper("dns", "");
    let pid = host.guest("dns")["status"]["pid"].to_string();
    host.kill_daemon();
    let ask = |name: &str| sh(&format!("nsenter -t {pid} -a -- getent hosts {name}"));
    until("the guest resolves a name of the world", SOON, || {
        ask("deb.debian.org").code == 0
    });
    assert!(ask("dns.posada").ok().contains("dns.posada"));
    host.purge(&["dns"]);
}

#[test]
fn a_killed_network_process_comes_back() {
    let (host, _turn) = host();
    host.launch_sleeper("netp", "");
    let network = || host.json("network ls")[0]["status"].clone();
    let pid = network()["pid"].as_u64().expect("a network process") as u32;
    kill(pid, Signal::KILL);
    until("another network process answers", SOON, || {
        let now = network();
        now["serving"] == true && now["pid"].as_u64().is_some_and(|new| new != u64::from(pid))
    });
    assert!(
        host.inside("netp", "getent hosts netp.posada")
            .contains("netp.posada")
    );
    host.purge(&["netp"]);
}

#[test]
fn a_killed_shim_makes_its_guest_failed_and_it_can_be_started_again() {
    let (host, _turn) = host();
    host.launch_sleeper("shot", "");
    let shim = host.guest("shot")["status"]["shim_pid"].as_u64().unwrap() as u32;
    let pid = host.guest("shot")["status"]["pid"].as_u64().unwrap() as u32;
    kill(shim, Signal::KILL);
    until("the daemon notices", SOON, || {
        ["failed", "stopped"].contains(&host.phase("shot").as_str())
    });
    until("its processes are gone", SOON, || !alive(pid));
    host.ok("start shot");
    assert_eq!(host.inside("shot", "echo again"), "again\n");
    host.purge(&["shot"]);
}

#[test]
fn the_daemon_killed_in_the_middle_of_work_loses_nothing() {
    let (host, _turn) = host();
    host.launch_sleeper("seed", "");
    host.purge(&["seed"]);
    let rounds = if labs::full() { 20 } else { 6 };
    for round in 0..rounds {
        let name = format!("round{round}");
        let mut work = host
            .command(["launch", "debian/12", &name, "--", "sleep", "infinity"])
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(17 * round));
        if let Some(pid) = host.daemon_pid() {
            kill(pid, Signal::KILL);
        }
        // The command outlives the daemon: its request is repeated, and not carried out twice.
        let ended = work.wait().unwrap();
        assert!(ended.success(), "round {round}: {ended}");
        until("no operation is under way any more", SOON, || {
            let operations = host.json("operation ls");
            let states = operations
                .as_array()
                .unwrap()
                .iter()
                .map(|one| one["state"].as_str().unwrap());
            states
                .into_iter()
                .all(|state| ["done", "failed", "cancelled"].contains(&state))
        });
        assert_eq!(host.phase(&name), "running", "{:?}", host.guest(&name));
        assert_eq!(host.inside(&name, "echo alive"), "alive\n");
        host.purge(&[&name]);
    }
    let trees = || sh("ls /var/lib/posada/guests").out;
    until("every tree is gone", SOON, || trees().is_empty());
}

#[test]
fn names_taken_images_unknown_and_ports_taken_are_told() {
    let (host, _turn) = host();
    host.launch_sleeper("taken", "--publish 8123:80");
    let said = host.posada("launch debian/12 taken");
    assert!(said.code != 0 && said.err.contains("taken"), "{said:?}");
    assert!(
        host.posada("launch debian/12 Bad_Name")
            .fault("NAM001")
            .contains("Bad_Name")
    );
    let said = host.posada("launch debian/99 x99");
    assert!(said.code != 0 && said.err.contains("debian/99"), "{said:?}");
    let said = host.posada("launch debian/12 other --publish 8123:80 -- sleep 1000");
    assert!(
        said.code != 0 && said.err.contains("8123") && said.err.contains("taken"),
        "{said:?}"
    );
    let left = host.ok("ls --quiet");
    assert_eq!(left, "taken\n", "what failed leaves no guest");
    host.purge(&["taken"]);
}

#[test]
fn a_directory_without_init_cannot_be_a_system_container() {
    let (host, _turn) = host();
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    for sub in ["bin", "etc", "proc", "sys", "dev", "tmp", "run"] {
        std::fs::create_dir(folder.path().join(sub)).unwrap();
    }
    let said = host.posada(&format!("launch {} noinit", folder.path().display()));
    assert!(
        said.code != 0 && said.err.contains("error[") && said.err.contains("init"),
        "{said:?}"
    );
    host.purge(&["noinit"]);
}

#[test]
fn exec_into_a_stopped_guest_says_how_to_start_it() {
    let (host, _turn) = host();
    host.launch_sleeper("halt", "");
    host.ok("stop --force halt");
    let said = host.posada("exec halt -- true");
    assert!(
        said.code != 0 && said.err.contains("posada start halt"),
        "{said:?}"
    );
    host.purge(&["halt"]);
}

#[test]
fn two_clients_stop_one_guest_at_once() {
    let (host, _turn) = host();
    host.launch_sleeper("both", "");
    let stop = || host.command(["stop", "--force", "both"]).spawn().unwrap();
    let (mut one, mut two) = (stop(), stop());
    let codes = [one.wait().unwrap().code(), two.wait().unwrap().code()];
    assert!(codes.contains(&Some(0)), "{codes:?}");
    assert_eq!(host.phase("both"), "stopped");
    host.purge(&["both"]);
}

#[test]
fn a_guest_that_lies_in_its_etc_does_not_reach_the_host() {
    let (host, _turn) = host();
    host.launch_sleeper("liar", "");
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "of the host\n").unwrap();
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let path = secret.display();
    host.inside("liar", &format!("for f in passwd group shadow hosts hostname resolv.conf; do rm -f /etc/$f; ln -s {path} /etc/$f; done; ln -s {path} /root/way; ln -s / /root/up"));
    // Whatever these do, they do it inside.
    let _ = host.run_with_input(&["passwd", "liar", "--password-stdin"], b"x\n");
    let _ = host.posada("exec -u nobody liar -- true");
    let note = folder.path().join("note");
    std::fs::write(&note, "new\n").unwrap();
    let _ = host.run(&["cp", &note.display().to_string(), "liar:/root/way"]);
    let _ = host.run(&["cp", &note.display().to_string(), &format!("liar:/root/up{path}")]);
    let read = host.run(&[
        "cp",
        "liar:/root/way",
        &folder.path().join("stolen").display().to_string(),
    ]);
    let stolen = std::fs::read_to_string(folder.path().join("stolen")).unwrap_or_default();
    assert!(
        !stolen.contains("of the host"),
        "a symlink inside led out: {read:?}"
    );
    host.ok("restart liar --force");
    assert_eq!(
        std::fs::read_to_string(&secret).unwrap(),
        "of the host\n",
        "a file of the host was changed"
    );
    host.purge(&["liar"]);
}

#[test]
fn a_launch_on_a_full_disk_fails_cleanly() {
    let (host, _turn) = host();
    host.launch_sleeper("space", "");
    // A small disk under the next guest's tree stands for a full one: its file system has no room for a layer.
    let folder = "/var/lib/posada/guests";
    sh(&format!("mount -t tmpfs -o size=8k,nr_inodes=4 tmpfs {folder}")).ok();
    let said = host.posada("launch debian/12 nospace -- sleep 1000");
    sh(&format!("umount -l {folder}")).ok();
    assert!(said.code != 0 && said.err.contains("error["), "{said:?}");
    assert!(
        !host.ok("ls --quiet").lines().any(|name| name == "nospace"),
        "a failed launch leaves a guest"
    );
    assert_eq!(host.inside("space", "echo fine"), "fine\n");
    host.purge(&["space", "nospace"]);
}
