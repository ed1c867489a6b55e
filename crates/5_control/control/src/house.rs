//! What every operation works on: the store, the services, and the guests' shims.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use engine::shim::Shim;
use engine::{InstanceStatus, Plan};
use fault::{Fault, OrFault, Result};
use images::Images;
use jail::recipe::NicSetup;
use model::{
    Event, GuestKind, GuestStatus, Id, Name, NetworkSpec, NetworkStatus, NicSpec, NicStatus, Phase, rfc3339,
};
use networks::{AttachRequest, Networks};
use serde_json::json;
use store::{Store, Txn};

use crate::codes::{NOT_RUNNING, STATE_BROKEN, UNKNOWN};
use crate::copies::Copies;
use crate::plan::{Surroundings, plan};
use crate::records::{StoredGuest, guest_key, name_key, network_key, target};
use crate::watch::Watch;

/// Where the daemon keeps things, and the executables that it starts.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Lasting state.
    pub state_dir: PathBuf,
    /// Downloads.
    pub cache_dir: PathBuf,
    /// Sockets and plans; gone after a reboot.
    pub run_dir: PathBuf,
    /// `posada`.
    pub posada_exe: PathBuf,
    /// `posada-shim`.
    pub shim_exe: PathBuf,
    /// `posada-machine`.
    pub machine_exe: PathBuf,
    /// `posada-worker`.
    pub worker_exe: PathBuf,
    /// Group whose members may use the daemon and attach to guests.
    pub group: Option<u32>,
    /// Proxy of this host, that guests get with `--proxy host`.
    pub proxy: Option<String>,
}

/// The context of all operations.
pub struct House {
    pub(crate) settings: Settings,
    pub(crate) store: Arc<Store>,
    pub(crate) images: Images,
    pub(crate) networks: Networks,
    pub(crate) watch: Watch,
    /// Held while a request is judged and recorded, so that two requests cannot both take a name or a port.
    pub(crate) admission: Mutex<()>,
    /// Held (one of them, by identity) while a guest's observed state is read and written, so that the last reading
    /// wins; one shim that does not answer holds up few others.
    refreshing: [Mutex<()>; 64],
    pub(crate) copies: Copies,
}

/// The network that guests are plugged into when they say nothing.
pub fn default_network() -> Name {
    Name::default_project()
}

impl House {
    pub(crate) fn new(
        settings: Settings,
        store: Arc<Store>,
        images: Images,
        networks: Networks,
        watch: Watch,
    ) -> Self {
        House {
            settings,
            store,
            images,
            networks,
            watch,
            admission: Mutex::new(()),
            refreshing: std::array::from_fn(|_| Mutex::new(())),
            copies: Copies::default(),
        }
    }

    pub(crate) fn guest(&self, id: &Id) -> Result<StoredGuest> {
        self.find(id)?.ok_or_else(|| Fault::new(UNKNOWN).arg("name", id))
    }

    pub(crate) fn find(&self, id: &Id) -> Result<Option<StoredGuest>> {
        let found = self.store.get::<StoredGuest>(&guest_key(id))?;
        Ok(found.map(|entry| with_revision(entry.value, entry.revision)))
    }

    /// A guest by its name, or by its identity.
    pub(crate) fn named(&self, name: &str) -> Result<StoredGuest> {
        let unknown = || Fault::new(UNKNOWN).arg("name", name);
        if let Ok(name) = name.parse::<Name>()
            && let Some(entry) = self.store.get::<Id>(&name_key(&name))?
            && let Some(guest) = self.find(&entry.value)?
        {
            return Ok(guest);
        }
        let is_id = name.len() == 32 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        let found = if is_id {
            self.find(&Id(name.to_owned()))?
        } else {
            None
        };
        found.ok_or_else(unknown)
    }

    pub(crate) fn guests(&self) -> Result<Vec<StoredGuest>> {
        let all = self.store.list::<StoredGuest>("guests/")?;
        let mut all: Vec<StoredGuest> = all
            .into_iter()
            .map(|(_, entry)| with_revision(entry.value, entry.revision))
            .collect();
        all.sort_by(|one, other| one.guest.name.cmp(&other.guest.name));
        Ok(all)
    }

