//! Processes that enter a running guest.

mod ground;

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};

use ground::{Ground, IDS, Sleeper, process, wait};
use jail::recipe::Process;
use jail::{Stdio, codes, enter};
use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

#[test]
fn whoever_enters_is_confined_like_the_guest() {
    let ground = Ground::new();
    let sleeper = Sleeper::start(ground.recipe("sleep 100"));
    let script = "cat /proc/self/uid_map; for ns in user pid mnt net uts ipc cgroup; do \
                  [ $(stat -Lc %i /proc/self/ns/$ns) = $(stat -Lc %i /proc/1/ns/$ns) ] || echo other $ns; done; \
                  for what in CapBnd CapEff Seccomp: Groups; do grep $what /proc/self/status /proc/1/status -h; done";
    let (text, code) = sleeper.enter(&process(script)).expect("enters");
    assert_eq!(code, 0, "{text}");
    let mut lines = text.lines();
    let map = lines
        .next()
        .expect("a map")
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    assert_eq!(map, format!("0 {} {}", IDS.base, IDS.count));
    let rest: Vec<&str> = lines.collect();
    assert!(
        rest.len() == 8 && rest.chunks(2).all(|pair| pair[0] == pair[1]),
        "{text}"
    );
}

#[test]
fn a_user_of_the_guest_brings_home_groups_and_shell() {
    let ground = Ground::new();
    let sleeper = Sleeper::start(ground.recipe("sleep 100"));
    let mut ana = process("id -u; id -G; pwd; echo $HOME $USER $SHELL; grep CapEff /proc/self/status");
    ana.user = Some("ana".into());
    let (text, _) = sleeper.enter(&ana).expect("enters");
    let expected = "1000\n1000 2000\n/tmp\n/tmp ana /bin/sh\nCapEff:\t0000000000000000\n";
    assert_eq!(text, expected);
    ana.user = Some("eve".into());
    assert!(sleeper.enter(&ana).expect_err("unknown").is(codes::USER_UNKNOWN));
}

#[test]
fn a_terminal_works_and_controls_its_session() {
    let ground = Ground::new();
    let sleeper = Sleeper::start(ground.recipe("sleep 100"));
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let controller = openpt(flags).expect("a terminal");
    grantpt(&controller).expect("granted");
    unlockpt(&controller).expect("unlocked");
    let name = ptsname(&controller, Vec::new()).expect("a name");
    let ours: OwnedFd = open(
        name.as_c_str(),
        OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .expect("opened");
    let size = rustix::termios::Winsize {
        ws_row: 33,
        ws_col: 77,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    rustix::termios::tcsetwinsize(&controller, size).expect("set");
    let copy = || ours.try_clone().expect("a copy");
    let stdio = Stdio {
        stdin: copy(),
        stdout: copy(),
        stderr: copy(),
    };
    let shell = Process {
        terminal: true,
        ..process("stty size; echo here > /dev/tty")
    };
    let started = enter(&sleeper.target(), &shell, &sleeper.recipe.policy(), stdio).expect("enters");
    drop(ours);
    assert_eq!(wait(&started), 0);
    let mut text = String::new();
    // The end of a terminal is told by an error.
    let _ = File::from(controller).read_to_string(&mut text);
    assert_eq!(text, "33 77\r\nhere\r\n");
}

#[test]
fn a_guest_that_has_ended_cannot_be_entered() {
    let ground = Ground::new();
    let sleeper = Sleeper::start(ground.recipe("sleep 100"));
    let pidfd = sleeper.started.pidfd.try_clone().expect("a copy");
    let recipe = sleeper.recipe.clone();
    drop(sleeper);
    let target = jail::Target {
        pidfd: pidfd.as_fd(),
        ids: recipe.ids,
        cgroup: None,
    };
    let fault = enter(&target, &process("true"), &recipe.policy(), ground::streams().0).expect_err("ended");
    assert!(fault.is(codes::JAIL_ENDED), "{fault}");
}

#[test]
fn a_pipe_in_the_place_of_passwd_holds_nobody() {
    let ground = Ground::new();
    let script = "perl -e 'unlink \"/etc/passwd\"'; mkfifo /etc/passwd; exec sleep 100";
    let sleeper = Sleeper::start(ground.recipe(script));
    let waiting = "while [ ! -p /etc/passwd ]; do sleep 0.02; done";
    sleeper.enter(&process(waiting)).expect("enters");
    let (text, code) = sleeper.enter(&process("id -u")).expect("enters all the same");
    assert_eq!((text.trim(), code), ("0", 0));
}
