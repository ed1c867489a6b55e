//! The daemon's side of a shim: find it, start it, ask it. Blocking.

use std::collections::VecDeque;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use fault::{Code, Fault, OrFault, Result};
use model::api::{Display, GuestStats};
use model::{ExitStatus, Limits, Unenforced};

use crate::protocol::{
    Answer, Call, FileJob, Hello, MESSAGE_BROKEN, PROTOCOL_VERSION, Reply, Request, SHIM_SILENT, Told,
};
use crate::wire::{Filled, Wire};
use crate::{ExecPlan, InstanceStatus, Plan, Stop};

/// The shim could not be started.
pub const SPAWN_FAILED: Code = Code("SHM006");
/// The shim speaks a protocol newer than this program.
pub const SHIM_NEWER: Code = Code("SHM007");

/// The process that copies files ended without a word.
pub const COPY_FAILED: Code = Code("SHM013");

/// Time in which a shim greets, and answers what it can answer at once.
const PATIENCE: Duration = Duration::from_secs(20);
/// Time beyond the deadline of a stop in which the kernel must have ended a killed guest.
const AFTER_KILL: Duration = Duration::from_secs(60);

/// A connection to one shim.
pub struct Shim {
    wire: Wire,
    hello: Hello,
    next: u64,
    told: VecDeque<Told>,
    run_dir: PathBuf,
}

impl Shim {
    /// Connects to the shim of a guest by its run directory.
    ///
    /// # Errors
    /// `SHM001` when none answers, `SHM007` when it speaks a newer protocol.
    pub fn connect(run_dir: &Path) -> Result<Shim> {
        Self::connect_within(run_dir, PATIENCE)
    }

    /// As [`Shim::connect`], for those who cannot wait long for a greeting.
    ///
    /// # Errors
    /// As [`Shim::connect`].
    pub fn connect_within(run_dir: &Path, patience: Duration) -> Result<Shim> {
        let silent = || silent(run_dir);
        let socket = connect_short(&run_dir.join("shim.sock")).or_fault(silent)?;
        socket.set_read_timeout(Some(patience)).or_fault(silent)?;
        socket.set_write_timeout(Some(patience)).or_fault(silent)?;
        let mut wire = Wire::new(socket);
        let hello: Hello = loop {
            if let Some((hello, _)) = wire.take()? {
                break hello;
            }
            match wire.fill().or_fault(silent)? {
                Filled::Data => {}
                Filled::Nothing => return Err(silent().because_of("no greeting in time")),
                Filled::End => return Err(silent().because_of("closed without a greeting")),
            }
        };
        if hello.protocol > PROTOCOL_VERSION {
            return Err(Fault::new(SHIM_NEWER)
                .arg("protocol", hello.protocol)
                .arg("ours", PROTOCOL_VERSION)
                .arg("version", &hello.version));
        }
        Ok(Shim {
            wire,
            hello,
            next: 0,
            told: VecDeque::new(),
            run_dir: run_dir.to_owned(),
        })
    }

    /// How the shim introduced itself.
    #[must_use]
    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    /// Asks and waits for the answer: as long as a guest takes to end for stop, restart, wait, run; else 20 seconds.
    /// A fault of the shim is the error.
    ///
    /// # Errors
    /// The shim's own fault, or `SHM001` when it does not answer.
    pub fn call(&mut self, request: Request) -> Result<(Reply, Vec<OwnedFd>)> {
        let patience = patience(&request);
        self.call_within(request, patience)
    }