    /// Changes a guest's record; a guest that is gone is left gone.
    pub(crate) fn change(
        &self,
        id: &Id,
        mut change: impl FnMut(&mut StoredGuest, Txn) -> Result<Txn>,
    ) -> Result<Option<StoredGuest>> {
        let changed = self.store.update::<StoredGuest, _>(&guest_key(id), &mut change)?;
        Ok(changed.map(|entry| with_revision(entry.value, entry.revision)))
    }

    /// Writes down what was observed of a guest, when it is anything new.
    pub(crate) fn observe(&self, id: &Id, look: impl FnMut(&mut GuestStatus)) -> Result<()> {
        self.observe_and_tell(id, look, None)
    }

    /// The same together with an event.
    fn observe_and_tell(
        &self,
        id: &Id,
        mut look: impl FnMut(&mut GuestStatus),
        event: Option<&serde_json::Value>,
    ) -> Result<()> {
        let Some(stored) = self.find(id)? else {
            return Ok(());
        };
        let mut seen = stored.guest.status.clone();
        look(&mut seen);
        if event.is_none() && seen == stored.guest.status {
            return Ok(());
        }
        self.change(id, |stored, txn| {
            look(&mut stored.guest.status);
            let txn = event.into_iter().fold(txn, Txn::event);
            Ok(txn.observed())
        })
        .map(drop)
    }

