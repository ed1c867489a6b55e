//! What waits to be sent on a connection.

use std::io;
use std::os::fd::AsFd;

use fault::Fault;
use rustix::io::Errno;

use crate::codes::SET_UP_FAILED;
use crate::protocol::{Ending, FromGuest, Stream};
use crate::wire::encode;

/// From so many bytes on no more output is taken from processes.
const FULL: usize = 256 << 10;
/// From so many bytes on nothing more is read from the host: it does not listen.
const OVERFULL: usize = 4 << 20;

/// Bytes in the order in which they leave.
#[derive(Debug, Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    sent: usize,
}

impl Outbox {
    /// Puts a message in.
    pub fn say(&mut self, session: u32, message: &FromGuest) {
        if encode(&mut self.bytes, session, message, b"").is_err() {
            // A fault that quotes what the host sent can be longer than a message may be.
            let fault = Fault::new(SET_UP_FAILED).arg("what", "an answer");
            let _ = encode(
                &mut self.bytes,
                session,
                &FromGuest::End(Ending::Fault(fault)),
                b"",
            );
        }
    }

    /// Puts output in; `data` is within the limit of a frame.
    pub fn output(&mut self, session: u32, stream: Stream, data: &[u8]) {
        let done = encode(&mut self.bytes, session, &FromGuest::Output { stream }, data);
        debug_assert!(done.is_ok(), "reads are bounded by a frame's data");
    }

    /// Puts bytes in that are no frame.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Outbox::default();
    }

    /// Nothing is left.
    pub fn is_empty(&self) -> bool {
        self.sent == self.bytes.len()
    }

    /// There is room for output.
    pub fn has_room(&self) -> bool {
        self.bytes.len() - self.sent < FULL
    }

    /// The host does not listen.
    pub fn is_overfull(&self) -> bool {
        self.bytes.len() - self.sent >= OVERFULL
    }

    /// Sends what the stream takes.
    ///
    /// # Errors
    /// When the other side is gone.
    pub fn flush(&mut self, stream: impl AsFd) -> io::Result<()> {
        while !self.is_empty() {
            match rustix::io::write(&stream, self.bytes.get(self.sent..).unwrap_or_default()) {
                Ok(0) | Err(Errno::AGAIN) => break,
                Ok(count) => self.sent += count,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if self.is_empty() {
            self.bytes.clear();
            self.sent = 0;
        } else if self.sent > FULL {
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Decoder, HEAD_LIMIT, Item, greeting};

    #[test]
    fn a_last_word_that_is_too_long_is_replaced_and_not_lost() {
        let mut outbox = Outbox::default();
        outbox.raw(&greeting([0; 16]));
        let long = Fault::new(SET_UP_FAILED).arg("what", "x".repeat(HEAD_LIMIT));
        outbox.say(3, &FromGuest::End(Ending::Fault(long)));
        let mut decoder = Decoder::new(false);
        decoder.push(&outbox.bytes);
        assert!(matches!(decoder.take(), Ok(Some(Item::Greeting(_)))));
        let Ok(Some(Item::Frame(frame))) = decoder.take() else {
            panic!("nothing is said")
        };
        let Ok((3, Some(FromGuest::End(Ending::Fault(fault))))) = frame.parse() else {
            panic!("it is no last word")
        };
        assert!(fault.is(SET_UP_FAILED));
    }
}
