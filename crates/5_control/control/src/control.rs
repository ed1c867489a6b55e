//! The control plane as the doors see it: every verb, on every noun.

use std::path::Path;
use std::sync::{Arc, MutexGuard, OnceLock, PoisonError, Weak};

use engine::protocol::FileJob;
use engine::{Engine, ExecPlan, Plan};
use fault::{Fault, OrFault, Result};
use images::Images;
use model::api::{
    ExecRequest, LaunchRequest, PasswdRequest, PublishRequest, RenameRequest, Session, SpecPatch,
    StopRequest, TrashEntry,
};
use model::{Event, Guest, GuestSpec, GuestStatus, Id, Name, Operation};
use networks::Networks;
use ops::{Actor, New, Runner};
use serde::Serialize;
use store::{Expected, Store, Txn};

use crate::admission::{self, Go, Known, Verb};
use crate::amend::{Change, Password, Renaming};
use crate::codes::{KIND_ABSENT, MOUNT_MISSING, NOT_RUNNING, RUN_DIR_TAKEN, VALUE_INVALID};
use crate::copies::{self, Files};
use crate::house::{House, Settings, broken, event_of, fact, make_dir};
use crate::power::On;
use crate::records::{FORMAT, StoredGuest, guest_key, name_key, now_ms, range_key};
use crate::remove::{self, Removal};
use crate::watch::Watch;
use crate::{adopt, amend, disks, hardware, ids, launch, merge, names, nouns, power};

/// The control plane.
pub struct Control {
    house: Arc<House>,
    runner: Arc<Runner<House>>,
    /// Locked as long as this daemon lives.
    _lock: std::fs::File,
}

impl Control {
    /// Opens the state directory, finds every guest again, and goes on where the last daemon was.
    ///
    /// # Errors
    /// Faults of the store (`STO…`), of the directories, of images and networks.
    pub fn open(settings: Settings) -> Result<Arc<Self>> {
        for dir in [&settings.state_dir, &settings.cache_dir, &settings.run_dir] {
            std::fs::create_dir_all(dir).or_fault(|| broken(dir))?;
        }
        // Before anything is looked at: what runs there belongs to the daemon that holds the lock.
        let lock = lock(&settings.run_dir)?;
        make_dir(&settings.state_dir, 0o711, None)?;
        make_dir(&settings.state_dir.join("guests"), 0o711, None)?;
        make_dir(&settings.run_dir, 0o755, None)?;
        make_dir(&settings.run_dir.join("guests"), 0o755, None)?;
        let store = Arc::new(Store::open(&settings.state_dir.join("store.redb"), FORMAT, &[])?);
        let images = Images::open(images::Settings {
            state_dir: settings.state_dir.clone(),
            cache_dir: settings.cache_dir.clone(),
            worker_exe: settings.worker_exe.clone(),
            shim_exe: settings.shim_exe.clone(),
            ids: ids::of_images(),
        })?;
        let networks = Networks::open(networks::Settings {
            state_dir: settings.state_dir.clone(),
            run_dir: settings.run_dir.clone(),
            posada_exe: settings.posada_exe.clone(),
        })?;
        let slot: Arc<OnceLock<Weak<Control>>> = Arc::default();
        let later = Arc::clone(&slot);
        let watch = Watch::start(move |id, heard| {
            if let Some(control) = later.get().and_then(Weak::upgrade) {
                adopt::follow(&control, id, heard);
            }
        })?;
        let kinds = [
            launch::kinds(),
            power::kinds(),
            remove::kinds(),
            amend::kinds(),
            nouns::kinds(),
            copies::kinds(),
        ];
        let kinds = kinds.into_iter().flatten().collect();
        let runner = Arc::new(Runner::new(Arc::clone(&store), kinds));
        let house = Arc::new(House::new(settings, store, images, networks, watch));
        let control = Arc::new(Control {
            house,
            runner,
            _lock: lock,
        });
        // The slot is set once, here.
        let _ = slot.set(Arc::downgrade(&control));
        adopt::default_records(&control.house)?;
        adopt::guests(&control.house)?;
        adopt::go_on(&control)?;
        Ok(control)
    }

    pub(crate) fn house(&self) -> &House {
        &self.house
    }

    pub(crate) fn house_arc(&self) -> &Arc<House> {
        &self.house
    }

    /// The operations.
    pub fn runner(&self) -> &Arc<Runner<House>> {
        &self.runner
    }

    /// The store, for those who wait for changes.
    #[must_use]
    pub fn store(&self) -> &Arc<Store> {
        &self.house.store
    }

