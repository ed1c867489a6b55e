//! Behaviours that every engine owes its users; the including file names the shim.

use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use contract::{Ground, until, until_phase};
use engine::attach::Session;
use engine::protocol::{Attached, Request, TICKET_UNKNOWN};
use engine::shim::Shim;
use engine::{ExecPlan, Stop};
use model::api::TerminalSize;
use model::{ExitStatus, Limits, Phase, Size};

use super::SHIM;

const TOOL: &str = env!("CARGO_BIN_EXE_guest-tool");
const SOON: Stop = Stop::Graceful { deadline_ms: 5_000 };

fn ground(words: &[&str]) -> Ground {
    Ground::new(Path::new(SHIM), Path::new(TOOL), words)
}

fn argv(words: &[&str]) -> ExecPlan {
    ExecPlan {
        argv: words.iter().map(|word| (*word).to_owned()).collect(),
        ..ExecPlan::default()
    }
}

fn read_all(fd: OwnedFd) -> String {
    let mut bytes = Vec::new();
    let _ = std::fs::File::from(fd).read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Runs a process to its end: exit, output, errors.
fn exec(
    ground: &Ground,
    shim: &mut Shim,
    plan: ExecPlan,
    input: &str,
) -> (Option<ExitStatus>, String, String) {
    let ticket = shim.exec(plan).unwrap();
    let mut session = Session::open(&ground.attach_socket(), &ticket).unwrap();
    assert_eq!(session.kind, Attached::Pipes);
    let stderr = session.fds.pop().unwrap();
    let stdout = session.fds.pop().unwrap();
    std::fs::File::from(session.fds.pop().unwrap())
        .write_all(input.as_bytes())
        .unwrap();
    let (stdout, stderr) = (read_all(stdout), read_all(stderr));
    (session.control.wait().unwrap(), stdout, stderr)
}

#[test]
fn create_gives_a_network_namespace_and_runs_nothing() {
    let ground = ground(&["sleep"]);
    let mut shim = ground.shim();
    let net = shim.create().unwrap().expect("a namespace");
    let theirs = std::fs::metadata(format!("/proc/self/fd/{}", net.as_raw_fd())).unwrap();
    let ours = std::fs::metadata("/proc/self/ns/net").unwrap();
    use std::os::unix::fs::MetadataExt;
    assert_ne!(theirs.ino(), ours.ino());
    let status = shim.status().unwrap();
    assert_eq!((status.phase, status.pid), (Phase::Starting, None));
    assert!(shim.network_namespace().unwrap().is_some());
}

#[test]
fn a_started_guest_runs_and_its_exit_status_is_told() {
    let ground = ground(&["exit", "3"]);
    let mut shim = ground.running();
    let status = shim.wait().unwrap();
    assert_eq!(
        (status.phase, status.exit),
        (Phase::Stopped, Some(ExitStatus::Code(3)))
    );
}

#[test]
fn a_graceful_stop_lets_the_guest_end_by_itself() {
    let ground = ground(&["wait-for-term"]);
    let mut shim = ground.running();
    until("ready", || ground.log().contains("ready"));
    let status = shim.stop(SOON).unwrap();
    assert_eq!(status.exit, Some(ExitStatus::Code(7)));
}

#[test]
fn a_guest_that_does_not_listen_is_killed_at_the_deadline() {
    let ground = ground(&["sleep"]);
    let mut shim = ground.running();
    let since = Instant::now();
    let how = Stop::Graceful { deadline_ms: 300 };
    let status = shim.stop(how).unwrap();
    assert_eq!(status.exit, Some(ExitStatus::Signal(9)));
    assert!(since.elapsed() >= Duration::from_millis(300) && since.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_forced_stop_is_immediate_and_overtakes_a_graceful_one() {
    let ground = ground(&["sleep"]);
    let mut shim = ground.running();
    let since = Instant::now();
    std::thread::scope(|scope| {
        let patient = scope.spawn(|| {
            let mut other = Shim::connect(&ground.plan.run_dir).unwrap();
            other.stop(Stop::Graceful { deadline_ms: 60_000 }).unwrap()
        });
        until_phase(&mut shim, Phase::Stopping);
        shim.stop(Stop::Forced).unwrap();
        assert_eq!(patient.join().unwrap().phase, Phase::Stopped);
    });
    assert!(since.elapsed() < Duration::from_secs(10));
}

#[test]
fn two_clients_that_stop_one_guest_at_once_both_get_an_answer() {
    let ground = ground(&["wait-for-term"]);
    let _shim = ground.running();
    until("ready", || ground.log().contains("ready"));
    std::thread::scope(|scope| {
        let stop = || {
            Shim::connect(&ground.plan.run_dir)
                .unwrap()
                .stop(SOON)
                .unwrap()
                .phase
        };
        let both = [scope.spawn(stop), scope.spawn(stop)];
        for one in both {
            assert_eq!(one.join().unwrap(), Phase::Stopped);
        }
    });
}

#[test]
fn a_second_stop_finds_the_guest_stopped() {
    let ground = ground(&["sleep"]);
    let mut shim = ground.running();
    shim.stop(Stop::Forced).unwrap();
    assert_eq!(shim.stop(SOON).unwrap().phase, Phase::Stopped);
}

#[test]
fn a_guest_can_be_started_again() {
    let ground = ground(&["sleep"]);
    let mut shim = ground.running();
    let first = shim.status().unwrap().pid;
    assert!(shim.start().is_err(), "it runs already");
    shim.stop(Stop::Forced).unwrap();
    shim.start().unwrap();
    let status = shim.status().unwrap();
    assert!(status.phase == Phase::Running && status.pid != first);
}

#[test]
fn exec_carries_input_output_errors_and_the_exit_status() {
    let ground = ground(&["sleep"]);
    let mut shim = ground.running();
    let mut plan = argv(&["sh", "-c", "read line; echo \"$line $A\"; echo bad >&2; exit 9"]);
    plan.env.insert("A".into(), "b".into());
    let (exit, stdout, stderr) = exec(&ground, &mut shim, plan, "hello\n");
    assert_eq!(exit, Some(ExitStatus::Code(9)));
    assert_eq!((stdout.as_str(), stderr.as_str()), ("hello b\n", "bad\n"));
}

#[test]
fn exec_runs_as_the_user_and_in_the_directory_that_were_asked_for() {
    let ground = ground(&["sleep"]);
    let mut shim = ground.running();
    let mut plan = argv(&[
        "sh",
        "-c",
        "pwd; echo $HOME; read _ id _ </proc/self/status; while read key id _; do [ $key = Uid: ] && echo $id; done </proc/self/status",
    ]);
    plan.user = Some("ana".into());
    plan.workdir = Some("/etc".into());
    let (_, stdout, stderr) = exec(&ground, &mut shim, plan, "");
    assert_eq!((stdout.as_str(), stderr.as_str()), ("/etc\n/tmp\n1000\n", ""));
}

#[test]
fn a_broken_pipe_ends_a_process_inside_as_on_any_host() {
    let ground = ground(&["sleep"]);
    let mut shim = ground.running();
    let plan = argv(&["sh", "-c", "kill -PIPE $$; echo survived"]);
    let (exit, stdout, _) = exec(&ground, &mut shim, plan, "");
    assert_eq!((exit, stdout.as_str()), (Some(ExitStatus::Signal(13)), ""));
}

#[test]
fn exec_of_what_does_not_exist_is_a_fault_and_harms_nobody() {
    let ground = ground(&["sleep"]);
    let mut shim = ground.running();
    for plan in [
        argv(&["/no/such/program"]),
        ExecPlan {
            user: Some("nobody-here".into()),
            ..argv(&["sh"])
        },
    ] {
        let ticket = shim.exec(plan).unwrap();
        assert!(Session::open(&ground.attach_socket(), &ticket).is_err());
    }
    assert_eq!(shim.status().unwrap().phase, Phase::Running);
}

#[test]
fn a_ticket_is_good_once() {
    let ground = ground(&["sleep"]);
    let mut shim = ground.running();
    let ticket = shim.exec(argv(&["tool", "exit", "0"])).unwrap();
    Session::open(&ground.attach_socket(), &ticket).unwrap();
    for bad in [ticket.as_str(), "", "0000"] {
        let fault = Session::open(&ground.attach_socket(), bad)
            .err()
            .expect("refused");
        assert!(fault.is(TICKET_UNKNOWN), "{fault}");
    }
}

#[test]
fn a_terminal_has_a_size_that_can_change_and_a_name() {
    let ground = ground(&["sleep"]);
    let mut shim = ground.running();
    let plan = ExecPlan {
        terminal: Some((33, 99)),
        ..argv(&["tool", "terminal"])
    };
    let ticket = shim.exec(plan).unwrap();
    let mut session = Session::open(&ground.attach_socket(), &ticket).unwrap();
    assert_eq!(session.kind, Attached::Terminal);
    let mut terminal = std::fs::File::from(session.fds.pop().unwrap());
    let mut seen = String::new();
    let mut see = |terminal: &mut std::fs::File, wanted: &str| {
        until(wanted, || {
            // The tool tells the size at every line: crun sets it a little after the start.
            terminal.write_all(b"\n").unwrap();
            let mut bytes = [0; 1000];
            let count = terminal.read(&mut bytes).unwrap();
            seen.push_str(&String::from_utf8_lossy(&bytes[..count]));
            seen.contains(wanted)
        });
    };
    see(&mut terminal, "size 33 99 /dev/pts/");
    let size = TerminalSize { rows: 50, cols: 120 };
    session.control.resize(size).unwrap();
    see(&mut terminal, "size 50 120");
    terminal.write_all(&[4]).unwrap();
    assert_eq!(session.control.wait().unwrap(), Some(ExitStatus::Code(0)));
}

#[test]
fn a_signal_reaches_the_process_of_a_session() {
    let ground = ground(&["sleep"]);
    let mut shim = ground.running();
    let ticket = shim.exec(argv(&["tool", "sleep"])).unwrap();
    let mut session = Session::open(&ground.attach_socket(), &ticket).unwrap();
    session.control.signal(15).unwrap();
    assert_eq!(session.control.wait().unwrap(), Some(ExitStatus::Signal(15)));
}

#[test]
fn a_session_ends_with_its_guest() {
    let ground = ground(&["sleep"]);
    let mut shim = ground.running();
    let ticket = shim.exec(argv(&["tool", "sleep"])).unwrap();
    let mut session = Session::open(&ground.attach_socket(), &ticket).unwrap();
    shim.stop(Stop::Forced).unwrap();
    assert_eq!(session.control.wait().unwrap(), Some(ExitStatus::Signal(9)));
}

#[test]
fn nothing_is_executed_in_a_guest_that_does_not_run() {
    let ground = ground(&["sleep"]);
    let mut shim = ground.running();
    shim.stop(Stop::Forced).unwrap();
    assert!(shim.exec(argv(&["sh"])).is_err());
}

#[test]
fn a_paused_guest_uses_no_processor() {
    let ground = ground(&["burn"]);
    let mut shim = ground.running();
    until("it burns", || shim.stats().unwrap().cpu_ns > 20_000_000);
    shim.pause().unwrap();
    assert_eq!(shim.status().unwrap().phase, Phase::Paused);
    let before = shim.stats().unwrap().cpu_ns;
    std::thread::sleep(Duration::from_millis(300));
    assert!(shim.stats().unwrap().cpu_ns - before < 2_000_000);
    assert!(
        shim.exec(argv(&["sh"])).is_err(),
        "nothing starts in a frozen guest"
    );
    shim.resume().unwrap();
    until("it burns again", || {
        shim.stats().unwrap().cpu_ns > before + 20_000_000
    });
    assert!(shim.resume().is_err(), "it is not paused");
}

#[test]
fn a_paused_guest_can_be_stopped() {
    let ground = ground(&["wait-for-term"]);
    let mut shim = ground.running();
    until("ready", || ground.log().contains("ready"));
    shim.pause().unwrap();
    assert_eq!(shim.stop(SOON).unwrap().exit, Some(ExitStatus::Code(7)));
}

#[test]
fn limits_hold_at_start_and_change_while_running() {
    let mut ground = ground(&["burn"]);
    ground.plan.limits = Limits {
        memory: Some(Size(32 << 20)),
        pids: Some(30),
        cpus: Some(0.2),
        ..Limits::default()
    };
    let mut shim = ground.running();
    assert_eq!(shim.stats().unwrap().memory_limit, Some(32 << 20));
    let used = |shim: &mut Shim| {
        let before = shim.stats().unwrap().cpu_ns;
        std::thread::sleep(Duration::from_millis(800));
        Duration::from_nanos(shim.stats().unwrap().cpu_ns - before)
    };
    std::thread::sleep(Duration::from_millis(200));
    let slow = used(&mut shim);
    assert!(slow < Duration::from_millis(350), "{slow:?}");
    assert_eq!(shim.limit(Limits::default()).unwrap(), []);
    assert_eq!(shim.stats().unwrap().memory_limit, None);
    let fast = used(&mut shim);
    assert!(fast > slow, "{fast:?}");
}

#[test]
fn a_guest_beyond_its_memory_dies_alone() {
    let mut ground = ground(&["hog"]);
    ground.plan.limits.memory = Some(Size(32 << 20));
    ground.plan.limits.swap = Some(Size(0));
    let mut shim = ground.shim();
    shim.create().unwrap();
    // It may be over before the start is answered.
    let _ = shim.start();
    assert_eq!(shim.wait().unwrap().exit, Some(ExitStatus::Signal(9)));
}

#[test]
fn delete_leaves_nothing() {
    let ground = ground(&["sleep"]);
    let mut shim = ground.running();
    assert!(shim.delete().is_err(), "it runs");
    shim.stop(Stop::Forced).unwrap();
    shim.delete().unwrap();
    until("nothing is left", || ground.remains().is_empty());
    assert!(Shim::connect(&ground.plan.run_dir).is_err());
}

#[test]
fn a_guest_that_was_only_created_can_be_deleted() {
    let ground = ground(&["sleep"]);
    let mut shim = ground.shim();
    shim.create().unwrap();
    shim.delete().unwrap();
    until("nothing is left", || ground.remains().is_empty());
}

#[test]
fn a_client_that_talks_nonsense_is_told_and_dropped_and_others_go_on() {
    let ground = ground(&["sleep"]);
    let mut shim = ground.running();
    for nonsense in [
        &b"\x05\x00\x00\x00hello"[..],
        b"\xff\xff\xff\xff",
        b"GET / HTTP/1.0\r\n\r\n",
    ] {
        let mut socket =
            std::os::unix::net::UnixStream::connect(ground.plan.run_dir.join("shim.sock")).unwrap();
        socket.write_all(nonsense).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut said = Vec::new();
        socket.read_to_end(&mut said).unwrap();
        assert!(String::from_utf8_lossy(&said).contains("SHM003"));
    }
    assert_eq!(shim.status().unwrap().phase, Phase::Running);
}

#[test]
fn a_client_that_does_not_read_holds_up_nobody() {
    let ground = ground(&["sleep"]);
    let mut shim = ground.running();
    let deaf = std::os::unix::net::UnixStream::connect(ground.plan.run_dir.join("shim.sock")).unwrap();
    deaf.set_nonblocking(true).unwrap();
    let body = br#"{"call":1,"request":{"do":"status"}}"#;
    let mut frame = u32::try_from(body.len()).unwrap().to_le_bytes().to_vec();
    frame.extend_from_slice(body);
    let since = Instant::now();
    while since.elapsed() < Duration::from_millis(500) {
        let _ = (&deaf).write(&frame);
    }
    let asked = Instant::now();
    shim.status().unwrap();
    assert!(asked.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_call_that_was_given_up_is_not_mistaken_for_the_next() {
    let ground = ground(&["sleep"]);
    let mut shim = ground.running();
    let patience = Some(Duration::from_millis(50));
    assert!(shim.call_within(Request::Wait, patience).is_err());
    assert_eq!(shim.status().unwrap().phase, Phase::Running);
}
