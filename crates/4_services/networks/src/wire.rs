//! What daemon and network process say to each other: frames of JSON on a Unix stream, sockets beside them.
//!
//! Each message is a little-endian `u32` length and that many bytes of JSON; descriptors ride on its first byte
//! (SCM_RIGHTS, at most [`FDS`] a message). The process greets with [`Hello`]; then every [`Request`] has one
//! [`Answer`]. Fields and variants are only added; a request that is not known is answered with a fault.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use fault::Fault;
use link::{Mac, Prefix6, Subnet4};
use model::Transport;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Version of these messages.
pub(crate) const PROTOCOL: u32 = 1;
/// Most descriptors on one message.
pub(crate) const FDS: usize = 64;
/// Longest message, in bytes: a thousand guests fit fifty times.
const LONGEST: usize = 16 << 20;

/// First message of the network process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub protocol: u32,
    pub version: String,
    pub network: String,
    pub pid: u32,
    /// The sockets that it holds.
    pub roles: Vec<Role>,
}

/// What the daemon wants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "do")]
pub(crate) enum Request {
    /// Take these sockets, in the order of the descriptors; one held in the same role is closed.
    Hand { roles: Vec<Role> },
    /// Serve this from now on. Forwards that it does not name are closed.
    Configure { config: Box<Config> },
    /// End.
    Stop,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Answer {
    Done,
    Fault(Fault),
}

/// What a socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "role")]
pub(crate) enum Role {
    Dhcp,
    Router,
    DnsUdp { v6: bool },
    DnsTcp { v6: bool },
    Forward { at: Listen },
}

/// Where a published port listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Listen {
    pub ip: Option<IpAddr>,
    pub port: u16,
    pub transport: Transport,
}

/// Everything that a network process serves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Config {
    pub domain: String,
    pub mac: Mac,
    pub mtu: u32,
    pub subnet: Subnet4,
    pub prefix6: Prefix6,
    /// Name servers of the host, best first.
    pub upstreams: Vec<SocketAddr>,
    pub guests: Vec<GuestEntry>,
    pub forwards: Vec<ForwardEntry>,
}

/// A guest's card as DHCP and DNS need it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct GuestEntry {
    pub name: String,
    pub mac: Mac,
    pub ip: Ipv4Addr,
    pub ip6: Ipv6Addr,
}

/// A published port.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ForwardEntry {
    pub at: Listen,
    pub to4: Ipv4Addr,
    pub to6: Ipv6Addr,
    pub port: u16,
}

/// Bytes and descriptors that have come and are not yet a whole message.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    bytes: Vec<u8>,
    fds: VecDeque<OwnedFd>,
}

impl Inbox {
    /// Receives once; `Ok(false)` at the end of the stream.
    pub(crate) fn receive(&mut self, socket: BorrowedFd) -> io::Result<bool> {
        let mut chunk = [0; 16384];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC;
        let got = rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut chunk)], &mut ancillary, flags)?;
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                self.fds.extend(fds);
            }
        }
        self.bytes.extend(&chunk[..got.bytes]);
        Ok(got.bytes > 0)
    }

    /// Takes a whole message when there is one.
    pub(crate) fn take<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let Some(head) = self.bytes.first_chunk::<4>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*head) as usize;
        if length > LONGEST {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "message too long"));
        }
        let Some(body) = self.bytes.get(4..4 + length) else {
            return Ok(None);
        };
        let message = serde_json::from_slice(body);
        self.bytes.drain(..4 + length);
        message
            .map(Some)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    /// Takes the descriptors that came with a message.
    pub(crate) fn take_fds(&mut self, count: usize) -> Vec<OwnedFd> {
        self.fds.drain(..count.min(self.fds.len())).collect()
    }
}

/// A message as bytes.
pub(crate) fn frame<T: Serialize>(message: &T) -> io::Result<Vec<u8>> {
    let body = serde_json::to_vec(message)?;
    let length = u32::try_from(body.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    let mut out = length.to_le_bytes().to_vec();
    out.extend(body);
    Ok(out)
}

/// Sends a message with descriptors on a blocking socket.
pub(crate) fn send<T: Serialize>(socket: impl AsFd, message: &T, fds: &[BorrowedFd]) -> io::Result<()> {
    let bytes = frame(message)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "too many descriptors",
        ));
    }
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let sent = rustix::net::sendmsg(
            &socket,
            &[IoSlice::new(rest)],
            &mut ancillary,
            SendFlags::NOSIGNAL,
        )?;
        rest = &rest[sent..];
        ancillary.clear();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn messages_and_their_descriptors_arrive_in_order() {
        let (near, far) = UnixStream::pair().unwrap();
        let roles = vec![Role::Dhcp, Role::DnsUdp { v6: true }];
        let null = std::fs::File::open("/dev/null").unwrap();
        send(
            &near,
            &Request::Hand { roles: roles.clone() },
            &[null.as_fd(), null.as_fd()],
        )
        .unwrap();
        send(&near, &Request::Stop, &[]).unwrap();
        drop(near);
        let mut inbox = Inbox::default();
        while inbox.receive(far.as_fd()).unwrap() {}
        assert_eq!(inbox.take::<Request>().unwrap(), Some(Request::Hand { roles }));
        assert_eq!(inbox.take_fds(2).len(), 2);
        assert_eq!(inbox.take::<Request>().unwrap(), Some(Request::Stop));
        assert_eq!(inbox.take::<Request>().unwrap(), None);
    }
}
