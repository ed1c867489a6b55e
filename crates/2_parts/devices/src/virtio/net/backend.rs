//! The host's side of a network adapter: queues of packets.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;

/// Bytes of the header before each packet (`virtio_net_hdr_v1`, section 5.1.6).
pub const HEADER: usize = 12;

/// One queue of packets.
pub trait NetQueue: Send {
    /// Sends a packet; it begins with its header.
    ///
    /// # Errors
    /// `WouldBlock` when it must wait; other errors lose the packet.
    fn send(&mut self, packet: &[u8]) -> io::Result<()>;

    /// Receives a packet with its header; tells its length.
    ///
    /// # Errors
    /// `WouldBlock` when there is none.
    fn receive(&mut self, packet: &mut [u8]) -> io::Result<usize>;

    /// Is readable when a packet has come, writable when one can be sent.
    fn waker(&self) -> Option<BorrowedFd<'_>>;
}

/// What concerns all queues of an interface.
pub trait NetControl: Send + Sync {
    /// Which offloads packets for the guest may need: feature bits `GUEST_CSUM`, `GUEST_TSO4`, `GUEST_TSO6`.
    fn set_offloads(&self, _offloads: u64) {}

    /// Packets for the guest come by the first so many queues.
    fn set_pairs(&self, _pairs: u16) {}
}

/// A network interface of the host.
pub struct Interface {
    /// Its queues.
    pub queues: Vec<Box<dyn NetQueue>>,
    /// What concerns them all.
    pub control: Arc<dyn NetControl>,
    /// Whether packets may be larger than the wire's and without checksums.
    pub has_offloads: bool,
}

/// Packets as datagrams of a socket: Ethernet frames without header, no offloads.
pub struct Datagrams(UnixDatagram);

impl Datagrams {
    /// An interface with one queue over a connected socket.
    ///
    /// # Errors
    /// When the socket cannot be made non-blocking.
    pub fn interface(socket: UnixDatagram) -> io::Result<Interface> {
        struct Nothing;
        impl NetControl for Nothing {}
        socket.set_nonblocking(true)?;
        Ok(Interface {
            queues: vec![Box::new(Datagrams(socket))],
            control: Arc::new(Nothing),
            has_offloads: false,
        })
    }
}

impl NetQueue for Datagrams {
    fn send(&mut self, packet: &[u8]) -> io::Result<()> {
        self.0.send(packet.get(HEADER..).unwrap_or(&[])).map(drop)
    }

    fn receive(&mut self, packet: &mut [u8]) -> io::Result<usize> {
        let (header, frame) = packet.split_at_mut(HEADER);
        header.fill(0);
        match self.0.recv(frame)? {
            // A peer that is gone.
            0 => Err(io::ErrorKind::WouldBlock.into()),
            len => Ok(HEADER + len),
        }
    }

    fn waker(&self) -> Option<BorrowedFd<'_>> {
        Some(self.0.as_fd())
    }
}
