//! DHCPv4 messages (RFC 2131, RFC 2132): what a server reads of a client's and writes to it, and the reverse.

use std::net::Ipv4Addr;

use crate::Mac;

/// Port of servers.
pub const SERVER_PORT: u16 = 67;
/// Port of clients.
pub const CLIENT_PORT: u16 = 68;

const MAGIC: [u8; 4] = [99, 130, 83, 99];
const FIXED: usize = 236;
/// Smallest message that every client takes (RFC 1542 §2.1).
const SMALLEST: usize = 300;

/// Kind of a message (option 53).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A client looks for servers.
    Discover = 1,
    /// A server offers a lease.
    Offer = 2,
    /// A client takes an offer, renews, or confirms what it had.
    Request = 3,
    /// A client found the address in use.
    Decline = 4,
    /// A server grants.
    Ack = 5,
    /// A server refuses.
    Nak = 6,
    /// A client gives its lease back.
    Release = 7,
    /// A client that has an address asks for the rest.
    Inform = 8,
}

impl Kind {
    fn read(byte: u8) -> Option<Self> {
        use Kind::*;
        [Discover, Offer, Request, Decline, Ack, Nak, Release, Inform]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// A message, either way. Options that neither side uses are left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Whether a server sent it.
    pub reply: bool,
    /// Option 53.
    pub kind: Kind,
    /// Transaction number of the client.
    pub xid: u32,
    /// The client cannot take unicast yet.
    pub broadcast: bool,
    /// Address that the client has and answers for.
    pub ciaddr: Ipv4Addr,
    /// Address given to the client.
    pub yiaddr: Ipv4Addr,
    /// Address of a relay.
    pub giaddr: Ipv4Addr,
    /// Hardware address of the client.
    pub mac: Mac,
    /// The other options.
    pub options: Options,
}

/// The options that we know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// 50: address that the client wants.
    pub requested: Option<Ipv4Addr>,
    /// 54: the server that is meant or speaks.
    pub server: Option<Ipv4Addr>,
    /// 1: netmask.
    pub mask: Option<Ipv4Addr>,
    /// 3: gateways.
    pub routers: Vec<Ipv4Addr>,
    /// 6: name servers.
    pub dns: Vec<Ipv4Addr>,
    /// 12: name of the client.
    pub hostname: Option<String>,
    /// 15: domain of the client.
    pub domain: Option<String>,
    /// 26: largest packet, in bytes.
    pub mtu: Option<u16>,
    /// 28: broadcast address.
    pub broadcast: Option<Ipv4Addr>,
    /// 51: seconds of the lease.
    pub lease: Option<u32>,
    /// 58: seconds until the client renews.
    pub renew: Option<u32>,
    /// 59: seconds until it asks any server.
    pub rebind: Option<u32>,
    /// 61: identity of the client, echoed (RFC 6842).
    pub client_id: Option<Vec<u8>>,
}

/// Reads a message of Ethernet; none when it is malformed, of other hardware, or plain BOOTP.
#[must_use]
pub fn parse(bytes: &[u8]) -> Option<Message> {
    let fixed = bytes.get(..FIXED)?;
    let reply = match fixed[0] {
        1 => false,
        2 => true,
        _ => return None,
    };
    if fixed[1..3] != [1, 6] || bytes.get(FIXED..FIXED + 4)? != MAGIC {
        return None;
    }
    let mac = Mac(fixed[28..34].try_into().ok()?);
    let mut kind = None;
    let mut options = Options::default();
    let mut rest = &bytes[FIXED + 4..];
    while let Some((&code, after)) = rest.split_first() {
        match code {
            0 => rest = after,
            255 => break,
            _ => {
                let (&length, after) = after.split_first()?;
                let value = after.get(..length.into())?;
                rest = &after[length.into()..];
                if code == 53 {
                    kind = Kind::read(*value.first()?);
                } else {
                    options.read(code, value);
                }
            }
        }
    }
    Some(Message {
        reply,
        kind: kind?,
        xid: u32::from_be_bytes(fixed[4..8].try_into().ok()?),
        broadcast: fixed[10] & 0x80 != 0,
        ciaddr: v4(&fixed[12..16])?,
        yiaddr: v4(&fixed[16..20])?,
        giaddr: v4(&fixed[24..28])?,
        mac,
        options,
    })
}

fn v4(bytes: &[u8]) -> Option<Ipv4Addr> {
    let octets: [u8; 4] = bytes.get(..4)?.try_into().ok()?;
    Some(Ipv4Addr::from(octets))
}

fn number(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?))
}

fn text(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?.trim_end_matches('\0');
    (!text.is_empty()).then(|| text.to_owned())
}

