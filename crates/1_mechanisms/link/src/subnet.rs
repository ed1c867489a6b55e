//! Subnets, and the choice of one that collides with nothing.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use fault::{Fault, Result};
use serde::{Deserialize, Serialize};

use crate::SUBNET_INVALID;

/// An IPv4 subnet of 8 to 29 bits, written `10.77.0.0/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subnet4 {
    /// First address.
    pub base: Ipv4Addr,
    /// Length of the prefix.
    pub prefix_len: u8,
}

impl Subnet4 {
    /// Its netmask.
    #[must_use]
    pub fn mask(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(mask(self.prefix_len))
    }

    /// The first usable address, the host's own.
    #[must_use]
    pub fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.base.to_bits() + 1)
    }

    /// The last address.
    #[must_use]
    pub fn broadcast(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.base.to_bits() | !mask(self.prefix_len))
    }

    /// Whether the address lies inside.
    #[must_use]
    pub fn contains(self, ip: Ipv4Addr) -> bool {
        ip.to_bits() & mask(self.prefix_len) == self.base.to_bits()
    }

    /// Whether a guest may have the address: inside, and neither first, gateway nor broadcast.
    #[must_use]
    pub fn is_for_guests(self, ip: Ipv4Addr) -> bool {
        self.contains(ip) && ip != self.base && ip != self.gateway() && ip != self.broadcast()
    }

    /// The addresses for guests, in order.
    pub fn guests(self) -> impl Iterator<Item = Ipv4Addr> {
        (self.gateway().to_bits() + 1..self.broadcast().to_bits()).map(Ipv4Addr::from_bits)
    }

    /// Whether two subnets share an address.
    #[must_use]
    pub fn overlaps(self, base: Ipv4Addr, prefix_len: u8) -> bool {
        let common = mask(self.prefix_len.min(prefix_len));
        self.base.to_bits() & common == base.to_bits() & common
    }

    /// A free 10.x.y.0/24. Goes through 10.32.0.0 to 10.251.255.0 from a place given by the seed; `taken` are
    /// prefixes in use (routes, addresses, name servers).
    #[must_use]
    pub fn free(seed: u64, taken: &[(IpAddr, u8)]) -> Option<Self> {
        const COUNT: u32 = 220 * 256;
        let taken: Vec<(Ipv4Addr, u8)> = taken
            .iter()
            .filter_map(|(ip, len)| match ip {
                IpAddr::V4(v4) if *len > 0 => Some((*v4, *len)),
                _ => None,
            })
            .collect();
        let start = (seed % u64::from(COUNT)) as u32;
        (0..COUNT)
            .map(|step| {
                // 7,919 is prime and no divisor of the count: every subnet is tried once, far from the last.
                let number = (start + step.wrapping_mul(7919) % COUNT) % COUNT;
                Subnet4 {
                    base: Ipv4Addr::from_bits((10 << 24) + (32 << 16) + (number << 8)),
                    prefix_len: 24,
                }
            })
            .find(|subnet| !taken.iter().any(|(base, len)| subnet.overlaps(*base, *len)))
    }
}

fn mask(prefix_len: u8) -> u32 {
    !u32::MAX.checked_shr(prefix_len.into()).unwrap_or(0)
}

impl FromStr for Subnet4 {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || Fault::new(SUBNET_INVALID).arg("subnet", text);
        let (base, len) = text.split_once('/').ok_or_else(bad)?;
        let base: Ipv4Addr = base.parse().map_err(|_| bad())?;
        let prefix_len: u8 = len.parse().map_err(|_| bad())?;
        let whole = (8..=29).contains(&prefix_len) && base.to_bits() & !mask(prefix_len) == 0;
        let unicast = !base.is_loopback() && !base.is_multicast() && !base.is_unspecified();
        if whole && unicast {
            Ok(Subnet4 { base, prefix_len })
        } else {
            Err(bad())
        }
    }
}

impl fmt::Display for Subnet4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix_len)
    }
}

