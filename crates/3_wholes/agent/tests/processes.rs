//! Processes through the agent: what they are given, how they end, and what becomes of them when nobody is there.

mod kit;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::time::{Duration, Instant};

use agent::codes;
use agent::host::{Agent, Session, Streams};
use agent::protocol::{Ending, Exec, Exit};
use kit::{PATIENCE, agent, argv, runs, sh, until};

/// Output, errors and exit of a process without input.
fn run(agent: &Agent, exec: &Exec) -> (String, String, Exit) {
    let mut session = agent.exec(exec).expect("it starts");
    session.stdin.finish();
    let (mut stdout, mut stderr) = (String::new(), String::new());
    let mut errors = session.stderr;
    let reader = std::thread::spawn(move || errors.read_to_string(&mut stderr).map(|_| stderr));
    session.stdout.read_to_string(&mut stdout).expect("output");
    let stderr = reader.join().expect("no panic").expect("errors");
    (stdout, stderr, session.control.wait_exit().expect("an exit"))
}

fn line(session: &mut Session) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    while session.stdout.read(&mut byte).expect("output") == 1 && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    String::from_utf8(line).expect("text").trim_end().to_owned()
}

#[test]
fn output_errors_and_exit_come_back_apart() {
    let (agent, _) = agent();
    let (out, err, exit) = run(&agent, &sh("echo out; echo err >&2; exit 7"));
    assert_eq!(
        (out.as_str(), err.as_str(), exit),
        ("out\n", "err\n", Exit::Code(7))
    );
}

#[test]
fn a_killed_process_tells_its_signal_and_signals_arrive() {
    let (agent, _) = agent();
    assert_eq!(run(&agent, &sh("kill -9 $$")).2, Exit::Signal(9));
    let mut session = agent
        .exec(&sh(
            "trap 'echo got; exit 3' USR1; echo ready; while :; do sleep 0.05; done",
        ))
        .unwrap();
    assert_eq!(line(&mut session), "ready");
    session.control.signal(10);
    assert_eq!(line(&mut session), "got");
    assert_eq!(session.control.wait_exit().unwrap(), Exit::Code(3));
}

#[test]
fn what_cannot_be_started_says_why() {
    let (agent, _) = agent();
    let code = |exec: &Exec| agent.exec(exec).expect_err("it starts").code().to_owned();
    assert_eq!(code(&argv(&["no-such-program"])), "JAL015");
    assert_eq!(code(&argv(&["/etc/passwd"])), "JAL015");
    let nobody = Exec {
        user: Some("no-such-user".into()),
        ..sh("true")
    };
    assert_eq!(code(&nobody), "JAL014");
    let nowhere = Exec {
        workdir: Some("/no/such/place".into()),
        ..sh("true")
    };
    assert_eq!(code(&nowhere), "JAL016");
    // A fault that quotes more than a message may hold.
    let long = argv(&["\u{1}".repeat(40_000).as_str()]);
    assert_eq!(code(&long), "JAL015");
    let longer = argv(&["\u{1}".repeat(60_000).as_str()]);
    assert_eq!(code(&longer), codes::VALUE_REFUSED.0);
    agent.ping(PATIENCE).unwrap();
}

#[test]
fn a_process_finds_a_clean_environment_of_its_user() {
    let (agent, _) = agent();
    let exec = Exec {
        user: Some("nobody".into()),
        env: BTreeMap::from([("GIVEN".into(), "yes".into())]),
        ..argv(&["sh", "-c", "id -u; id -un; pwd; env"])
    };
    let (out, _, _) = run(&agent, &exec);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[..3], ["65534", "nobody", "/"]);
    for wanted in ["GIVEN=yes", "USER=nobody", "LOGNAME=nobody"] {
        assert!(lines.contains(&wanted), "{wanted} in {out}");
    }
    assert!(lines.iter().any(|line| line.starts_with("PATH=/usr/local/sbin:")));
    assert!(
        !out.contains("CARGO"),
        "the agent's own environment must not leak: {out}"
    );
    // Its streams are its own, also by name.
    let by_name = Exec {
        user: Some("nobody".into()),
        ..sh("echo hello > /dev/stdout")
    };
    assert_eq!(run(&agent, &by_name).0, "hello\n");
}

#[test]
fn a_user_brings_supplementary_groups_and_a_group_can_be_named() {
    let (agent, _) = agent();
    let group = std::fs::read_to_string("/etc/group").unwrap();
    let gid = |name: &str| {
        let line = group.lines().find(|line| line.starts_with(&format!("{name}:")));
        line.and_then(|line| line.split(':').nth(2)).unwrap().to_owned()
    };
    let exec = Exec {
        user: Some("4711:daemon".into()),
        ..sh("id -u; id -g; id -G")
    };
    let daemon = gid("daemon");
    assert_eq!(run(&agent, &exec).0, format!("4711\n{daemon}\n{daemon}\n"));
}

