//! One connection: a stream socket of the host, credit in both directions, and what is still to be told to the guest.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, Timespec};

use super::packet::{NO_RECEIVE, NO_SEND, OUR_BUFFER, Packet, STREAM, op};

/// A connection, known by (guest's port, host's port).
pub(super) struct Connection {
    pub stream: UnixStream,
    /// The guest has agreed.
    pub open: bool,
    /// Bytes from the guest that the host has not taken yet; at most [`OUR_BUFFER`].
    buffer: VecDeque<u8>,
    /// Bytes handed to the host, and what the guest knows of it.
    forwarded: u32,
    forwarded_told: u32,
    /// Bytes sent to the guest, those it has handed on, and its buffer's size.
    sent: u32,
    guest_forwarded: u32,
    guest_buffer: u32,
    credit_asked: bool,
    /// What the guest has said by shutdown.
    guest_shut: u32,
    /// What we have said by shutdown.
    host_shut: u32,
    /// Operations to be told, as bits.
    due: u16,
}

fn bit(op: u16) -> u16 {
    1 << op
}

impl Connection {
    pub(super) fn new(stream: UnixStream, first: u16) -> Self {
        Connection {
            stream,
            open: first == op::RESPONSE,
            buffer: VecDeque::new(),
            forwarded: 0,
            forwarded_told: 0,
            sent: 0,
            guest_forwarded: 0,
            guest_buffer: 0,
            credit_asked: false,
            guest_shut: 0,
            host_shut: 0,
            due: bit(first),
        }
    }

    /// Takes note of the credit that every packet carries.
    pub(super) fn hear(&mut self, packet: &Packet) {
        if (self.guest_buffer, self.guest_forwarded) != (packet.buffer, packet.forwarded) {
            self.credit_asked = false;
        }
        self.guest_buffer = packet.buffer;
        self.guest_forwarded = packet.forwarded;
    }

    /// Bytes that the guest has room for.
    fn credit(&self) -> u32 {
        let on_the_way = self.sent.wrapping_sub(self.guest_forwarded);
        self.guest_buffer.saturating_sub(on_the_way)
    }

    pub(super) fn owe(&mut self, op: u16) {
        self.due |= bit(op);
    }

    /// The next operation to be told.
    pub(super) fn next_due(&mut self) -> Option<u16> {
        let ops = [
            op::REQUEST,
            op::RESPONSE,
            op::CREDIT_UPDATE,
            op::CREDIT_REQUEST,
            op::SHUTDOWN,
        ];
        let next = ops.into_iter().find(|op| self.due & bit(*op) != 0)?;
        self.due &= !bit(next);
        Some(next)
    }

    /// A packet to the guest.
    pub(super) fn packet(&mut self, cid: u64, ports: (u32, u32), op: u16, len: u32) -> Packet {
        self.forwarded_told = self.forwarded;
        self.due &= !bit(op::CREDIT_UPDATE);
        self.sent = self.sent.wrapping_add(len);
        Packet {
            from: super::packet::HOST,
            to: cid,
            from_port: ports.1,
            to_port: ports.0,
            len,
            kind: STREAM,
            op,
            flags: if op == op::SHUTDOWN { self.host_shut } else { 0 },
            buffer: OUR_BUFFER,
            forwarded: self.forwarded,
        }
    }

    /// Whether bytes from the host may go to the guest.
    pub(super) fn reads(&self) -> bool {
        self.open && self.host_shut & NO_SEND == 0 && self.guest_shut & NO_RECEIVE == 0 && self.credit() > 0
    }

    /// Asks the guest for credit if that is what the host's bytes wait for.
    pub(super) fn ask_credit(&mut self) {
        let waits = self.open && self.credit() == 0 && self.host_shut & NO_SEND == 0;
        if waits && !self.credit_asked {
            self.credit_asked = true;
            self.owe(op::CREDIT_REQUEST);
        }
    }

    /// Bytes of the host for the guest; none when there are none now. The host's end becomes a shutdown.
    pub(super) fn read(&mut self, bytes: &mut [u8]) -> Option<usize> {
        let most = bytes.len().min(self.credit() as usize);
        loop {
            return match self.stream.read(&mut bytes[..most]) {
                Ok(len) if len > 0 => Some(len),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => None,
                ended => {
                    let gone = ended.is_err() || self.is_gone();
                    self.host_shut |= NO_SEND | if gone { NO_RECEIVE } else { 0 };
                    self.owe(op::SHUTDOWN);
                    None
                }
            };
        }
    }

    /// Whether the host has closed its end altogether.
    pub(super) fn is_gone(&self) -> bool {
        let mut ready = [PollFd::new(&self.stream, PollFlags::empty())];
        let at_once = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        rustix::event::poll(&mut ready, Some(&at_once)).is_ok()
            && ready[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
    }

    /// Takes bytes from the guest, which must have room. False when the connection is to be reset.
    pub(super) fn take(&mut self, bytes: &[u8]) -> bool {
        if self.guest_shut & NO_SEND != 0 || self.buffer.len() + bytes.len() > OUR_BUFFER as usize {
            return false;
        }
        self.buffer.extend(bytes);
        self.flush()
    }

    /// Hands buffered bytes to the host. False when the host takes no more for good.
    pub(super) fn flush(&mut self) -> bool {
        while !self.buffer.is_empty() {
            let (first, _) = self.buffer.as_slices();
            match self.stream.write(first) {
                Ok(len) => {
                    self.buffer.drain(..len);
                    self.forwarded = self.forwarded.wrapping_add(len as u32);
                    if self.forwarded.wrapping_sub(self.forwarded_told) >= OUR_BUFFER / 4 {
                        self.owe(op::CREDIT_UPDATE);
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(_) => return false,
            }
        }
        if self.guest_shut & NO_SEND != 0 {
            // The peer may be gone already.
            let _: io::Result<()> = self.stream.shutdown(Shutdown::Write);
        }
        true
    }

    /// The guest's shutdown.
    pub(super) fn shut(&mut self, flags: u32) {
        self.guest_shut |= flags & (NO_RECEIVE | NO_SEND);
        if self.guest_shut & NO_RECEIVE != 0 {
            let _ = self.stream.shutdown(Shutdown::Read);
        }
    }

    /// Whether bytes wait for the host.
    pub(super) fn is_blocked(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Whether both have said all there is.
    pub(super) fn is_over(&self) -> bool {
        let both = NO_RECEIVE | NO_SEND;
        self.guest_shut == both && self.buffer.is_empty()
    }
}
