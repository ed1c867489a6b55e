//! Hardware addresses of guests' cards.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use fault::{Fault, Result};
use serde::{Deserialize, Serialize};

use crate::MAC_INVALID;

/// An Ethernet address, written `02:1a:2b:3c:4d:5e`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// The address of card number `index` of the guest with this id: `02:` (locally administered, unicast), then 40
    /// bits of FNV-1a over both, so that the same card has the same address after every loss of records.
    #[must_use]
    pub fn derived(id: &str, index: usize) -> Self {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for byte in id.bytes().chain([b'/']).chain(index.to_le_bytes()) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        let folded = (hash ^ (hash >> 40)).to_le_bytes();
        Mac([2, folded[0], folded[1], folded[2], folded[3], folded[4]])
    }

    /// The address that a card with this hardware address gives itself in a prefix of 64 bits (RFC 4291, appendix
    /// A), so that the allocator and a guest that listens to router advertisements agree.
    #[must_use]
    pub fn eui64(self, prefix: Ipv6Addr) -> Ipv6Addr {
        let [a, b, c, d, e, f] = self.0;
        let low = u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f]);
        let high = prefix.to_bits() >> 64 << 64;
        Ipv6Addr::from_bits(high | u128::from(low))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for Mac {
    type Err = Fault;

    /// Reads a unicast address; multicast and all-zero ones are no card's.
    fn from_str(text: &str) -> Result<Self> {
        let bad = || Fault::new(MAC_INVALID).arg("mac", text);
        let mut bytes = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2).ok_or_else(bad)?;
            if !part.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(bad());
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| bad())?;
        }
        if parts.next().is_some() || bytes[0] & 1 == 1 || bytes == [0; 6] {
            return Err(bad());
        }
        Ok(Mac(bytes))
    }
}

impl TryFrom<String> for Mac {
    type Error = Fault;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> String {
        mac.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_unicast_and_read_back_as_written() {
        let mac: Mac = "02:1A:2b:3c:4d:5e".parse().unwrap();
        assert_eq!(mac.to_string(), "02:1a:2b:3c:4d:5e");
        assert_eq!(
            mac.eui64("fd00:1:2:3::".parse().unwrap()),
            "fd00:1:2:3:1a:2bff:fe3c:4d5e".parse::<Ipv6Addr>().unwrap()
        );
        for bad in [
            "",
            "01:00:00:00:00:01",
            "00:00:00:00:00:00",
            "02:00:00:00:00",
            "02:00:00:00:00:+1",
            "x",
        ] {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
    }

    #[test]
    fn cards_of_one_guest_differ() {
        assert_ne!(Mac::derived("a1", 0), Mac::derived("a1", 1));
        assert_ne!(Mac::derived("a1", 0), Mac::derived("a2", 0));
        assert_eq!(Mac::derived("a1", 0), Mac::derived("a1", 0));
    }
}
