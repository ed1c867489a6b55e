//! The first words with an agent.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use fault::{Fault, OrFault, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::Way;
use crate::codes::{MESSAGE_BROKEN, SILENT};
use crate::protocol::{FromGuest, Hello};
use crate::wire::{Broken, DATA_LIMIT, Decoder, GREETING, Item, MARK, Token, attention, greeting};

/// Waits until a stream is ready.
fn await_ready(stream: &OwnedFd, flags: PollFlags, deadline: Instant) -> Result<()> {
    let silent = || Fault::new(SILENT);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(silent());
        }
        let left = Timespec::try_from(left).unwrap_or_default();
        match poll(
            &mut [PollFd::from_borrowed_fd(stream.as_fd(), flags)],
            Some(&left),
        ) {
            Ok(1..) => return Ok(()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(silent().because(io::Error::from(error))),
        }
    }
}

/// Sends the greeting on a non-blocking stream and takes what comes until the agent's.
///
/// # Errors
/// `AGT001`, `AGT003`.
pub fn greet(stream: &OwnedFd, way: Way, deadline: Instant) -> Result<(Hello, Decoder)> {
    let silent = || Fault::new(SILENT);
    let mut token: Token = [0; GREETING - MARK.len()];
    rustix::rand::getrandom(&mut token, rustix::rand::GetRandomFlags::empty()).or_fault(silent)?;
    let mut bytes = match way {
        Way::Connection => Vec::new(),
        Way::Port => attention(),
    };
    bytes.extend(greeting(token));
    let mut rest = &bytes[..];
    let mut decoder = Decoder::new(way == Way::Port);
    let mut buffer = vec![0; DATA_LIMIT];
    loop {
        if let Some(hello) = hello(&mut decoder, way, token)? {
            return Ok((hello, decoder));
        }
        let wanted = if rest.is_empty() {
            PollFlags::IN
        } else {
            PollFlags::IN | PollFlags::OUT
        };
        await_ready(stream, wanted, deadline)?;
        if !rest.is_empty() {
            match rustix::net::send(stream, rest, rustix::net::SendFlags::NOSIGNAL) {
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(silent().because(io::Error::from(error))),
            }
        }
        match rustix::io::read(stream, &mut buffer[..]) {
            Ok(0) => return Err(silent()),
            Ok(count) => decoder.push(&buffer[..count]),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => return Err(silent().because(io::Error::from(error))),
        }
    }
}

/// The agent's hello, once it has come; on a port everything before our own token is somebody else's.
fn hello(decoder: &mut Decoder, way: Way, token: Token) -> Result<Option<Hello>> {
    let broken = || Fault::new(MESSAGE_BROKEN);
    loop {
        match decoder.take() {
            Ok(None) => return Ok(None),
            Ok(Some(Item::Greeting(theirs))) if theirs == token => {}
            Ok(Some(Item::Greeting(_))) | Err(Broken) if way == Way::Port => decoder.resync(),
            Ok(Some(Item::Frame(frame))) => match frame.parse() {
                Ok((0, Some(FromGuest::Hello(hello)))) => return Ok(Some(hello)),
                _ => return Err(broken()),
            },
            Ok(Some(Item::Greeting(_))) | Err(Broken) => return Err(broken()),
        }
    }
}
