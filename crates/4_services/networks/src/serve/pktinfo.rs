//! Datagrams with the address of this host that they came to, so that the answer comes from there (ipv6(7)).
#![allow(unsafe_code)] // Ancillary data of recvmsg(2) and sendmsg(2), for which the socket crates have no safe calls.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::AsRawFd as _;

use tokio::io::Interest;
use tokio::net::UdpSocket;

/// Room for one `in6_pktinfo`, aligned as control messages must be.
#[repr(C, align(8))]
struct Control([u8; 64]);

/// Asks the kernel to tell addresses of arrival. Only of use on sockets of IPv6, which take IPv4 as mapped addresses.
pub(super) fn enable(socket: &UdpSocket) {
    let on: libc::c_int = 1;
    // SAFETY: the pointer is to a c_int that outlives the call, and its size is given. A socket of another family
    // answers with an error; it is bound to one address and needs no telling.
    unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IPV6,
            libc::IPV6_RECVPKTINFO,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
}

/// Receives a datagram: its length, who sent it, and which address of ours it came to.
pub(super) async fn receive(
    socket: &UdpSocket,
    buffer: &mut [u8],
) -> io::Result<(usize, SocketAddr, Option<Ipv6Addr>)> {
    if socket.local_addr()?.is_ipv4() {
        return socket
            .recv_from(buffer)
            .await
            .map(|(length, from)| (length, from, None));
    }
    socket
        .async_io(Interest::READABLE, || receive_now(socket, buffer))
        .await
}

fn receive_now(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr, Option<Ipv6Addr>)> {
    let mut from = MaybeUninit::<libc::sockaddr_in6>::zeroed();
    let mut control = Control([0; 64]);
    let mut part = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: a msghdr of zeroes is valid: no name, no parts, no control data.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_name = from.as_mut_ptr().cast();
    message.msg_namelen = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = control.0.len() as _;
    // SAFETY: every pointer in the message is to a local or to the caller's buffer, with its true length.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: it was zeroed, and all bit patterns are valid for it.
    let from = unsafe { from.assume_init() };
    let ip = Ipv6Addr::from(from.sin6_addr.s6_addr);
    let from_address = SocketAddrV6::new(ip, u16::from_be(from.sin6_port), 0, from.sin6_scope_id);
    let mut to = None;
    // SAFETY: the message is as the kernel left it, and its control buffer lives.
    let mut head = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    while !head.is_null() {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR return pointers to whole headers inside the control buffer.
        let header = unsafe { head.read() };
        let whole = header.cmsg_len as usize >= size_of::<libc::cmsghdr>() + size_of::<libc::in6_pktinfo>();
        if header.cmsg_level == libc::IPPROTO_IPV6 && header.cmsg_type == libc::IPV6_PKTINFO && whole {
            // SAFETY: the data is at least as long as an in6_pktinfo, which may be read unaligned.
            let info = unsafe { libc::CMSG_DATA(head).cast::<libc::in6_pktinfo>().read_unaligned() };
            to = Some(Ipv6Addr::from(info.ipi6_addr.s6_addr));
        }
        // SAFETY: as for CMSG_FIRSTHDR.
        head = unsafe { libc::CMSG_NXTHDR(&raw const message, head) };
    }
    Ok((length, from_address.into(), to))
}

/// Sends a datagram from one of our addresses.
pub(super) fn send(
    socket: &UdpSocket,
    bytes: &[u8],
    to: SocketAddr,
    from: Option<Ipv6Addr>,
) -> io::Result<()> {
    let (SocketAddr::V6(to6), Some(from)) = (to, from) else {
        return socket.try_send_to(bytes, to).map(|_| ());
    };
    socket.try_io(Interest::WRITABLE, || send_now(socket, bytes, to6, from))
}

fn send_now(socket: &UdpSocket, bytes: &[u8], to: SocketAddrV6, from: Ipv6Addr) -> io::Result<()> {
    let mut name = libc::sockaddr_in6 {
        sin6_family: libc::AF_INET6 as libc::sa_family_t,
        sin6_port: to.port().to_be(),
        sin6_flowinfo: 0,
        sin6_addr: libc::in6_addr {
            s6_addr: to.ip().octets(),
        },
        sin6_scope_id: to.scope_id(),
    };
    let info = libc::in6_pktinfo {
        ipi6_addr: libc::in6_addr {
            s6_addr: from.octets(),
        },
        ipi6_ifindex: 0,
    };
    let mut control = Control([0; 64]);
    let mut part = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: a msghdr of zeroes is valid.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_name = (&raw mut name).cast();
    message.msg_namelen = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    let data = size_of::<libc::in6_pktinfo>() as libc::c_uint;
    // SAFETY: both only compute lengths; 64 bytes hold one header and an in6_pktinfo on every platform.
    let (space, length) = unsafe { (libc::CMSG_SPACE(data), libc::CMSG_LEN(data)) };
    message.msg_controllen = space as _;
    // SAFETY: the control buffer is aligned and long enough for the header that is written and the data behind it.
    unsafe {
        let head = libc::CMSG_FIRSTHDR(&raw const message);
        (*head).cmsg_level = libc::IPPROTO_IPV6;
        (*head).cmsg_type = libc::IPV6_PKTINFO;
        (*head).cmsg_len = length as _;
        libc::CMSG_DATA(head)
            .cast::<libc::in6_pktinfo>()
            .write_unaligned(info);
    }
    // SAFETY: every pointer in the message is to a local or to the caller's bytes, which sendmsg only reads.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) };
    if sent < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
