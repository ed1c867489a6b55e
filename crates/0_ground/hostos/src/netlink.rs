//! The few rtnetlink(7) messages that a process needs to bring up the network of its own namespace. Blocking.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

const NLMSG_ERROR: u16 = 2;
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const REQUEST_ACK: u16 = 0x1 | 0x4;
const REPLACE: u16 = 0x100;
const CREATE: u16 = 0x400;
const IFF_UP: u32 = 1;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_F_NODAD: u8 = 2;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;

/// A connection to the kernel's network configuration, in the network namespace where it was opened.
#[derive(Debug)]
pub struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

/// A message being written: header, fixed part, attributes.
struct Message(Vec<u8>);

impl Message {
    fn new(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        let mut bytes = vec![0; 16];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(REQUEST_ACK | flags).to_ne_bytes());
        bytes.extend_from_slice(fixed);
        Message(bytes)
    }

    fn with(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    fn finish(mut self, sequence: u32) -> Vec<u8> {
        let length = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        self.0[0..4].copy_from_slice(&length.to_ne_bytes());
        self.0[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.0
    }
}

fn link_part(index: u32, up: bool) -> [u8; 16] {
    let mut part = [0; 16];
    part[4..8].copy_from_slice(&index.to_ne_bytes());
    if up {
        part[8..12].copy_from_slice(&IFF_UP.to_ne_bytes());
        part[12..16].copy_from_slice(&IFF_UP.to_ne_bytes());
    }
    part
}

fn octets(address: IpAddr) -> (u8, Vec<u8>) {
    match address {
        IpAddr::V4(address) => (2, address.octets().to_vec()),
        IpAddr::V6(address) => (10, address.octets().to_vec()),
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

impl Netlink {
    /// Opens it in the calling thread's network namespace.
    ///
    /// # Errors
    /// Those of socket(2).
    pub fn open() -> io::Result<Self> {
        let socket = net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            None,
        )?;
        Ok(Netlink { socket, sequence: 0 })
    }

    /// Sends one message and waits for its acknowledgement; returns the first answer before it, if any.
    fn call(&mut self, message: Message) -> io::Result<Option<Vec<u8>>> {
        self.sequence += 1;
        let bytes = message.finish(self.sequence);
        net::sendto(
            &self.socket,
            &bytes,
            SendFlags::empty(),
            &SocketAddrNetlink::new(0, 0),
        )?;
        let mut answer = None;
        let mut buffer = vec![0u8; 16 * 1024];
        loop {
            let (_, received) = net::recv(&self.socket, &mut buffer[..], RecvFlags::empty())?;
            let mut rest = buffer.get(..received).unwrap_or_default();
            while let (Some(length), Some(kind), Some(sequence)) =
                (word(rest, 0), half(rest, 4), word(rest, 8))
            {
                let length = length as usize;
                if length < 16 || length > rest.len() {
                    break;
                }
                if sequence == self.sequence {
                    if kind == NLMSG_ERROR {
                        let code = word(rest, 16).map_or(-libc::EPROTO, u32::cast_signed);
                        return if code == 0 {
                            Ok(answer)
                        } else {
                            Err(io::Error::from_raw_os_error(-code))
                        };
                    }
                    answer.get_or_insert_with(|| rest[16..length].to_vec());
                }
                rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            }
        }
    }

    /// The index of the link of this name.
    ///
    /// # Errors
    /// ENODEV when there is none.
    pub fn index(&mut self, name: &str) -> io::Result<u32> {
        let message = Message::new(RTM_GETLINK, 0, &link_part(0, false)).with(IFLA_IFNAME, &c_name(name));
        let answer = self.call(message)?;
        answer
            .and_then(|bytes| word(&bytes, 4))
            .ok_or_else(|| io::Error::from_raw_os_error(libc::EPROTO))
    }

    /// Brings a link up.
    ///
    /// # Errors
    /// Those of RTM_NEWLINK.
    pub fn up(&mut self, index: u32) -> io::Result<()> {
        self.call(Message::new(RTM_NEWLINK, 0, &link_part(index, true)))
            .map(drop)
    }

    /// Sets the hardware address and the largest packet (in bytes) of a link.
    ///
    /// # Errors
    /// Those of RTM_NEWLINK.
    pub fn configure(&mut self, index: u32, mac: Option<[u8; 6]>, mtu: Option<u32>) -> io::Result<()> {
        let mut message = Message::new(RTM_NEWLINK, 0, &link_part(index, false));
        if let Some(mac) = mac {
            message = message.with(IFLA_ADDRESS, &mac);
        }
        if let Some(mtu) = mtu {
            message = message.with(IFLA_MTU, &mtu.to_ne_bytes());
        }
        self.call(message).map(drop)
    }

    /// Adds an address to a link, or keeps it when it is there. IPv6 addresses are usable at once (no duplicate
    /// detection: whoever gives them knows that they are unique).
    ///
    /// # Errors
    /// Those of RTM_NEWADDR.
    pub fn add_address(&mut self, index: u32, address: IpAddr, prefix: u8) -> io::Result<()> {
        let (family, bytes) = octets(address);
        let flags = if address.is_ipv6() { IFA_F_NODAD } else { 0 };
        let mut fixed = vec![family, prefix, flags, 0];
        fixed.extend_from_slice(&index.to_ne_bytes());
        let mut message = Message::new(RTM_NEWADDR, CREATE | REPLACE, &fixed)
            .with(IFA_LOCAL, &bytes)
            .with(IFA_ADDRESS, &bytes);
        if let (IpAddr::V4(v4), 1..=30) = (address, prefix) {
            message = message.with(
                IFA_BROADCAST,
                &(v4.to_bits() | (u32::MAX >> prefix)).to_be_bytes(),
            );
        }
        self.call(message).map(drop)
    }

    /// Makes a gateway the default route of its family, replacing one of the same metric.
    ///
    /// # Errors
    /// ENETUNREACH when the gateway is on none of the link's networks.
    pub fn default_route(&mut self, index: u32, gateway: IpAddr) -> io::Result<()> {
        let (family, bytes) = octets(gateway);
        // Destination and source 0 bits long, table main, protocol static, scope universe, unicast.
        let fixed = [family, 0, 0, 0, 254, 4, 0, 1, 0, 0, 0, 0];
        let message = Message::new(RTM_NEWROUTE, CREATE | REPLACE, &fixed)
            .with(RTA_GATEWAY, &bytes)
            .with(RTA_OIF, &index.to_ne_bytes());
        self.call(message).map(drop)
    }
}

fn c_name(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.push(0);
    bytes
}