    /// Every guest, by name.
    ///
    /// # Errors
    /// Faults of the store.
    pub fn guests(&self) -> Result<Vec<Guest>> {
        let all = self.house.guests()?;
        Ok(all.into_iter().map(|stored| stored.guest).collect())
    }

    /// One guest by name or identity.
    ///
    /// # Errors
    /// `GST001`.
    pub fn guest(&self, name: &str) -> Result<Guest> {
        Ok(self.house.named(name)?.guest)
    }

    /// Makes a guest and starts it.
    ///
    /// # Errors
    /// What admission refuses with.
    pub fn launch(&self, request: LaunchRequest, actor: &Actor) -> Result<Operation> {
        let _judged = self.admission();
        let stored = self.admit(&request)?;
        let key = name_key(&stored.guest.name);
        let mut txn = Txn::new()
            .expect(&key, Expected::Absent)
            .put(&key, stored.id())
            .put(&guest_key(stored.id()), &stored)
            .event(&fact("guest.created", &stored.guest.name, &[]));
        if let Some(ids) = stored.ids {
            let key = range_key(ids.base);
            txn = txn.expect(&key, Expected::Absent).put(&key, stored.id());
        }
        let kind = match (request.hold, request.no_start) {
            (true, _) => "hold",
            (false, true) => "define",
            (false, false) => "launch",
        };
        self.submit(kind, &stored, &On::guest(stored.id()), actor, txn)
    }

    /// The plan that a launch would carry out; nothing is changed. An image that is not here yet leaves the layers
    /// empty, an address not allocated yet the cards.
    ///
    /// # Errors
    /// What admission refuses with.
    pub fn launch_plan(&self, request: &LaunchRequest) -> Result<Plan> {
        let _judged = self.admission();
        let mut stored = self.admit(request)?;
        let spec = &stored.guest.spec;
        let include = crate::setup::all_packages(spec)?;
        if let Some(image) = self.house.images.find(&spec.image, &include)? {
            stored.layers = image.layers;
        }
        let network = match House::wanted_nics(&stored).first() {
            Some(nic) => self.network_seen(&nic.network)?,
            None => None,
        };
        let network = network
            .as_ref()
            .map(|(status, spec)| (status, spec.domain.as_deref()));
        let around = crate::plan::Surroundings {
            network,
            ..self.house.around()
        };
        Ok(crate::plan::plan(&stored, &around))
    }

    fn network_seen(&self, name: &Name) -> Result<Option<(model::NetworkStatus, model::NetworkSpec)>> {
        let all = self.house.networks.list()?;
        let found = all.into_iter().find(|(other, _, _)| other == name);
        Ok(found.map(|(_, spec, status)| (status, spec)))
    }

    /// Judges a launch and makes the record that it would store.
    fn admit(&self, request: &LaunchRequest) -> Result<StoredGuest> {
        let known = self.known(None)?;
        let id = ops::fresh_id();
        let name = match &request.name {
            Some(name) => name.clone(),
            None => names::pleasant(&id, |name| known.names.contains(name)),
        };
        admission::name(&known, &name)?;
        if hardware::is_machine(&request.spec) && !self.house.settings.machine_exe.is_file() {
            return Err(Fault::new(KIND_ABSENT).arg("kind", "machine"));
        }
        admission::spec(&known, &request.spec)?;
        hardware::starts(&request.spec)?;
        mounts_are_there(&request.spec)?;
        let ids = if request.spec.privileged {
            None
        } else {
            Some(self.free_range()?)
        };
        let mut spec = request.spec.clone();
        spec.image_digest = None;
        if hardware::is_machine(&spec) {
            spec.machine.get_or_insert_default();
        }
        disks::settle(&mut spec)?;
        let stored = StoredGuest {
            guest: Guest {
                id,
                name,
                project: Name::default_project(),
                created: model::rfc3339(now_ms()),
                spec,
                status: GuestStatus {
                    wanted: !request.no_start && !request.hold,
                    id_base: ids.map(|ids| ids.base),
                    ..GuestStatus::default()
                },
                revision: 0,
            },
            ids,
            layers: Vec::new(),
            set_up: false,
            disk_format: None,
            nics: Vec::new(),
            removed_ms: None,
        };
        if hardware::is_machine(&stored.guest.spec) {
            engine_machine::MachineEngine.check(&crate::plan::plan(&stored, &self.house.around()))?;
        }
        if stored.guest.status.wanted {
            disks::are_free(&self.house, &stored)?;
        }
        Ok(stored)
    }

