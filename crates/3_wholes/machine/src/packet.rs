//! A packet socket as the host's side of a network adapter: frames of the guest's link, headed by the kernel's virtio-net header
//! (packet(7), `PACKET_VNET_HDR`), which lacks the last field of virtio's own.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use devices::virtio::net::{Interface, NetControl, NetQueue};
use rustix::fs::OFlags;

/// Bytes of virtio's header: struct virtio_net_hdr_v1.
const HEADER: usize = 12;
/// Bytes of the kernel's header: struct virtio_net_hdr.
const SHORT: usize = 10;

/// One packet socket.
pub struct Packet(File);

struct Nothing;

impl NetControl for Nothing {}

impl Packet {
    /// An interface with one queue over a bound packet socket.
    ///
    /// # Errors
    /// When the socket cannot be made non-blocking.
    pub fn interface(socket: OwnedFd) -> io::Result<Interface> {
        let flags = rustix::fs::fcntl_getfl(&socket)?;
        rustix::fs::fcntl_setfl(&socket, flags | OFlags::NONBLOCK)?;
        Ok(Interface {
            queues: vec![Box::new(Packet(socket.into()))],
            control: Arc::new(Nothing),
            has_offloads: true,
        })
    }
}

impl NetQueue for Packet {
    fn send(&mut self, packet: &[u8]) -> io::Result<()> {
        let Some((header, frame)) = packet.split_at_checked(HEADER) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let parts = [IoSlice::new(&header[..SHORT]), IoSlice::new(frame)];
        match self.0.write_vectored(&parts) {
            // The queue of the link is full: as on a wire, the frame is lost.
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => Ok(()),
            done => done.map(drop),
        }
    }

    fn receive(&mut self, packet: &mut [u8]) -> io::Result<usize> {
        let Some((header, frame)) = packet.split_at_mut_checked(HEADER) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let (short, rest) = header.split_at_mut(SHORT);
        rest.copy_from_slice(&1u16.to_le_bytes());
        let mut parts = [IoSliceMut::new(short), IoSliceMut::new(frame)];
        let count = self.0.read_vectored(&mut parts)?;
        match count.checked_sub(SHORT) {
            Some(frame) => Ok(HEADER + frame),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn waker(&self) -> Option<BorrowedFd<'_>> {
        Some(self.0.as_fd())
    }
}