impl TryFrom<String> for Subnet4 {
    type Error = Fault;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Subnet4> for String {
    fn from(subnet: Subnet4) -> String {
        subnet.to_string()
    }
}

/// An IPv6 prefix of 64 bits, written `fd12:3456:789a:1::/64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Prefix6(pub Ipv6Addr);

impl Prefix6 {
    /// A unique local prefix (RFC 4193): `fd`, 40 random bits, subnet 1.
    #[must_use]
    pub fn unique_local(random: u64) -> Self {
        let global = u128::from(random & 0xff_ffff_ffff);
        Prefix6(Ipv6Addr::from_bits((0xfd << 120) | (global << 80) | (1 << 64)))
    }

    /// The host's own address, `…::1`.
    #[must_use]
    pub fn gateway(self) -> Ipv6Addr {
        Ipv6Addr::from_bits(self.0.to_bits() | 1)
    }

    /// Whether the address lies inside.
    #[must_use]
    pub fn contains(self, ip: Ipv6Addr) -> bool {
        ip.to_bits() >> 64 == self.0.to_bits() >> 64
    }
}

impl FromStr for Prefix6 {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || Fault::new(SUBNET_INVALID).arg("subnet", text);
        let base = text.strip_suffix("/64").ok_or_else(bad)?;
        let base: Ipv6Addr = base.parse().map_err(|_| bad())?;
        let unicast = !base.is_multicast() && !base.is_unicast_link_local() && base.to_bits() >> 64 != 0;
        if base.to_bits() << 64 == 0 && unicast {
            Ok(Prefix6(base))
        } else {
            Err(bad())
        }
    }
}

impl fmt::Display for Prefix6 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/64", self.0)
    }
}

impl TryFrom<String> for Prefix6 {
    type Error = Fault;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Prefix6> for String {
    fn from(prefix: Prefix6) -> String {
        prefix.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_subnet_knows_its_gateway_and_its_guests() {
        let subnet: Subnet4 = "10.77.3.0/29".parse().unwrap();
        assert_eq!(subnet.gateway(), Ipv4Addr::new(10, 77, 3, 1));
        assert_eq!(subnet.guests().count(), 5);
        assert_eq!(subnet.mask(), Ipv4Addr::new(255, 255, 255, 248));
        assert!(!subnet.is_for_guests(subnet.broadcast()) && !subnet.is_for_guests(subnet.gateway()));
        for bad in [
            "10.0.0.1/24",
            "10.0.0.0/30",
            "10.0.0.0",
            "x/24",
            "127.0.0.0/8",
            "10.0.0.0/33",
        ] {
            assert!(bad.parse::<Subnet4>().is_err(), "{bad}");
        }
        for bad in ["fe80::/64", "fd00::/48", "fd00::1/64", "ff00::/64"] {
            assert!(bad.parse::<Prefix6>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_free_subnet_collides_with_nothing_taken(
            seed: u64,
            taken in proptest::collection::vec((any::<u32>(), 1_u8..=32), 0..40),
        ) {
            let taken: Vec<(IpAddr, u8)> =
                taken.iter().map(|(ip, len)| (IpAddr::V4(Ipv4Addr::from_bits(10 << 24 | ip >> 8)), (*len).max(9))).collect();
            if let Some(free) = Subnet4::free(seed, &taken) {
                for (ip, len) in taken {
                    let IpAddr::V4(v4) = ip else { unreachable!() };
                    prop_assert!(!free.overlaps(v4, len));
                }
            }
        }
    }

    #[test]
    fn with_all_of_ten_taken_there_is_no_free_subnet() {
        assert_eq!(
            Subnet4::free(7, &[(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 0)), 8)]),
            None
        );
        let all_but_one: Vec<_> = (32..=251_u8)
            .flat_map(|x| (0..=255_u8).map(move |y| (x, y)))
            .filter(|pair| *pair != (200, 17))
            .map(|(x, y)| (IpAddr::V4(Ipv4Addr::new(10, x, y, 0)), 24))
            .collect();
        assert_eq!(
            Subnet4::free(99, &all_but_one).unwrap().to_string(),
            "10.200.17.0/24"
        );
    }
}
