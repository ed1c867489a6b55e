//! A kit for labs: a clean host for each test program, the real `posada`, a terminal, and looks at the host.
//!
//! `cargo xtask test` starts every test program in a test host of its own; the kit refuses to run elsewhere, because
//! the labs use the places of system mode. Within one program the tests take turns ([`host`]).

mod look;
mod terminal;

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

pub use look::Look;
pub use terminal::Terminal;

/// The daemon's socket in system mode.
pub const SOCKET: &str = "/run/posada/api.sock";

/// The test host, for one test at a time.
pub struct Host {
    bin: PathBuf,
}

static TURN: Mutex<()> = Mutex::new(());

/// The host, once it is this test's turn: without guests, and at the first call without a daemon.
///
/// # Panics
/// Outside of a test host, and when the program has not been built.
pub fn host() -> (Host, MutexGuard<'static, ()>) {
    // A test that failed before us does not matter: we clean up after it.
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    assert!(
        std::env::var_os("POSADA_TESTHOST").is_some(),
        "labs change the host: run them by `cargo xtask test`, or see tests/README.md"
    );
    let bin = match std::env::var_os("POSADA_BIN") {
        Some(folder) => PathBuf::from(folder),
        None => {
            let own = std::env::current_exe().expect("a test program has a path");
            own.ancestors()
                .nth(2)
                .expect("test programs lie in target/PROFILE/deps")
                .to_owned()
        }
    };
    for program in ["posada", "posada-shim"] {
        assert!(
            bin.join(program).is_file(),
            "{program} is not in {}: `cargo xtask build`",
            bin.display()
        );
    }
    let host = Host { bin };
    if Path::new(SOCKET).exists() {
        // What a test that failed before us left behind.
        let _ = host.run(&["rm", "--all", "--force", "--purge", "--yes"]);
        let _ = host.run(&["trash", "empty", "--yes"]);
    }
    (host, turn)
}

/// What a program said and how it ended.
#[derive(Clone, Debug)]
pub struct Said {
    /// The command, for messages.
    pub command: String,
    /// Exit status; 128 + signal when a signal ended it.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Said {
    fn new(command: String, output: &Output) -> Self {
        use std::os::unix::process::ExitStatusExt;
        let code = output
            .status
            .code()
            .unwrap_or_else(|| 128 + output.status.signal().unwrap_or(0));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Said {
            command,
            code,
            out: text(&output.stdout),
            err: text(&output.stderr),
        }
    }

    /// Standard output, provided the program ended well.
    ///
    /// # Panics
    /// When it did not.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(
            self.code == 0,
            "`{}` ended with {}\n{}{}{}",
            self.command,
            self.code,
            self.out,
            self.err,
            daemon_log()
        );
        self.out
    }

    /// Standard error, provided the program failed with this code of a fault.
    ///
    /// # Panics
    /// When it ended well, or for another reason.
    #[track_caller]
    pub fn fault(self, code: &str) -> String {
        let told = self.err.contains(&format!("[{code}]"));
        assert!(
            self.code != 0 && told,
            "`{}` did not fail with {code}, but: {}\n{}{}",
            self.command,
            self.code,
            self.out,
            self.err
        );
        self.err
    }
}

/// The last lines of the daemon's log, for messages of failed tests.
fn daemon_log() -> String {
    let log = std::fs::read_to_string("/var/log/posada/daemon.log").unwrap_or_default();
    let lines: Vec<&str> = log.lines().rev().take(15).collect();
    let lines: Vec<&str> = lines.into_iter().rev().collect();
    format!("--- the daemon's log ends:\n{}\n", lines.join("\n"))
}

impl Host {
    /// `posada` with these arguments, in English, not yet started.
    pub fn command(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut command = Command::new(self.bin.join("posada"));
        command
            .args(args)
            .env("LC_ALL", "C.UTF-8")
            .env_remove("LANGUAGE")
            .stdin(Stdio::null());
        command
    }

    /// Runs `posada` with words split at blanks; what stands after ` -- ` is one shell script for `sh -c`.
    pub fn posada(&self, line: &str) -> Said {
        let (words, script) = match line.split_once(" -- ") {
            Some((words, script)) => (words, Some(script)),
            None => (line, None),
        };
        let mut args: Vec<&str> = words.split_whitespace().collect();
        if let Some(script) = script {
            args.extend(["--", "sh", "-c", script]);
        }
        self.run(&args)
    }

    /// Runs `posada` with exactly these arguments.
    pub fn run(&self, args: &[&str]) -> Said {
        let output = self.command(args).output().expect("posada can be started");
        Said::new(format!("posada {}", args.join(" ")), &output)
    }

