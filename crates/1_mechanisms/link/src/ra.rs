//! Router advertisements (RFC 4861) with name servers and search domain (RFC 8106).

use std::net::Ipv6Addr;

use crate::{Mac, Prefix6};

/// ICMPv6 type of a router solicitation.
pub const SOLICITATION: u8 = 133;
/// ICMPv6 type of a router advertisement.
pub const ADVERTISEMENT: u8 = 134;
/// Hop limit that both must arrive with, which proves that no router passed them on.
pub const HOP_LIMIT: u8 = 255;

/// What a router tells its link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertisement {
    /// Seconds for which it may be the default router; 0 takes that back.
    pub lifetime: u16,
    /// Its hardware address.
    pub mac: Mac,
    /// Largest packet, in bytes.
    pub mtu: u32,
    /// Prefix from which hosts give themselves addresses.
    pub prefix: Prefix6,
    /// Name servers.
    pub dns: Vec<Ipv6Addr>,
    /// Search domain.
    pub domain: String,
}

/// Seconds for which prefix and name servers hold.
const PREFIX_LIFETIME: u32 = 86_400;

impl Advertisement {
    /// The ICMPv6 message; its checksum is left to the kernel.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![ADVERTISEMENT, 0, 0, 0, 64, 0];
        out.extend(self.lifetime.to_be_bytes());
        // Reachable time and retransmission timer: not told.
        out.extend([0; 8]);
        out.extend([1, 1]);
        out.extend(self.mac.0);
        out.extend([5, 1, 0, 0]);
        out.extend(self.mtu.to_be_bytes());
        // Prefix information: on-link, autonomous.
        out.extend([3, 4, 64, 0xc0]);
        out.extend(PREFIX_LIFETIME.to_be_bytes());
        out.extend(PREFIX_LIFETIME.to_be_bytes());
        out.extend([0; 4]);
        out.extend(self.prefix.0.octets());
        let holds = if self.lifetime == 0 { 0 } else { PREFIX_LIFETIME };
        if !self.dns.is_empty() {
            let servers = &self.dns[..self.dns.len().min(8)];
            out.extend([25, 1 + 2 * servers.len() as u8, 0, 0]);
            out.extend(holds.to_be_bytes());
            for server in servers {
                out.extend(server.octets());
            }
        }
        self.write_search(&mut out, holds);
        out
    }

    fn write_search(&self, out: &mut Vec<u8>, holds: u32) {
        let mut name = Vec::new();
        for label in self
            .domain
            .split('.')
            .filter(|label| (1..=63).contains(&label.len()))
        {
            name.push(label.len() as u8);
            name.extend(label.as_bytes());
        }
        if name.is_empty() || name.len() > 254 {
            return;
        }
        name.push(0);
        name.resize(name.len().next_multiple_of(8), 0);
        out.extend([31, 1 + (name.len() / 8) as u8, 0, 0]);
        out.extend(holds.to_be_bytes());
        out.extend(name);
    }
}

/// Whether an ICMPv6 message is a well-formed router solicitation.
#[must_use]
pub fn is_solicitation(bytes: &[u8]) -> bool {
    if bytes.len() < 8 || bytes[0] != SOLICITATION || bytes[1] != 0 {
        return false;
    }
    options(&bytes[8..]).is_some()
}

/// The options of a neighbour discovery message as type and body; none when one is malformed.
#[must_use]
pub fn options(mut rest: &[u8]) -> Option<Vec<(u8, &[u8])>> {
    let mut all = Vec::new();
    while !rest.is_empty() {
        let length = usize::from(*rest.get(1)?) * 8;
        if length == 0 {
            return None;
        }
        all.push((rest[0], rest.get(2..length)?));
        rest = &rest[length..];
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_advertisement_is_made_of_well_formed_options() {
        let bytes = Advertisement {
            lifetime: 1800,
            mac: Mac([2, 0, 0, 0, 0, 1]),
            mtu: 1400,
            prefix: Prefix6("fd00:1:2:1::".parse().unwrap()),
            dns: vec!["fd00:1:2:1::1".parse().unwrap()],
            domain: "posada".to_owned(),
        }
        .to_bytes();
        let kinds: Vec<u8> = options(&bytes[16..])
            .unwrap()
            .iter()
            .map(|(kind, _)| *kind)
            .collect();
        assert_eq!(kinds, [1, 5, 3, 25, 31]);
        assert_eq!(bytes[0], ADVERTISEMENT);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = is_solicitation(&bytes);
        }
    }
}
