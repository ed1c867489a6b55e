//! The two threads of a connection.

use std::io;
use std::sync::PoisonError;

use fault::Fault;
use rustix::io::Errno;

use super::Link;
use crate::codes::{CONNECTION_LOST, MESSAGE_BROKEN};
use crate::wire::{Broken, DATA_LIMIT, Decoder, Item};

/// The thread that reads.
pub fn read(link: &Link, mut decoder: Decoder) {
    let broken = || Fault::new(MESSAGE_BROKEN);
    let lost = || Fault::new(CONNECTION_LOST);
    let mut buffer = vec![0; DATA_LIMIT];
    let fault = loop {
        match decoder.take() {
            Ok(Some(Item::Frame(frame))) => {
                let heard = frame
                    .parse()
                    .and_then(|(number, message)| link.lock().hear(number, message, frame.data));
                if heard.is_err() {
                    break broken();
                }
            }
            Ok(Some(Item::Greeting(_))) | Err(Broken) => break broken(),
            Ok(None) => match rustix::io::read(&link.stream, &mut buffer[..]) {
                Ok(0) => break lost(),
                Ok(count) => decoder.push(&buffer[..count]),
                Err(Errno::INTR) => {}
                Err(error) => break lost().because(io::Error::from(error)),
            },
        }
    };
    link.end(fault);
}

/// The thread that writes.
pub fn write(link: &Link) {
    let (wake, mut state) = {
        let state = link.lock();
        (state.to_write(), state)
    };
    loop {
        let bytes = state.take_bytes();
        if bytes.is_empty() {
            if state.lost().is_some() {
                return;
            }
            state = wake.wait(state).unwrap_or_else(PoisonError::into_inner);
            continue;
        }
        drop(state);
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            match rustix::net::send(&link.stream, rest, rustix::net::SendFlags::NOSIGNAL) {
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(error) => {
                    link.end(Fault::new(CONNECTION_LOST).because(io::Error::from(error)));
                    return;
                }
            }
        }
        state = link.lock();
        state.written();
    }
}
