//! The suite against the container engine, and what only containers owe.
#![allow(clippy::unwrap_used)] // Helpers of tests are tests too.

#[path = "suite/mod.rs"]
mod suite;

use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use contract::{Ground, until};
use engine::attach::Session;
use engine::protocol::{Attached, FileJob};
use engine::shim::Shim;
use engine::{ExecPlan, Stop};
use model::{ExitStatus, Phase, Reaction};
use unpack::tar::{Entry, Kind, Reader, Writer};

const SHIM: &str = env!("CARGO_BIN_EXE_container-shim");
const TOOL: &str = env!("CARGO_BIN_EXE_guest-tool");

fn ground(words: &[&str]) -> Ground {
    Ground::new(Path::new(SHIM), Path::new(TOOL), words)
}

fn argv(words: &[&str]) -> ExecPlan {
    ExecPlan {
        argv: words.iter().map(|word| (*word).to_owned()).collect(),
        ..ExecPlan::default()
    }
}

fn namespaces(shim: &mut Shim) -> Vec<String> {
    let (exit, output) = shim.run(argv(&["tool", "namespaces"]), String::new()).unwrap();
    assert_eq!(exit, ExitStatus::Code(0));
    output.lines().map(str::to_owned).collect()
}

#[test]
fn a_restart_keeps_the_namespaces_that_networks_and_names_hang_on() {
    let ground = ground(&["sleep"]);
    let mut shim = ground.running();
    let (before, pid) = (namespaces(&mut shim), shim.status().unwrap().pid);
    shim.restart(Stop::Forced).unwrap();
    let after = namespaces(&mut shim);
    assert_ne!(shim.status().unwrap().pid, pid);
    assert_eq!(before[..4], after[..4], "user, net, uts, ipc");
    assert_ne!(before[4..], after[4..], "pid, mnt");
}

#[test]
fn a_reboot_from_inside_needs_nobody() {
    let ground = ground(&["reboot-once", "/tmp/rebooted"]);
    let mut shim = ground.running();
    until("rebooted", || shim.status().unwrap().restarts == 1);
    let status = shim.status().unwrap();
    assert_eq!(
        (status.phase, status.exit),
        (Phase::Running, Some(ExitStatus::Reboot))
    );
}

#[test]
fn a_poweroff_from_inside_stops_the_guest() {
    let ground = ground(&["poweroff"]);
    let mut shim = ground.running();
    let status = shim.wait().unwrap();
    assert_eq!(
        (status.phase, status.exit),
        (Phase::Stopped, Some(ExitStatus::Poweroff))
    );
}

#[test]
fn a_guest_that_reboots_for_ever_does_so_ever_more_slowly() {
    let ground = ground(&["reboot"]);
    let mut shim = ground.running();
    std::thread::sleep(Duration::from_secs(3));
    let restarts = shim.status().unwrap().restarts;
    assert!((2..8).contains(&restarts), "{restarts}");
    shim.stop(Stop::Forced).unwrap();
}

