//! The blocking client of whoever owns the machine: one connection, any number of sessions from any threads.
//!
//! Two threads serve a connection – one reads, one writes – so that nobody who waits for a guest holds up another, and
//! a guest that stops reading holds up only what is said to it. What a guest sends is bounded by the credit that it
//! has been given.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fault::{Fault, OrFault, Result};

use crate::codes::{CONNECTION_LOST, MESSAGE_BROKEN, PROTOCOL_NEWER, SILENT};
use crate::protocol::{Ending, Exec, Exit, Facts, FromHost, Hello, PROTOCOL_VERSION, Request, Shutdown};

mod greet;
mod session;
mod state;
mod streams;
mod threads;

pub use session::{Control, Input, Output, Session};
pub use streams::Streams;

use state::State;

/// What kind of stream leads to the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// A connection of its own: vsock, a Unix socket.
    Connection,
    /// A virtio-console port: what was said before may still be in it.
    Port,
}

/// The agent of a guest, as its host sees it. Clones share the connection, which ends with the last of them and of its
/// sessions.
#[derive(Clone, Debug)]
pub struct Agent(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    link: Arc<Link>,
    hello: Hello,
}

/// What the two threads share with everybody.
#[derive(Debug)]
struct Link {
    stream: OwnedFd,
    state: Mutex<State>,
}

impl Link {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection is over for all.
    fn end(&self, fault: Fault) {
        self.lock().end(fault);
        let _ = rustix::net::shutdown(&self.stream, rustix::net::Shutdown::Both);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.link.end(Fault::new(CONNECTION_LOST));
    }
}

impl Agent {
    /// Greets the agent at the other end of a connected stream socket and waits for its answer.
    ///
    /// # Errors
    /// `AGT001` when none comes in time, `AGT003` when it is nonsense, `AGT006` when the agent is newer.
    pub fn over(stream: impl Into<OwnedFd>, way: Way, patience: Duration) -> Result<Agent> {
        let stream = stream.into();
        let silent = || Fault::new(SILENT);
        rustix::io::ioctl_fionbio(&stream, true).or_fault(silent)?;
        let deadline = Instant::now() + patience;
        let (hello, decoder) = greet::greet(&stream, way, deadline)?;
        if hello.protocol > PROTOCOL_VERSION {
            return Err(Fault::new(PROTOCOL_NEWER)
                .arg("version", hello.version)
                .arg("protocol", hello.protocol)
                .arg("ours", PROTOCOL_VERSION));
        }
        rustix::io::ioctl_fionbio(&stream, false).or_fault(silent)?;
        let link = Arc::new(Link {
            stream,
            state: Mutex::new(State::default()),
        });
        let thread = |name: &str| std::thread::Builder::new().name(name.to_owned());
        let (reader, writer) = (Arc::clone(&link), Arc::clone(&link));
        thread("agent-write")
            .spawn(move || threads::write(&writer))
            .or_fault(silent)?;
        let shared = Arc::new(Shared { link, hello });
        thread("agent-read")
            .spawn(move || threads::read(&reader, decoder))
            .or_fault(silent)?;
        Ok(Agent(shared))
    }

    /// Who answered.
    #[must_use]
    pub fn hello(&self) -> &Hello {
        &self.0.hello
    }

    /// Why the connection is over; none while it is not.
    #[must_use]
    pub fn lost(&self) -> Option<Fault> {
        self.0.link.lock().lost().cloned()
    }

    /// Runs a process; returns when its program runs.
    ///
    /// # Errors
    /// `JAL014` for an unknown user, `JAL015` when the program cannot be executed, `JAL016` for the working directory,
    /// `AGT…`.
    pub fn exec(&self, exec: &Exec) -> Result<Session> {
        let mut session = self.open(Request::Exec(exec.clone()))?;
        session.control.wait_started(None)?;
        Ok(session)
    }

