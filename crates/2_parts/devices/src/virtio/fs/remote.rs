//! A server in another process: FUSE messages over a stream socket.
//!
//! Each message is a kind (1 byte), a word of which requests make the room for the answer, a length (4 bytes each, little-endian), and
//! so many bytes.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

use fault::{Fault, OrFault, Result};

use super::wire::{In, OUT_HEADER};
use super::{FuseServer, MOST_MESSAGE};
use crate::Saved;
use crate::state::STATE_UNFIT;

const REQUEST: u8 = 0;
const RESET: u8 = 1;
const SAVE: u8 = 2;
const RESTORE: u8 = 3;
/// Most bytes of a saved state.
const MOST_STATE: usize = 256 << 20;

fn send(mut socket: &UnixStream, kind: u8, word: u32, bytes: &[u8]) -> io::Result<()> {
    let len = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    let mut head = [kind; 9];
    head[1..5].copy_from_slice(&word.to_le_bytes());
    head[5..].copy_from_slice(&len.to_le_bytes());
    socket.write_all(&head)?;
    socket.write_all(bytes)
}

fn receive(mut socket: &UnixStream, bytes: &mut Vec<u8>) -> io::Result<(u8, u32)> {
    let mut head = [0; 9];
    socket.read_exact(&mut head)?;
    let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let most = if head[0] == REQUEST {
        MOST_MESSAGE
    } else {
        MOST_STATE
    };
    let len = word(5) as usize;
    if len > most {
        return Err(io::ErrorKind::InvalidData.into());
    }
    bytes.clear();
    socket.take(len as u64).read_to_end(bytes)?;
    if bytes.len() < len {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok((head[0], word(1)))
}

/// A server that answers at the other end of a socket.
pub struct Remote(UnixStream);

impl Remote {
    /// The server behind a connected socket, which stays blocking.
    #[must_use]
    pub fn new(socket: UnixStream) -> Self {
        Remote(socket)
    }

    fn ask(&self, kind: u8, word: u32, bytes: &[u8], answer: &mut Vec<u8>) -> io::Result<()> {
        send(&self.0, kind, word, bytes)?;
        receive(&self.0, answer).map(drop)
    }
}

impl FuseServer for Remote {
    fn answer(&mut self, request: &[u8], answer: &mut Vec<u8>, room: usize) {
        let done = self.ask(REQUEST, room as u32, request, answer);
        if done.is_ok() && answer.len() <= room {
            return;
        }
        // The server is gone, or is no server: everything fails.
        answer.clear();
        if let Ok(header) = In(request).header()
            && room >= OUT_HEADER
        {
            answer.extend((OUT_HEADER as u32).to_le_bytes());
            answer.extend((-libc::ENOTCONN).to_le_bytes());
            answer.extend(header.unique.to_le_bytes());
        }
    }

    fn reset(&mut self) {
        let _ = self.ask(RESET, 0, &[], &mut Vec::new());
    }

    fn save(&mut self) -> Result<Saved> {
        let mut bytes = Vec::new();
        let asked = self.ask(SAVE, 0, &[], &mut bytes);
        asked.or_fault(|| Fault::new(STATE_UNFIT))?;
        ciborium::from_reader(bytes.as_slice()).or_fault(|| Fault::new(STATE_UNFIT))
    }

    fn restore(&mut self, saved: &Saved) -> Result<()> {
        let mut bytes = Vec::new();
        ciborium::into_writer(saved, &mut bytes).or_fault(|| Fault::new(STATE_UNFIT))?;
        let mut answer = Vec::new();
        let asked = self.ask(RESTORE, 0, &bytes, &mut answer);
        asked.or_fault(|| Fault::new(STATE_UNFIT))?;
        if answer.is_empty() {
            Ok(())
        } else {
            Err(Fault::new(STATE_UNFIT).because_of(String::from_utf8_lossy(&answer)))
        }
    }
}

/// Answers what comes from a [`Remote`] until it hangs up: the body of the confined process.
///
/// # Errors
/// When the other side speaks nonsense or the host refuses.
pub fn serve(socket: &UnixStream, server: &mut dyn FuseServer) -> io::Result<()> {
    let (mut request, mut answer) = (Vec::new(), Vec::new());
    loop {
        let (kind, word) = match receive(socket, &mut request) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            received => received?,
        };
        answer.clear();
        match kind {
            REQUEST => server.answer(&request, &mut answer, (word as usize).min(MOST_MESSAGE)),
            RESET => server.reset(),
            SAVE => {
                // A state that cannot be told is no state for the other side either.
                if let Ok(saved) = server.save() {
                    ciborium::into_writer(&saved, &mut answer).map_err(io::Error::other)?;
                }
            }
            RESTORE => {
                let restored = ciborium::from_reader(request.as_slice())
                    .or_fault(|| Fault::new(STATE_UNFIT))
                    .and_then(|saved| server.restore(&saved));
                if let Err(fault) = restored {
                    answer.extend(fault.to_string().bytes());
                }
            }
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
        send(socket, kind, 0, &answer)?;
    }
}