    fn free_range(&self) -> Result<jail::recipe::IdRange> {
        let taken = self.house.store.list::<Id>("ranges/")?;
        let taken: std::collections::HashSet<String> = taken.into_iter().map(|(key, _)| key).collect();
        let mut foreign = Vec::new();
        for path in ["/etc/subuid", "/etc/subgid"] {
            // A host without these files has given out nothing.
            let text = std::fs::read_to_string(path).unwrap_or_default();
            foreign.extend(ids::of_subid_file(&text));
        }
        ids::lowest_free(|base| taken.contains(&range_key(base)), &foreign)
    }

    fn known(&self, but: Option<&Id>) -> Result<Known> {
        let mut known = Known {
            host_memory: disks::host_memory(),
            ..Known::default()
        };
        for stored in self.house.guests()? {
            if Some(stored.id()) == but {
                continue;
            }
            for publish in &stored.guest.spec.publish {
                known.published.push((stored.guest.name.clone(), publish.clone()));
            }
            known.names.insert(stored.guest.name);
        }
        for (key, _) in self.house.store.list::<serde_json::Value>("networks/")? {
            if let Some(Ok(name)) = key.strip_prefix("networks/").map(str::parse) {
                known.networks.insert(name);
            }
        }
        Ok(known)
    }

    fn admission(&self) -> MutexGuard<'_, ()> {
        self.house
            .admission
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn submit(
        &self,
        kind: &'static str,
        stored: &StoredGuest,
        args: &impl Serialize,
        actor: &Actor,
        txn: Txn,
    ) -> Result<Operation> {
        self.submit_on(kind, stored.target(), stored.id().0.clone(), args, actor, txn)
    }

    pub(crate) fn submit_on(
        &self,
        kind: &'static str,
        target: String,
        queue: String,
        args: &impl Serialize,
        actor: &Actor,
        txn: Txn,
    ) -> Result<Operation> {
        let args = serde_json::to_value(args).or_fault(|| Fault::new(VALUE_INVALID).arg("field", "args"))?;
        let new = New {
            kind,
            target,
            queue,
            args,
            actor: actor.clone(),
        };
        self.runner.submit(&self.house, new, txn)
    }

    /// Judges a verb by the guest's phase, with everything on its way for it thought done.
    fn judge(&self, verb: Verb, stored: &StoredGuest, force: bool) -> Result<Go> {
        let guest = &stored.guest;
        let queued = !self.runner.open_in(&guest.id.0)?.is_empty();
        let go = admission::verb(verb, &guest.name, guest.status.phase, guest.spec.protect, force);
        match go {
            // Judged again, by the truth, when its turn comes.
            Ok(Go::Already) if queued => Ok(Go::Do),
            Err(fault) if queued && !fault.is(crate::codes::PROTECTED) && verb != Verb::Remove => {
                let enters = verb == Verb::Enter;
                if enters { Err(fault) } else { Ok(Go::Do) }
            }
            go => go,
        }
    }

    fn power(&self, verb: Verb, name: &str, stop: StopRequest, actor: &Actor) -> Result<Operation> {
        let stored = self.house.named(name)?;
        let go = self.judge(verb, &stored, stop.force)?;
        if verb == Verb::Start && go == Go::Do {
            disks::are_free(&self.house, &stored)?;
        }
        let on = On {
            stop,
            ..On::guest(stored.id())
        };
        // What start and stop set outlives the operation.
        let wanted = match verb {
            Verb::Start | Verb::Restart => Some(true),
            Verb::Stop => Some(false),
            _ => None,
        };
        if let Some(wanted) = wanted {
            self.house.observe(stored.id(), |status| status.wanted = wanted)?;
        }
        self.submit(verb.word(), &stored, &on, actor, Txn::new())
    }

    /// Brings a guest up.
    ///
    /// # Errors
    /// `GST001`, `GST016`.
    pub fn start(&self, name: &str, actor: &Actor) -> Result<Operation> {
        self.power(Verb::Start, name, StopRequest::default(), actor)
    }

    /// Brings a guest down.
    ///
    /// # Errors
    /// `GST001`, `GST006`.
    pub fn stop(&self, name: &str, request: StopRequest, actor: &Actor) -> Result<Operation> {
        self.power(Verb::Stop, name, request, actor)
    }

    /// Down and up again.
    ///
    /// # Errors
    /// `GST001`, `GST006`.
    pub fn restart(&self, name: &str, request: StopRequest, actor: &Actor) -> Result<Operation> {
        self.power(Verb::Restart, name, request, actor)
    }