impl Options {
    fn read(&mut self, code: u8, value: &[u8]) {
        match code {
            1 => self.mask = v4(value),
            3 => self.routers = value.chunks_exact(4).filter_map(v4).collect(),
            6 => self.dns = value.chunks_exact(4).filter_map(v4).collect(),
            12 => self.hostname = text(value),
            15 => self.domain = text(value),
            26 => self.mtu = value.try_into().ok().map(u16::from_be_bytes),
            28 => self.broadcast = v4(value),
            50 => self.requested = v4(value),
            51 => self.lease = number(value),
            54 => self.server = v4(value),
            58 => self.renew = number(value),
            59 => self.rebind = number(value),
            61 if !value.is_empty() => self.client_id = Some(value.to_vec()),
            _ => {}
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        let mut put = |code: u8, value: &[u8]| {
            if let Ok(length) = u8::try_from(value.len())
                && length > 0
            {
                out.extend([code, length]);
                out.extend(value);
            }
        };
        let list = |ips: &[Ipv4Addr]| ips.iter().flat_map(|ip| ip.octets()).collect::<Vec<u8>>();
        let addresses = [
            (50, self.requested),
            (54, self.server),
            (1, self.mask),
            (28, self.broadcast),
        ];
        for (code, ip) in addresses {
            if let Some(ip) = ip {
                put(code, &ip.octets());
            }
        }
        put(3, &list(&self.routers));
        put(6, &list(&self.dns));
        put(12, self.hostname.as_deref().unwrap_or_default().as_bytes());
        put(15, self.domain.as_deref().unwrap_or_default().as_bytes());
        if let Some(mtu) = self.mtu {
            put(26, &mtu.to_be_bytes());
        }
        for (code, seconds) in [(51, self.lease), (58, self.renew), (59, self.rebind)] {
            if let Some(seconds) = seconds {
                put(code, &seconds.to_be_bytes());
            }
        }
        put(61, self.client_id.as_deref().unwrap_or_default());
    }
}

impl Message {
    /// The message as bytes. An option longer than 255 bytes is left out.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![0; FIXED];
        out[0] = if self.reply { 2 } else { 1 };
        out[1] = 1;
        out[2] = 6;
        out[4..8].copy_from_slice(&self.xid.to_be_bytes());
        out[10] = if self.broadcast { 0x80 } else { 0 };
        out[12..16].copy_from_slice(&self.ciaddr.octets());
        out[16..20].copy_from_slice(&self.yiaddr.octets());
        out[24..28].copy_from_slice(&self.giaddr.octets());
        out[28..34].copy_from_slice(&self.mac.0);
        out.extend(MAGIC);
        out.extend([53, 1, self.kind as u8]);
        self.options.write(&mut out);
        out.push(255);
        out.resize(out.len().max(SMALLEST), 0);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn discover() -> Message {
        Message {
            reply: false,
            kind: Kind::Discover,
            xid: 0x1234_5678,
            broadcast: true,
            ciaddr: Ipv4Addr::UNSPECIFIED,
            yiaddr: Ipv4Addr::UNSPECIFIED,
            giaddr: Ipv4Addr::UNSPECIFIED,
            mac: Mac([2, 1, 2, 3, 4, 5]),
            options: Options {
                hostname: Some("web".to_owned()),
                client_id: Some(vec![1, 2, 1, 2, 3, 4, 5]),
                requested: Some(Ipv4Addr::new(10, 1, 2, 3)),
                ..Options::default()
            },
        }
    }

    #[test]
    fn a_message_reads_back_as_written() {
        let mut message = discover();
        assert_eq!(parse(&message.to_bytes()).unwrap(), message);
        message.reply = true;
        message.kind = Kind::Ack;
        message.options = Options {
            server: Some(Ipv4Addr::new(10, 1, 2, 1)),
            mask: Some(Ipv4Addr::new(255, 255, 255, 0)),
            routers: vec![Ipv4Addr::new(10, 1, 2, 1)],
            dns: vec![Ipv4Addr::new(10, 1, 2, 1), Ipv4Addr::new(10, 1, 2, 2)],
            domain: Some("posada".to_owned()),
            mtu: Some(1400),
            broadcast: Some(Ipv4Addr::new(10, 1, 2, 255)),
            lease: Some(3600),
            renew: Some(1800),
            rebind: Some(3150),
            ..Options::default()
        };
        assert_eq!(parse(&message.to_bytes()).unwrap(), message);
    }

    #[test]
    fn what_is_cut_short_is_refused() {
        let bytes = discover().to_bytes();
        for length in 0..FIXED + 7 {
            assert_eq!(parse(&bytes[..length]), None, "{length}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn any_options_are_read_or_refused(tail in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut bytes = discover().to_bytes()[..FIXED + 7].to_vec();
            bytes.extend(tail);
            if let Some(message) = parse(&bytes) {
                let again = parse(&message.to_bytes()).unwrap();
                prop_assert_eq!(again.options.requested, message.options.requested);
            }
        }
    }
}
