//! Rough use: closed pipes, odd files, a guest that does not play fair, a daemon that goes while somebody listens.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileTypeExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use labs::{host, sh, until};

const SOON: Duration = Duration::from_secs(30);

#[test]
fn a_command_whose_reader_goes_away_ends_and_leaves_no_guest() {
    let (host, _turn) = host();
    host.launch_sleeper("pipe", "");
    let posada = host.command(["x"]).get_program().to_string_lossy().into_owned();
    let folder = tempfile::tempdir().unwrap();
    let errors = folder.path().join("errors");
    for line in ["exec pipe -- yes", "launch --rm debian/12 gone -- yes"] {
        let said = sh(&format!(
            "( {posada} {line}; echo $? >&2 ) 2>{} | head -1",
            errors.display()
        ));
        assert_eq!(said.out, "y\n", "{line}");
        let told = std::fs::read_to_string(&errors).unwrap();
        assert!(
            told.ends_with("141\n") && !told.contains("error"),
            "{line}: {told}"
        );
    }
    assert!(!host.ok("ls --quiet").lines().any(|name| name == "gone"));
    host.purge(&["pipe"]);
}

#[test]
fn a_copy_never_changes_what_kind_of_thing_stands_at_its_target() {
    let (host, _turn) = host();
    host.launch_sleeper("kinds", "");
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let cp = |from: &str, to: &str| host.run(&["cp", from, to]);
    sh(&format!("mknod {} c 1 3", at("null"))).ok();
    cp("kinds:/etc/hostname", &at("null")).ok();
    let kind = |name: &str| std::fs::symlink_metadata(at(name)).unwrap().file_type();
    assert!(kind("null").is_char_device(), "written into, not replaced");
    std::fs::write(at("real"), "old").unwrap();
    std::os::unix::fs::symlink("real", at("link")).unwrap();
    cp("kinds:/etc/hostname", &at("link")).ok();
    assert!(kind("link").is_symlink());
    assert_eq!(std::fs::read_to_string(at("real")).unwrap(), "kinds\n");
    cp("kinds:/etc/apt", &at("real")).fault("UNP008");
    assert!(kind("real").is_file());
    std::fs::create_dir(at("tree")).unwrap();
    host.run(&["cp", &at("tree"), "kinds:/etc/passwd"])
        .fault("UNP008");
    assert!(
        host.inside("kinds", "test -f /etc/passwd && echo file")
            .contains("file")
    );
    cp("kinds:/proc/cpuinfo", &at("cpuinfo")).ok();
    assert!(
        std::fs::read_to_string(at("cpuinfo"))
            .unwrap()
            .contains("processor")
    );
    host.purge(&["kinds"]);
}

#[test]
fn files_are_copied_into_a_guest_that_never_ran() {
    let (host, _turn) = host();
    host.ok("launch debian/12 fresh --no-start");
    host.run(&["cp", "/etc/hostname", "fresh:/root/here"]).ok();
    host.ok("start fresh");
    assert!(!host.inside("fresh", "cat /root/here").is_empty());
    host.purge(&["fresh"]);
}

#[test]
fn whoever_talks_to_the_notify_socket_cannot_hold_up_the_guests_init() {
    let (host, _turn) = host();
    host.launch("chat", "");
    let talk = "use Socket; socket(S,AF_UNIX,SOCK_DGRAM,0); for(1..400){send(S,\"STATUS=x\",MSG_DONTWAIT,\
                pack_sockaddr_un(\"/run/host/notify\"))}";
    host.run(&["exec", "-u", "www-data", "chat", "--", "perl", "-e", talk])
        .ok();
    host.ok("exec chat -- systemctl daemon-reexec");
    let begin = Instant::now();
    host.ok("stop chat");
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    assert_ne!(host.guest("chat")["status"]["exit"]["signal"], 9);
    host.purge(&["chat"]);
}

#[test]
fn a_guest_without_memory_for_its_system_is_not_called_a_success() {
    let (host, _turn) = host();
    let said = host.posada("launch debian/12 tiny --memory 4M");
    assert_ne!(said.code, 0, "{said:?}");
    host.purge(&["tiny"]);
}

#[test]
fn listeners_go_on_with_the_next_daemon() {
    let (host, _turn) = host();
    host.launch_sleeper("evd", "");
    let begin = |args: &[&str]| {
        let mut child = host.command(args).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        (child, lines)
    };
    let (mut events, mut told) = begin(&["events", "-f"]);
    let (mut list, mut listed) = begin(&["ls", "--quiet", "--watch=0.1"]);
    assert_eq!(listed.next().unwrap().unwrap(), "evd");
    std::thread::sleep(Duration::from_millis(500));
    host.kill_daemon();
    until("a new daemon", SOON, || host.posada("ls").code == 0);
    host.ok("stop --force evd");
    assert!(told.any(|line| line.unwrap().contains("evd")));
    host.ok("rename evd later");
    assert!(listed.any(|line| line.unwrap() == "later"));
    for child in [&mut events, &mut list] {
        let _ = child.kill();
        let _ = child.wait();
    }
    host.purge(&["later"]);
}

#[test]
fn a_jail_needs_a_tree_and_rules_nothing_of_the_host() {
    let (host, _turn) = host();
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().display().to_string();
    host.run(&["jail", &empty, "--", "true"]).fault("CLI032");
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        0,
        "nothing is littered"
    );
    let tree = folder.path().join("tree").display().to_string();
    host.run(&["bootstrap", "debian/12", &tree]).ok();
    sh(&format!(
        "ln -sf ../run/systemd/resolve/stub-resolv.conf {tree}/etc/resolv.conf"
    ))
    .ok();
    let inside = |script: &str| host.run(&["jail", &tree, "--", "sh", "-c", script]);
    inside("test -s /etc/resolv.conf").ok();
    assert_ne!(inside("echo 60 > /proc/sys/vm/swappiness").code, 0);
    assert_ne!(inside("echo x > /proc/sys/kernel/core_pattern").code, 0);
    assert_eq!(host.run(&["jail", &tree, "--", "no-such"]).code, 127);
}

#[test]
fn a_shim_that_does_not_answer_hardly_holds_up_the_list() {
    let (host, _turn) = host();
    host.launch_sleeper("wedged", "");
    host.launch_sleeper("well", "");
    let shim = host.guest("wedged")["status"]["shim_pid"].as_u64().unwrap();
    let shim = u32::try_from(shim).unwrap();
    labs::kill(shim, rustix::process::Signal::STOP);
    let begin = Instant::now();
    let listed = host.ok("ls --quiet");
    let took = begin.elapsed();
    labs::kill(shim, rustix::process::Signal::CONT);
    assert!(listed.contains("well") && listed.contains("wedged"), "{listed}");
    assert!(took < Duration::from_secs(10), "{took:?}");
    host.purge(&["wedged", "well"]);
}

#[test]
fn a_system_that_ends_at_once_is_not_called_started() {
    let (host, _turn) = host();
    host.ok("launch debian/12 brief --no-start");
    let folder = tempfile::tempdir().unwrap();
    let init = folder.path().join("systemd");
    std::fs::write(&init, "#!/bin/sh\nexit 7\n").unwrap();
    sh(&format!("chmod 755 {}", init.display())).ok();
    host.run(&[
        "cp",
        &init.display().to_string(),
        "brief:/usr/lib/systemd/systemd",
    ])
    .ok();
    for verb in ["start", "restart"] {
        let said = host.run(&[verb, "brief"]).fault("CLI034");
        assert!(said.contains('7'), "{verb}: {said}");
    }
    host.purge(&["brief"]);
}
