//! The stream of a serial port: what the guest sends waits here for the host, and the other way round.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use devices::chipset::Sink;
use devices::chipset::serial::Serial;
use rustix::event::{EventfdFlags, PollFd, PollFlags};
use rustix::io::Errno;

/// Bytes kept for a host that does not read; older ones are lost.
const KEPT: usize = 256 << 10;
/// Bytes taken from the host at once.
const TURN: usize = 256;

/// Carries bytes between a stream and a serial port.
pub struct Stream {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    output: Mutex<VecDeque<u8>>,
    bell: OwnedFd,
    room: AtomicBool,
    ended: AtomicBool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, VecDeque<u8>> {
        self.output.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self) {
        let _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
    }
}

/// Where the port puts what the guest sends.
struct Output(Arc<Shared>);

impl Sink for Output {
    fn write(&mut self, bytes: &[u8]) {
        let mut kept = self.0.lock();
        let quiet = kept.is_empty();
        kept.extend(bytes);
        let surplus = kept.len().saturating_sub(KEPT);
        kept.drain(..surplus);
        drop(kept);
        if quiet {
            self.0.ring();
        }
    }
}

/// The side of the port, to be given to [`Serial::new`].
pub struct Port {
    /// Takes the guest's bytes.
    pub output: Box<dyn Sink>,
    /// Told when the port takes bytes again.
    pub room: Box<dyn Fn() + Send>,
    shared: Arc<Shared>,
}

impl Port {
    /// A port without a stream yet.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub fn new() -> io::Result<Port> {
        let shared = Arc::new(Shared {
            output: Mutex::default(),
            bell: rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            room: AtomicBool::new(true),
            ended: AtomicBool::new(false),
        });
        let waker = Arc::clone(&shared);
        Ok(Port {
            output: Box::new(Output(Arc::clone(&shared))),
            room: Box::new(move || {
                waker.room.store(true, Ordering::SeqCst);
                waker.ring();
            }),
            shared,
        })
    }

    /// What connects the stream to the port; call it before the parts are handed out.
    #[must_use]
    pub fn link(&self) -> Link {
        Link(Arc::clone(&self.shared))
    }
}

/// The other side of a [`Port`].
pub struct Link(Arc<Shared>);

impl Link {
    /// Carries bytes until dropped. `enter` is called by the thread first.
    ///
    /// # Errors
    /// When the stream cannot be made non-blocking, or no thread is to be had.
    pub fn carry(
        self,
        stream: OwnedFd,
        serial: Arc<Mutex<Serial>>,
        enter: Arc<dyn Fn(&str) + Send + Sync>,
    ) -> io::Result<Stream> {
        rustix::io::ioctl_fionbio(&stream, true)?;
        let shared = self.0;
        let mine = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("serial".to_owned())
            .spawn(move || {
                enter("serial");
                carry(&mine, &stream, &serial);
            })?;
        Ok(Stream {
            shared,
            thread: Some(thread),
        })
    }
}

impl Drop for Stream {
    /// What the guest has sent is written before, as far as the host takes it at once.
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.shared.ring();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn carry(shared: &Shared, stream: &OwnedFd, serial: &Mutex<Serial>) {
    let mut input: VecDeque<u8> = VecDeque::new();
    let mut open = true;
    loop {
        let blocked = !send(shared, stream);
        if shared.ended.load(Ordering::SeqCst) {
            return;
        }
        feed(shared, serial, &mut input);
        let mut wanted = PollFlags::empty();
        if open && input.is_empty() {
            wanted |= PollFlags::IN;
        }
        if blocked {
            wanted |= PollFlags::OUT;
        }
        let mut ready = vec![PollFd::new(&shared.bell, PollFlags::IN)];
        if !wanted.is_empty() {
            ready.push(PollFd::new(stream, wanted));
        }
        let _ = rustix::event::poll(&mut ready, None);
        let hung = ready
            .get(1)
            .is_some_and(|fd| fd.revents().intersects(PollFlags::HUP | PollFlags::ERR));
        let _ = rustix::io::read(&shared.bell, &mut [0; 8]);
        if open && input.is_empty() {
            let mut bytes = [0; TURN];
            match rustix::io::read(stream, &mut bytes) {
                Ok(0) => open = false,
                Ok(count) => input.extend(&bytes[..count]),
                Err(Errno::AGAIN | Errno::INTR) => open &= !hung,
                Err(_) => open = false,
            }
        }
    }
}

/// Gives the port what it takes.
fn feed(shared: &Shared, serial: &Mutex<Serial>, input: &mut VecDeque<u8>) {
    if input.is_empty() || !shared.room.load(Ordering::SeqCst) {
        return;
    }
    let mut serial = serial.lock().unwrap_or_else(PoisonError::into_inner);
    shared.room.store(false, Ordering::SeqCst);
    let taken = serial.receive(input.make_contiguous());
    input.drain(..taken);
    if input.is_empty() {
        shared.room.store(true, Ordering::SeqCst);
    }
}

/// Writes what waits; false when the host takes no more now.
fn send(shared: &Shared, stream: &OwnedFd) -> bool {
    loop {
        let bytes: Vec<u8> = {
            let kept = shared.lock();
            kept.iter().take(4096).copied().collect()
        };
        if bytes.is_empty() {
            return true;
        }
        match rustix::io::write(stream, &bytes) {
            Ok(count) => drop(shared.lock().drain(..count)),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return false,
            // Nobody will ever read it.
            Err(_) => shared.lock().clear(),
        }
    }
}
