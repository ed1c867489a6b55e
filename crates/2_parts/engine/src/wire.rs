//! Frames of the shim protocol on a Unix stream socket: the same codec for blocking clients and for the shim's loop.
//!
//! A frame is a little-endian `u32` – the low 24 bits are the length of the body, the high 8 bits the number of
//! descriptors that belong to it – and the body, JSON. Descriptors ride on the frame's first byte. The kernel never
//! delivers descriptors later than the byte they ride on, so counting them is enough to give each frame its own.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use fault::{Fault, OrFault, Result};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::protocol::{MESSAGE_BROKEN, MESSAGE_LIMIT};

/// Most descriptors that one frame carries.
pub const DESCRIPTOR_LIMIT: usize = 8;

const HEADER: usize = 4;
const CHUNK: usize = 16 * 1024;

/// What one read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filled {
    /// Bytes.
    Data,
    /// Nothing yet (a non-blocking socket, or the time-out of a blocking one).
    Nothing,
    /// The other side is gone.
    End,
}

struct Frame {
    bytes: Vec<u8>,
    sent: usize,
    fds: Vec<OwnedFd>,
}

/// A connection with its unread and unsent frames.
pub struct Wire {
    socket: UnixStream,
    unread: Vec<u8>,
    fds: VecDeque<OwnedFd>,
    unsent: VecDeque<Frame>,
    waiting: usize,
}

impl Wire {
    /// Takes over a connected socket; whether it blocks is the caller's choice.
    #[must_use]
    pub fn new(socket: UnixStream) -> Self {
        Wire {
            socket,
            unread: Vec::new(),
            fds: VecDeque::new(),
            unsent: VecDeque::new(),
            waiting: 0,
        }
    }

    /// The socket, for time-outs and polling.
    #[must_use]
    pub fn socket(&self) -> &UnixStream {
        &self.socket
    }

    /// Bytes queued and not yet sent.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Queues one message with its descriptors.
    ///
    /// # Errors
    /// `SHM003` when the message is larger than the protocol allows.
    pub fn push(&mut self, message: &impl Serialize, fds: Vec<OwnedFd>) -> Result<()> {
        let mut bytes = vec![0; HEADER];
        serde_json::to_writer(&mut bytes, message).or_fault(|| Fault::new(MESSAGE_BROKEN))?;
        let length = bytes.len() - HEADER;
        if length > MESSAGE_LIMIT as usize || fds.len() > DESCRIPTOR_LIMIT {
            return Err(Fault::new(MESSAGE_BROKEN).because_of(format!("{length} bytes are too many")));
        }
        let head = u32::try_from(length).unwrap_or(0) | (u32::try_from(fds.len()).unwrap_or(0) << 24);
        bytes[..HEADER].copy_from_slice(&head.to_le_bytes());
        self.waiting += bytes.len();
        self.unsent.push_back(Frame { bytes, sent: 0, fds });
        Ok(())
    }

