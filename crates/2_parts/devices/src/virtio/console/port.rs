//! The host's side of a port: a stream socket, or bytes fed by hand.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::work::Bell;

/// A stream of bytes to and from a guest. Nothing in it waits.
pub trait Port: Send {
    /// Takes bytes from the guest; tells how many.
    ///
    /// # Errors
    /// `WouldBlock` when it takes none now; other errors mean that nobody listens, and the bytes are lost.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Bytes for the guest; none when the host has closed the port.
    ///
    /// # Errors
    /// `WouldBlock` when there are none now; other errors close the port.
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize>;

    /// Is readable when there are bytes for the guest, writable when bytes can be taken.
    fn waker(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// How to wake the worker, for ports without [`Port::waker`].
    fn wake_by(&mut self, _bell: Bell) {}

    /// Bytes that have been fed and not yet read, to be saved.
    fn fed(&self) -> Vec<u8> {
        Vec::new()
    }

    /// Puts saved bytes back.
    fn set_fed(&mut self, _bytes: &[u8]) {}
}

/// A port that is a stream socket of the host.
pub struct Stream(UnixStream);

impl Stream {
    /// A port over a connected socket.
    ///
    /// # Errors
    /// When it cannot be made non-blocking.
    pub fn new(socket: UnixStream) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Stream(socket))
    }
}

impl Port for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.read(bytes)
    }

    fn waker(&self) -> Option<BorrowedFd<'_>> {
        Some(self.0.as_fd())
    }
}

/// Most bytes that wait for a guest.
const MOST_FED: usize = 64 << 10;

#[derive(Default)]
struct Trough {
    bytes: Mutex<VecDeque<u8>>,
    bell: OnceLock<Bell>,
}

impl Trough {
    fn lock(&self) -> MutexGuard<'_, VecDeque<u8>> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What takes the output of a [`Feed`]; it must not wait.
pub type Sink = Box<dyn FnMut(&[u8]) + Send>;

/// A port whose output goes to a function, and whose input is fed by a [`Feeder`].
pub struct Feed {
    trough: Arc<Trough>,
    sink: Sink,
}

/// Feeds a guest with bytes.
#[derive(Clone)]
pub struct Feeder(Arc<Trough>);

impl Feed {
    /// A port and its feeder.
    pub fn new(sink: Sink) -> (Feed, Feeder) {
        let trough = Arc::new(Trough::default());
        let feeder = Feeder(Arc::clone(&trough));
        (Feed { trough, sink }, feeder)
    }
}

impl Feeder {
    /// Feeds bytes; tells how many were taken. The rest does not fit now.
    pub fn feed(&self, bytes: &[u8]) -> usize {
        let mut queue = self.0.lock();
        let len = bytes.len().min(MOST_FED.saturating_sub(queue.len()));
        queue.extend(&bytes[..len]);
        drop(queue);
        if let Some(bell) = self.0.bell.get() {
            bell.ring();
        }
        len
    }
}

impl Port for Feed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (self.sink)(bytes);
        Ok(bytes.len())
    }

    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self.trough.lock().read(bytes)? {
            0 => Err(ErrorKind::WouldBlock.into()),
            len => Ok(len),
        }
    }

    fn wake_by(&mut self, bell: Bell) {
        let _ = self.trough.bell.set(bell);
    }

    fn fed(&self) -> Vec<u8> {
        self.trough.lock().iter().copied().collect()
    }

    fn set_fed(&mut self, bytes: &[u8]) {
        *self.trough.lock() = bytes.iter().copied().take(MOST_FED).collect();
    }
}
