//! What a connection knows of its sessions: pure but for the wake-ups.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar};

use fault::{Fault, Result};

use crate::codes::{CONNECTION_LOST, VALUE_REFUSED};
use crate::protocol::{Ending, FromGuest, FromHost, Request, Stream, WINDOW};
use crate::wire::{Broken, encode};

/// From so many bytes on that wait to be sent, input has to wait too.
const FULL: usize = 1 << 20;

/// What has come of a stream and has not been read.
#[derive(Debug, Default)]
pub struct Incoming {
    pub bytes: VecDeque<u8>,
    /// How much more may come.
    window: u64,
    /// Nobody reads it any more.
    abandoned: bool,
}

/// One session.
#[derive(Debug)]
pub struct Entry {
    pub started: bool,
    pub incoming: [Incoming; 2],
    /// How much input may be sent.
    pub credit: u64,
    pub ending: Option<Ending>,
    /// Its owner is gone; it stays until the agent has said its last word.
    closed: bool,
    /// Woken by everything that happens in it.
    pub wake: Arc<Condvar>,
}

/// All sessions, and what waits to be sent.
#[derive(Debug, Default)]
pub struct State {
    sessions: HashMap<u32, Entry>,
    last: u32,
    outgoing: Vec<u8>,
    write: Arc<Condvar>,
    room: Arc<Condvar>,
    lost: Option<Fault>,
}

impl State {
    /// Why it is over.
    pub fn lost(&self) -> Option<&Fault> {
        self.lost.as_ref()
    }

    /// It is over.
    pub fn end(&mut self, fault: Fault) {
        self.lost.get_or_insert(fault);
        for entry in self.sessions.values() {
            entry.wake.notify_all();
        }
        self.write.notify_all();
        self.room.notify_all();
    }

    /// Begins a session.
    ///
    /// # Errors
    /// When the connection is over, or the request is larger than a message may be.
    pub fn open(&mut self, request: &Request) -> Result<u32> {
        if let Some(fault) = &self.lost {
            return Err(fault.clone());
        }
        let mut number = self.last;
        loop {
            number = number.wrapping_add(1).max(1);
            if !self.sessions.contains_key(&number) {
                break;
            }
        }
        self.last = number;
        let open = FromHost::Open(request.clone());
        encode(&mut self.outgoing, number, &open, b"")
            .map_err(|Broken| Fault::new(VALUE_REFUSED).arg("what", "request"))?;
        self.write.notify_one();
        let incoming = || Incoming {
            window: WINDOW.into(),
            ..Incoming::default()
        };
        let entry = Entry {
            started: false,
            incoming: [incoming(), incoming()],
            credit: WINDOW.into(),
            ending: None,
            closed: false,
            wake: Arc::default(),
        };
        self.sessions.insert(number, entry);
        Ok(number)
    }

    /// A session that has not been closed.
    ///
    /// # Errors
    /// `AGT005` when it has.
    pub fn session(&mut self, number: u32) -> Result<&mut Entry> {
        let entry = self.sessions.get_mut(&number);
        entry.ok_or_else(|| Fault::new(CONNECTION_LOST))
    }

    /// Says something in a session.
    pub fn say(&mut self, number: u32, message: &FromHost) {
        self.send(number, message, b"");
    }

    /// Sends input, for which there is credit.
    pub fn input(&mut self, number: u32, data: &[u8]) {
        if let Some(entry) = self.sessions.get_mut(&number) {
            entry.credit = entry.credit.saturating_sub(data.len() as u64);
        }
        self.send(number, &FromHost::Input, data);
    }

    fn send(&mut self, number: u32, message: &FromHost, data: &[u8]) {
        let over = self
            .sessions
            .get(&number)
            .is_none_or(|entry| entry.ending.is_some());
        if self.lost.is_none() && !over {
            // Only requests can be too large.
            let _ = encode(&mut self.outgoing, number, message, data);
            self.write.notify_one();
        }
    }

    /// Whether more input may be queued, and who is woken when it may.
    pub fn has_room(&self) -> bool {
        self.outgoing.len() < FULL
    }

    /// Woken when there is room again.
    pub fn to_room(&self) -> Arc<Condvar> {
        Arc::clone(&self.room)
    }

    /// Woken when there is something to write.
    pub fn to_write(&self) -> Arc<Condvar> {
        Arc::clone(&self.write)
    }

