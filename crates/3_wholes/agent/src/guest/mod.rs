//! The program inside, `posada-agent`.
//!
//! One thread and one loop serve all connections; processes and whatever may block are children. Nothing is written to
//! the guest's disks, and no dynamic library is needed. It may be started by the initial ram disk before the real root
//! is there: with `--detach` it leaves its starter and, when process 1 has moved on, follows into the new root.

use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, socket_with};
use rustix::process::Resource;

mod connection;
mod doors;
mod ends;
mod exec;
mod facts;
mod files;
mod first;
mod freeze;
mod ground;
mod jobs;
mod outbox;
mod reaper;
mod server;
mod session;
mod sys;

pub use doors::Doors;
pub use server::Server;

/// Abstract name (unix(7)) that only one agent of a machine can have.
const LOCK: &[u8] = b"posada-agent";

const USAGE: &str = "usage: posada-agent [--detach] [--listen PATH]
  listens on vsock port 1024 and on the virtio port posada.agent for the host of this machine
  --detach       goes into the background and stays when the initial ram disk hands over
  --listen PATH  listens on a Unix socket instead
  --version      tells the version";

/// What the command line asks for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    detach: bool,
    listen: Option<PathBuf>,
    version: bool,
}

fn options(args: &[OsString]) -> Option<Options> {
    let mut options = Options::default();
    let mut args = args.iter();
    while let Some(word) = args.next() {
        match word.to_str() {
            Some("--detach") => options.detach = true,
            Some("--listen") => options.listen = Some(args.next()?.into()),
            Some("--version") => options.version = true,
            _ => return None,
        }
    }
    Some(options)
}

/// The whole program. `args` are without the program's own name.
#[must_use]
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.collect();
    if first::is_first() {
        // What cannot be started now is missing later, and said there; the guest boots all the same.
        detach(Vec::new());
        let Err(error) = first::become_init(&args);
        eprintln!("posada-agent: {error}");
        return ExitCode::FAILURE;
    }
    let Some(options) = options(&args) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    if options.version {
        println!("posada-agent {}", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    if options.detach {
        return detach(args);
    }
    match serve(options.listen.as_deref()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("posada-agent: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(listen: Option<&Path>) -> io::Result<()> {
    // Every session has some descriptors.
    let mut limit = rustix::process::getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = rustix::process::setrlimit(Resource::Nofile, limit);
    let Some(path) = listen else {
        let Some(_lock) = lock()? else {
            eprintln!("posada-agent: another one serves this machine");
            return Ok(());
        };
        // Whoever started it may unmount what it stood in.
        rustix::process::chdir("/")?;
        return Server::new(Doors::of_machine(), true)?.run();
    };
    Server::new(Doors::at(path)?, false)?.run()
}

/// The lock goes with its process; none when another one has it.
fn lock() -> io::Result<Option<OwnedFd>> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    match bind(&socket, &SocketAddrUnix::new_abstract_name(LOCK)?) {
        Ok(()) => Ok(Some(socket)),
        Err(rustix::io::Errno::ADDRINUSE) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Starts the program again in a session of its own, without the streams of its starter and under a name that begins
/// with `@`: systemd spares such processes when an initial ram disk hands over
/// (<https://systemd.io/ROOT_STORAGE_DAEMONS/>).
fn detach(args: Vec<OsString>) -> ExitCode {
    let child = hostos::process::fork_into(|| {
        let Err(error) = leave(args);
        eprintln!("posada-agent: {error}");
        1
    });
    match child {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("posada-agent: {error}");
            ExitCode::FAILURE
        }
    }
}

fn leave(args: Vec<OsString>) -> io::Result<std::convert::Infallible> {
    rustix::process::setsid()?;
    let words = args.into_iter().filter(|word| word != "--detach");
    let argv: Vec<CString> = [OsString::from("@posada-agent")]
        .into_iter()
        .chain(words)
        .filter_map(|word| CString::new(word.into_vec()).ok())
        .collect();
    // Before the initial ram disk has set anything up there is neither /proc nor /dev/null.
    let program = std::env::current_exe().unwrap_or_else(|_| first::PROGRAM.into());
    let path = CString::new(program.into_os_string().into_vec())?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .or_else(|_| rustix::fs::memfd_create("null", rustix::fs::MemfdFlags::CLOEXEC))?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    Err(hostos::exec::exec(&path, &argv, &[]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_known_is_taken_from_the_command_line() {
        let parse = |words: &[&str]| options(&words.iter().map(OsString::from).collect::<Vec<_>>());
        assert_eq!(parse(&[]), Some(Options::default()));
        let wanted = Options {
            detach: true,
            listen: Some("/run/a".into()),
            version: false,
        };
        assert_eq!(parse(&["--listen", "/run/a", "--detach"]), Some(wanted));
        for wrong in [&["--listen"][..], &["--help"], &["x"]] {
            assert_eq!(parse(wrong), None);
        }
    }
}