    pub(crate) fn around(&self) -> Surroundings<'_> {
        Surroundings {
            state_dir: &self.settings.state_dir,
            run_dir: &self.settings.run_dir,
            network: None,
        }
    }

    pub(crate) fn run_of(&self, id: &Id) -> PathBuf {
        self.around().run_of(id)
    }

    pub(crate) fn state_of(&self, id: &Id) -> PathBuf {
        self.around().state_of(id)
    }

    /// The shim of a guest that should have one.
    pub(crate) fn shim(&self, stored: &StoredGuest) -> Result<Shim> {
        Shim::connect(&self.run_of(stored.id())).map_err(|fault| {
            let not_running = Fault::new(NOT_RUNNING).arg("name", &stored.guest.name);
            if self.run_of(stored.id()).join("shim.sock").exists() {
                fault
            } else {
                not_running
            }
        })
    }

    /// Asks a guest's shim how it is and writes that down. Tells whether a shim answered.
    pub(crate) fn refresh(&self, id: &Id) -> Result<Option<InstanceStatus>> {
        self.refresh_and_tell(id, None)
    }

    /// The same together with an event, which is written down only when a shim answered.
    pub(crate) fn refresh_and_tell(
        &self,
        id: &Id,
        event: Option<&serde_json::Value>,
    ) -> Result<Option<InstanceStatus>> {
        let lock =
            id.0.bytes()
                .fold(0, |sum: usize, byte| sum.wrapping_add(byte.into()));
        let lock = &self.refreshing[lock % self.refreshing.len()];
        let _last_wins = lock.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(mut shim) = Shim::connect(&self.run_of(id)) else {
            return Ok(None);
        };
        let status = shim.status()?;
        if status.phase == Phase::Starting && self.copies.under_way(id) {
            // For its record the guest is as down as before.
            return Ok(Some(status));
        }
        let shim_pid = shim.hello().pid;
        let seen = status.clone();
        let look = move |known: &mut GuestStatus| {
            // A guest that is being brought down stays so in the eyes of users until it is down.
            if !(known.phase == Phase::Stopping && seen.phase == Phase::Running) {
                known.phase = seen.phase;
            }
            known.pid = seen.pid;
            known.shim_pid = Some(shim_pid);
            known.exit = seen.exit.or(known.exit);
            known.restarts = seen.restarts;
            known.started = seen.started_ms.map(rfc3339);
            known.processor.clone_from(&seen.processor);
            if let Some(unenforced) = &seen.unenforced {
                known.unenforced.clone_from(unenforced);
            }
            if seen.phase == Phase::Running {
                known.reason = None;
            }
        };
        self.observe_and_tell(id, look, event)?;
        Ok(Some(status))
    }

    /// Network cards that a guest wants.
    pub(crate) fn wanted_nics(stored: &StoredGuest) -> Vec<NicSpec> {
        let spec = &stored.guest.spec;
        if spec.nics.is_empty() && !spec.no_network {
            return vec![NicSpec {
                network: default_network(),
                ip: None,
                mac: None,
            }];
        }
        spec.nics.clone()
    }

    /// Has the guest's networks there and its addresses allocated; writes both down.
    pub(crate) fn attach(&self, id: &Id) -> Result<StoredGuest> {
        let stored = self.guest(id)?;
        let mut seen: Vec<NicStatus> = Vec::new();
        let mut nics: Vec<NicSetup> = Vec::new();
        for (index, nic) in Self::wanted_nics(&stored).iter().enumerate() {
            self.ensure_network(&nic.network)?;
            let (status, setup) = self.networks.attach(&AttachRequest {
                guest: id.clone(),
                guest_name: stored.guest.name.clone(),
                network: nic.network.clone(),
                ip: nic.ip,
                mac: nic.mac.clone(),
                index,
            })?;
            seen.push(status);
            nics.push(setup);
        }
        if stored.guest.status.nics == seen && stored.nics == nics {
            return Ok(stored);
        }
        // The owner of the networks has it on disk, and gives the same again.
        let changed = self.change(id, |stored, txn| {
            stored.guest.status.nics.clone_from(&seen);
            stored.nics.clone_from(&nics);
            Ok(txn.observed())
        })?;
        changed.ok_or_else(|| Fault::new(UNKNOWN).arg("name", id))
    }

    pub(crate) fn network_spec(&self, name: &Name) -> Result<NetworkSpec> {
        let entry = self.store.get::<NetworkSpec>(&network_key(name))?;
        let unknown = || Fault::new(crate::codes::NETWORK_UNKNOWN).arg("name", name);
        entry.map(|entry| entry.value).ok_or_else(unknown)
    }

    pub(crate) fn ensure_network(&self, name: &Name) -> Result<NetworkStatus> {
        let spec = self.network_spec(name)?;
        self.networks.ensure(name, &spec)
    }

    /// The plan of a guest as its record is now.
    pub(crate) fn plan_of(&self, stored: &StoredGuest) -> Result<Plan> {
        let network = match stored.guest.status.nics.first() {
            Some(nic) => Some((
                self.ensure_network(&nic.network)?,
                self.network_spec(&nic.network)?,
            )),
            None => None,
        };
        let network = network
            .as_ref()
            .map(|(status, spec)| (status, spec.domain.as_deref()));
        Ok(plan(
            stored,
            &Surroundings {
                network,
                ..self.around()
            },
        ))
    }

    /// Bytes of memory that a machine which runs was started with; its plan tells.
    pub(crate) fn memory_in_use(&self, id: &Id) -> Option<u64> {
        let text = std::fs::read(self.run_of(id).join("plan.json")).ok()?;
        let plan: Plan = serde_json::from_slice(&text).ok()?;
        plan.machine.map(|machine| machine.memory)
    }

    /// Brings a guest so far that it can be started: addresses, shim, namespaces, links. Does nothing twice.
    pub(crate) fn raise(&self, id: &Id) -> Result<(StoredGuest, Shim)> {
        let stored = self.guest(id)?;
        if let Ok(mut shim) = Shim::connect(&self.run_of(id)) {
            match shim.status()?.phase {
                // What is left of its last life has to go first.
                Phase::Stopped | Phase::Failed | Phase::Defined => {
                    drop(shim);
                    self.lower(&stored, false)?;
                }
                Phase::Starting => {
                    self.connect(&stored, &mut shim)?;
                    return Ok((stored, shim));
                }
                _ => return Ok((stored, shim)),
            }
        } else {
            self.lower(&stored, false)?;
        }
        crate::disks::are_free(self, &stored)?;
        self.make_dirs(&stored)?;
        let stored = self.attach(id)?;
        let plan = self.plan_of(&stored)?;
        let exe = match stored.guest.spec.kind {
            GuestKind::Container => &self.settings.shim_exe,
            GuestKind::Machine => &self.settings.machine_exe,
        };
        let mut shim = engine::shim::spawn(exe, &plan)?;
        self.connect(&stored, &mut shim)?;
        Ok((stored, shim))
    }

    /// Has the namespaces made and the links put into them. Does nothing twice.
    fn connect(&self, stored: &StoredGuest, shim: &mut Shim) -> Result<()> {
        match shim.create()? {
            Some(namespace) if !stored.nics.is_empty() => {
                self.networks.connect(stored.id(), namespace.as_fd())
            }
            _ => Ok(()),
        }
    }

    /// Takes away everything that a guest holds of the host while it does not run: shim, namespaces, cgroup, links,
    /// forwards. With `force` a running guest is killed. Does nothing twice.
    pub(crate) fn lower(&self, stored: &StoredGuest, force: bool) -> Result<()> {
        let id = stored.id();
        let run_dir = self.run_of(id);
        if let Ok(mut shim) = Shim::connect(&run_dir) {
            if force && !matches!(shim.status()?.phase, Phase::Stopped) {
                // Already ended is as good.
                let _ = shim.stop(engine::Stop::Forced);
            }
            shim.delete()?;
        }
        if run_dir.exists() {
            shim_server::cleanup(&run_dir)?;
        }
        self.networks.disconnect(id)?;
        self.networks.publish(id, &[])?;
        match std::fs::remove_dir_all(&run_dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(broken(&run_dir).because(error))
            }
            _ => Ok(()),
        }
    }

    /// Makes a guest's directories, with the owners they must have.
    pub(crate) fn make_dirs(&self, stored: &StoredGuest) -> Result<()> {
        let state = self.state_of(stored.id());
        let owner = stored.ids.map_or(0, |ids| ids.base);
        make_dir(&state, 0o711, None)?;
        make_dir(&state.join("upper"), 0o755, Some(owner))?;
        make_dir(&state.join("work"), 0o755, Some(owner))?;
        let run_dir = self.run_of(stored.id());
        make_dir(&run_dir, 0o750, None)?;
        if let Some(group) = self.settings.group {
            // With the set-group-id bit the sockets inside belong to the group too.
            chown(&run_dir, None, Some(group))
                .and_then(|()| std::fs::set_permissions(&run_dir, std::fs::Permissions::from_mode(0o2750)))
                .or_fault(|| broken(&run_dir))?;
        }
        Ok(())
    }
}