    /// [`Shim::call`] with a time limit of one's own; `None` waits for ever.
    ///
    /// # Errors
    /// As [`Shim::call`].
    pub fn call_within(
        &mut self,
        request: Request,
        patience: Option<Duration>,
    ) -> Result<(Reply, Vec<OwnedFd>)> {
        let run_dir = self.run_dir.clone();
        let silent = || silent(&run_dir);
        let until = patience.map(|patience| Instant::now() + patience);
        self.next += 1;
        let call = self.next;
        self.wire.push(&Call { call, request }, Vec::new())?;
        if !self.wire.flush().or_fault(silent)? {
            return Err(silent().because_of("takes no request"));
        }
        loop {
            while let Some((message, fds)) = self.take()? {
                match message {
                    Message::Told(told) => self.told.push_back(told),
                    Message::Answer(answer) if answer.call == call => {
                        return match answer.reply {
                            Reply::Fault(fault) => Err(fault),
                            reply => Ok((reply, fds)),
                        };
                    }
                    // The late answer to a call that was given up.
                    Message::Answer(_) => {}
                }
            }
            let left = match until.map(|until| until.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => return Err(silent().because_of("no answer in time")),
                left => left,
            };
            self.wire.socket().set_read_timeout(left).or_fault(silent)?;
            if self.wire.fill().or_fault(silent)? == Filled::End {
                return Err(silent().because_of("closed the connection"));
            }
        }
    }

    fn take(&mut self) -> Result<Option<(Message, Vec<OwnedFd>)>> {
        let Some((body, fds)) = self.wire.take_raw()? else {
            return Ok(None);
        };
        let broken = || Fault::new(MESSAGE_BROKEN);
        let value: serde_json::Value = serde_json::from_slice(&body).or_fault(broken)?;
        let message = if value.get("call").is_some() {
            Message::Answer(serde_json::from_value(value).or_fault(broken)?)
        } else {
            Message::Told(serde_json::from_value(value).or_fault(broken)?)
        };
        Ok(Some((message, fds)))
    }

    /// Turns the connection into a stream of events; it ends with an error when the shim goes.
    ///
    /// # Errors
    /// As [`Shim::call`].
    pub fn subscribe(mut self) -> Result<Events> {
        self.call(Request::Subscribe)?;
        self.wire
            .socket()
            .set_read_timeout(None)
            .or_fault(|| silent(&self.run_dir))?;
        Ok(Events(Some(self)))
    }

    /// Makes the namespaces; the network namespace, when the guest has one of its own.
    ///
    /// # Errors
    /// As [`Shim::call`].
    pub fn create(&mut self) -> Result<Option<OwnedFd>> {
        Ok(self.call(Request::Create)?.1.pop())
    }

    /// Runs process 1.
    ///
    /// # Errors
    /// As [`Shim::call`].
    pub fn start(&mut self) -> Result<()> {
        self.call(Request::Start).map(drop)
    }

    /// Ends the guest; returns when it has ended.
    ///
    /// # Errors
    /// As [`Shim::call`].
    pub fn stop(&mut self, how: Stop) -> Result<InstanceStatus> {
        self.call(Request::Stop { how }).and_then(status)
    }

    /// Ends it and starts it again in the same namespaces.
    ///
    /// # Errors
    /// As [`Shim::call`].
    pub fn restart(&mut self, how: Stop) -> Result<()> {
        self.call(Request::Restart { how }).map(drop)
    }

    /// Gives everything back; the shim exits.
    ///
    /// # Errors
    /// As [`Shim::call`].
    pub fn delete(&mut self) -> Result<()> {
        self.call(Request::Delete).map(drop)
    }

    /// What the guest is doing.
    ///
    /// # Errors
    /// As [`Shim::call`].
    pub fn status(&mut self) -> Result<InstanceStatus> {
        self.call(Request::Status).and_then(status)
    }

    /// Waits until the guest has ended for good.
    ///
    /// # Errors
    /// As [`Shim::call`].
    pub fn wait(&mut self) -> Result<InstanceStatus> {
        self.call(Request::Wait).and_then(status)
    }

    /// Freezes it.
    ///
    /// # Errors
    /// As [`Shim::call`].
    pub fn pause(&mut self) -> Result<()> {
        self.call(Request::Pause).map(drop)
    }

    /// Thaws it.
    ///
    /// # Errors
    /// As [`Shim::call`].
    pub fn resume(&mut self) -> Result<()> {
        self.call(Request::Resume).map(drop)
    }

