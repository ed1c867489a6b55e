//! Reaching the daemon: as root, one that is not there is started, so that the first command of a fresh machine works.

use std::fs::{self, File, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use client::{API_VERSION, Client};
use fault::{Fault, OrFault, Result};

use crate::codes;
use crate::context::{Context, DEFAULT_SOCKET};

/// How long a new daemon may take until it answers.
const PATIENCE: Duration = Duration::from_secs(20);

/// Exit status of a daemon that found another one at work in its directories.
const DAEMON_BEATEN: i32 = 3;

/// A client of a daemon that listens.
pub(crate) fn reach(context: &Context) -> Result<Client> {
    let missing = match Client::connect(&context.socket) {
        Ok(client) => return Ok(client),
        Err(fault) => fault,
    };
    let ours = missing.is(client::codes::NO_DAEMON) && context.socket == Path::new(DEFAULT_SOCKET);
    if !ours || !rustix::process::geteuid().is_root() {
        return Err(missing);
    }
    start(context)
}

/// A daemon once more, after the one that answered has gone: whoever looks after it may start it again, and root does so
/// itself.
///
/// # Errors
/// When there is none in time.
pub(crate) fn reach_again(socket: &Path) -> Result<Client> {
    let begin = Instant::now();
    // Somebody else may be quicker, and then we only get in the way.
    let ours = rustix::process::geteuid().is_root() && socket == Path::new(DEFAULT_SOCKET);
    loop {
        match Client::connect(socket) {
            Ok(client) => return Ok(client),
            Err(_) if ours && begin.elapsed() > Duration::from_millis(200) => return spawn(socket),
            Err(fault) if begin.elapsed() > PATIENCE => return Err(fault),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

fn start(context: &Context) -> Result<Client> {
    let log = log_path();
    context.note(
        "cli-daemon-starting",
        &[("log", log.display().to_string().into())],
    );
    spawn(&context.socket)
}

fn spawn(socket: &Path) -> Result<Client> {
    let failed = || Fault::new(codes::DAEMON_FAILED);
    let exe = std::env::current_exe().or_fault(failed)?;
    let (log_path, log) = open_log().or_fault(failed)?;
    let failed = || failed().arg("log", log_path.display());
    let mut child = Command::new(exe)
        .arg("daemon")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone().or_fault(failed)?)
        .stderr(log)
        .process_group(0)
        .spawn()
        .or_fault(failed)?;
    wait_ready(&mut child, socket, &failed)
}

fn wait_ready(child: &mut Child, socket: &Path, failed: &dyn Fn() -> Fault) -> Result<Client> {
    let begin = Instant::now();
    loop {
        if let Ok(client) = Client::connect(socket) {
            let version = client.version()?;
            if version.api != API_VERSION {
                return Err(Fault::new(client::codes::OTHER_VERSION)
                    .arg("theirs", version.api)
                    .arg("ours", API_VERSION));
            }
            return Ok(client);
        }
        // Another daemon was faster, started by somebody else at the same time: it will answer.
        let beaten = |status: &ExitStatus| status.code() == Some(DAEMON_BEATEN);
        if let Ok(Some(status)) = child.try_wait()
            && !beaten(&status)
        {
            return Err(failed().because_of(status.to_string()));
        }
        if begin.elapsed() > PATIENCE {
            return Err(failed().because_of(format!("{} s", PATIENCE.as_secs())));
        }
        std::thread::sleep(Duration::from_millis(15));
    }
}

fn log_path() -> PathBuf {
    PathBuf::from("/var/log/posada/daemon.log")
}

/// The log of a daemon that no service manager started.
fn open_log() -> std::io::Result<(PathBuf, File)> {
    let path = log_path();
    fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
    let file = OpenOptions::new().create(true).append(true).open(&path)?;
    Ok((path, file))
}