    /// Freezes a guest.
    ///
    /// # Errors
    /// `GST001`, `GST004`.
    pub fn pause(&self, name: &str, actor: &Actor) -> Result<Operation> {
        self.power(Verb::Pause, name, StopRequest::default(), actor)
    }

    /// Thaws a guest.
    ///
    /// # Errors
    /// `GST001`, `GST004`.
    pub fn resume(&self, name: &str, actor: &Actor) -> Result<Operation> {
        self.power(Verb::Resume, name, StopRequest::default(), actor)
    }

    /// Takes a guest away: into the trash, or for good.
    ///
    /// # Errors
    /// `GST001`, `GST005`, `GST006`.
    pub fn remove(&self, name: &str, purge: bool, force: bool, actor: &Actor) -> Result<Operation> {
        let stored = self.house.named(name)?;
        self.judge(Verb::Remove, &stored, force)?;
        if force {
            for operation in self.runner.open_in(&stored.id().0)? {
                // One that has just ended needs no cancelling.
                let _ = self.runner.cancel(&operation.id);
            }
        }
        let removal = Removal {
            id: stored.id().clone(),
            purge,
            force,
        };
        self.submit("rm", &stored, &removal, actor, Txn::new())
    }

    /// Gives a guest another name.
    ///
    /// # Errors
    /// `GST001`, `GST002`.
    pub fn rename(&self, name: &str, request: RenameRequest, actor: &Actor) -> Result<Operation> {
        let _judged = self.admission();
        let stored = self.house.named(name)?;
        if stored.guest.name != request.name {
            admission::name(&self.known(Some(stored.id()))?, &request.name)?;
        }
        let renaming = Renaming {
            id: stored.id().clone(),
            old: stored.guest.name.clone(),
            new: request.name,
        };
        self.submit("rename", &stored, &renaming, actor, Txn::new())
    }

    /// Changes the specification.
    ///
    /// # Errors
    /// `GST001`, `GST009`, `GST010`, and what admission refuses with.
    pub fn set(&self, name: &str, patch: &SpecPatch, actor: &Actor) -> Result<Operation> {
        let stored = self.house.named(name)?;
        let new = merge::patched(&stored.guest.spec, &patch.0)?;
        self.amend("set", &stored, new, actor)
    }

    /// Adds forwards and takes some away.
    ///
    /// # Errors
    /// `GST001`, `GST008`.
    pub fn publish(&self, name: &str, request: &PublishRequest, actor: &Actor) -> Result<Operation> {
        let stored = self.house.named(name)?;
        let mut new = stored.guest.spec.clone();
        new.publish.retain(|one| !request.remove.contains(one));
        for one in &request.add {
            if !new.publish.contains(one) {
                new.publish.push(one.clone());
            }
        }
        self.amend("publish", &stored, new, actor)
    }

    fn amend(
        &self,
        kind: &'static str,
        stored: &StoredGuest,
        mut new: GuestSpec,
        actor: &Actor,
    ) -> Result<Operation> {
        let _judged = self.admission();
        admission::spec(&self.known(Some(stored.id()))?, &new)?;
        if new.machine != stored.guest.spec.machine {
            disks::settle(&mut new)?;
        }
        if new.mounts != stored.guest.spec.mounts {
            mounts_are_there(&new)?;
        }
        let change = Change {
            id: stored.id().clone(),
            old: stored.guest.spec.clone(),
            new,
        };
        self.submit(kind, stored, &change, actor, Txn::new())
    }

    /// Sets a password inside.
    ///
    /// # Errors
    /// `GST001`, `GST020`.
    pub fn passwd(&self, name: &str, request: PasswdRequest, actor: &Actor) -> Result<Operation> {
        let stored = self.house.named(name)?;
        let user = request.user.unwrap_or_else(|| "root".to_owned());
        if !admission::is_user(&user) {
            return Err(Fault::new(VALUE_INVALID).arg("field", "user").arg("value", user));
        }
        if !admission::is_password_hash(&request.password_hash) {
            return Err(Fault::new(VALUE_INVALID)
                .arg("field", "password_hash")
                .arg("value", "…"));
        }
        let down = !power::is_alive(stored.guest.status.phase);
        if down && hardware::is_machine(&stored.guest.spec) && self.runner.open_in(&stored.id().0)?.is_empty()
        {
            return Err(Fault::new(NOT_RUNNING).arg("name", &stored.guest.name));
        }
        let password = Password {
            id: stored.id().clone(),
            user,
            hash: request.password_hash,
        };
        self.submit("passwd", &stored, &password, actor, Txn::new())
    }

