//! Links, addresses and routes of one network namespace.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use fault::{Fault, Result};
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope,
};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::netlink::Netlink;
use crate::{Mac, NETLINK_REFUSED};

/// A link as the kernel tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Its number in its namespace.
    pub index: u32,
    /// Its name, at most 15 bytes.
    pub name: String,
    /// `bridge`, `veth`…; empty for hardware and loopback.
    pub kind: String,
    /// Administratively up.
    pub up: bool,
    /// The loopback link.
    pub loopback: bool,
    /// Hardware address.
    pub mac: Option<Mac>,
    /// Largest packet, in bytes.
    pub mtu: u32,
    /// Index of the bridge that it is a port of.
    pub master: Option<u32>,
    /// Free text beside the name (ip link set … alias).
    pub alias: Option<String>,
}

/// An address of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// Index of the link.
    pub link: u32,
    /// The address.
    pub ip: IpAddr,
    /// Length of its prefix.
    pub prefix_len: u8,
}

/// A unicast route of any table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// First address of the destination; unspecified for a default route.
    pub to: IpAddr,
    /// Length of the destination prefix; 0 for a default route.
    pub prefix_len: u8,
    /// Indexes of the links it leads out of.
    pub links: Vec<u32>,
    /// The next hop.
    pub via: Option<IpAddr>,
    /// Smaller is preferred.
    pub metric: u32,
    /// Learnt from a router advertisement.
    pub from_ra: bool,
}

/// Both ends of a virtual cable.
#[derive(Clone, Copy, Debug)]
pub struct Veth<'a> {
    /// Name of the near end, here.
    pub name: &'a str,
    /// Alias of the near end.
    pub alias: &'a str,
    /// Index of the bridge that the near end becomes a port of.
    pub master: u32,
    /// Largest packet, in bytes, of both ends.
    pub mtu: u32,
    /// Network namespace of the far end.
    pub netns: BorrowedFd<'a>,
    /// Name of the far end, there.
    pub peer: &'a str,
    /// Hardware address of the far end.
    pub peer_mac: Mac,
}

/// Links, addresses and routes of the network namespace in which it was opened.
#[derive(Debug)]
pub struct Links(Netlink);

fn refused(what: &str, on: impl std::fmt::Display) -> impl FnOnce(io::Error) -> Fault {
    let fault = Fault::new(NETLINK_REFUSED).arg("what", what).arg("link", on);
    move |error| fault.because(error)
}

impl Links {
    /// Opens a socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// `NET001` when the kernel offers no rtnetlink.
    pub fn open() -> Result<Self> {
        Ok(Links(Netlink::open().map_err(refused("open", "rtnetlink"))?))
    }

    /// Every link.
    ///
    /// # Errors
    /// `NET001`.
    pub fn list(&mut self) -> Result<Vec<Link>> {
        let ask = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let answers = self.0.dump(ask).map_err(refused("list", "links"))?;
        let read = |message| match message {
            RouteNetlinkMessage::NewLink(link) => Some(read_link(link)),
            _ => None,
        };
        Ok(answers.into_iter().filter_map(read).collect())
    }

    /// The link of this name, when there is one.
    ///
    /// # Errors
    /// `NET001`.
    pub fn find(&mut self, name: &str) -> Result<Option<Link>> {
        let mut ask = LinkMessage::default();
        ask.attributes.push(LinkAttribute::IfName(name.to_owned()));
        match self.0.get(RouteNetlinkMessage::GetLink(ask)) {
            Ok(Some(RouteNetlinkMessage::NewLink(link))) => Ok(Some(read_link(link))),
            Ok(_) => Ok(None),
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(refused("find", name)(error)),
        }
    }