    /// Applies limits; tells which are not enforced.
    ///
    /// # Errors
    /// As [`Shim::call`].
    pub fn limit(&mut self, limits: Limits) -> Result<Vec<Unenforced>> {
        match self.call(Request::Limit { limits })?.0 {
            Reply::Unenforced(list) => Ok(list),
            other => Err(unexpected(&other)),
        }
    }

    /// What it uses.
    ///
    /// # Errors
    /// As [`Shim::call`].
    pub fn stats(&mut self) -> Result<GuestStats> {
        match self.call(Request::Stats)?.0 {
            Reply::Stats(stats) => Ok(stats),
            other => Err(unexpected(&other)),
        }
    }

    /// A ticket for a process beside the guest's own.
    ///
    /// # Errors
    /// As [`Shim::call`].
    pub fn exec(&mut self, plan: ExecPlan) -> Result<String> {
        self.call(Request::Exec { plan }).and_then(ticket)
    }

    /// A ticket for the console.
    ///
    /// # Errors
    /// As [`Shim::call`].
    pub fn console(&mut self) -> Result<String> {
        self.call(Request::Console).and_then(ticket)
    }

    /// Where the screen is served, and by which password.
    ///
    /// # Errors
    /// As [`Shim::call`].
    pub fn vnc(&mut self) -> Result<Display> {
        match self.call(Request::Vnc)?.0 {
            Reply::Display(display) => Ok(display),
            other => Err(unexpected(&other)),
        }
    }

    /// What the screen shows, in a memory file: a PNG picture, or text.
    ///
    /// # Errors
    /// As [`Shim::call`].
    pub fn screenshot(&mut self, text: bool) -> Result<OwnedFd> {
        let (reply, mut fds) = self.call(Request::Screenshot { text })?;
        fds.pop().ok_or_else(|| unexpected(&reply))
    }

    /// Changes the medium of a CD-ROM drive.
    ///
    /// # Errors
    /// As [`Shim::call`].
    pub fn medium(&mut self, disk: &str, path: Option<&Path>) -> Result<()> {
        let (disk, path) = (disk.to_owned(), path.map(Path::to_owned));
        self.call(Request::Medium { disk, path }).map(drop)
    }

    /// Runs a process to its end; its exit and the last 64 KiB of its output.
    ///
    /// # Errors
    /// As [`Shim::call`].
    pub fn run(&mut self, plan: ExecPlan, input: String) -> Result<(ExitStatus, String)> {
        match self.call(Request::Run { plan, input })?.0 {
            Reply::Ran { exit, output } => Ok((exit, output)),
            other => Err(unexpected(&other)),
        }
    }

    /// A stream for copying in or out, a tar archive.
    ///
    /// # Errors
    /// As [`Shim::call`].
    pub fn files(&mut self, job: FileJob) -> Result<OwnedFd> {
        let (reply, mut fds) = self.call(Request::Files { job })?;
        fds.pop().ok_or_else(|| unexpected(&reply))
    }

    /// The tar archive of a path inside.
    ///
    /// # Errors
    /// Why the path cannot be read; what goes wrong later shows as an archive without its end mark.
    pub fn read_files(&mut self, path: &str) -> Result<impl Read + Send + use<>> {
        let path = path.to_owned();
        let mut stream = std::fs::File::from(self.files(FileJob::Read { path })?);
        let mut first = vec![0; 512];
        let count = stream.read(&mut first).or_fault(|| Fault::new(COPY_FAILED))?;
        first.truncate(count);
        // No name in an archive of ours begins so: they are relative and clean.
        if first.is_empty() || first.starts_with(b"{\"") {
            stream
                .read_to_end(&mut first)
                .or_fault(|| Fault::new(COPY_FAILED))?;
            return Err(copy_fault(&first));
        }
        Ok(std::io::Cursor::new(first).chain(stream))
    }

