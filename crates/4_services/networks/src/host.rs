//! What a network is made of on the host: bridge, addresses, forwarding, packet filter. Made, healed, undone.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use fault::{Fault, Result};
use link::nft::{Filter, Nft};
use link::sysctl::{Change, Sysctl};
use link::{Link, Links, Mac, Prefix6, Subnet4};
use model::NetworkSpec;
use serde::{Deserialize, Serialize};

use crate::record::{self, Stored, VERSION};
use crate::{SUBNET_EXHAUSTED, SUBNET_TAKEN, sockets, upstream};

/// Kernel settings that we changed, in `run_dir/networks/host.json`: like the settings themselves it does not
/// survive the host's reboot.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Changed {
    pub settings: Vec<Change>,
}

/// What the host looks like now.
pub(crate) struct Host {
    pub links: Links,
    pub sysctl: Sysctl,
    changed_path: PathBuf,
}

/// Links with a default route.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Uplinks {
    /// Their names, best first.
    pub names: Vec<String>,
    /// Largest packet of the best.
    pub mtu: Option<u32>,
    /// Links that learn routes from router advertisements.
    pub learning: Vec<String>,
}

/// A random number from the kernel.
pub(crate) fn random() -> u64 {
    let mut bytes = [0; 8];
    // On a kernel that boots just now this waits until there is randomness; it cannot fail for 8 bytes.
    while rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).is_err() {}
    u64::from_le_bytes(bytes)
}

/// Whether the kernel speaks IPv6 at all.
pub(crate) fn kernel_has_v6() -> bool {
    Path::new("/proc/sys/net/ipv6/conf").exists()
}

/// Has systemd-resolved, where it runs, ask the gateway for the guests' names. The setting belongs to the bridge and
/// goes with it (resolvectl(1)).
fn tell_resolved(stored: &Stored) {
    let resolvectl = Path::new("/usr/bin/resolvectl");
    if !resolvectl.exists() || !Path::new("/run/systemd/resolve/io.systemd.Resolve").exists() {
        return;
    }
    let gateway = stored.subnet.gateway().to_string();
    let domain = format!("~{}", stored.domain());
    for args in [
        ["dns", &stored.bridge, &gateway],
        ["domain", &stored.bridge, &domain],
        ["default-route", &stored.bridge, "no"],
    ] {
        let mut command = std::process::Command::new(resolvectl);
        command
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // A convenience: names are answered on the gateway's address in any case.
        let _ = command.status();
    }
}

impl Host {
    pub(crate) fn open(run_dir: &Path) -> Result<Self> {
        Ok(Host {
            links: Links::open()?,
            sysctl: Sysctl::at(Path::new("/proc/sys")),
            changed_path: run_dir.join("networks/host.json"),
        })
    }

    /// Chooses everything that a new network needs. `ours` are subnets of our other networks.
    pub(crate) fn choose(&mut self, spec: &NetworkSpec, ours: &[&Stored]) -> Result<Stored> {
        let mut taken: Vec<(IpAddr, u8)> = Vec::new();
        for route in self.links.routes()? {
            taken.push((route.to, route.prefix_len));
        }
        for address in self.links.addresses()? {
            taken.push((address.ip, address.prefix_len));
        }
        for server in upstream::servers(&|_| None) {
            taken.push((server.ip(), 32));
        }
        for other in ours {
            taken.push((other.subnet.base.into(), other.subnet.prefix_len));
        }
        let seed = random();
        let subnet = match &spec.subnet {
            Some(text) => {
                let wanted: Subnet4 = text.parse()?;
                let collides = |(ip, len): &&(IpAddr, u8)| match ip {
                    IpAddr::V4(v4) => *len > 0 && wanted.overlaps(*v4, *len),
                    IpAddr::V6(_) => false,
                };
                if let Some((ip, len)) = taken.iter().find(collides) {
                    return Err(Fault::new(SUBNET_TAKEN)
                        .arg("subnet", wanted)
                        .arg("by", format!("{ip}/{len}")));
                }
                wanted
            }
            None => Subnet4::free(seed, &taken).ok_or_else(|| Fault::new(SUBNET_EXHAUSTED))?,
        };
        let prefix6 = match &spec.prefix6 {
            Some(text) => text.parse()?,
            None => Prefix6::unique_local(random()),
        };
        let [a, b, c, d, e, ..] = random().to_le_bytes();
        Ok(Stored {
            version: VERSION,
            spec: spec.clone(),
            token: format!("{seed:016x}"),
            bridge: self.free_bridge(ours)?,
            mac: Mac([2, a, b, c, d, e]),
            subnet,
            prefix6,
            last: None,
            cards: Vec::new(),
            published: Default::default(),
        })
    }

    /// The first of `posada0`, `posada1`… that no link and no network of ours has.
    fn free_bridge(&mut self, ours: &[&Stored]) -> Result<String> {
        let links = self.links.list()?;
        let taken = |name: &String| {
            links.iter().any(|link| link.name == *name) || ours.iter().any(|other| other.bridge == *name)
        };
        let mut names = (0_u32..).map(|number| format!("posada{number}"));
        Ok(names.find(|name| !taken(name)).unwrap_or_default())
    }