#[test]
fn without_a_program_it_is_the_login_shell_of_the_user() {
    let (agent, _) = agent();
    let mut session = agent.exec(&Exec::default()).unwrap();
    session.stdin.write_all(b"echo $0; pwd\n").unwrap();
    let name = line(&mut session);
    assert!(name.starts_with('-'), "{name}");
    assert_eq!(line(&mut session), "/root");
    session.stdin.finish();
    assert_eq!(session.control.wait_exit().unwrap(), Exit::Code(0));
}

#[test]
fn a_terminal_is_one_and_knows_its_size() {
    let (agent, _) = agent();
    let exec = Exec {
        terminal: Some((33, 99)),
        ..sh(
            "tty; stty size; ls -l $(tty) | cut -c1-10; read x; stty size; echo $TERM; trap 'echo winch' WINCH; echo trapped; read x; read y; exit 4",
        )
    };
    let mut session = agent.exec(&exec).unwrap();
    assert!(line(&mut session).starts_with("/dev/pts/"));
    assert_eq!(line(&mut session), "33 99");
    assert_eq!(line(&mut session), "crw--w----");
    session.control.resize(50, 120);
    session.stdin.write_all(b"\n").unwrap();
    assert_eq!(line(&mut session), "", "the terminal's echo");
    assert_eq!(line(&mut session), "50 120");
    assert_eq!(line(&mut session), "xterm-256color");
    assert_eq!(line(&mut session), "trapped");
    session.control.resize(10, 10);
    session.stdin.write_all(b"\n").unwrap();
    session.stdin.write_all(b"\n").unwrap();
    let mut rest = String::new();
    session.stdout.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("winch"), "{rest:?}");
    assert_eq!(session.control.wait_exit().unwrap(), Exit::Code(4));
}

#[test]
fn a_key_interrupts_what_runs_in_the_terminal() {
    let (agent, _) = agent();
    let exec = Exec {
        terminal: Some((24, 80)),
        ..sh("echo ready; exec sleep 100")
    };
    let mut session = agent.exec(&exec).unwrap();
    assert_eq!(line(&mut session), "ready");
    session.stdin.write_all(&[3]).unwrap();
    assert_eq!(session.control.wait_exit().unwrap(), Exit::Signal(2));
}

#[test]
fn a_hundred_megabytes_go_through_both_ways_at_once() {
    const SIZE: u64 = 100 << 20;
    let (agent, _) = agent();
    let session = agent.exec(&argv(&["cat"])).unwrap();
    let (mut stdin, mut stdout) = (session.stdin, session.stdout);
    let writer = std::thread::spawn(move || {
        let chunk: Vec<u8> = (0..1_000_003_u32).map(|i| (i % 251) as u8).collect();
        let mut left = SIZE;
        while left > 0 {
            let count = left.min(chunk.len() as u64);
            stdin
                .write_all(&chunk[..usize::try_from(count).unwrap()])
                .unwrap();
            left -= count;
        }
    });
    let mut buffer = vec![0; 1 << 16];
    let mut at = 0_u64;
    loop {
        let count = stdout.read(&mut buffer).unwrap();
        if count == 0 {
            break;
        }
        for (offset, byte) in buffer[..count].iter().enumerate() {
            let place = (at + offset as u64) % 1_000_003;
            assert_eq!(u64::from(*byte), place % 251);
        }
        at += count as u64;
    }
    writer.join().unwrap();
    assert_eq!(at, SIZE);
    let mut control = session.control;
    assert_eq!(control.wait_exit().unwrap(), Exit::Code(0));
}

#[test]
fn fifty_sessions_run_at_once() {
    let (agent, _) = agent();
    let mut sessions: Vec<Session> = (0..50).map(|_| agent.exec(&argv(&["cat"])).unwrap()).collect();
    for (number, session) in sessions.iter_mut().enumerate() {
        writeln!(session.stdin, "this is {number}").unwrap();
    }
    for (number, session) in sessions.iter_mut().enumerate() {
        assert_eq!(line(session), format!("this is {number}"));
    }
    for session in sessions {
        let Session {
            stdin, mut control, ..
        } = session;
        stdin.finish();
        assert_eq!(control.wait_exit().unwrap(), Exit::Code(0));
    }
}

#[test]
fn more_sessions_than_allowed_are_refused_and_the_others_live() {
    let (agent, _) = agent();
    let limit = agent::protocol::SESSION_LIMIT;
    let sessions: Vec<Session> = (0..limit).map(|_| agent.exec(&argv(&["cat"])).unwrap()).collect();
    let fault = agent.exec(&argv(&["cat"])).expect_err("one too many");
    assert!(fault.is(codes::SESSIONS_EXHAUSTED), "{fault}");
    drop(sessions);
    until("there is room again", || agent.exec(&argv(&["true"])).is_ok());
}