    /// Unpacks a tar archive into a directory inside.
    ///
    /// # Errors
    /// Why it could not be unpacked, or read on this side.
    pub fn write_files(&mut self, path: &str, tar: &mut dyn Read) -> Result<()> {
        let path = path.to_owned();
        let mut stream = UnixStream::from(self.files(FileJob::Write { path })?);
        // When the other side breaks off, its own words tell why.
        let sent = std::io::copy(tar, &mut stream);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut said = Vec::new();
        stream
            .read_to_end(&mut said)
            .or_fault(|| Fault::new(COPY_FAILED))?;
        if said != b"done" {
            return Err(copy_fault(&said));
        }
        sent.or_fault(|| Fault::new(COPY_FAILED)).map(drop)
    }

    /// The network namespace, when the guest has one of its own.
    ///
    /// # Errors
    /// As [`Shim::call`].
    pub fn network_namespace(&mut self) -> Result<Option<OwnedFd>> {
        Ok(self.call(Request::NetworkNamespace)?.1.pop())
    }
}

enum Message {
    Answer(Answer),
    Told(Told),
}

/// Events of a shim, in order.
pub struct Events(Option<Shim>);

impl Events {
    /// A second handle of the connection, whose shutdown ends the iteration from another thread.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub fn socket(&self) -> std::io::Result<Option<UnixStream>> {
        self.0
            .as_ref()
            .map(|shim| shim.wire.socket().try_clone())
            .transpose()
    }
}

impl Events {
    /// The events that have come, without waiting: for a loop that polls many connections ([`std::os::fd::AsFd`]).
    ///
    /// # Errors
    /// `SHM001` when the shim is gone.
    pub fn ready(&mut self) -> Result<Vec<Told>> {
        let Some(shim) = self.0.as_mut() else {
            return Err(Fault::new(SHIM_SILENT));
        };
        let run_dir = shim.run_dir.clone();
        let gone = || silent(&run_dir);
        shim.wire.socket().set_nonblocking(true).or_fault(gone)?;
        let mut told: Vec<Told> = shim.told.drain(..).collect();
        loop {
            while let Some((message, _)) = shim.take()? {
                if let Message::Told(event) = message {
                    told.push(event);
                }
            }
            match shim.wire.fill().or_fault(gone)? {
                Filled::Data => {}
                // What came before the end is told first; the end is met again at the next call.
                Filled::End if told.is_empty() => return Err(gone().because_of("closed the connection")),
                Filled::Nothing | Filled::End => return Ok(told),
            }
        }
    }
}

impl std::os::fd::AsFd for Events {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        let shim = self.0.as_ref().expect("a polled stream of events has not ended");
        shim.wire.socket().as_fd()
    }
}

impl Iterator for Events {
    type Item = Result<Told>;

    fn next(&mut self) -> Option<Result<Told>> {
        let shim = self.0.as_mut()?;
        loop {
            if let Some(told) = shim.told.pop_front() {
                return Some(Ok(told));
            }
            let fault = match shim.take() {
                Ok(Some((Message::Told(told), _))) => return Some(Ok(told)),
                Ok(Some(_)) => continue,
                Ok(None) => match shim.wire.fill() {
                    Ok(Filled::Data | Filled::Nothing) => continue,
                    Ok(Filled::End) => silent(&shim.run_dir).because_of("closed the connection"),
                    Err(error) => silent(&shim.run_dir).because(error),
                },
                Err(fault) => fault,
            };
            self.0 = None;
            return Some(Err(fault));
        }
    }
}