    /// Makes or heals the bridge with its addresses. A link of its name that is not ours makes it take another name.
    pub(crate) fn bridge(&mut self, stored: &mut Stored, ours: &[&Stored], mtu: u32) -> Result<Link> {
        let found = self.links.find(&stored.bridge)?;
        let bridge = match found {
            Some(link) if link.alias.as_deref() == Some(&stored.alias()) => link,
            other => {
                if other.is_some() {
                    stored.bridge = self.free_bridge(ours)?;
                }
                self.links
                    .add_bridge(&stored.bridge, stored.mac, mtu, &stored.alias())?
            }
        };
        if bridge.mtu != mtu {
            self.links.set_mtu(&bridge, mtu)?;
        }
        let v6 = kernel_has_v6();
        if v6 {
            let conf = format!("net/ipv6/conf/{}", stored.bridge);
            // The bridge is a router's: it takes no address or route from what guests advertise.
            for (key, value) in [
                ("disable_ipv6", "0"),
                ("accept_ra", "0"),
                ("accept_redirects", "0"),
            ] {
                let key = format!("{conf}/{key}");
                if self.sysctl.get(&key).is_some_and(|now| now != value) {
                    self.sysctl.set(&key, value)?;
                }
            }
        }
        let mut wanted = vec![(IpAddr::from(stored.subnet.gateway()), stored.subnet.prefix_len)];
        if v6 {
            wanted.push((stored.prefix6.gateway().into(), 64));
            wanted.push((sockets::LINK_LOCAL.into(), 64));
        }
        let addresses = self.links.addresses()?;
        for (ip, prefix_len) in wanted {
            let there = addresses
                .iter()
                .any(|have| have.link == bridge.index && have.ip == ip && have.prefix_len == prefix_len);
            if !there {
                self.links.add_address(&bridge, ip, prefix_len)?;
            }
        }
        if !bridge.up {
            self.links.set_up(&bridge, true)?;
            tell_resolved(stored);
        }
        Ok(bridge)
    }

    /// The links that lead outside; `ours` are names of our bridges.
    pub(crate) fn uplinks(&mut self, ours: &[String]) -> Result<Uplinks> {
        let links = self.links.list()?;
        let mut routes = self.links.routes()?;
        routes.sort_by_key(|route| (route.to.is_ipv6(), route.metric));
        let mut uplinks = Uplinks::default();
        for route in &routes {
            for index in &route.links {
                let Some(link) = links.iter().find(|link| link.index == *index) else {
                    continue;
                };
                if link.loopback || ours.contains(&link.name) {
                    continue;
                }
                if route.from_ra && !uplinks.learning.contains(&link.name) {
                    uplinks.learning.push(link.name.clone());
                }
                if route.prefix_len == 0 && !uplinks.names.contains(&link.name) {
                    uplinks.names.push(link.name.clone());
                    uplinks.mtu.get_or_insert(link.mtu);
                }
            }
        }
        Ok(uplinks)
    }

    /// Switches forwarding on where it is needed; what is changed is recorded first.
    pub(crate) fn forwarding(&mut self, bridge: &str, uplinks: &Uplinks) -> Result<()> {
        let plan = self
            .sysctl
            .plan_forwarding(bridge, &uplinks.names, &uplinks.learning);
        if plan.is_empty() {
            return Ok(());
        }
        let mut changed: Changed = record::load(&self.changed_path)?.unwrap_or_default();
        for change in &plan {
            // The oldest record tells what was there before us.
            if !changed.settings.iter().any(|known| known.key == change.key) {
                changed.settings.push(change.clone());
            }
        }
        record::save(&self.changed_path, &changed, false)?;
        plan.iter().try_for_each(|change| self.sysctl.apply(change))
    }

    /// Takes every change of kernel settings back.
    pub(crate) fn undo_settings(&self) -> Result<()> {
        if let Some(changed) = record::load::<Changed>(&self.changed_path)? {
            self.sysctl.undo(&changed.settings)?;
            record::delete(&self.changed_path)?;
        }
        Ok(())
    }

    /// Deletes the bridge, when it is this network's.
    pub(crate) fn remove_bridge(&mut self, stored: &Stored) -> Result<()> {
        match self.links.find(&stored.bridge)? {
            Some(link) if link.alias.as_deref() == Some(&stored.alias()) => self.links.delete(&link),
            _ => Ok(()),
        }
    }
}

/// The packet filter as we left it.
#[derive(Debug, Default)]
pub(crate) struct Table {
    /// What nft said of the table after we had applied it.
    listing: Option<String>,
    /// What we applied.
    filter: Filter,
    /// The generation of the host's rule set when we last saw ours whole.
    generation: Option<u32>,
}

impl Table {
    /// Brings the kernel's table in line, also when somebody flushed or changed it.
    pub(crate) fn bring(&mut self, filter: Filter) -> Result<()> {
        let before = Nft::generation();
        let untouched = self.listing.is_some() && before.is_some() && before == self.generation;
        if untouched && filter == self.filter {
            return Ok(());
        }
        let nft = Nft::find()?;
        let whole = untouched || (self.listing.is_some() && nft.table()? == self.listing);
        if whole && filter != self.filter {
            nft.apply(&link::nft::render_elements(&filter))?;
        }
        if whole {
            let own_changes = u32::from(filter != self.filter);
            // Anything more was somebody else's doing in between: the next look will see.
            self.generation = before.map(|before| before.wrapping_add(own_changes));
        } else {
            nft.apply(&link::nft::render(&filter))?;
            self.generation = Nft::generation();
            self.listing = nft.table()?;
        }
        self.filter = filter;
        Ok(())
    }

    /// Whether nobody has changed the host's rule set since ours was last seen whole.
    pub(crate) fn is_untouched(&self) -> bool {
        self.listing.is_some() && self.generation.is_some() && Nft::generation() == self.generation
    }

    /// Deletes our table.
    pub(crate) fn remove(&mut self) -> Result<()> {
        *self = Table::default();
        match Nft::find() {
            Ok(nft) => nft.apply(&link::nft::render_removal()),
            // Without the program there can be no table of ours.
            Err(_) => Ok(()),
        }
    }
}