/// Makes a directory when it is missing, with its mode and owner.
pub(crate) fn make_dir(path: &Path, mode: u32, owner: Option<u32>) -> Result<()> {
    let fault = || broken(path);
    match std::fs::DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) if error.kind() == std::io::ErrorKind::StorageFull => {
            return Err(Fault::new(crate::codes::DISK_FULL)
                .arg("path", path.display())
                .because(error));
        }
        done => done.or_fault(fault)?,
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).or_fault(fault)?;
    match owner {
        Some(owner) => chown(path, Some(owner), Some(owner)).or_fault(fault),
        None => Ok(()),
    }
}

pub(crate) fn broken(path: &Path) -> Fault {
    Fault::new(STATE_BROKEN).arg("path", path.display())
}

fn with_revision(mut stored: StoredGuest, revision: u64) -> StoredGuest {
    stored.guest.revision = revision;
    stored
}

/// An event of a guest, for [`Txn::event`].
pub(crate) fn fact(kind: &str, name: &Name, details: &[(&str, String)]) -> serde_json::Value {
    let details: BTreeMap<&str, &String> = details.iter().map(|(key, value)| (*key, value)).collect();
    json!({ "kind": kind, "target": target(name), "details": details })
}

/// A stored event as the API shows it.
pub(crate) fn event_of(stored: store::StoredEvent) -> Event {
    let text = |name: &str| stored.value[name].as_str().unwrap_or_default().to_owned();
    let details = stored.value["details"].as_object().into_iter().flatten();
    Event {
        revision: stored.revision,
        time: rfc3339(stored.time_ms),
        kind: text("kind"),
        target: text("target"),
        details: details
            .map(|(key, value)| {
                (
                    key.clone(),
                    value.as_str().map_or_else(|| value.to_string(), str::to_owned),
                )
            })
            .collect(),
    }
}
