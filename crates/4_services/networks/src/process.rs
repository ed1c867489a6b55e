//! The daemon's handle of a network process: found, started, told.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fault::{Fault, OrFault, Result};
use model::Name;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::de::DeserializeOwned;

use crate::wire::{Answer, Config, FDS, Hello, Inbox, PROTOCOL, Request, Role, send};
use crate::{PROCESS_SILENT, RECORD_BROKEN};

/// Longest wait for a word of the process.
const PATIENCE: Duration = Duration::from_secs(5);
/// A log that is longer is begun anew when the process starts.
const LOG_LIMIT: u64 = 1 << 20;

/// A running network process and the connection to it.
#[derive(Debug)]
pub(crate) struct Process {
    network: Name,
    pub(crate) pid: u32,
    pidfd: OwnedFd,
    /// Present when this daemon started it: then it is ours to reap.
    child: Option<Child>,
    stream: UnixStream,
    inbox: Inbox,
    /// The sockets that it holds.
    pub(crate) roles: HashSet<Role>,
}

/// The files of one network process.
#[derive(Clone, Debug)]
pub(crate) struct Place(pub PathBuf);

impl Place {
    pub(crate) fn socket(&self) -> PathBuf {
        self.0.join("net.sock")
    }
    pub(crate) fn pid(&self) -> PathBuf {
        self.0.join("net.pid")
    }
    pub(crate) fn config(&self) -> PathBuf {
        self.0.join("config.json")
    }
    fn log(&self) -> PathBuf {
        self.0.join("net.log")
    }
}

impl Process {
    /// Finds the process of a network that an earlier daemon started.
    pub(crate) fn adopt(network: &Name, place: &Place) -> Option<Self> {
        let stream = UnixStream::connect(place.socket()).ok()?;
        Self::greeted(network, stream, None).ok()
    }

