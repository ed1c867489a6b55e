//! The daemon's side of networks.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use fault::{Fault, OrFault, Result};
use jail::recipe::NicSetup;
use link::nft::{Filter, Forward, NatNetwork};
use link::{Links, Mac, Veth, netns};
use model::api::Finding;
use model::{Id, Lease, Name, NetworkSpec, NetworkStatus, NicStatus, Publish, Transport};

use crate::allocate::Wish;
use crate::host::{Host, Table, Uplinks, kernel_has_v6};
use crate::process::{Place, Process};
use crate::record::{self, Card, Stored};
use crate::wire::{Config, ForwardEntry, GuestEntry, Listen, Role};
use crate::{
    GUEST_UNKNOWN, NETWORK_UNKNOWN, NETWORK_USED, PROCESS_SILENT, RECORD_BROKEN, doctor, sockets, supervise,
    upstream,
};

/// Where networks keep their files, and the program whose `net` they run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Lasting state.
    pub state_dir: PathBuf,
    /// Volatile state.
    pub run_dir: PathBuf,
    /// The posada program.
    pub posada_exe: PathBuf,
}

/// A card to be plugged in.
#[derive(Clone, Debug)]
pub struct AttachRequest {
    /// The guest.
    pub guest: Id,
    /// Its name, by which others will find it.
    pub guest_name: Name,
    /// The network.
    pub network: Name,
    /// Wanted IPv4 address.
    pub ip: Option<Ipv4Addr>,
    /// Wanted hardware address.
    pub mac: Option<String>,
    /// Number of the card in the guest: 0 is `eth0`.
    pub index: usize,
}

/// All networks of this host. Every call is blocking and may be repeated.
///
/// A thread of its own restarts network processes that died, follows changes of the host's name servers and uplinks,
/// and heals the packet filter; it ends with this value. The networks themselves go on without it.
#[derive(Debug)]
pub struct Networks {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) settings: Settings,
    state: Mutex<State>,
}

/// What this daemon knows of its networks.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) networks: BTreeMap<Name, Active>,
    pub(crate) table: Table,
}

/// A network, stored, and the process that serves it when it is up.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) stored: Stored,
    pub(crate) process: Option<Process>,
    /// What the process was last told.
    pub(crate) config: Option<Config>,
    /// Whether it shall be up: this daemon brought it up or found it so.
    pub(crate) wanted: bool,
    /// When all of it was last brought into line, and its bridge then.
    pub(crate) whole: Option<(Instant, u32)>,
}

/// How long a network that was brought into line counts as whole while its bridge, the packet filter and its process
/// are as they were: of several cards that are plugged in at once, one looks after the rest.
const WHOLE: Duration = Duration::from_secs(1);

impl Networks {
    /// Reads what is stored and finds the network processes that run; changes nothing on the host.
    ///
    /// # Errors
    /// `NET019` when a stored network cannot be read.
    pub fn open(settings: Settings) -> Result<Self> {
        let lasting = settings.state_dir.join("networks");
        let volatile = settings.run_dir.join("networks");
        for (dir, mode) in [(&lasting, 0o700), (&volatile, 0o750)] {
            fs::create_dir_all(dir)
                .and_then(|()| fs::set_permissions(dir, fs::Permissions::from_mode(mode)))
                .or_fault(|| Fault::new(RECORD_BROKEN).arg("path", dir.display()))?;
        }
        let mut state = State::default();
        let entries =
            fs::read_dir(&lasting).or_fault(|| Fault::new(RECORD_BROKEN).arg("path", lasting.display()))?;
        for entry in entries.flatten() {
            let path = entry.path();
            let name = path
                .file_name()
                .and_then(|name| name.to_str()?.strip_suffix(".json"));
            let Some(name) = name.and_then(|name| name.parse::<Name>().ok()) else {
                continue;
            };
            let Some(stored) = record::load::<Stored>(&path)? else {
                continue;
            };
            let process = Process::adopt(&name, &Place(volatile.join(name.as_str())));
            state.networks.insert(
                name,
                Active {
                    stored,
                    wanted: process.is_some(),
                    process,
                    config: None,
                    whole: None,
                },
            );
        }
        let inner = Arc::new(Inner {
            settings,
            state: Mutex::new(state),
        });
        supervise::start(&inner);
        Ok(Networks { inner })
    }