    /// A ticket for a process beside the guest's own.
    ///
    /// # Errors
    /// `GST001`, `GST004`, `GST016`.
    pub fn exec(&self, name: &str, request: ExecRequest) -> Result<Session> {
        let stored = self.entered(name)?;
        let plan = ExecPlan {
            argv: request.argv,
            env: request.env,
            workdir: request.workdir,
            user: request.user,
            terminal: request.terminal.map(|size| (size.rows, size.cols)),
        };
        let ticket = self.house.shim(&stored)?.exec(plan)?;
        Ok(self.session(&stored, ticket))
    }

    /// A ticket for the guest's console.
    ///
    /// # Errors
    /// `GST001`, `GST004`.
    pub fn console(&self, name: &str) -> Result<Session> {
        let stored = self.house.named(name)?;
        let ticket = self.house.shim(&stored)?.console()?;
        Ok(self.session(&stored, ticket))
    }

    fn entered(&self, name: &str) -> Result<StoredGuest> {
        let stored = self.house.named(name)?;
        self.judge(Verb::Enter, &stored, false)?;
        Ok(stored)
    }

    fn session(&self, stored: &StoredGuest, ticket: String) -> Session {
        let socket = self.house.run_of(stored.id()).join("attach.sock");
        Session {
            socket: socket.to_string_lossy().into_owned(),
            ticket,
        }
    }

    /// A tar stream of what lies at a path inside, from a guest that runs or not.
    ///
    /// # Errors
    /// `GST001`, `GST020`, faults of the shim.
    pub fn read_files(&self, name: &str, path: &str) -> Result<Files> {
        self.files(
            name,
            FileJob::Read {
                path: absolute(path)?,
            },
        )
    }

    /// Takes a tar stream into the directory at a path inside.
    ///
    /// # Errors
    /// `GST001`, `GST020`, faults of the shim.
    pub fn write_files(&self, name: &str, path: &str) -> Result<Files> {
        self.files(
            name,
            FileJob::Write {
                path: absolute(path)?,
            },
        )
    }

    fn files(&self, name: &str, job: FileJob) -> Result<Files> {
        copies::begin(&self.house, &self.runner, self.house.named(name)?, job)
    }

    /// What is in the trash.
    ///
    /// # Errors
    /// Faults of the store.
    pub fn trash(&self) -> Result<Vec<TrashEntry>> {
        let mut all: Vec<TrashEntry> = remove::trash(&self.house)?.iter().map(remove::entry_of).collect();
        all.sort_by(|one, other| other.removed.cmp(&one.removed));
        Ok(all)
    }

    /// Brings a guest back from the trash, by identity or name.
    ///
    /// # Errors
    /// `GST018`.
    pub fn restore(&self, which: &str, actor: &Actor) -> Result<Operation> {
        let stored = remove::in_trash(&self.house, which)?;
        self.submit("restore", &stored, &On::guest(stored.id()), actor, Txn::new())
    }

    /// Deletes for good everything in the trash.
    ///
    /// # Errors
    /// Faults of the store.
    pub fn empty_trash(&self, actor: &Actor) -> Result<Operation> {
        let nothing = serde_json::json!({});
        self.submit_on(
            "empty-trash",
            "trash".to_owned(),
            "trash".to_owned(),
            &nothing,
            actor,
            Txn::new(),
        )
    }

    /// Facts after a revision, oldest first, at most `limit`.
    ///
    /// # Errors
    /// Faults of the store.
    pub fn events(&self, since: u64, limit: usize) -> Result<Vec<Event>> {
        let stored = self.house.store.events(since, limit)?;
        Ok(stored.into_iter().map(event_of).collect())
    }
}

/// Takes the run directory for this daemon alone.
fn lock(run_dir: &Path) -> Result<std::fs::File> {
    let path = run_dir.join("daemon.lock");
    let file = std::fs::File::create(&path).or_fault(|| broken(&path))?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)
        .or_fault(|| Fault::new(RUN_DIR_TAKEN).arg("path", run_dir.display()))?;
    Ok(file)
}

fn absolute(path: &str) -> Result<String> {
    if !path.starts_with('/') || path.contains('\0') || path.len() > 4095 {
        return Err(Fault::new(VALUE_INVALID).arg("field", "path").arg("value", path));
    }
    Ok(path.to_owned())
}

fn mounts_are_there(spec: &GuestSpec) -> Result<()> {
    match spec
        .mounts
        .iter()
        .find(|mount| !Path::new(&mount.source).exists())
    {
        Some(mount) => Err(Fault::new(MOUNT_MISSING).arg("path", &mount.source)),
        None => Ok(()),
    }
}
