//! The body of a shim: one thread that owns one guest, of whatever engine.
//!
//! ```text
//!            daemon, again and again                     posada shell, exec, console
//!                 │ shim.sock                                 │ attach.sock
//!           ┌─────┴─────────── one epoll loop ────────────────┴─────┐
//!           │ clients · deferred answers · tickets · sessions       │
//!           │ console → bounded log, fan-out    process 1 → policy  │
//!           └───────────────────────────────────────────────────────┘
//!
//! phase:  defined ─create→ starting ─start→ running ⇄ paused
//!                              ↑              │ stop      │
//!                              └── policy ─ stopped ←── stopping
//! ```

mod boot;
mod cleanup;
mod console;
mod deferred;
pub mod files;
mod guest;
mod jailed;
mod log;
mod loops;
pub mod process;
pub mod pty;
mod reactor;
mod requests;
mod runs;
mod sessions;
pub mod translate;

pub use boot::SOCKET as NOTIFY_SOCKET;
pub use cleanup::cleanup;
pub use guest::{ConsoleEnd, Guest};
pub use jailed::{First, Jailed, cgroup_limits};

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use engine::Plan;
use fault::{Code, Fault, OrFault, Result};
use rustix::fs::{FlockOperation, Mode, OFlags};

/// The guest is not in the phase that the request needs.
pub const WRONG_PHASE: Code = Code("SHM008");
/// Another shim serves this guest.
pub const SERVED_ALREADY: Code = Code("SHM010");
/// The plan cannot be read.
pub const PLAN_UNREADABLE: Code = Code("SHM011");
/// The shim could not set something up for itself.
pub const SET_UP_FAILED: Code = Code("SHM012");
/// The guest ended while a client waited for it to run.
pub const ENDED_EARLY: Code = Code("SHM015");

/// Makes the instance of a plan; nothing of it runs yet.
pub type Make = fn(Plan) -> Result<Box<dyn Guest>>;

/// `posada-shim serve RUN_DIR`: reads the plan, leaves the caller behind and serves. Standard output is told `ready`,
/// or the fault as JSON, once. `make` makes the guest.
#[must_use]
pub fn shim_main(args: impl Iterator<Item = OsString>, make: Make) -> ExitCode {
    let mut args = args;
    let Some(run_dir) = args.next().map(PathBuf::from) else {
        eprintln!("usage: posada-shim serve RUN_DIR");
        return ExitCode::from(2);
    };
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let ready = prepare(&run_dir).and_then(|(plan, lock)| {
        hostos::process::fork_into(|| serve(plan, lock, make))
            .map(drop)
            .or_fault(|| set_up("a process of its own"))
    });
    match ready {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            tell(&serde_json::to_string(&fault).unwrap_or_default());
            ExitCode::FAILURE
        }
    }
}

fn set_up(what: &str) -> Fault {
    Fault::new(SET_UP_FAILED).arg("what", what)
}

/// Says one thing to the spawner.
fn tell(word: &str) {
    let mut out = std::io::stdout();
    let _ = writeln!(out, "{word}");
    let _ = out.flush();
}

/// The plan, and the lock that makes this shim the guest's only one.
fn prepare(run_dir: &Path) -> Result<(Plan, File)> {
    let path = run_dir.join("plan.json");
    let unreadable = || Fault::new(PLAN_UNREADABLE).arg("path", path.display());
    let bytes = std::fs::read(&path).or_fault(unreadable)?;
    let plan: Plan = serde_json::from_slice(&bytes).or_fault(unreadable)?;
    if plan.version > engine::PLAN_VERSION {
        return Err(unreadable().because_of(format!("version {}", plan.version)));
    }
    let path = run_dir.join("shim.pid");
    let fault = || set_up(&path.display().to_string());
    let lock = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .or_fault(fault)?;
    if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        let pid = std::fs::read_to_string(&path).unwrap_or_default();
        return Err(Fault::new(SERVED_ALREADY)
            .arg("name", &plan.name)
            .arg("pid", pid.trim()));
    }
    Ok((plan, lock))
}

/// Runs in the orphaned child: everything until the guest is deleted.
fn serve(mut plan: Plan, lock: File, make: Make) -> i32 {
    // Sockets and files stand where the spawner found them, whatever an older plan says.
    let _ = rustix::process::setsid();
    protect_from_memory_shortage();
    let served = (|| {
        write_pid(&lock).or_fault(|| set_up("shim.pid"))?;
        let shim = listen(&plan.run_dir, "shim.sock")?;
        let attach = listen(&plan.run_dir, "attach.sock")?;
        plan.console_log_limit = plan.console_log_limit.max(8192);
        loops::Server::new(make(plan)?, shim, attach)
    })();
    match served {
        Ok(mut server) => {
            tell("ready");
            let _ = detach_output();
            let code = server.run();
            drop(lock);
            code
        }
        Err(fault) => {
            eprintln!("{fault}");
            tell(&serde_json::to_string(&fault).unwrap_or_default());
            1
        }
    }
}

fn write_pid(lock: &File) -> std::io::Result<()> {
    lock.set_len(0)?;
    let mut file: &File = lock;
    writeln!(file, "{}", std::process::id())
}

/// The kernel shall kill guests before their shims; what runs inside starts from zero again.
fn protect_from_memory_shortage() {
    let _ = std::fs::write("/proc/self/oom_score_adj", "-900");
}

/// The spawner reads standard output to its end.
fn detach_output() -> std::io::Result<()> {
    let null = File::options().write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdout(&null)?;
    Ok(())
}

/// Listens on a socket that root and the group of the directory may use.
fn listen(run_dir: &Path, name: &str) -> Result<UnixListener> {
    let path = run_dir.join(name);
    let fault = || set_up(&path.display().to_string());
    let _ = std::fs::remove_file(&path);
    let directory = directory(run_dir).or_fault(fault)?;
    let listener = UnixListener::bind(address(&directory, &path)).or_fault(fault)?;
    let group = std::fs::metadata(run_dir).or_fault(fault)?.gid();
    std::os::unix::fs::chown(&path, None, Some(group)).or_fault(fault)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o660)).or_fault(fault)?;
    listener.set_nonblocking(true).or_fault(fault)?;
    Ok(listener)
}

fn directory(path: &Path) -> std::io::Result<OwnedFd> {
    Ok(rustix::fs::open(
        path,
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
}

/// A socket's path, or a short one by way of its open directory: an address holds 108 bytes only.
fn address(directory: &OwnedFd, path: &Path) -> PathBuf {
    if path.as_os_str().len() < 100 {
        return path.to_owned();
    }
    let number = std::os::fd::AsRawFd::as_raw_fd(directory);
    Path::new("/proc/self/fd")
        .join(number.to_string())
        .join(path.file_name().unwrap_or_default())
}