    /// Brings a network up and into line: bridge, addresses, forwarding, packet filter, process. A network that does
    /// not exist yet is made. Finds and heals whatever is missing or dead; adopts what runs.
    ///
    /// # Errors
    /// The first thing that the host refuses: `NET001`–`NET004`, `NET016`–`NET019`, `NET021`.
    pub fn ensure(&self, name: &Name, spec: &NetworkSpec) -> Result<NetworkStatus> {
        let mut state = self.inner.lock();
        self.inner.ensure(&mut state, name, Some(spec))?;
        Ok(status(&mut state, name))
    }

    /// Allocates addresses for a card and records them; makes no link. The same card gets the same addresses again.
    ///
    /// # Errors
    /// `NET010` when the network is unknown; `NET011`, `NET012`, `NET022` when what is wanted is taken or outside;
    /// `NET013` when no address is left.
    pub fn attach(&self, request: &AttachRequest) -> Result<(NicStatus, NicSetup)> {
        let mac = request.mac.as_deref().map(str::parse::<Mac>).transpose()?;
        let mut state = self.inner.lock();
        let active = state.get(&request.network)?;
        let wish = Wish {
            guest: &request.guest,
            name: &request.guest_name,
            index: request.index,
            ip: request.ip,
            mac,
        };
        let mut stored = active.stored.clone();
        let card = stored.allocate(&wish)?;
        if stored != active.stored {
            self.inner.store(&request.network, &stored)?;
            active.stored = stored;
            self.inner.tell(&mut state, &request.network)?;
        }
        let stored = &state.get(&request.network)?.stored;
        let mut addresses = vec![
            (IpAddr::V4(card.ip), stored.subnet.prefix_len),
            (IpAddr::V6(card.ip6), 64),
        ];
        let mut gateways: Vec<IpAddr> = vec![stored.subnet.gateway().into(), stored.prefix6.gateway().into()];
        if !kernel_has_v6() {
            addresses.truncate(1);
            gateways.truncate(1);
        }
        let status = NicStatus {
            network: request.network.clone(),
            host_link: card.host_link(),
            guest_link: card.guest_link(),
            mac: card.mac.to_string(),
            addresses: addresses.iter().map(|(ip, len)| format!("{ip}/{len}")).collect(),
        };
        let setup = NicSetup {
            link: card.guest_link(),
            mac: card.mac.to_string(),
            addresses,
            gateways,
            mtu: None,
        };
        Ok((status, setup))
    }

    /// Plugs every card of the guest in: a virtual cable from its bridge into the network namespace. Cables that are
    /// there already are left alone; a network that is not up is brought up.
    ///
    /// # Errors
    /// `NET020` when the guest has no card; `NET001`, `NET005` when the host refuses.
    pub fn connect(&self, guest: &Id, netns: BorrowedFd) -> Result<()> {
        let mut links = Links::open()?;
        for (network, card) in self.inner.cards(guest)? {
            let bridge_name = {
                let mut state = self.inner.lock();
                state.get(&network)?.stored.bridge.clone()
            };
            let bridge = match links.find(&bridge_name)? {
                Some(bridge) => bridge,
                None => {
                    let mut state = self.inner.lock();
                    self.inner.ensure(&mut state, &network, None)?;
                    let name = state.get(&network)?.stored.bridge.clone();
                    links
                        .find(&name)?
                        .ok_or_else(|| Fault::new(NETWORK_UNKNOWN).arg("network", &network))?
                }
            };
            let (near, far) = (card.host_link(), card.guest_link());
            let there = netns::inside(netns, || Links::open()?.find(&far))?;
            let plugged = there.is_some_and(|link| link.mac == Some(card.mac));
            match links.find(&near)? {
                Some(link) if plugged => {
                    if link.master != Some(bridge.index) {
                        links.set_master(&link, Some(bridge.index))?;
                    }
                    links.set_up(&link, true)?;
                    continue;
                }
                Some(stale) => links.delete(&stale)?,
                None => {}
            }
            links.add_veth(&Veth {
                name: &near,
                alias: &format!("posada:{}", card.name),
                master: bridge.index,
                mtu: bridge.mtu,
                netns,
                peer: &far,
                peer_mac: card.mac,
            })?;
        }
        Ok(())
    }