    /// Starts a process and waits for its greeting. One that does not answer is ended first.
    pub(crate) fn start(network: &Name, place: &Place, exe: &Path) -> Result<Self> {
        end_stale(place);
        let fault = || Fault::new(PROCESS_SILENT).arg("network", network);
        let files = || -> io::Result<(UnixListener, File)> {
            fs::create_dir_all(&place.0)?;
            fs::set_permissions(&place.0, fs::Permissions::from_mode(0o750))?;
            let _ = fs::remove_file(place.socket());
            let listener = UnixListener::bind(place.socket())?;
            fs::set_permissions(place.socket(), fs::Permissions::from_mode(0o600))?;
            let long = fs::metadata(place.log()).is_ok_and(|meta| meta.len() > LOG_LIMIT);
            let mut options = File::options();
            options.create(true).mode(0o640);
            // Append also when begun anew: the process and its successor may overlap.
            if long {
                let _ = fs::remove_file(place.log());
            }
            Ok((listener, options.append(true).open(place.log())?))
        };
        let (listener, log) =
            files().or_fault(|| Fault::new(RECORD_BROKEN).arg("path", place.0.display()))?;
        let errors = log.try_clone().or_fault(fault)?;
        let child = Command::new(exe)
            .arg("net")
            .arg(network.as_str())
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(listener)))
            .stdout(Stdio::from(log))
            .stderr(Stdio::from(errors))
            .spawn()
            .or_fault(fault)?;
        let stream = UnixStream::connect(place.socket()).or_fault(fault)?;
        let process = Self::greeted(network, stream, Some(child))
            .map_err(|error| error.because_of(last_words(&place.log())))?;
        let _ = fs::write(place.pid(), format!("{}\n", process.pid));
        Ok(process)
    }

    fn greeted(network: &Name, stream: UnixStream, child: Option<Child>) -> Result<Self> {
        let fault = || Fault::new(PROCESS_SILENT).arg("network", network);
        let mut inbox = Inbox::default();
        let hello: Hello = match hear(&stream, &mut inbox) {
            Ok(hello) => hello,
            Err(error) => {
                if let Some(mut child) = child {
                    let _ = child.kill();
                    let _ = child.wait();
                }
                return Err(fault().because(error));
            }
        };
        if hello.protocol != PROTOCOL || hello.network != network.as_str() {
            return Err(fault().because_of(format!("protocol {} of {}", hello.protocol, hello.network)));
        }
        let pid = i32::try_from(hello.pid)
            .ok()
            .and_then(Pid::from_raw)
            .ok_or_else(fault)?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).or_fault(fault)?;
        Ok(Process {
            network: network.clone(),
            pid: hello.pid,
            pidfd,
            child,
            stream,
            inbox,
            roles: hello.roles.into_iter().collect(),
        })
    }

    /// Whether it lives. A dead one that we started is reaped.
    pub(crate) fn is_alive(&mut self) -> bool {
        if let Some(child) = &mut self.child
            && !matches!(child.try_wait(), Ok(None))
        {
            return false;
        }
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
        matches!(
            poll(
                &mut fds,
                Some(&rustix::time::Timespec {
                    tv_sec: 0,
                    tv_nsec: 0
                })
            ),
            Ok(0)
        )
    }

    /// A descriptor that becomes readable when the process ends.
    pub(crate) fn end_fd(&self) -> io::Result<OwnedFd> {
        self.pidfd.try_clone()
    }

    /// Hands sockets over.
    pub(crate) fn hand(&mut self, sockets: &[(Role, OwnedFd)]) -> Result<()> {
        for some in sockets.chunks(FDS) {
            let roles: Vec<Role> = some.iter().map(|(role, _)| *role).collect();
            let fds: Vec<BorrowedFd> = some.iter().map(|(_, fd)| fd.as_fd()).collect();
            self.call(&Request::Hand { roles: roles.clone() }, &fds)?;
            self.roles.extend(roles);
        }
        Ok(())
    }

    /// Tells what to serve from now on.
    pub(crate) fn configure(&mut self, config: &Config) -> Result<()> {
        let kept: HashSet<_> = config.forwards.iter().map(|forward| forward.at).collect();
        self.call(
            &Request::Configure {
                config: Box::new(config.clone()),
            },
            &[],
        )?;
        self.roles
            .retain(|role| !matches!(role, Role::Forward { at } if !kept.contains(at)));
        Ok(())
    }

    /// Ends it: asks, then kills.
    pub(crate) fn stop(mut self) {
        let _ = self.call(&Request::Stop, &[]);
        let deadline = Instant::now() + Duration::from_secs(1);
        while self.is_alive() {
            if Instant::now() > deadline {
                let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn call(&mut self, request: &Request, fds: &[BorrowedFd]) -> Result<()> {
        let silent = || Fault::new(PROCESS_SILENT).arg("network", &self.network);
        let _ = self.stream.set_write_timeout(Some(PATIENCE));
        send(&self.stream, request, fds).or_fault(silent)?;
        match hear::<Answer>(&self.stream, &mut self.inbox).or_fault(silent)? {
            Answer::Done => Ok(()),
            Answer::Fault(fault) => Err(fault),
        }
    }
}

/// Waits for one message, but not for ever.
fn hear<T: DeserializeOwned>(stream: &UnixStream, inbox: &mut Inbox) -> io::Result<T> {
    stream.set_read_timeout(Some(PATIENCE))?;
    loop {
        if let Some(message) = inbox.take()? {
            return Ok(message);
        }
        if !inbox.receive(stream.as_fd())? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Kills a process that still holds the network's place but does not speak; only one that is what we started.
fn end_stale(place: &Place) {
    let Ok(text) = fs::read_to_string(place.pid()) else {
        return;
    };
    let Some(pid) = text.trim().parse().ok().and_then(Pid::from_raw) else {
        return;
    };
    let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else {
        return;
    };
    // Its log is open on descriptor 2: nobody else's process has that.
    let ours = fs::read_link(format!("/proc/{}/fd/2", pid.as_raw_nonzero()))
        .is_ok_and(|target| target.starts_with(&place.0));
    if ours {
        let _ = pidfd_send_signal(&pidfd, Signal::KILL);
        let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
        let _ = poll(
            &mut fds,
            Some(&rustix::time::Timespec {
                tv_sec: 2,
                tv_nsec: 0,
            }),
        );
    }
    let _ = fs::remove_file(place.pid());
}

fn last_words(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    text.lines()
        .next_back()
        .unwrap_or("no word in its log")
        .to_owned()
}
