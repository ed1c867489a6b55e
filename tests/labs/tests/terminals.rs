//! Terminals: shell with size, colours and Ctrl-C; console with its escapes.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::time::Duration;

use labs::{Terminal, host, until};

const SOON: Duration = Duration::from_secs(30);

#[test]
fn a_shell_follows_the_size_of_the_window_and_takes_ctrl_c() {
    let (host, _turn) = host();
    host.launch_sleeper("term", "");
    let mut shell = Terminal::new(&host.command(["shell", "term"]));
    shell.expect("#", SOON);
    shell.type_("stty size; echo $TERM\r");
    shell.expect("24 80", SOON);
    shell.expect("xterm-256color", SOON);
    shell.resize(40, 132);
    std::thread::sleep(Duration::from_millis(300));
    shell.type_("stty size\r");
    shell.expect("40 132", SOON);
    shell.type_("sleep 1000\r");
    std::thread::sleep(Duration::from_millis(500));
    shell.type_("\x03");
    shell.type_("echo status=$?\r");
    shell.expect("status=130", SOON);
    shell.type_("exit 3\r");
    assert_eq!(shell.end(SOON).code(), Some(3));
    host.purge(&["term"]);
}

#[test]
fn an_interactive_exec_has_a_terminal_and_a_plain_one_has_none() {
    let (host, _turn) = host();
    host.launch_sleeper("tty", "");
    assert_eq!(host.inside("tty", "tty || true").trim(), "not a tty");
    let mut on = Terminal::new(&host.command(["exec", "-it", "tty", "--", "tty"]));
    on.expect("/dev/", SOON);
    assert_eq!(on.end(SOON).code(), Some(0));
    host.purge(&["tty"]);
}

#[test]
fn the_console_shows_what_was_said_and_is_left_by_ctrl_a_x() {
    let (host, _turn) = host();
    host.launch("con", "");
    let mut console = Terminal::new(&host.command(["console", "con"]));
    // Scrollback: the login prompt was printed before we came.
    console.expect("login:", SOON);
    console.type_("\x01x");
    assert_eq!(console.end(SOON).code(), Some(0));
    assert_eq!(
        host.phase("con"),
        "running",
        "leaving the console does not stop the guest"
    );

    // Ctrl-a a sends one Ctrl-a; a second look at the console is a second session.
    host.run_with_input(&["passwd", "con", "--password-stdin"], b"geheim\n")
        .ok();
    let mut console = Terminal::new(&host.command(["console", "con"]));
    console.expect("login:", SOON);
    console.type_("root\r");
    console.expect("assword:", SOON);
    console.type_("geheim\r");
    console.expect("#", SOON);
    console.type_("echo back-$((40+2))\r");
    console.expect("back-42", SOON);
    console.type_("\x01x");
    console.end(SOON);
    host.purge(&["con"]);
}

#[test]
fn a_second_client_sees_the_same_console() {
    let (host, _turn) = host();
    host.ok("launch debian/12 clock -- while :; do echo tick; sleep 0.2; done");
    let mut one = Terminal::new(&host.command(["console", "clock"]));
    let mut two = Terminal::new(&host.command(["console", "clock"]));
    one.expect("tick", SOON);
    two.expect("tick", SOON);
    one.type_("\x01x");
    one.end(SOON);
    two.expect("tick", SOON);
    two.type_("\x01x");
    two.end(SOON);
    until("the log has it too", SOON, || {
        host.ok("logs clock").contains("tick")
    });
    host.purge(&["clock"]);
}