    /// Sends what the socket takes; true when nothing is left.
    ///
    /// # Errors
    /// When the other side is gone.
    pub fn flush(&mut self) -> io::Result<bool> {
        while let Some(frame) = self.unsent.front_mut() {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTOR_LIMIT))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            let borrowed: Vec<BorrowedFd<'_>> = frame.fds.iter().map(AsFd::as_fd).collect();
            if !borrowed.is_empty() {
                ancillary.push(SendAncillaryMessage::ScmRights(&borrowed));
            }
            let rest = [IoSlice::new(&frame.bytes[frame.sent..])];
            match rustix::net::sendmsg(&self.socket, &rest, &mut ancillary, SendFlags::NOSIGNAL) {
                Ok(sent) => {
                    frame.sent += sent;
                    self.waiting -= sent;
                    frame.fds.clear();
                    if frame.sent == frame.bytes.len() {
                        self.unsent.pop_front();
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    /// Reads once from the socket.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn fill(&mut self) -> io::Result<Filled> {
        let mut chunk = [0; CHUNK];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4 * DESCRIPTOR_LIMIT))];
        loop {
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            let flags = RecvFlags::CMSG_CLOEXEC;
            let mut into = [IoSliceMut::new(&mut chunk)];
            match rustix::net::recvmsg(&self.socket, &mut into, &mut ancillary, flags) {
                Ok(message) => {
                    for item in ancillary.drain() {
                        if let RecvAncillaryMessage::ScmRights(fds) = item {
                            self.fds.extend(fds);
                        }
                    }
                    if message.bytes == 0 {
                        return Ok(Filled::End);
                    }
                    self.unread.extend_from_slice(&chunk[..message.bytes]);
                    return Ok(Filled::Data);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(Filled::Nothing),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The next whole frame that has been read, as its body and its descriptors.
    ///
    /// # Errors
    /// `SHM003` when the header announces more than the protocol allows, or descriptors did not come.
    pub fn take_raw(&mut self) -> Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
        let Some(head) = self.unread.first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let head = u32::from_le_bytes(*head);
        let (length, count) = ((head & 0x00ff_ffff) as usize, (head >> 24) as usize);
        if length > MESSAGE_LIMIT as usize || count > DESCRIPTOR_LIMIT {
            return Err(Fault::new(MESSAGE_BROKEN).because_of(format!("a message of {length} bytes")));
        }
        if self.unread.len() < HEADER + length {
            return Ok(None);
        }
        if self.fds.len() < count {
            return Err(Fault::new(MESSAGE_BROKEN).because_of("descriptors are missing"));
        }
        let body = self.unread[HEADER..HEADER + length].to_vec();
        self.unread.drain(..HEADER + length);
        Ok(Some((body, self.fds.drain(..count).collect())))
    }

    /// The next whole message that has been read.
    ///
    /// # Errors
    /// `SHM003` when it breaks the protocol.
    pub fn take<T: DeserializeOwned>(&mut self) -> Result<Option<(T, Vec<OwnedFd>)>> {
        let Some((body, fds)) = self.take_raw()? else {
            return Ok(None);
        };
        let message = serde_json::from_slice(&body).or_fault(|| Fault::new(MESSAGE_BROKEN))?;
        Ok(Some((message, fds)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Answer, Call, Reply, Request};
    use model::api::GuestStats;
    use proptest::prelude::*;
    use std::io::Write;

    fn pair() -> (Wire, Wire) {
        let (a, b) = UnixStream::pair().unwrap();
        b.set_nonblocking(true).unwrap();
        (Wire::new(a), Wire::new(b))
    }

    fn receive<T: DeserializeOwned>(wire: &mut Wire) -> (T, Vec<OwnedFd>) {
        loop {
            if let Some(got) = wire.take().unwrap() {
                return got;
            }
            assert_ne!(wire.fill().unwrap(), Filled::End);
        }
    }

    #[test]
    fn every_kind_of_answer_survives_the_wire() {
        let (mut a, mut b) = pair();
        let replies = [
            Reply::Done,
            Reply::Ticket("x".into()),
            Reply::Unenforced(vec![]),
            Reply::Stats(GuestStats::default()),
            Reply::Status(crate::InstanceStatus::default()),
            Reply::Ran {
                exit: model::ExitStatus::Signal(9),
                output: "é".into(),
            },
            Reply::Fault(Fault::new(MESSAGE_BROKEN).arg("a", 1)),
        ];
        for (call, reply) in (0..).zip(replies) {
            let answer = Answer { call, reply };
            a.push(&answer, vec![]).unwrap();
            assert!(a.flush().unwrap());
            assert_eq!(receive::<Answer>(&mut b).0, answer);
        }
    }

    #[test]
    fn descriptors_come_with_the_frame_they_were_sent_with() {
        let (mut a, mut b) = pair();
        let fd = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        for (call, count) in [(1, 0), (2, 1), (3, 0), (4, 3), (5, 0)] {
            let call = Call {
                call,
                request: Request::Status,
            };
            a.push(&call, (0..count).map(|_| fd()).collect()).unwrap();
        }
        assert!(a.flush().unwrap());
        for (number, count) in [(1, 0), (2, 1), (3, 0), (4, 3), (5, 0)] {
            let (call, fds) = receive::<Call>(&mut b);
            assert_eq!((call.call, fds.len()), (number, count));
        }
    }

    #[test]
    fn a_message_beyond_the_limit_is_refused_before_it_is_read() {
        let (a, mut b) = pair();
        (&a.socket).write_all(&(MESSAGE_LIMIT + 1).to_le_bytes()).unwrap();
        assert_eq!(b.fill().unwrap(), Filled::Data);
        assert!(b.take::<Call>().unwrap_err().is(MESSAGE_BROKEN));
    }

    proptest! {
        #[test]
        fn no_bytes_from_outside_make_the_codec_panic(bytes in proptest::collection::vec(any::<u8>(), 1..2000)) {
            let (a, mut b) = pair();
            (&a.socket).write_all(&bytes).unwrap();
            while b.fill().unwrap() == Filled::Data {}
            while let Ok(Some(_)) = b.take::<Call>() {}
        }
    }
}
