//! The one allocator of addresses: pure changes of a stored network.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use fault::{Fault, Result};
use link::Mac;
use model::{Id, Name};

use crate::record::{Card, Stored};
use crate::{ADDRESS_OUTSIDE, ADDRESS_TAKEN, ADDRESSES_EXHAUSTED, MAC_TAKEN};

/// What is wanted for a card.
pub(crate) struct Wish<'a> {
    pub guest: &'a Id,
    pub name: &'a Name,
    pub index: usize,
    pub ip: Option<Ipv4Addr>,
    pub mac: Option<Mac>,
}

impl Stored {
    /// Gives a card its addresses. A card that has some keeps them unless others are wanted now.
    pub(crate) fn allocate(&mut self, wish: &Wish) -> Result<Card> {
        let own = |card: &Card| card.guest == *wish.guest && card.index == wish.index;
        let old = self.cards.iter().find(|card| own(card)).cloned();
        let others: Vec<Card> = self.cards.iter().filter(|card| !own(card)).cloned().collect();
        let mac = wish
            .mac
            .or(old.as_ref().map(|card| card.mac))
            .unwrap_or_else(|| Mac::derived(&wish.guest.0, wish.index));
        if let Some(holder) = others.iter().find(|card| card.mac == mac) {
            return Err(Fault::new(MAC_TAKEN).arg("mac", mac).arg("holder", &holder.name));
        }
        let ip = match wish.ip.or(old.map(|card| card.ip)) {
            Some(ip) => {
                self.check_wanted(ip, &others)?;
                ip
            }
            None => self.next_free(&others)?,
        };
        let card = Card {
            guest: wish.guest.clone(),
            name: wish.name.clone(),
            index: wish.index,
            mac,
            ip,
            ip6: mac.eui64(self.prefix6.0),
        };
        self.cards.retain(|card| !own(card));
        self.cards.push(card.clone());
        self.cards.sort_by_key(|card| card.ip);
        Ok(card)
    }

    fn check_wanted(&self, ip: Ipv4Addr, others: &[Card]) -> Result<()> {
        if !self.subnet.is_for_guests(ip) {
            return Err(Fault::new(ADDRESS_OUTSIDE)
                .arg("ip", ip)
                .arg("subnet", self.subnet));
        }
        match others.iter().find(|card| card.ip == ip) {
            Some(holder) => Err(Fault::new(ADDRESS_TAKEN)
                .arg("ip", ip)
                .arg("holder", &holder.name)),
            None => Ok(()),
        }
    }

    fn next_free(&mut self, others: &[Card]) -> Result<Ipv4Addr> {
        let taken: BTreeSet<Ipv4Addr> = others.iter().map(|card| card.ip).collect();
        let last = self.last.unwrap_or(self.subnet.gateway());
        let free = |ip: &Ipv4Addr| !taken.contains(ip);
        let ip = self
            .subnet
            .guests()
            .find(|ip| *ip > last && free(ip))
            .or_else(|| self.subnet.guests().find(free))
            .ok_or_else(|| Fault::new(ADDRESSES_EXHAUSTED).arg("subnet", self.subnet))?;
        self.last = Some(ip);
        Ok(ip)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::VERSION;
    use model::NetworkSpec;

    fn network(subnet: &str) -> Stored {
        Stored {
            version: VERSION,
            spec: NetworkSpec::default(),
            token: "00".to_owned(),
            bridge: "posada0".to_owned(),
            mac: "02:00:00:00:00:01".parse().unwrap(),
            subnet: subnet.parse().unwrap(),
            prefix6: "fd00::/64".parse().unwrap(),
            last: None,
            cards: Vec::new(),
            published: Default::default(),
        }
    }

    fn take(network: &mut Stored, guest: &str, ip: Option<&str>) -> Result<Card> {
        network.allocate(&Wish {
            guest: &Id(guest.to_owned()),
            name: &format!("n{guest}").parse().unwrap(),
            index: 0,
            ip: ip.map(|ip| ip.parse().unwrap()),
            mac: None,
        })
    }

    #[test]
    fn a_card_keeps_its_address_and_no_two_share_one() {
        let mut network = network("10.1.2.0/29");
        let first = take(&mut network, "a", None).unwrap();
        assert_eq!(take(&mut network, "a", None).unwrap(), first);
        let mut ips: Vec<Ipv4Addr> = vec![first.ip];
        for guest in ["b", "c", "d", "e"] {
            ips.push(take(&mut network, guest, None).unwrap().ip);
        }
        ips.sort();
        ips.dedup();
        assert_eq!(ips.len(), 5);
        assert!(take(&mut network, "f", None).unwrap_err().is(ADDRESSES_EXHAUSTED));
    }

    #[test]
    fn an_address_given_back_is_not_given_out_at_once() {
        let mut network = network("10.1.2.0/29");
        let first = take(&mut network, "a", None).unwrap();
        network.cards.clear();
        assert_ne!(take(&mut network, "b", None).unwrap().ip, first.ip);
    }

    #[test]
    fn a_wanted_address_is_given_or_refused_by_name() {
        let mut network = network("10.1.2.0/24");
        assert_eq!(
            take(&mut network, "a", Some("10.1.2.20")).unwrap().ip,
            Ipv4Addr::new(10, 1, 2, 20)
        );
        let taken = take(&mut network, "b", Some("10.1.2.20")).unwrap_err();
        assert!(taken.is(ADDRESS_TAKEN));
        assert!(taken.args().any(|arg| arg == ("holder", "na")));
        for outside in ["10.1.3.2", "10.1.2.0", "10.1.2.1", "10.1.2.255"] {
            assert!(
                take(&mut network, "b", Some(outside))
                    .unwrap_err()
                    .is(ADDRESS_OUTSIDE)
            );
        }
        assert_eq!(
            take(&mut network, "a", Some("10.1.2.21")).unwrap().ip,
            Ipv4Addr::new(10, 1, 2, 21)
        );
        assert_eq!(network.cards.len(), 1);
    }
}