/// Writes `plan.json` and starts a shim for it, detached: it has a session of its own, is no child of the caller and
/// inherits nothing. Answers with a connection once the shim listens; a shim that is already there is used.
///
/// # Errors
/// `SHM006` when it cannot be started, or the fault it met.
pub fn spawn(shim_exe: &Path, plan: &Plan) -> Result<Shim> {
    if let Ok(shim) = Shim::connect(&plan.run_dir) {
        return Ok(shim);
    }
    let failed = || Fault::new(SPAWN_FAILED).arg("name", &plan.name);
    write_plan(plan).or_fault(failed)?;
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o640)
        .open(plan.run_dir.join("shim.log"))
        .or_fault(failed)?;
    let mut child = jail::launch::Executable::open(shim_exe)?
        .command()
        .arg("serve")
        .arg(&plan.run_dir)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .or_fault(|| failed().because_of(shim_exe.display().to_string()))?;
    // The shim leaves itself behind as an orphan and tells on this pipe, once, how it went; its first process ends.
    let mut word = String::new();
    let told = match child.stdout.take() {
        Some(mut pipe) => pipe.read_to_string(&mut word),
        None => Ok(0),
    };
    let ended = child.wait();
    told.or_fault(failed)?;
    if word.trim_end() == "ready" {
        return Shim::connect(&plan.run_dir);
    }
    Err(serde_json::from_str::<Fault>(&word)
        .unwrap_or_else(|_| failed().because_of(ended.map_or_else(|e| e.to_string(), |s| s.to_string()))))
}

/// Writes a plan where its shim reads it, by rename; makes the run directory (mode 0750) when it is missing.
///
/// # Errors
/// When the directory cannot be written.
pub fn write_plan(plan: &Plan) -> std::io::Result<()> {
    if !plan.run_dir.is_dir() {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o750)
            .create(&plan.run_dir)?;
    }
    let new = plan.run_dir.join("plan.json.new");
    std::fs::write(&new, serde_json::to_vec(plan)?)?;
    std::fs::rename(new, plan.run_dir.join("plan.json"))
}

/// Connects to a socket whose path may be longer than the 108 bytes of an address, through its directory.
pub(crate) fn connect_short(path: &Path) -> std::io::Result<UnixStream> {
    if path.as_os_str().len() < 100 {
        return UnixStream::connect(path);
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return UnixStream::connect(path);
    };
    let dir = std::fs::File::open(parent)?;
    let number = std::os::fd::AsRawFd::as_raw_fd(&dir);
    UnixStream::connect(Path::new(&format!("/proc/self/fd/{number}")).join(name))
}

fn patience(request: &Request) -> Option<Duration> {
    match request {
        Request::Stop { how } => Some(match how {
            Stop::Graceful { deadline_ms } => Duration::from_millis(*deadline_ms).saturating_add(AFTER_KILL),
            Stop::Forced => AFTER_KILL,
        }),
        Request::Restart { how } => Some(match how {
            Stop::Graceful { deadline_ms } => {
                Duration::from_millis(*deadline_ms).saturating_add(2 * AFTER_KILL)
            }
            Stop::Forced => 2 * AFTER_KILL,
        }),
        Request::Wait | Request::Run { .. } => None,
        Request::Create | Request::Start | Request::Delete => Some(AFTER_KILL),
        _ => Some(PATIENCE),
    }
    // An instant a century away cannot be represented; nobody waits that long.
    .map(|patience| patience.min(Duration::from_secs(10 * 365 * 86_400)))
}

fn status((reply, _): (Reply, Vec<OwnedFd>)) -> Result<InstanceStatus> {
    match reply {
        Reply::Status(status) => Ok(status),
        other => Err(unexpected(&other)),
    }
}

fn ticket((reply, _): (Reply, Vec<OwnedFd>)) -> Result<String> {
    match reply {
        Reply::Ticket(ticket) => Ok(ticket),
        other => Err(unexpected(&other)),
    }
}

fn unexpected(reply: &Reply) -> Fault {
    let text = serde_json::to_string(reply).unwrap_or_default();
    Fault::new(MESSAGE_BROKEN).because_of(text.chars().take(200).collect::<String>())
}

fn copy_fault(said: &[u8]) -> Fault {
    serde_json::from_slice(said).unwrap_or_else(|_| Fault::new(COPY_FAILED))
}

fn silent(run_dir: &Path) -> Fault {
    Fault::new(SHIM_SILENT).arg("path", run_dir.display())
}
