//! The network process, `posada net NAME`: DHCP, router advertisements, DNS and user-space forwards.
//!
//! It opens nothing of the host: its control socket is its standard input, every other socket is handed over that
//! socket with its role. Before it reads the first byte it gives up all privileges, its view of the file system and
//! every system call that it does not need. One thread, one task per socket. Without a daemon it goes on with what it
//! was last told.

mod confine;
mod control;
mod dhcp;
mod dns;
mod pktinfo;
mod ra;
mod tcp;
mod udp;
mod view;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::task::{JoinHandle, LocalSet, spawn_local};

use crate::wire::{Config, Role};
use view::View;

/// Runs the network process of the network named by the first argument; returns when it is told to end.
pub fn serve(args: impl Iterator<Item = OsString>) -> ExitCode {
    let mut args = args;
    let name = args.next().and_then(|name| name.into_string().ok());
    let (Some(name), None) = (name, args.next()) else {
        eprintln!("posada net NAME <control-socket");
        return ExitCode::from(2);
    };
    match run(name) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("posada net: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(name: String) -> io::Result<()> {
    let control = take_control()?;
    let owner = rustix::process::getuid().as_raw();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    confine::confine()?;
    let server = Rc::new(Server {
        name,
        owner,
        view: RefCell::new(Rc::new(View::default())),
        tasks: RefCell::new(HashMap::new()),
        log: Log::default(),
        stop: tokio::sync::Notify::new(),
    });
    let local = LocalSet::new();
    local.block_on(&runtime, async {
        let listener = tokio::net::UnixListener::from_std(control)?;
        spawn_local(control::listen(Rc::clone(&server), listener));
        server.stop.notified().await;
        Ok(())
    })
}

/// Takes the control socket from standard input and puts nothing in its place.
fn take_control() -> io::Result<UnixListener> {
    confine::close_inherited();
    let _ = rustix::process::setsid();
    let control: OwnedFd = io::stdin().as_fd().try_clone_to_owned()?;
    let null = std::fs::File::open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    let control = UnixListener::from(control);
    control.set_nonblocking(true)?;
    // Fails when standard input is no listening socket, as when a person tries the command.
    control.local_addr()?;
    Ok(control)
}

/// What all tasks share.
pub(crate) struct Server {
    name: String,
    /// Who may speak on the control socket.
    owner: u32,
    view: RefCell<Rc<View>>,
    tasks: RefCell<HashMap<Role, JoinHandle<()>>>,
    log: Log,
    stop: tokio::sync::Notify,
}

impl Server {
    /// What is to be served now.
    fn view(&self) -> Rc<View> {
        Rc::clone(&self.view.borrow())
    }

    /// Serves this from now on.
    fn configure(&self, config: Config) {
        let view = View::new(config);
        self.tasks.borrow_mut().retain(|role, task| {
            let kept = !matches!(role, Role::Forward { at } if !view.forwards.contains_key(at));
            if !kept {
                task.abort();
            }
            kept
        });
        *self.view.borrow_mut() = Rc::new(view);
    }

    /// Serves a socket in its role; the socket that had the role is closed.
    fn take(self: &Rc<Self>, role: Role, fd: OwnedFd) -> io::Result<()> {
        if let Some(old) = self.tasks.borrow_mut().remove(&role) {
            old.abort();
        }
        rustix::io::ioctl_fionbio(&fd, true)?;
        let server = Rc::clone(self);
        let task = match role {
            Role::Dhcp => {
                let socket = tokio::net::UdpSocket::from_std(fd.into())?;
                spawn_local(dhcp::serve(server, socket))
            }
            Role::Router => {
                // A raw socket; the runtime's type for datagrams receives from and sends to addresses just so.
                let socket = tokio::net::UdpSocket::from_std(fd.into())?;
                spawn_local(ra::serve(server, socket))
            }
            Role::DnsUdp { .. } => {
                let socket = tokio::net::UdpSocket::from_std(fd.into())?;
                spawn_local(dns::serve_udp(server, socket))
            }
            Role::DnsTcp { .. } => {
                let listener = tokio::net::TcpListener::from_std(fd.into())?;
                spawn_local(dns::serve_tcp(server, listener))
            }
            Role::Forward { at } if at.transport == model::Transport::Tcp => {
                let listener = tokio::net::TcpListener::from_std(fd.into())?;
                spawn_local(tcp::serve(server, at, listener))
            }
            Role::Forward { at } => {
                let socket = tokio::net::UdpSocket::from_std(fd.into())?;
                spawn_local(udp::serve(server, at, socket))
            }
        };
        self.tasks.borrow_mut().insert(role, task);
        Ok(())
    }
}

/// Lines on standard error, at most [`Log::BURST`] in a second: guests cause some of them.
#[derive(Default)]
struct Log {
    window: Cell<Option<Instant>>,
    lines: Cell<u32>,
}

impl Log {
    const BURST: u32 = 5;

    fn line(&self, words: std::fmt::Arguments) {
        let now = Instant::now();
        if self
            .window
            .get()
            .is_none_or(|start| now.duration_since(start) > Duration::from_secs(1))
        {
            self.window.set(Some(now));
            self.lines.set(0);
        }
        self.lines.set(self.lines.get() + 1);
        if self.lines.get() <= Self::BURST {
            eprintln!("{words}");
        }
    }
}

/// Waits a little after an error that will not go away at once, such as too many open files.
async fn breathe() {
    tokio::time::sleep(Duration::from_millis(50)).await;
}