    /// Makes a bridge with a fixed hardware address, still down.
    ///
    /// # Errors
    /// `NET001`, also when the name is taken.
    pub fn add_bridge(&mut self, name: &str, mac: Mac, mtu: u32, alias: &str) -> Result<Link> {
        let mut message = LinkMessage::default();
        message.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::Mtu(mtu),
            LinkAttribute::Address(mac.0.to_vec()),
            LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]),
        ];
        self.0
            .change(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL)
            .map_err(refused("add bridge", name))?;
        let link = self.found(name)?;
        self.set(&link, vec![LinkAttribute::IfAlias(alias.to_owned())], None)?;
        Ok(link)
    }

    /// Makes a virtual cable in one step: near end up and a port of its bridge, far end down in its namespace.
    ///
    /// # Errors
    /// `NET001`, also when a name is taken.
    pub fn add_veth(&mut self, veth: &Veth) -> Result<()> {
        let mut peer = LinkMessage::default();
        peer.attributes = vec![
            LinkAttribute::IfName(veth.peer.to_owned()),
            LinkAttribute::Mtu(veth.mtu),
            LinkAttribute::Address(veth.peer_mac.0.to_vec()),
            LinkAttribute::NetNsFd(veth.netns.as_raw_fd()),
        ];
        let mut message = LinkMessage::default();
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        message.attributes = vec![
            LinkAttribute::IfName(veth.name.to_owned()),
            LinkAttribute::Mtu(veth.mtu),
            LinkAttribute::Controller(veth.master),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Veth),
                LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
            ]),
        ];
        self.0
            .change(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL)
            .map_err(refused("add veth", veth.name))?;
        let link = self.found(veth.name)?;
        self.set(&link, vec![LinkAttribute::IfAlias(veth.alias.to_owned())], None)
    }

    /// Brings a link up or down.
    ///
    /// # Errors
    /// `NET001`.
    pub fn set_up(&mut self, link: &Link, up: bool) -> Result<()> {
        self.set(link, Vec::new(), Some(up))
    }

    /// Sets the largest packet, in bytes.
    ///
    /// # Errors
    /// `NET001`.
    pub fn set_mtu(&mut self, link: &Link, mtu: u32) -> Result<()> {
        self.set(link, vec![LinkAttribute::Mtu(mtu)], None)
    }

    /// Makes a link a port of the bridge with this index, or of none.
    ///
    /// # Errors
    /// `NET001`.
    pub fn set_master(&mut self, link: &Link, master: Option<u32>) -> Result<()> {
        self.set(link, vec![LinkAttribute::Controller(master.unwrap_or(0))], None)
    }

    /// Deletes a link; one that is gone already is no error.
    ///
    /// # Errors
    /// `NET001`.
    pub fn delete(&mut self, link: &Link) -> Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = link.index;
        match self.0.change(RouteNetlinkMessage::DelLink(message), 0) {
            Err(error) if !is_gone(&error) => Err(refused("delete", &link.name)(error)),
            _ => Ok(()),
        }
    }

    /// Every address.
    ///
    /// # Errors
    /// `NET001`.
    pub fn addresses(&mut self) -> Result<Vec<Address>> {
        let ask = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let answers = self.0.dump(ask).map_err(refused("list", "addresses"))?;
        let read = |message| match message {
            RouteNetlinkMessage::NewAddress(address) => read_address(&address),
            _ => None,
        };
        Ok(answers.into_iter().filter_map(read).collect())
    }

    /// Gives a link an address, usable at once (no duplicate address detection); one that it has is no error.
    ///
    /// # Errors
    /// `NET001`.
    pub fn add_address(&mut self, link: &Link, ip: IpAddr, prefix_len: u8) -> Result<()> {
        let mut message = AddressMessage::default();
        message.header.index = link.index;
        message.header.prefix_len = prefix_len;
        message.attributes = vec![AddressAttribute::Local(ip), AddressAttribute::Address(ip)];
        match ip {
            IpAddr::V4(v4) => {
                message.header.family = AddressFamily::Inet;
                let host = u32::MAX.checked_shr(prefix_len.into()).unwrap_or(0);
                message
                    .attributes
                    .push(AddressAttribute::Broadcast(Ipv4Addr::from_bits(
                        v4.to_bits() | host,
                    )));
            }
            IpAddr::V6(v6) => {
                message.header.family = AddressFamily::Inet6;
                message.header.flags = AddressHeaderFlags::Nodad;
                message
                    .attributes
                    .push(AddressAttribute::Flags(AddressFlags::Nodad));
                if v6.is_unicast_link_local() {
                    message.header.scope = AddressScope::Link;
                }
            }
        }
        self.0
            .change(
                RouteNetlinkMessage::NewAddress(message),
                NLM_F_CREATE | NLM_F_REPLACE,
            )
            .map_err(refused(
                "add address",
                format_args!("{} {ip}/{prefix_len}", link.name),
            ))
    }

    /// Takes an address from a link.
    ///
    /// # Errors
    /// `NET001`.
    pub fn delete_address(&mut self, address: &Address) -> Result<()> {
        let mut message = AddressMessage::default();
        message.header.index = address.link;
        message.header.prefix_len = address.prefix_len;
        message.header.family = family(address.ip);
        message.attributes = vec![AddressAttribute::Local(address.ip)];
        self.0
            .change(RouteNetlinkMessage::DelAddress(message), 0)
            .map_err(refused("delete address", address.ip))
    }

    /// Every unicast route of every table.
    ///
    /// # Errors
    /// `NET001`.
    pub fn routes(&mut self) -> Result<Vec<Route>> {
        let mut all = Vec::new();
        for address_family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut ask = RouteMessage::default();
            ask.header.address_family = address_family;
            // A kernel without IPv6 answers with an error; it has no such routes.
            let answers = match self.0.dump(RouteNetlinkMessage::GetRoute(ask)) {
                Ok(answers) => answers,
                Err(_) if address_family == AddressFamily::Inet6 => continue,
                Err(error) => return Err(refused("list", "routes")(error)),
            };
            all.extend(answers.into_iter().filter_map(|message| match message {
                RouteNetlinkMessage::NewRoute(route) => read_route(&route),
                _ => None,
            }));
        }
        Ok(all)
    }

    /// Adds or replaces a route in the main table.
    ///
    /// # Errors
    /// `NET001`.
    pub fn add_route(&mut self, link: &Link, to: IpAddr, prefix_len: u8, via: Option<IpAddr>) -> Result<()> {
        let mut message = RouteMessage::default();
        message.header = RouteHeader {
            address_family: family(to),
            destination_prefix_length: prefix_len,
            table: RouteHeader::RT_TABLE_MAIN,
            protocol: RouteProtocol::Static,
            scope: if via.is_some() {
                RouteScope::Universe
            } else {
                RouteScope::Link
            },
            kind: RouteType::Unicast,
            ..RouteHeader::default()
        };
        if prefix_len > 0 {
            message.attributes.push(RouteAttribute::Destination(to.into()));
        }
        message
            .attributes
            .extend(via.map(|via| RouteAttribute::Gateway(via.into())));
        message.attributes.push(RouteAttribute::Oif(link.index));
        self.0
            .change(
                RouteNetlinkMessage::NewRoute(message),
                NLM_F_CREATE | NLM_F_REPLACE,
            )
            .map_err(refused(
                "add route",
                format_args!("{} {to}/{prefix_len}", link.name),
            ))
    }

    /// Tells the kernel the hardware address behind an IP address, for good.
    ///
    /// # Errors
    /// `NET001`.
    pub fn add_neighbour(&mut self, link: &Link, ip: IpAddr, mac: Mac) -> Result<()> {
        let mut message = NeighbourMessage::default();
        message.header.family = family(ip);
        message.header.ifindex = link.index;
        message.header.state = NeighbourState::Permanent;
        let address = match ip {
            IpAddr::V4(v4) => NeighbourAddress::Inet(v4),
            IpAddr::V6(v6) => NeighbourAddress::Inet6(v6),
        };
        message.attributes = vec![
            NeighbourAttribute::Destination(address),
            NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()),
        ];
        self.0
            .change(
                RouteNetlinkMessage::NewNeighbour(message),
                NLM_F_CREATE | NLM_F_REPLACE,
            )
            .map_err(refused("add neighbour", ip))
    }

    fn found(&mut self, name: &str) -> Result<Link> {
        self.find(name)?
            .ok_or_else(|| Fault::new(NETLINK_REFUSED).arg("what", "find").arg("link", name))
    }

    fn set(&mut self, link: &Link, attributes: Vec<LinkAttribute>, up: Option<bool>) -> Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = link.index;
        message.attributes = attributes;
        if let Some(up) = up {
            message.header.change_mask = LinkFlags::Up;
            if up {
                message.header.flags = LinkFlags::Up;
            }
        }
        self.0
            .change(RouteNetlinkMessage::SetLink(message), 0)
            .map_err(refused("set", &link.name))
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(code) if code == rustix::io::Errno::NODEV.raw_os_error() || code == rustix::io::Errno::NOENT.raw_os_error())
}

