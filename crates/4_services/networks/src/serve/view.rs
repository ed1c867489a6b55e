//! The configuration with the indexes that answers are made from.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use link::Mac;

use crate::wire::{Config, ForwardEntry, Listen};

/// What is served now.
#[derive(Default)]
pub(super) struct View {
    pub config: Option<Config>,
    pub names: HashMap<String, Vec<(Ipv4Addr, Ipv6Addr)>>,
    pub macs: HashMap<Mac, (String, Ipv4Addr)>,
    pub reverse: HashMap<IpAddr, String>,
    pub forwards: HashMap<Listen, ForwardEntry>,
}

impl View {
    pub(super) fn new(config: Config) -> Self {
        let mut view = View::default();
        for guest in &config.guests {
            view.names
                .entry(guest.name.clone())
                .or_default()
                .push((guest.ip, guest.ip6));
            view.macs.insert(guest.mac, (guest.name.clone(), guest.ip));
            view.reverse.insert(guest.ip.into(), guest.name.clone());
            view.reverse.insert(guest.ip6.into(), guest.name.clone());
        }
        for forward in &config.forwards {
            view.forwards.insert(forward.at, *forward);
        }
        view.config = Some(config);
        view
    }

    /// Whether an address is one of this network's, the gateway's included (the host itself asks from there).
    pub(super) fn is_inside(&self, ip: IpAddr) -> bool {
        let Some(config) = &self.config else { return false };
        match ip.to_canonical() {
            IpAddr::V4(v4) => config.subnet.contains(v4),
            IpAddr::V6(v6) => config.prefix6.contains(v6) || v6.is_unicast_link_local(),
        }
    }
}
