//! A server of the remote frame buffer protocol (RFC 6143): shows a screen, and takes keys.
//!
//! It stands on sockets that others have accepted. Each client has two threads: one hears it, one sends it what has changed, as often as
//! the client asks and no more often than every [`PACE`]. The pointer and the clipboard are heard and not used.

mod encode;
mod handshake;
pub mod keys;
mod message;
mod pixels;
pub mod rough;
mod session;
#[cfg(test)]
mod tests;

use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use vcpu::time::Random;

use crate::chipset::i8042::I8042;
use crate::vga::Screen;
pub use keys::Keymap;

/// Shortest time between two updates of a client.
pub const PACE: Duration = Duration::from_millis(40);
/// Most clients at a time.
const CLIENTS: usize = 8;
/// How long a client may take to be let in, and to take what was sent.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who takes keys.
pub trait Input: Send + Sync {
    /// Scan codes of set 1, one sequence. False when there is no room for them now.
    fn key(&self, scancodes: &[u8]) -> bool;

    /// The keyboard's lamps: bit 0 scroll lock, bit 1 num lock, bit 2 caps lock.
    fn leds(&self) -> u8 {
        0
    }
}

impl Input for Mutex<I8042> {
    fn key(&self, scancodes: &[u8]) -> bool {
        lock(self).press(scancodes)
    }

    fn leds(&self) -> u8 {
        lock(self).leds()
    }
}

/// Who is let in.
#[derive(Clone)]
pub enum Security {
    /// Everybody who has the socket.
    None,
    /// Who knows the password, of which the protocol takes 8 bytes. It protects from neighbours, not from who hears the wire.
    Password(String),
}

/// A server.
pub struct Server {
    name: String,
    screen: Arc<dyn Screen>,
    input: Arc<dyn Input>,
    keymap: Keymap,
    random: Arc<dyn Random>,
    enter: Arc<dyn Fn(&str) + Send + Sync>,
    clients: Mutex<Clients>,
}

#[derive(Default)]
struct Clients {
    sockets: Vec<(u64, UnixStream)>,
    next: u64,
    ended: bool,
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Server {
    /// A server that shows `screen` under a name. `keymap` is the keyboard that the guest believes to have. Threads call `enter` with
    /// their name first (to confine themselves). `random` is never a generator that repeats itself: passwords hang on it.
    #[must_use]
    pub fn new(
        name: &str,
        screen: Arc<dyn Screen>,
        input: Arc<dyn Input>,
        keymap: Keymap,
        random: Arc<dyn Random>,
        enter: Arc<dyn Fn(&str) + Send + Sync>,
    ) -> Self {
        Server {
            name: name.chars().take(200).collect(),
            screen,
            input,
            keymap,
            random,
            enter,
            clients: Mutex::default(),
        }
    }

    /// Serves a client on a connected stream socket until it goes or [`Server::end`] is called; on the caller's thread and one of its own.
    ///
    /// # Errors
    /// The client did not speak the protocol, or was not let in; or there are too many.
    pub fn serve(&self, socket: OwnedFd, security: &Security) -> io::Result<()> {
        // Reading, writing, time limits and shutting down are the same for stream sockets of every family.
        let stream = UnixStream::from(socket);
        let number = {
            let mut clients = lock(&self.clients);
            if clients.ended || clients.sockets.len() >= CLIENTS {
                return Err(ErrorKind::ConnectionRefused.into());
            }
            clients.next += 1;
            let number = clients.next;
            clients.sockets.push((number, stream.try_clone()?));
            number
        };
        let outcome = session::run(self, &stream, security);
        lock(&self.clients).sockets.retain(|(other, _)| *other != number);
        let _ = stream.shutdown(Shutdown::Both);
        outcome
    }

    /// Sends all clients away, and lets none in any more.
    pub fn end(&self) {
        let mut clients = lock(&self.clients);
        clients.ended = true;
        for (_, socket) in &clients.sockets {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}