fn family(ip: IpAddr) -> AddressFamily {
    match ip {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

fn read_link(message: LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        up: message.header.flags.contains(LinkFlags::Up),
        loopback: message.header.flags.contains(LinkFlags::Loopback),
        ..Link::default()
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::Controller(master) => link.master = Some(master),
            LinkAttribute::IfAlias(alias) => link.alias = Some(alias),
            LinkAttribute::Address(bytes) => link.mac = bytes.try_into().ok().map(Mac),
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    if let LinkInfo::Kind(kind) = info {
                        link.kind = kind.to_string();
                    }
                }
            }
            _ => {}
        }
    }
    link
}

fn read_address(message: &AddressMessage) -> Option<Address> {
    let mut ip = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(local) => ip = Some(*local),
            AddressAttribute::Address(address) if ip.is_none() => ip = Some(*address),
            _ => {}
        }
    }
    Some(Address {
        link: message.header.index,
        ip: ip?,
        prefix_len: message.header.prefix_len,
    })
}

fn read_route(message: &RouteMessage) -> Option<Route> {
    if message.header.kind != RouteType::Unicast {
        return None;
    }
    let v4 = message.header.address_family == AddressFamily::Inet;
    let mut route = Route {
        to: if v4 {
            Ipv4Addr::UNSPECIFIED.into()
        } else {
            Ipv6Addr::UNSPECIFIED.into()
        },
        prefix_len: message.header.destination_prefix_length,
        links: Vec::new(),
        via: None,
        metric: 0,
        from_ra: message.header.protocol == RouteProtocol::Ra,
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(to) => route.to = plain(to)?,
            RouteAttribute::Gateway(via) => route.via = plain(via),
            RouteAttribute::Oif(index) => route.links.push(*index),
            RouteAttribute::Priority(metric) => route.metric = *metric,
            RouteAttribute::MultiPath(hops) => {
                route.links.extend(hops.iter().map(|hop| hop.interface_index));
            }
            _ => {}
        }
    }
    Some(route)
}

fn plain(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some(IpAddr::V4(*v4)),
        RouteAddress::Inet6(v6) => Some(IpAddr::V6(*v6)),
        _ => None,
    }
}
