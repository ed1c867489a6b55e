//! `posada-agent` as it is installed: alone in a root, in the background, once.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use agent::host::{Agent, Way};
use agent::protocol::{Exec, Exit};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, socket_with};

const PATIENCE: Duration = Duration::from_secs(20);

/// The executable that `cargo xtask build` has placed.
fn program() -> PathBuf {
    let folder = std::env::var_os("POSADA_BIN").map_or_else(
        || {
            let own = std::env::current_exe().expect("a test program has a path");
            own.ancestors()
                .nth(2)
                .expect("test programs lie in target/PROFILE/deps")
                .to_owned()
        },
        PathBuf::from,
    );
    let program = folder.join("posada-agent");
    assert!(
        program.is_file(),
        "{} is not there: `cargo xtask build`",
        program.display()
    );
    program
}

fn until(what: &str, mut so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < end, "it never came to this: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Connects as soon as somebody listens.
fn connect(socket: &Path) -> Agent {
    let mut stream = None;
    until("somebody listens", || {
        stream = UnixStream::connect(socket).ok();
        stream.is_some()
    });
    let stream = stream.expect("connected");
    Agent::over(stream, Way::Connection, PATIENCE).expect("the agent greets")
}

fn listen(socket: &Path) -> Child {
    Command::new(program())
        .arg("--listen")
        .arg(socket)
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs")
}

/// Output and exit of a command of the agent's.
fn run(agent: &Agent, script: &str) -> (String, Exit) {
    let exec = Exec {
        argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
        ..Exec::default()
    };
    let mut session = agent.exec(&exec).expect("it starts");
    let mut text = String::new();
    session.stdout.read_to_string(&mut text).expect("output");
    (text, session.control.wait_exit().expect("an exit"))
}

fn end(mut child: Child) -> String {
    let _ = child.kill();
    let mut text = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        stderr.read_to_string(&mut text).expect("text");
    }
    child.wait().expect("it ends");
    text
}

#[test]
fn it_runs_where_there_is_nothing_else() {
    let root = tempfile::tempdir().unwrap();
    fs::copy(program(), root.path().join("posada-agent")).unwrap();
    let told = Command::new("chroot")
        .arg(root.path())
        .args(["/posada-agent", "--version"])
        .output()
        .unwrap();
    let text = String::from_utf8(told.stdout).unwrap();
    assert!(text.starts_with("posada-agent "), "{text}");
}

#[test]
fn only_its_owner_connects_and_a_path_has_one_agent() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("agent.sock");
    let first = listen(&socket);
    let agent = connect(&socket);
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(
        run(&agent, "echo hello; exit 3"),
        ("hello\n".into(), Exit::Code(3))
    );

    let mut second = listen(&socket);
    assert!(!second.wait().unwrap().success(), "it must not take the place");
    let other = connect(&socket);
    other.ping(PATIENCE).unwrap();
    end(first);
    let third = listen(&socket);
    until("a socket left behind is replaced", || {
        UnixStream::connect(&socket).is_ok()
    });
    connect(&socket).ping(PATIENCE).unwrap();
    end(third);
}

#[test]
fn it_goes_into_the_background_under_a_name_that_is_spared() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("agent.sock");
    let started = Command::new(program())
        .args(["--detach", "--listen"])
        .arg(&socket)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    // Its streams were let go of: the output has ended although it runs.
    assert!(started.status.success());
    let agent = connect(&socket);
    let (text, _) = run(
        &agent,
        "echo $PPID; cat /proc/$PPID/cmdline; echo; readlink /proc/$PPID/fd/1",
    );
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[1].starts_with("@posada-agent\0--listen\0"), "{text}");
    assert_eq!(lines[2], "/dev/null");
    let pid = rustix::process::Pid::from_raw(lines[0].parse().unwrap()).unwrap();
    assert_eq!(rustix::process::getsid(Some(pid)).unwrap(), pid);
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[test]
fn a_machine_has_one_agent() {
    let lock = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None).unwrap();
    bind(
        &lock,
        &SocketAddrUnix::new_abstract_name(b"posada-agent").unwrap(),
    )
    .unwrap();
    let told = Command::new(program()).output().unwrap();
    let text = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(
        told.status.success() && text.contains("another one serves this machine"),
        "{text}"
    );
}

#[test]
fn its_memory_stays_small_whatever_goes_through_and_whoever_does_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("agent.sock");
    let child = listen(&socket);
    let agent = connect(&socket);
    let yes = Exec {
        argv: vec!["yes".into()],
        ..Exec::default()
    };
    let stuck: Vec<_> = (0..40).map(|_| agent.exec(&yes).expect("it starts")).collect();
    let (text, _) = run(&agent, "head -c 30000000 /dev/zero | tr '\\0' x");
    assert_eq!(text.len(), 30_000_000);
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.unwrap().trim().trim_end_matches(" kB");
    assert!(peak.parse::<u64>().unwrap() < 16 << 10, "{peak} kB");
    drop(stuck);
    end(child);
}

/// In a root of its own, so that nothing else of this machine is frozen.
#[test]
fn a_freeze_holds_back_writers_until_it_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("disk");
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    fs::File::create(&image).unwrap().set_len(16 << 20).unwrap();
    let script = r#"set -e
        mount --make-rprivate /
        mount -t tmpfs none "$1"
        mkdir "$1/proc" "$1/disk" "$1/dev"
        mount -t proc none "$1/proc"
        touch "$1/dev/null"; mount --bind /dev/null "$1/dev/null"
        mkfs.ext4 -q "$0"
        mount -o loop "$0" "$1/disk"
        cp "$2" "$1/posada-agent"
        exec chroot "$1" /posada-agent --listen /agent.sock"#;
    let child = Command::new("unshare")
        .args(["--mount", "sh", "-c", script])
        .args([&image, &root, &program()])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let seen = PathBuf::from(format!("/proc/{}/root", child.id()));
    let moved = || fs::metadata(seen.join("agent.sock")).is_ok();
    let mut child = child;
    let begun = Instant::now();
    while !moved() {
        if let Some(status) = child.try_wait().unwrap() {
            let text = end(child);
            let refused = text.contains("loop") || text.contains("not permitted");
            assert!(refused, "{status}: {text}");
            eprintln!("no loop devices here");
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "it never listens");
        std::thread::sleep(Duration::from_millis(5));
    }
    let agent = connect(&seen.join("agent.sock"));
    let frozen = agent.freeze(PATIENCE).unwrap();
    let path = seen.join("disk/file");
    let writer = std::thread::spawn(move || fs::File::create(path).and_then(|mut file| file.write_all(b"x")));
    std::thread::sleep(Duration::from_millis(200));
    assert!(!writer.is_finished(), "nothing was held back");
    drop(frozen);
    writer.join().unwrap().unwrap();

    // A connection that is cut thaws as well; so does the time.
    std::mem::forget(agent.freeze(PATIENCE).unwrap());
    agent.disconnect();
    fs::write(seen.join("disk/second"), b"x").unwrap();
    let agent = connect(&seen.join("agent.sock"));
    let mut brief = agent.freeze(Duration::from_millis(300)).unwrap();
    fs::write(seen.join("disk/third"), b"x").unwrap();
    brief.control.wait().unwrap();
    end(child);
}