    /// Runs `posada` with these arguments and this standard input.
    pub fn run_with_input(&self, args: &[&str], input: &[u8]) -> Said {
        let mut command = self.command(args);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("posada can be started");
        let mut stdin = child.stdin.take().expect("a piped standard input");
        let input = input.to_owned();
        // Beside reading, so that neither side waits for the other; a reader that ends early is its own affair.
        let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().expect("posada can be waited for");
        writer.join().expect("the writer does not panic");
        Said::new(format!("posada {}", args.join(" ")), &output)
    }

    /// Standard output of `posada …`, which must end well.
    #[track_caller]
    pub fn ok(&self, line: &str) -> String {
        self.posada(line).ok()
    }

    /// The JSON of `posada … --format json`, which must end well.
    #[track_caller]
    pub fn json(&self, line: &str) -> Value {
        let text = self.posada(&format!("{line} --format json")).ok();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("posada {line}: {error}: {text}"))
    }

    /// The guest's record.
    #[track_caller]
    pub fn guest(&self, name: &str) -> Value {
        let told = self.json(&format!("show {name}"));
        match told {
            Value::Array(mut guests) if guests.len() == 1 => guests.remove(0),
            other => other,
        }
    }

    /// The guest's phase, such as `running`.
    #[track_caller]
    pub fn phase(&self, name: &str) -> String {
        self.guest(name)["status"]["phase"]
            .as_str()
            .expect("a guest has a phase")
            .to_owned()
    }

    /// Standard output of a script run inside the guest.
    #[track_caller]
    pub fn inside(&self, name: &str, script: &str) -> String {
        self.run(&["exec", name, "--", "sh", "-c", script]).ok()
    }

    /// Launches a small system container and waits until its init has settled.
    #[track_caller]
    pub fn launch(&self, name: &str, options: &str) {
        self.ok(&format!("launch debian/12 {name} {options}"));
        self.until_up(name);
    }

    /// Waits until the guest's systemd has brought everything up.
    ///
    /// # Panics
    /// When that takes longer than a minute.
    #[track_caller]
    pub fn until_up(&self, name: &str) {
        until("the guest's system is up", Duration::from_secs(60), || {
            self.posada(&format!("exec {name} -- systemctl is-system-running --wait"))
                .code
                == 0
        });
    }

    /// Launches an application container that sleeps: up in milliseconds, enough for most verbs.
    #[track_caller]
    pub fn launch_sleeper(&self, name: &str, options: &str) {
        self.ok(&format!(
            "launch debian/12 {name} {options} -- exec sleep infinity"
        ));
    }

    /// Removes guests without trash, whatever they do; none of that name is fine too.
    pub fn purge(&self, names: &[&str]) {
        for name in names {
            let _ = self.posada(&format!("rm --force --purge --yes {name}"));
        }
    }

    /// A client of the daemon, for what the command line does not show.
    #[must_use]
    pub fn client(&self) -> client::Client {
        client::Client::new(SOCKET)
    }

    /// Kills the daemon with signal 9 and waits until it is gone; the next command starts a new one.
    ///
    /// # Panics
    /// When there was none.
    #[track_caller]
    pub fn kill_daemon(&self) {
        let pid = self.daemon_pid().expect("a running daemon");
        kill(pid, rustix::process::Signal::KILL);
        until("the daemon is gone", Duration::from_secs(5), || !alive(pid));
    }

    /// Process id of the daemon, if one answers.
    #[must_use]
    pub fn daemon_pid(&self) -> Option<u32> {
        self.client().version().ok().map(|version| version.pid)
    }
}

/// Sends a signal; a process that is gone is fine.
pub fn kill(pid: u32, signal: rustix::process::Signal) {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw)
        .expect("a process id");
    let _ = rustix::process::kill_process(pid, signal);
}

/// Whether a process exists and is more than its exit status.
#[must_use]
pub fn alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit_once(") ")
        .map(|(_, rest)| rest.chars().next().unwrap_or('Z'));
    state.is_some_and(|state| state != 'Z' && state != 'X')
}

/// Runs a program of the host.
///
/// # Panics
/// When it cannot be started.
pub fn sh(script: &str) -> Said {
    let output = Command::new("sh")
        .args(["-c", script])
        .stdin(Stdio::null())
        .output()
        .expect("sh can be started");
    Said::new(script.to_owned(), &output)
}

/// Waits until something is so.
///
/// # Panics
/// When it is not so in time.
#[track_caller]
pub fn until(what: &str, patience: Duration, mut so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !so() {
        assert!(
            begin.elapsed() < patience,
            "waited {} s in vain until {what}",
            patience.as_secs()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Notes that a test skips itself, and why; `tests/skips.txt` must know it.
pub fn skip(test: &str, reason: &str) {
    eprintln!("skipped: {test}: {reason}");
    if let Some(list) = std::env::var_os("POSADA_TEST_SKIPS") {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(list);
        let _ = file.and_then(|mut file| writeln!(file, "{test}: {reason}"));
    }
}

/// Whether the long cases run too.
#[must_use]
pub fn full() -> bool {
    std::env::var_os("POSADA_TEST_FULL").is_some()
}