    /// Unplugs every card of the guest; its addresses stay its own. The kernel takes the cables down a moment later.
    ///
    /// # Errors
    /// `NET001`.
    pub fn disconnect(&self, guest: &Id) -> Result<()> {
        let Ok(cards) = self.inner.cards(guest) else {
            return Ok(());
        };
        let mut links = Links::open()?;
        let mut plugged = Vec::new();
        for (_, card) in cards {
            plugged.extend(links.find(&card.host_link())?);
        }
        if plugged.is_empty() {
            return Ok(());
        }
        // The kernel waits for every processor before a cable is gone; nobody else has to. By its number it is surely
        // the one that was found here, whatever is plugged in meanwhile.
        let unplug = move || plugged.iter().try_for_each(|link| links.delete(link));
        let thread = std::thread::Builder::new().name("unplug".to_owned());
        // What fails to go is swept away by the next daemon, and by the next card of this name.
        thread
            .spawn(unplug)
            .map(drop)
            .or_fault(|| Fault::new(RECORD_BROKEN).arg("path", "thread"))
    }

    /// Unplugs the guest, takes its ports back and gives up its addresses. A guest that has none is no error.
    ///
    /// # Errors
    /// As [`Self::publish`] and [`Self::disconnect`].
    pub fn release(&self, guest: &Id) -> Result<()> {
        self.disconnect(guest)?;
        let mut state = self.inner.lock();
        self.inner.forget(&mut state, |id| id == guest)
    }

    /// Changes the name by which a guest is found.
    ///
    /// # Errors
    /// `NET019` when the record cannot be written.
    pub fn rename(&self, guest: &Id, name: &Name) -> Result<()> {
        let mut state = self.inner.lock();
        let networks: Vec<Name> = state.networks.keys().cloned().collect();
        for network in networks {
            let active = state.get(&network)?;
            let mut stored = active.stored.clone();
            for card in stored.cards.iter_mut().filter(|card| card.guest == *guest) {
                card.name = name.clone();
            }
            if stored != active.stored {
                self.inner.store(&network, &stored)?;
                active.stored = stored;
                self.inner.tell(&mut state, &network)?;
            }
        }
        Ok(())
    }

    /// Publishes ports of a guest: the whole set, replacing what was published of it before.
    ///
    /// # Errors
    /// `NET014` names who has a port; `NET015` when an address is none of the host's; `NET020` when the guest has no
    /// card. Nothing is changed then.
    pub fn publish(&self, guest: &Id, ports: &[Publish]) -> Result<()> {
        let mut state = self.inner.lock();
        self.inner.publish(&mut state, guest, ports)
    }

    /// Every network.
    ///
    /// # Errors
    /// None today.
    pub fn list(&self) -> Result<Vec<(Name, NetworkSpec, NetworkStatus)>> {
        let mut state = self.inner.lock();
        let names: Vec<Name> = state.networks.keys().cloned().collect();
        let one = |name: Name| {
            let status = status(&mut state, &name);
            let spec = state
                .networks
                .get(&name)
                .map(|active| active.stored.spec.clone())
                .unwrap_or_default();
            (name, spec, status)
        };
        Ok(names.into_iter().map(one).collect())
    }

    /// Undoes everything of a network on the host, and forgets it.
    ///
    /// # Errors
    /// `NET010` when it is unknown; `NET023` when guests have addresses in it; else what the host refuses.
    pub fn remove(&self, name: &Name) -> Result<()> {
        let mut state = self.inner.lock();
        let active = state.get(name)?;
        if let Some(card) = active.stored.cards.first() {
            return Err(Fault::new(NETWORK_USED)
                .arg("network", name)
                .arg("holder", &card.name));
        }
        if let Some(process) = active.process.take() {
            process.stop();
        }
        let stored = active.stored.clone();
        let mut host = Host::open(&self.inner.settings.run_dir)?;
        host.remove_bridge(&stored)?;
        let last = state.networks.len() == 1;
        if last {
            host.undo_settings()?;
            state.table.remove()?;
        }
        record::delete(&self.inner.lasting(name))?;
        let _ = fs::remove_dir_all(self.inner.place(name).0);
        state.networks.remove(name);
        if !last {
            let filter = state.filter();
            state.table.bring(filter)?;
        }
        Ok(())
    }