#[test]
fn a_killed_shim_takes_its_guest_along_and_nothing_stays_after_cleaning_up() {
    let ground = ground(&["sleep"]);
    let shim = ground.running();
    let pid = rustix::process::Pid::from_raw(i32::try_from(shim.hello().pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    until("the socket is dead", || {
        Shim::connect(&ground.plan.run_dir).is_err()
    });
    shim_server::cleanup(&ground.plan.run_dir).unwrap();
    until("nothing is left", || ground.remains().is_empty());
    shim_server::cleanup(&ground.plan.run_dir).unwrap();
    let mut shim = ground.running();
    assert_eq!(shim.status().unwrap().phase, Phase::Running);
}

#[test]
fn a_shim_that_hangs_is_cleaned_up_too() {
    let ground = ground(&["sleep"]);
    let shim = ground.running();
    let pid = rustix::process::Pid::from_raw(i32::try_from(shim.hello().pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    shim_server::cleanup(&ground.plan.run_dir).unwrap();
    until("nothing is left", || ground.remains().is_empty());
}

#[test]
fn one_guest_has_one_shim() {
    let ground = ground(&["sleep"]);
    let first = ground.shim();
    assert_eq!(ground.shim().hello().pid, first.hello().pid);
}

#[test]
fn a_flood_of_output_is_bounded_and_holds_up_nobody() {
    let mut ground = ground(&["flood"]);
    ground.plan.console_log_limit = 100_000;
    let mut shim = ground.running();
    let ticket = shim.console().unwrap();
    // A client that looks on and never reads.
    let deaf = Session::open(&ground.attach_socket(), &ticket).unwrap();
    let since = Instant::now();
    while since.elapsed() < Duration::from_millis(1500) {
        let asked = Instant::now();
        shim.status().unwrap();
        assert!(asked.elapsed() < Duration::from_millis(500));
        std::thread::sleep(Duration::from_millis(20));
    }
    let size: u64 = ["console.log", "console.log.1"]
        .iter()
        .filter_map(|name| ground.plan.state_dir.join(name).metadata().ok())
        .map(|metadata| metadata.len())
        .sum();
    assert!((50_000..=100_000).contains(&size), "{size}");
    drop(deaf);
    shim.stop(Stop::Forced).unwrap();
}

#[test]
fn a_process_runs_in_the_tree_of_a_guest_that_was_never_started() {
    let ground = ground(&["sleep"]);
    let mut shim = ground.shim();
    shim.create().unwrap();
    let plan = argv(&[
        "sh",
        "-c",
        "read word; echo $word > /etc/made; echo told; echo $$",
    ]);
    let (exit, output) = shim.run(plan, "secret\n".into()).unwrap();
    assert_eq!((exit, output.as_str()), (ExitStatus::Code(0), "told\n1\n"));
    shim.start().unwrap();
    let (_, output) = shim
        .run(
            argv(&["sh", "-c", "read word </etc/made; echo $word"]),
            String::new(),
        )
        .unwrap();
    assert_eq!(output, "secret\n");
}

#[test]
fn a_guest_waits_with_its_start_until_its_tree_is_free() {
    let ground = ground(&["sleep"]);
    let mut shim = ground.shim();
    shim.create().unwrap();
    std::thread::scope(|scope| {
        let run = scope.spawn(|| {
            let mut other = Shim::connect(&ground.plan.run_dir).unwrap();
            other.run(argv(&["sh", "-c", "read x"]), String::new())
        });
        std::thread::sleep(Duration::from_millis(300));
        assert!(!run.is_finished() || run.join().unwrap().is_ok());
        shim.start().unwrap();
    });
    assert_eq!(shim.status().unwrap().phase, Phase::Running);
}

#[test]
fn long_output_is_kept_from_its_end() {
    let ground = ground(&["sleep"]);
    let mut shim = ground.running();
    let script = "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done";
    let (_, output) = shim.run(argv(&["sh", "-c", script]), String::new()).unwrap();
    assert!(
        output.len() <= 64 * 1024 && output.ends_with("line 19999\n"),
        "{}",
        output.len()
    );
}

fn archive(entries: &[(&str, Kind, &str)]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (name, kind, text) in entries {
        let mut entry = Entry::new(name.as_bytes().to_vec(), kind.clone(), 0o644);
        entry.size = text.len() as u64;
        writer.entry(&entry, &mut text.as_bytes()).unwrap();
    }
    writer.finish().unwrap()
}

fn names(tar: impl Read) -> Vec<String> {
    let mut reader = Reader::new(tar);
    let mut names = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        names.push(String::from_utf8(entry.path).unwrap());
    }
    names.sort();
    names
}

fn copies_both_ways(shim: &mut Shim) {
    let tar = archive(&[("a", Kind::File, "one"), ("b", Kind::File, "two")]);
    shim.write_files("/tmp", &mut &tar[..]).unwrap();
    let (_, output) = shim
        .run(argv(&["sh", "-c", "read x </tmp/a; echo $x"]), String::new())
        .unwrap();
    assert_eq!(output, "one\n");
    assert_eq!(
        names(shim.read_files("/tmp").unwrap()),
        ["tmp/", "tmp/a", "tmp/b"]
    );
    let mut reader = Reader::new(shim.read_files("/tmp/b").unwrap());
    assert_eq!(reader.next_entry().unwrap().unwrap().path, b"b");
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "two");
}

#[test]
fn files_are_copied_into_a_running_guest_and_out() {
    let ground = ground(&["sleep"]);
    copies_both_ways(&mut ground.running());
}

#[test]
fn files_are_copied_into_a_stopped_guest_and_out() {
    let ground = ground(&["sleep"]);
    copies_both_ways(&mut ground.shim());
}

#[test]
fn a_copy_that_cannot_be_is_told() {
    let ground = ground(&["sleep"]);
    let mut shim = ground.running();
    assert!(shim.read_files("/no/such/file").is_err());
    let tar = archive(&[("a", Kind::File, "one")]);
    assert!(shim.write_files("/no/such/directory", &mut &tar[..]).is_err());
    let bad = archive(&[("../a", Kind::File, "one")]);
    assert!(shim.write_files("/tmp", &mut &bad[..]).is_err());
    assert!(shim.write_files("/tmp", &mut &b"no archive at all"[..]).is_err());
    let _ = shim.files(FileJob::Read { path: "/".into() }).unwrap();
    assert_eq!(shim.status().unwrap().phase, Phase::Running);
}

#[test]
fn a_link_to_the_host_leads_a_copy_nowhere_but_inside() {
    let ground = ground(&["sleep"]);
    let mut shim = ground.running();
    let secret = ground.plan.state_dir.join("secret");
    std::fs::write(&secret, "of the host").unwrap();
    let tar = archive(&[(
        "link",
        Kind::Symlink(secret.as_os_str().as_encoded_bytes().to_vec()),
        "",
    )]);
    shim.write_files("/tmp", &mut &tar[..]).unwrap();
    assert!(shim.read_files("/tmp/link").is_err());
    let tar = archive(&[(
        "out",
        Kind::Symlink(ground.plan.state_dir.as_os_str().as_encoded_bytes().to_vec()),
        "",
    )]);
    shim.write_files("/tmp", &mut &tar[..]).unwrap();
    let tar = archive(&[("out/secret", Kind::File, "of the guest")]);
    let _ = shim.write_files("/tmp", &mut &tar[..]);
    assert_eq!(std::fs::read_to_string(secret).unwrap(), "of the host");
}

#[test]
fn the_console_shows_what_came_before_and_what_comes() {
    let ground = ground(&["count", "1000"]);
    let mut shim = ground.running();
    until("output", || ground.log().contains("1005"));
    let ticket = shim.console().unwrap();
    let mut session = Session::open(&ground.attach_socket(), &ticket).unwrap();
    assert!(matches!(session.kind, Attached::Console { scrollback } if scrollback > 0));
    let _errors = session.fds.pop().unwrap();
    let mut console = std::fs::File::from(session.fds.pop().unwrap());
    let mut seen = String::new();
    until("old and new lines", || {
        let mut bytes = [0; 4096];
        let count = console.read(&mut bytes).unwrap();
        seen.push_str(&String::from_utf8_lossy(&bytes[..count]));
        seen.contains("1000\n") && seen.contains("1050")
    });
    shim.stop(Stop::Forced).unwrap();
    let mut rest = Vec::new();
    console.read_to_end(&mut rest).unwrap();
}

#[test]
fn events_are_told_in_order() {
    let ground = ground(&["exit", "0"]);
    let mut shim = ground.shim();
    shim.create().unwrap();
    let events = Shim::connect(&ground.plan.run_dir).unwrap().subscribe().unwrap();
    shim.start().unwrap();
    let kinds: Vec<String> = events
        .take(2)
        .map(|told| {
            serde_json::to_value(told.unwrap()).unwrap()["event"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(kinds, ["started", "ended"]);
}

#[test]
fn a_crash_is_answered_by_policy() {
    let mut ground = ground(&["exit", "1"]);
    ground.plan.policies.on_crash = Reaction::Restart;
    let mut shim = ground.running();
    until("it was started again", || shim.status().unwrap().restarts >= 1);
    assert_eq!(shim.stop(Stop::Forced).unwrap().phase, Phase::Stopped);
}
