//! Where hosts come in: a vsock port, a virtio-console port, or a Unix socket.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};

use super::exec::PATH;
use super::sys;
use crate::protocol::{CONSOLE_PORT, UP_PORT, VSOCK_PORT};

/// How often is looked for what is missing: at first, and when something has been found or nothing for a minute.
const HASTE: Duration = Duration::from_millis(250);
const LEISURE: Duration = Duration::from_secs(5);
/// How often systemd is asked whether the boot is over.
const BOOTING: Duration = Duration::from_secs(1);
const HASTY: u32 = 240;
/// How often modules are loaded in vain before nothing more is expected of it in this root directory.
const LOADS: u32 = 5;
const MODULES: [&str; 2] = ["vmw_vsock_virtio_transport", "virtio_console"];

/// A door with somebody before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// The Unix socket.
    Unix,
    /// The vsock port.
    Vsock,
}

/// All doors of an agent.
#[derive(Debug, Default)]
pub struct Doors {
    unix: Option<UnixListener>,
    vsock: Option<OwnedFd>,
    /// Looks for the devices of a machine.
    machine: bool,
    next: Option<Instant>,
    /// Looks and loads in vain in this root directory.
    looks: u32,
    loads: u32,
    /// The host was told that the system is up.
    told: bool,
}

impl Doors {
    /// None: only what is handed over.
    #[must_use]
    pub fn none() -> Self {
        Doors::default()
    }

    /// Those of a machine: vsock, and a port where there is one. They are opened as the kernel gets them.
    #[must_use]
    pub fn of_machine() -> Self {
        Doors {
            machine: true,
            next: Some(Instant::now()),
            ..Doors::default()
        }
    }

    /// A Unix socket that only its owner may connect to. What another agent left behind is replaced.
    ///
    /// # Errors
    /// EADDRINUSE when an agent listens there, and those of bind(2).
    pub fn at(path: &Path) -> io::Result<Self> {
        let listener = match UnixListener::bind(path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                if UnixStream::connect(path).is_ok() {
                    return Err(error);
                }
                std::fs::remove_file(path)?;
                UnixListener::bind(path)?
            }
            done => done?,
        };
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        Ok(Doors {
            unix: Some(listener),
            ..Doors::default()
        })
    }

    /// Whether anybody may still come.
    #[must_use]
    pub fn any(&self) -> bool {
        self.unix.is_some() || self.machine
    }

    /// When to look for devices again.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.next
    }

    /// Whether it is time to.
    #[must_use]
    pub fn is_due(&self, now: Instant) -> bool {
        self.next.is_some_and(|next| next <= now)
    }

    /// Calls `add` with every open door.
    pub fn interests<'a>(&'a self, mut add: impl FnMut(Door, BorrowedFd<'a>)) {
        if let Some(unix) = &self.unix {
            add(Door::Unix, unix.as_fd());
        }
        if let Some(vsock) = &self.vsock {
            add(Door::Vsock, vsock.as_fd());
        }
    }

    /// Lets somebody in.
    #[must_use]
    pub fn accept(&self, door: Door) -> Option<OwnedFd> {
        let accepted = self.try_accept(door);
        if accepted.is_err() {
            // They stay before the door while there are no descriptors left, for example.
            std::thread::sleep(Duration::from_millis(10));
        }
        accepted.ok().flatten()
    }

    fn try_accept(&self, door: Door) -> io::Result<Option<OwnedFd>> {
        match door {
            Door::Unix => {
                let Some(unix) = &self.unix else { return Ok(None) };
                let (stream, _) = unix.accept()?;
                stream.set_nonblocking(true)?;
                Ok(Some(stream.into()))
            }
            Door::Vsock => {
                let Some(vsock) = &self.vsock else { return Ok(None) };
                let (stream, cid) = sys::accept_vsock(vsock)?;
                // Programs inside reach the port too, by the loopback, and must not become root by it.
                Ok((cid == sys::CID_HOST).then_some(stream))
            }
        }
    }

    /// Opens what can be opened now; a virtio-console port is returned. `moved`: in a new root directory, where there
    /// may be other modules; `port`: one is open already; `busy`: nobody may be kept waiting.
    pub fn open(&mut self, moved: bool, port: bool, busy: bool) -> Option<OwnedFd> {
        if moved {
            (self.loads, self.looks) = (0, 0);
        }
        let connected = has_transport();
        if !connected && !busy && self.loads < LOADS {
            self.loads += 1;
            load_modules();
        }
        if self.vsock.is_none() {
            self.vsock = sys::listen_vsock(VSOCK_PORT).ok();
        }
        let found = if port { None } else { console_port() };
        let ready = port || found.is_some() || (self.vsock.is_some() && has_transport());
        if !self.told && !busy && self.vsock.is_some() && has_transport() && super::facts::is_up() {
            self.told = sys::connect_vsock(sys::CID_HOST, UP_PORT).is_ok();
        }
        self.looks = self.looks.saturating_add(1);
        let hasty = !ready && self.looks < HASTY;
        let pause = match (hasty, self.told) {
            (true, _) => HASTE,
            (false, false) => BOOTING,
            (false, true) => LEISURE,
        };
        self.next = Some(Instant::now() + pause);
        found
    }
}

/// Whether a hypervisor has given this machine a vsock address.
fn has_transport() -> bool {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    rustix::fs::open("/dev/vsock", flags, Mode::empty())
        .is_ok_and(|device| sys::local_cid(device) != sys::CID_NONE)
}

fn load_modules() {
    for module in MODULES {
        let _ = Command::new("modprobe")
            .args(["-q", module])
            .env("PATH", PATH)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}

/// Opens the port of our name, non-blocking; there is none, or somebody holds it, when nothing comes.
fn console_port() -> Option<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let open = |path: &Path| rustix::fs::open(path, flags, Mode::empty()).ok();
    // The kernel's own list; udev, which makes the named link, may not have been there yet.
    for entry in std::fs::read_dir("/sys/class/virtio-ports").ok()?.flatten() {
        let name = std::fs::read_to_string(entry.path().join("name")).unwrap_or_default();
        if name.trim_end() == CONSOLE_PORT {
            return open(&Path::new("/dev").join(entry.file_name()));
        }
    }
    None
}