    /// Gives up the addresses, ports and links of every guest that is not alive.
    ///
    /// # Errors
    /// As [`Self::release`].
    pub fn sweep(&self, alive: &[Id]) -> Result<()> {
        let mut state = self.inner.lock();
        self.inner.forget(&mut state, |id| !alive.contains(id))?;
        let known: Vec<String> = state
            .networks
            .values()
            .flat_map(|active| &active.stored.cards)
            .map(Card::host_link)
            .collect();
        let bridges: Vec<String> = state
            .networks
            .values()
            .map(|active| active.stored.bridge.clone())
            .collect();
        drop(state);
        let mut links = Links::open()?;
        let all = links.list()?;
        let ours: Vec<u32> = all
            .iter()
            .filter(|link| bridges.contains(&link.name))
            .map(|link| link.index)
            .collect();
        for link in &all {
            let on_our_bridge = link.master.is_some_and(|master| ours.contains(&master));
            if on_our_bridge
                && link.kind == "veth"
                && link.name.starts_with("pv")
                && !known.contains(&link.name)
            {
                links.delete(link)?;
            }
        }
        Ok(())
    }

    /// Restarts network processes that died and heals the rest, at once; the thread of this value does so by itself
    /// every second.
    ///
    /// # Errors
    /// As [`Self::ensure`].
    pub fn supervise(&self) -> Result<()> {
        self.inner.heal(true)
    }

    /// What this host offers networks; read-only.
    #[must_use]
    pub fn doctor(&self) -> Vec<Finding> {
        doctor::examine()
    }
}

impl State {
    pub(crate) fn get(&mut self, name: &Name) -> Result<&mut Active> {
        self.networks
            .get_mut(name)
            .ok_or_else(|| Fault::new(NETWORK_UNKNOWN).arg("network", name))
    }

    /// What the packet filter shall say.
    pub(crate) fn filter(&self) -> Filter {
        let mut filter = Filter::default();
        for active in self.networks.values() {
            let stored = &active.stored;
            filter.networks.push(NatNetwork {
                bridge: stored.bridge.clone(),
                subnet: stored.subnet,
                prefix6: stored.prefix6,
            });
            filter
                .forwards
                .extend(forwards(stored).into_iter().map(|forward| Forward {
                    udp: forward.at.transport == Transport::Udp,
                    ip: forward.at.ip,
                    host_port: forward.at.port,
                    to4: forward.to4,
                    to6: forward.to6,
                    guest_port: forward.port,
                }));
        }
        filter
    }
}

/// The published ports of a network with the addresses of their guests' first cards in it.
pub(crate) fn forwards(stored: &Stored) -> Vec<ForwardEntry> {
    let mut all = Vec::new();
    for (guest, ports) in &stored.published {
        let first = stored
            .cards
            .iter()
            .filter(|card| card.guest == *guest)
            .min_by_key(|card| card.index);
        let Some(card) = first else { continue };
        all.extend(ports.iter().map(|port| ForwardEntry {
            at: listen(port),
            to4: card.ip,
            to6: card.ip6,
            port: port.guest_port,
        }));
    }
    all
}

pub(crate) fn listen(port: &Publish) -> Listen {
    Listen {
        ip: port.ip,
        port: port.host_port,
        transport: port.transport,
    }
}

fn status(state: &mut State, name: &Name) -> NetworkStatus {
    let Some(active) = state.networks.get_mut(name) else {
        return NetworkStatus::default();
    };
    let alive = active.process.as_mut().is_some_and(Process::is_alive);
    let stored = &active.stored;
    let lease = |card: &Card| Lease {
        guest: card.name.to_string(),
        mac: card.mac.to_string(),
        addresses: vec![card.ip.into(), card.ip6.into()],
    };
    NetworkStatus {
        bridge: stored.bridge.clone(),
        gateway: Some(stored.subnet.gateway()),
        prefix_len: stored.subnet.prefix_len,
        gateway6: kernel_has_v6().then(|| stored.prefix6.gateway()),
        serving: alive,
        pid: active
            .process
            .as_ref()
            .filter(|_| alive)
            .map(|process| process.pid),
        leases: stored.cards.iter().map(lease).collect(),
    }
}

impl Inner {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // State is changed only after every fallible step, so that a panic in between leaves it whole.
        self.state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(crate) fn place(&self, name: &Name) -> Place {
        Place(self.settings.run_dir.join("networks").join(name.as_str()))
    }

    fn lasting(&self, name: &Name) -> PathBuf {
        self.settings
            .state_dir
            .join("networks")
            .join(format!("{name}.json"))
    }