#[test]
fn a_session_that_nobody_reads_holds_up_nobody_and_loses_nothing() {
    let (agent, _) = agent();
    let mut stuck = agent.exec(&sh("head -c 3000000 /dev/zero; exit 5")).unwrap();
    let mut deaf = agent.exec(&sh("sleep 100")).unwrap();
    let filler = std::thread::spawn(move || {
        let done = deaf.stdin.write_all(&[0; 1_000_000]);
        (done.is_err(), deaf)
    });
    for _ in 0..20 {
        assert_eq!(run(&agent, &sh("echo hello")).0, "hello\n");
    }
    assert!(
        stuck.control.try_wait().unwrap().is_none(),
        "it cannot have ended"
    );
    let mut all = Vec::new();
    stuck.stdout.read_to_end(&mut all).unwrap();
    assert_eq!(
        (all.len(), stuck.control.wait_exit().unwrap()),
        (3_000_000, Exit::Code(5))
    );
    assert!(!filler.is_finished(), "nobody has taken its input");
    agent.disconnect();
    let (failed, _) = filler.join().unwrap();
    assert!(failed);
}

#[test]
fn who_reads_no_more_breaks_the_pipe() {
    let (agent, _) = agent();
    let session = agent.exec(&argv(&["yes"])).unwrap();
    let Session {
        stdout, mut control, ..
    } = session;
    drop(stdout);
    assert_eq!(control.wait_exit().unwrap(), Exit::Signal(13));
}

#[test]
fn input_that_nobody_wants_is_dropped() {
    let (agent, _) = agent();
    let mut session = agent
        .exec(&sh("exec <&-; echo closed; sleep 0.5; exit 6"))
        .unwrap();
    assert_eq!(line(&mut session), "closed");
    // More than the window: the rest has to be taken, or refused after the end.
    let _ = session.stdin.write_all(&vec![1; 2_000_000]);
    assert_eq!(session.control.wait_exit().unwrap(), Exit::Code(6));
}

#[test]
fn a_process_in_the_background_does_not_hold_the_session() {
    let (agent, _) = agent();
    let begun = Instant::now();
    let (out, _, exit) = run(&agent, &sh("sleep 60 & echo $!"));
    assert_eq!(exit, Exit::Code(0));
    assert!(begun.elapsed() < Duration::from_secs(50));
    let pid = out.trim().parse().unwrap();
    assert!(runs(pid), "what goes on in the background goes on");
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
}

#[test]
fn the_end_of_the_connection_ends_its_processes() {
    let (agent, server) = agent();
    let mut pids = Vec::new();
    for exec in [
        sh("sleep 1000 & echo $!; wait"),
        sh("trap '' HUP; echo $$; sleep 1000; sleep 1000"),
        Exec {
            terminal: Some((24, 80)),
            ..sh("echo $$; sleep 1000")
        },
    ] {
        let mut session = agent.exec(&exec).unwrap();
        pids.push(line(&mut session).parse::<u32>().unwrap());
        // Its owner vanishes without a word.
        std::mem::forget(session);
    }
    assert!(pids.iter().all(|pid| runs(*pid)));
    // Nobody says anything any more: the socket just closes.
    agent.disconnect();
    for pid in &pids {
        until("its process is gone", || !runs(*pid));
    }
    server.join().unwrap();
    assert!(agent.ping(PATIENCE).unwrap_err().is(codes::CONNECTION_LOST));
}

#[test]
fn a_session_that_is_dropped_hangs_up_its_process_and_leaves_the_others() {
    let (agent, _) = agent();
    let exec = Exec {
        terminal: Some((24, 80)),
        ..sh("echo $$; sleep 1000")
    };
    let mut gone = agent.exec(&exec).unwrap();
    let mut stays = agent.exec(&argv(&["cat"])).unwrap();
    let pid = line(&mut gone).parse().unwrap();
    drop(gone);
    until("it has hung up", || !runs(pid));
    writeln!(stays.stdin, "still here").unwrap();
    assert_eq!(line(&mut stays), "still here");
}

#[test]
fn sessions_become_descriptors_for_another_process() {
    let (agent, _) = agent();
    let session = agent
        .exec(&sh("read x; echo out $x; echo err >&2; exit 9"))
        .unwrap();
    let (streams, mut control) = session.into_streams(false).unwrap();
    let Streams::Pipes(stdin, stdout, stderr) = streams else {
        panic!("no pipes")
    };
    std::fs::File::from(stdin).write_all(b"hello\n").unwrap();
    let mut out = String::new();
    std::fs::File::from(stdout).read_to_string(&mut out).unwrap();
    let mut err = String::new();
    std::fs::File::from(stderr).read_to_string(&mut err).unwrap();
    assert_eq!((out.as_str(), err.as_str()), ("out hello\n", "err\n"));
    assert_eq!(control.wait().unwrap(), Ending::Exited(Exit::Code(9)));

    let exec = Exec {
        terminal: Some((24, 80)),
        ..sh("stty -echo; echo ready; read x; echo got $x")
    };
    let (streams, mut control) = agent.exec(&exec).unwrap().into_streams(true).unwrap();
    let Streams::Terminal(terminal) = streams else {
        panic!("no terminal")
    };
    let terminal = std::os::unix::net::UnixStream::from(terminal);
    let mut lines = BufReader::new(terminal.try_clone().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap().trim_end(), "ready");
    (&terminal).write_all(b"it\n").unwrap();
    assert_eq!(lines.next().unwrap().unwrap().trim_end(), "got it");
    assert!(lines.next().is_none(), "the terminal has hung up");
    assert_eq!(control.wait_exit().unwrap(), Exit::Code(0));
}
