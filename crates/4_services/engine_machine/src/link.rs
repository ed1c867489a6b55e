//! The wire of a network card: a packet socket on the guest's link, whose frames begin with a virtio-net header.
//!
//! The owner of the networks has put the link into the guest's network namespace, as for a container. The namespace has no address:
//! its kernel answers nothing, and every frame is the machine's (packet(7), PACKET_VNET_HDR).
#![allow(
    unsafe_code,
    reason = "binds a packet socket and sets its options, for which rustix has no calls"
)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use fault::{Fault, OrFault, Result};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::LINK;

/// Bytes that wait in the socket for a slow guest.
const BUFFER: i32 = 4 << 20;
/// Bytes of the header that a packet socket puts before frames (struct virtio_net_hdr).
pub const HEADER: u8 = 10;

/// The socket of a link in a network namespace. The calling thread is in its own namespace again afterwards; the process must have
/// one thread only.
///
/// # Errors
/// `MAC016` when the link is not there or the kernel refuses.
pub fn open(namespace: impl AsFd, link: &str) -> Result<OwnedFd> {
    let fault = || Fault::new(LINK).arg("link", link);
    let home = std::fs::File::open("/proc/self/ns/net").or_fault(fault)?;
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).or_fault(fault)?;
    let opened = socket(link);
    move_into_link_name_space(home.as_fd(), Some(LinkNameSpaceType::Network)).or_fault(fault)?;
    opened.or_fault(fault)
}

fn socket(link: &str) -> io::Result<OwnedFd> {
    let protocol = (libc::ETH_P_ALL as u16).to_be();
    // Protocol 0: nothing comes before the socket is bound to its link.
    // SAFETY: no pointers.
    let number = unsafe {
        libc::socket(
            libc::AF_PACKET,
            libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
            0,
        )
    };
    if number < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor that was just made, and nobody else has.
    let socket = unsafe { OwnedFd::from_raw_fd(number) };
    let index = rustix::net::netdevice::name_to_index(&socket, link)?;
    option(&socket, libc::SOL_PACKET, libc::PACKET_VNET_HDR, &1i32)?;
    option(&socket, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &1i32)?;
    for which in [libc::SO_RCVBUFFORCE, libc::SO_SNDBUFFORCE] {
        // Without the privilege the usual buffer has to do.
        let _ = option(&socket, libc::SOL_SOCKET, which, &BUFFER);
    }
    let membership = libc::packet_mreq {
        mr_ifindex: index as i32,
        mr_type: libc::PACKET_MR_PROMISC as u16,
        mr_alen: 0,
        mr_address: [0; 8],
    };
    option(
        &socket,
        libc::SOL_PACKET,
        libc::PACKET_ADD_MEMBERSHIP,
        &membership,
    )?;
    // SAFETY: an all-zero sockaddr_ll is a valid value of plain data.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol;
    address.sll_ifindex = index as i32;
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the address is a sockaddr_ll of this length.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    if bound < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(socket)
}

fn option<T>(socket: &OwnedFd, level: i32, name: i32, value: &T) -> io::Result<()> {
    let length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the value is plain data of this length, and is only read.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const *value).cast(),
            length,
        )
    };
    if set < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