    pub(crate) fn store(&self, name: &Name, stored: &Stored) -> Result<()> {
        record::save(&self.lasting(name), stored, true)
    }

    fn cards(&self, guest: &Id) -> Result<Vec<(Name, Card)>> {
        let state = self.lock();
        let mut cards = Vec::new();
        for (name, active) in &state.networks {
            let own = active.stored.cards.iter().filter(|card| card.guest == *guest);
            cards.extend(own.map(|card| (name.clone(), card.clone())));
        }
        if cards.is_empty() {
            return Err(Fault::new(GUEST_UNKNOWN).arg("guest", guest));
        }
        Ok(cards)
    }

    /// [`Networks::ensure`]; without a spec the network must be known.
    pub(crate) fn ensure(&self, state: &mut State, name: &Name, spec: Option<&NetworkSpec>) -> Result<()> {
        if is_whole(state, name, spec)? {
            return Ok(());
        }
        let mut host = Host::open(&self.settings.run_dir)?;
        let mut stored = match (state.networks.get(name), spec) {
            (Some(active), _) => active.stored.clone(),
            (None, Some(spec)) => {
                let ours: Vec<&Stored> = state.networks.values().map(|active| &active.stored).collect();
                host.choose(spec, &ours)?
            }
            (None, None) => return Err(Fault::new(NETWORK_UNKNOWN).arg("network", name)),
        };
        if let Some(spec) = spec {
            stored.spec.domain.clone_from(&spec.domain);
        }
        // Recorded before anything of it exists, so that it is found again after a crash in between.
        self.keep(state, name, &stored)?;
        state.get(name)?.wanted = true;
        let others: Vec<&Stored> = state
            .networks
            .iter()
            .filter(|(other, _)| *other != name)
            .map(|(_, active)| &active.stored)
            .collect();
        let bridges: Vec<String> = others
            .iter()
            .map(|other| &other.bridge)
            .chain([&stored.bridge])
            .cloned()
            .collect();
        let uplinks = host.uplinks(&bridges)?;
        let bridge = host.bridge(&mut stored, &others, mtu(&uplinks))?;
        self.keep(state, name, &stored)?;
        let filter = state.filter();
        state.table.bring(filter)?;
        host.forwarding(&stored.bridge, &uplinks)?;
        self.serve(state, name, &bridge)?;
        state.get(name)?.whole = Some((Instant::now(), bridge.index));
        Ok(())
    }

    /// Records a network when it changed, on disk and here.
    fn keep(&self, state: &mut State, name: &Name, stored: &Stored) -> Result<()> {
        match state.networks.get_mut(name) {
            Some(active) if active.stored == *stored => {}
            Some(active) => {
                self.store(name, stored)?;
                active.stored = stored.clone();
            }
            None => {
                self.store(name, stored)?;
                let active = Active {
                    stored: stored.clone(),
                    process: None,
                    config: None,
                    wanted: true,
                    whole: None,
                };
                state.networks.insert(name.clone(), active);
            }
        }
        Ok(())
    }

    /// Has a living process that holds every socket it needs and knows what to serve.
    fn serve(&self, state: &mut State, name: &Name, bridge: &link::Link) -> Result<()> {
        let v6 = kernel_has_v6();
        match self.serve_once(state, name, v6, bridge) {
            // It died while it was spoken to, or hangs: a new one takes its place.
            Err(fault) if fault.is(PROCESS_SILENT) => {
                if let Some(process) = state.get(name)?.process.take() {
                    process.stop();
                }
                self.serve_once(state, name, v6, bridge)
            }
            other => other,
        }
    }

    fn serve_once(&self, state: &mut State, name: &Name, v6: bool, bridge: &link::Link) -> Result<()> {
        let place = self.place(name);
        let active = state.get(name)?;
        if active.process.as_mut().is_some_and(|process| !process.is_alive()) {
            active.process = None;
        }
        if active.process.is_none() {
            active.process = Process::adopt(name, &place);
            active.config = None;
        }
        let process = match &mut active.process {
            Some(process) => process,
            none => none.insert(Process::start(name, &place, &self.settings.posada_exe)?),
        };
        let mut missing: Vec<(Role, OwnedFd)> = Vec::new();
        let forwards = forwards(&active.stored)
            .into_iter()
            .map(|forward| Role::Forward { at: forward.at });
        for role in sockets::service_roles(v6).into_iter().chain(forwards) {
            if !process.roles.contains(&role) {
                missing.push((role, sockets::bind_service(role, &active.stored, bridge)?));
            }
        }
        process.hand(&missing)?;
        self.tell(state, name)
    }