    /// What lies at a path, as a tar stream; [`Control::wait`] tells whether it is whole.
    ///
    /// # Errors
    /// `AGT…`; what is wrong with the path is told by [`Control::wait`].
    pub fn read_files(&self, path: &str) -> Result<(Output, Control)> {
        let path = path.to_owned();
        let session = self.open(Request::ReadFiles { path })?;
        Ok((session.stdout, session.control))
    }

    /// Unpacks a tar stream into a directory; [`Control::wait`] tells how it went after [`Input::finish`].
    ///
    /// # Errors
    /// `AGT…`; what is wrong with the path is told by [`Control::wait`].
    pub fn write_files(&self, path: &str) -> Result<(Input, Control)> {
        let path = path.to_owned();
        let session = self.open(Request::WriteFiles { path })?;
        Ok((session.stdin, session.control))
    }

    /// Gives a user a password, hashed as in shadow(5).
    ///
    /// # Errors
    /// `AGT009`, `AGT010`.
    pub fn set_password(&self, user: &str, hash: &str) -> Result<()> {
        let (user, hash) = (user.to_owned(), hash.to_owned());
        self.done(Request::SetPassword { user, hash }, Duration::from_secs(70))
    }

    /// Begins a clean end; the machine's own end tells that it is over.
    ///
    /// # Errors
    /// `AGT010` when the guest's tools refuse.
    pub fn shutdown(&self, how: Shutdown, patience: Duration) -> Result<()> {
        self.done(Request::Shutdown { how }, patience)
    }

    /// What the guest tells of itself.
    ///
    /// # Errors
    /// `AGT001` when it does not answer in time.
    pub fn facts(&self, patience: Duration) -> Result<Facts> {
        match self.call(Request::Facts, patience)? {
            Ending::Facts(facts) => Ok(facts),
            other => Err(unexpected(&other)),
        }
    }

    /// Writes what is in the guest's memory to its disks.
    ///
    /// # Errors
    /// `AGT001` when it is not done in time.
    pub fn sync(&self, patience: Duration) -> Result<()> {
        self.done(Request::Sync, patience)
    }

    /// Freezes the file systems on the guest's disks; they are thawed when what is returned is dropped, and by the
    /// guest itself after `longest`.
    ///
    /// # Errors
    /// `AGT007` when one cannot be frozen; none is then.
    pub fn freeze(&self, longest: Duration) -> Result<Session> {
        let milliseconds = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX);
        let mut session = self.open(Request::Freeze { milliseconds })?;
        session.control.wait_started(Some(longest))?;
        Ok(session)
    }

    /// Whether it answers.
    ///
    /// # Errors
    /// `AGT001` when it does not, in time.
    pub fn ping(&self, patience: Duration) -> Result<()> {
        self.done(Request::Ping, patience)
    }

    /// Sets the guest's clock, in nanoseconds since 1970.
    ///
    /// # Errors
    /// `AGT009` when the guest's kernel refuses.
    pub fn set_time(&self, unix_ns: u64, patience: Duration) -> Result<()> {
        self.done(Request::SetTime { unix_ns }, patience)
    }

    /// Ends the connection and all of its sessions; what runs in them hangs up.
    pub fn disconnect(&self) {
        self.0.link.end(Fault::new(CONNECTION_LOST));
    }

    fn open(&self, request: Request) -> Result<Session> {
        let number = self.0.link.lock().open(&request)?;
        Ok(Session::new(&self.0, number))
    }

    fn call(&self, request: Request, patience: Duration) -> Result<Ending> {
        let mut session = self.open(request)?;
        session.control.wait_within(patience)
    }

    fn done(&self, request: Request, patience: Duration) -> Result<()> {
        match self.call(request, patience)? {
            Ending::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }
}

fn unexpected(ending: &Ending) -> Fault {
    Fault::new(MESSAGE_BROKEN).because_of(format!("{ending:?}"))
}

/// The exit in an ending.
fn exit_of(ending: Ending) -> Result<Exit> {
    match ending {
        Ending::Exited(exit) => Ok(exit),
        other => Err(unexpected(&other)),
    }
}

/// Says something in a session.
fn say(link: &Link, number: u32, message: &FromHost) {
    link.lock().say(number, message);
}
