//! The sockets that the network process works on, bound by the daemon, because binding takes privileges and tells at
//! once when a port is taken.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::OwnedFd;

use fault::{Fault, OrFault, Result};
use link::Link;
use model::Transport;
use socket2::{Domain, Protocol, Socket, Type};

use crate::record::Stored;
use crate::wire::{Listen, Role};
use crate::{PORT_TAKEN, PUBLISH_ADDRESS, SERVICE_PORT_TAKEN, SOCKET_REFUSED, holder};

/// The gateway's link-local address, from which it advertises itself (RFC 4861 wants one).
pub(crate) const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
const BACKLOG: i32 = 1024;

/// The roles of a network itself, in order of importance.
pub(crate) fn service_roles(v6: bool) -> Vec<Role> {
    let mut roles = vec![Role::DnsUdp { v6: false }, Role::DnsTcp { v6: false }, Role::Dhcp];
    if v6 {
        roles.extend([Role::DnsUdp { v6: true }, Role::DnsTcp { v6: true }, Role::Router]);
    }
    roles
}

/// Binds the socket of a service role.
pub(crate) fn bind_service(role: Role, stored: &Stored, bridge: &Link) -> Result<OwnedFd> {
    let (port, transport, bound) = match role {
        Role::Dhcp => (67, Transport::Udp, dhcp(&bridge.name)),
        Role::Router => return router(bridge).or_fault(|| Fault::new(SOCKET_REFUSED).arg("what", "ICMPv6")),
        Role::DnsUdp { v6 } => (53, Transport::Udp, dns(stored, v6, Transport::Udp)),
        Role::DnsTcp { v6 } => (53, Transport::Tcp, dns(stored, v6, Transport::Tcp)),
        Role::Forward { at } => return bind_forward(at),
    };
    bound.map_err(|error| {
        let holder = holder::of_port(port, transport);
        Fault::new(SERVICE_PORT_TAKEN)
            .arg("port", port)
            .arg("transport", word(transport))
            .arg("holder", holder.unwrap_or_else(|| "?".to_owned()))
            .because(error)
    })
}

pub(crate) fn word(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
    }
}

fn dhcp(bridge: &str) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    socket.bind_device(Some(bridge.as_bytes()))?;
    socket.set_broadcast(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, link::dhcp::SERVER_PORT)).into())?;
    Ok(socket.into())
}

fn router(bridge: &Link) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
    socket.bind_device(Some(bridge.name.as_bytes()))?;
    socket.set_multicast_hops_v6(link::ra::HOP_LIMIT.into())?;
    socket.set_unicast_hops_v6(link::ra::HOP_LIMIT.into())?;
    socket.set_multicast_loop_v6(false)?;
    socket.set_multicast_if_v6(bridge.index)?;
    socket.join_multicast_v6(&ALL_ROUTERS, bridge.index)?;
    socket.bind(&SocketAddr::V6(SocketAddrV6::new(LINK_LOCAL, 0, 0, bridge.index)).into())?;
    Ok(socket.into())
}

fn dns(stored: &Stored, v6: bool, transport: Transport) -> io::Result<OwnedFd> {
    let ip: IpAddr = if v6 {
        stored.prefix6.gateway().into()
    } else {
        stored.subnet.gateway().into()
    };
    listen(SocketAddr::new(ip, 53), transport, false)
}

fn listen(at: SocketAddr, transport: Transport, both_families: bool) -> io::Result<OwnedFd> {
    let (kind, protocol) = match transport {
        Transport::Tcp => (Type::STREAM, Protocol::TCP),
        Transport::Udp => (Type::DGRAM, Protocol::UDP),
    };
    let socket = Socket::new(Domain::for_address(at), kind, Some(protocol))?;
    if at.is_ipv6() {
        socket.set_only_v6(!both_families)?;
    }
    if transport == Transport::Tcp {
        socket.set_reuse_address(true)?;
    }
    socket.bind(&at.into())?;
    if transport == Transport::Tcp {
        socket.listen(BACKLOG)?;
    }
    Ok(socket.into())
}

/// Binds the socket of a published port, which also keeps everybody else off it.
pub(crate) fn bind_forward(at: Listen) -> Result<OwnedFd> {
    let any = |ip: IpAddr| SocketAddr::new(ip, at.port);
    let bound = match at.ip {
        Some(ip) => listen(any(ip), at.transport, false),
        None => match listen(any(Ipv6Addr::UNSPECIFIED.into()), at.transport, true) {
            // A host without IPv6.
            Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {
                listen(any(Ipv4Addr::UNSPECIFIED.into()), at.transport, false)
            }
            other => other,
        },
    };
    bound.map_err(|error| match error.kind() {
        io::ErrorKind::AddrNotAvailable => {
            let ip = at.ip.map_or_else(String::new, |ip| ip.to_string());
            Fault::new(PUBLISH_ADDRESS).arg("ip", ip)
        }
        io::ErrorKind::AddrInUse => taken(at, Holder::Process(holder::of_port(at.port, at.transport))),
        _ => Fault::new(SOCKET_REFUSED)
            .arg("what", format!("{}/{}", at.port, word(at.transport)))
            .because(error),
    })
}

/// Who has a port.
pub(crate) enum Holder {
    /// A guest of ours, by name.
    Guest(String),
    /// A process of the host, when it was found.
    Process(Option<String>),
}

/// The fault of a port that somebody has.
pub(crate) fn taken(at: Listen, holder: Holder) -> Fault {
    let (kind, holder) = match holder {
        Holder::Guest(name) => ("guest", name),
        Holder::Process(Some(process)) => ("process", process),
        Holder::Process(None) => ("unknown", String::new()),
    };
    Fault::new(PORT_TAKEN)
        .arg("port", at.port)
        .arg("transport", word(at.transport))
        .arg("kind", kind)
        .arg("holder", holder)
        .arg("other", if at.port < u16::MAX { at.port + 1 } else { 8000 })
}