    /// Tells the process of a network what to serve, when that changed.
    pub(crate) fn tell(&self, state: &mut State, name: &Name) -> Result<()> {
        let place = self.place(name);
        let own: Vec<IpAddr> = state
            .networks
            .values()
            .flat_map(|active| gateways(&active.stored))
            .collect();
        let active = state.get(name)?;
        let Some(process) = &mut active.process else {
            return Ok(());
        };
        let mut links = Links::open()?;
        let mtu = links
            .find(&active.stored.bridge)?
            .map_or(1500, |bridge| bridge.mtu);
        let links = std::cell::RefCell::new(links);
        let index_of = |name: &str| {
            links
                .borrow_mut()
                .find(name)
                .ok()
                .flatten()
                .map(|link| link.index)
        };
        let mut upstreams = upstream::servers(&index_of);
        upstreams.retain(|server| !own.contains(&server.ip()));
        let config = config(&active.stored, mtu, upstreams);
        if active.config.as_ref() == Some(&config) {
            return Ok(());
        }
        let told = process.configure(&config);
        match told {
            Ok(()) => {
                record::save(&place.config(), &config, false)?;
                active.config = Some(config);
                Ok(())
            }
            // A process that died just now is restarted and told by the supervisor; one that lives is at fault.
            Err(_) if !process.is_alive() => Ok(()),
            Err(fault) => Err(fault),
        }
    }

    /// Gives up everything of some guests.
    fn forget(&self, state: &mut State, gone: impl Fn(&Id) -> bool) -> Result<()> {
        let names: Vec<Name> = state.networks.keys().cloned().collect();
        let mut changed = false;
        for name in names {
            let active = state.get(&name)?;
            let mut stored = active.stored.clone();
            stored.cards.retain(|card| !gone(&card.guest));
            stored.published.retain(|guest, _| !gone(guest));
            if stored == active.stored {
                continue;
            }
            changed |= stored.published != active.stored.published;
            self.store(&name, &stored)?;
            active.stored = stored;
            self.tell(state, &name)?;
        }
        if changed {
            let filter = state.filter();
            state.table.bring(filter)?;
        }
        Ok(())
    }
}

/// Whether a network was brought into line just now and nothing of it has gone since.
fn is_whole(state: &mut State, name: &Name, spec: Option<&NetworkSpec>) -> Result<bool> {
    let filter_untouched = state.table.is_untouched();
    let Some(active) = state.networks.get_mut(name) else {
        return Ok(false);
    };
    let Some((when, index)) = active.whole else {
        return Ok(false);
    };
    let as_wanted = spec.is_none_or(|spec| spec.domain == active.stored.spec.domain) && active.wanted;
    let alive = active.process.as_mut().is_some_and(Process::is_alive);
    if when.elapsed() > WHOLE || !as_wanted || !alive || !filter_untouched {
        return Ok(false);
    }
    let bridge = Links::open()?.find(&active.stored.bridge)?;
    Ok(bridge.is_some_and(|bridge| bridge.index == index && bridge.up))
}

fn mtu(uplinks: &Uplinks) -> u32 {
    // IPv6 needs 1,280 bytes (RFC 8200 §5); guests behind a jumbo uplink may use all of it.
    uplinks.mtu.unwrap_or(1500).clamp(1280, 65535)
}

fn gateways(stored: &Stored) -> [IpAddr; 2] {
    [stored.subnet.gateway().into(), stored.prefix6.gateway().into()]
}

fn config(stored: &Stored, mtu: u32, upstreams: Vec<std::net::SocketAddr>) -> Config {
    let guest = |card: &Card| GuestEntry {
        name: card.name.to_string(),
        mac: card.mac,
        ip: card.ip,
        ip6: card.ip6,
    };
    Config {
        domain: stored.domain().to_owned(),
        mac: stored.mac,
        mtu,
        subnet: stored.subnet,
        prefix6: stored.prefix6,
        upstreams,
        guests: stored.cards.iter().map(guest).collect(),
        forwards: forwards(stored),
    }
}