    /// What has to be written now.
    pub fn take_bytes(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.outgoing)
    }

    /// It has been.
    pub fn written(&self) {
        self.room.notify_all();
    }

    /// Nobody reads a stream any more.
    pub fn abandon(&mut self, number: u32, stream: Stream) {
        if let Some(entry) = self.sessions.get_mut(&number) {
            let incoming = &mut entry.incoming[index_of(stream)];
            incoming.abandoned = true;
            incoming.bytes = VecDeque::new();
        }
        self.say(number, &FromHost::OutputEnd { stream });
    }

    /// Its owner is gone.
    pub fn close(&mut self, number: u32) {
        self.say(number, &FromHost::Close);
        if let Some(entry) = self.sessions.get_mut(&number) {
            entry.closed = true;
            if entry.ending.is_some() || self.lost.is_some() {
                self.sessions.remove(&number);
            }
        }
    }

    /// Does what the agent says.
    ///
    /// # Errors
    /// When it breaks the protocol.
    pub fn hear(&mut self, number: u32, message: Option<FromGuest>, data: Vec<u8>) -> Result<(), Broken> {
        let (Some(message), Some(entry)) = (message, self.sessions.get_mut(&number)) else {
            // A word of the future, or one that crossed our closing.
            return Ok(());
        };
        if entry.ending.is_some() {
            return Err(Broken);
        }
        match message {
            FromGuest::Hello(_) => return Err(Broken),
            FromGuest::Started => entry.started = true,
            FromGuest::Credit { bytes } => entry.credit = entry.credit.saturating_add(bytes.into()),
            FromGuest::Output { stream } => {
                let incoming = &mut entry.incoming[index_of(stream)];
                let window = incoming.window.checked_sub(data.len() as u64);
                incoming.window = window.ok_or(Broken)?;
                if !incoming.abandoned && !entry.closed {
                    incoming.bytes.extend(data);
                }
            }
            FromGuest::End(ending) => entry.ending = Some(ending),
        }
        entry.wake.notify_all();
        if entry.closed && entry.ending.is_some() {
            self.sessions.remove(&number);
        }
        Ok(())
    }
}

impl Incoming {
    /// Moves what fits out of it; how much, and how much credit the agent gets for it.
    pub fn take(&mut self, into: &mut [u8]) -> (usize, u32) {
        let count = into.len().min(self.bytes.len());
        for (to, from) in into.iter_mut().zip(self.bytes.drain(..count)) {
            *to = from;
        }
        // A credit for every line would be as much traffic as the lines.
        let used = u64::from(WINDOW)
            .saturating_sub(self.window)
            .saturating_sub(self.bytes.len() as u64);
        let credit = if used >= u64::from(WINDOW) / 4 { used } else { 0 };
        self.window += credit;
        (count, u32::try_from(credit).unwrap_or(0))
    }
}

pub fn index_of(stream: Stream) -> usize {
    match stream {
        Stream::Stdout => 0,
        Stream::Stderr => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_that_sends_more_than_its_credit_breaks_the_protocol() {
        let mut state = State::default();
        let number = state.open(&Request::Ping).unwrap();
        let stdout = || {
            Some(FromGuest::Output {
                stream: Stream::Stdout,
            })
        };
        let whole = vec![0; WINDOW as usize];
        assert_eq!(state.hear(number, stdout(), whole), Ok(()));
        assert_eq!(state.hear(number, stdout(), vec![0]), Err(Broken));
    }

    #[test]
    fn credit_comes_for_what_was_read_and_no_more() {
        let mut incoming = Incoming {
            window: WINDOW.into(),
            ..Incoming::default()
        };
        let mut granted = 0;
        for _ in 0..10 {
            incoming.bytes.extend(vec![7; 100_000]);
            incoming.window -= 100_000;
            let mut buffer = vec![0; 70_000];
            while !incoming.bytes.is_empty() {
                granted += u64::from(incoming.take(&mut buffer).1);
            }
            assert!(incoming.window <= u64::from(WINDOW));
        }
        assert_eq!(granted + u64::from(WINDOW) - 1_000_000, incoming.window);
        assert!(incoming.window > u64::from(WINDOW) / 2);
    }

    #[test]
    fn a_closed_session_is_forgotten_after_the_agents_last_word() {
        let mut state = State::default();
        let number = state.open(&Request::Ping).unwrap();
        state.close(number);
        assert!(state.sessions.contains_key(&number), "its number is not free yet");
        let end = Some(FromGuest::End(Ending::Done));
        assert_eq!(state.hear(number, end.clone(), vec![]), Ok(()));
        assert!(state.sessions.is_empty());
        assert_eq!(state.hear(number, end, vec![]), Ok(()));
    }
}
