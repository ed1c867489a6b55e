//! Lab 20, supervision: top, logs, boot messages, events, autostart in order, and what follows a guest's end.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

use labs::{Terminal, host, kill, until};
use rustix::process::Signal;

const SOON: Duration = Duration::from_secs(30);

#[test]
fn top_shows_who_uses_what_sorted_and_live() {
    let (host, _turn) = host();
    host.launch_sleeper("idle", "");
    host.ok("launch debian/12 busy -- while :; do :; done");
    std::thread::sleep(Duration::from_secs(1));
    let told = host.json("top --once --sort cpu");
    let names: Vec<&str> = told
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["name"].as_str().unwrap())
        .collect();
    assert!(names.contains(&"idle") && names.contains(&"busy"), "{told}");
    let mut top = Terminal::new(&host.command(["top"]));
    top.expect("busy", SOON);
    top.expect("busy", SOON);
    top.type_("q");
    assert_eq!(top.end(SOON).code(), Some(0));
    host.purge(&["idle", "busy"]);
}

#[test]
fn logs_hold_what_was_printed_and_boot_messages_and_follow() {
    let (host, _turn) = host();
    host.launch("boot", "");
    until("the boot is in the log", SOON, || {
        host.ok("logs boot").contains("login:")
    });
    host.ok("launch debian/12 talk -- for i in 1 2 3; do echo line$i; done; sleep 2; echo late; exec sleep infinity");
    until("its first words are in the log", SOON, || {
        host.ok("logs talk").contains("line3")
    });
    assert_eq!(host.ok("logs talk --tail 1").lines().count(), 1);
    let mut follow = host
        .command(["logs", "-f", "talk"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(follow.stdout.take().unwrap()).lines();
    let late = lines.map_while(Result::ok).find(|line| line.trim() == "late");
    assert!(late.is_some());
    let _ = follow.kill();
    let _ = follow.wait();
    host.purge(&["boot", "talk"]);
}

#[test]
fn events_tell_what_happened_and_follow() {
    let (host, _turn) = host();
    host.launch_sleeper("ev", "");
    let mut follow = host
        .command(["events", "-f"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(follow.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok);
    host.ok("stop --force ev");
    assert!(lines.any(|line| line.contains("ev") && (line.contains("stopped") || line.contains("exited"))));
    let _ = follow.kill();
    let _ = follow.wait();
    let told = host.ok("events");
    assert!(told.contains("guest.") && told.contains("ev"), "{told}");
    host.purge(&["ev"]);
}

#[test]
fn guests_start_with_the_host_in_their_order() {
    let (host, _turn) = host();
    host.launch_sleeper("third", "--autostart --autostart-order 3");
    host.launch_sleeper("first", "--autostart --autostart-order 1 --autostart-delay 1");
    host.launch_sleeper("never", "");
    // The host goes down and comes up: everything volatile is gone, and every process.
    for name in ["first", "third", "never"] {
        let shim = host.guest(name)["status"]["shim_pid"].as_u64().unwrap();
        kill(u32::try_from(shim).unwrap(), Signal::KILL);
    }
    let networks = host.json("network ls");
    host.kill_daemon();
    if let Some(pid) = networks[0]["status"]["pid"].as_u64() {
        kill(u32::try_from(pid).unwrap(), Signal::KILL);
    }
    labs::sh("for n in $(ip -o link | grep -oE 'posada[0-9a-z]+|pv[0-9a-z]+' | sort -u); do ip link del $n 2>/dev/null; done; rm -rf /run/posada").ok();
    host.ok("ls");
    let up = || ["first", "third"].map(|name| host.phase(name)) == ["running", "running"];
    let begin = std::time::Instant::now();
    while !up() {
        assert!(
            begin.elapsed() < SOON,
            "{}{}",
            host.ok("ls --format json"),
            host.ok("operation ls --format json")
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_ne!(host.phase("never"), "running");
    let started = |name: &str| host.guest(name)["status"]["started"].as_str().unwrap().to_owned();
    assert!(
        started("first") < started("third"),
        "{} {}",
        started("first"),
        started("third")
    );
    host.purge(&["first", "third", "never"]);
}

#[test]
fn what_follows_a_crash_a_power_off_and_a_reboot_is_as_asked() {
    let (host, _turn) = host();
    host.ok("launch debian/12 crash --on-crash restart -- sleep 1; exit 3");
    until("it was restarted", SOON, || {
        host.guest("crash")["status"]["restarts"].as_u64().unwrap() >= 1
    });
    host.purge(&["crash"]);

    host.ok("launch debian/12 stays -- sleep 1; exit 3");
    host.ok("wait stays stopped --timeout 20");
    assert_eq!(host.guest("stays")["status"]["exit"]["code"], 3);
    host.purge(&["stays"]);

    host.ok("launch debian/12 goes --on-poweroff destroy -- sleep 1");
    until("it is removed", SOON, || {
        !host.ok("ls --quiet").lines().any(|name| name == "goes")
    });

    host.ok("launch debian/12 cycle --on-poweroff restart -- sleep 1");
    until("it was started again", SOON, || {
        host.guest("cycle")["status"]["restarts"].as_u64().unwrap() >= 1
    });
    host.ok("set cycle on_poweroff=stop");
    host.ok("wait cycle stopped --timeout 20");
    host.purge(&["cycle"]);
}

#[test]
fn a_graceful_stop_has_a_deadline() {
    let (host, _turn) = host();
    host.ok("launch debian/12 deaf -- trap '' TERM INT HUP; while :; do sleep 1; done");
    let begin = std::time::Instant::now();
    host.ok("stop deaf --timeout 2");
    let took = begin.elapsed();
    assert!(
        took >= Duration::from_secs(2) && took < Duration::from_secs(15),
        "{took:?}"
    );
    assert_eq!(host.phase("deaf"), "stopped");
    host.purge(&["deaf"]);
}
