//! What a new daemon does with the world it finds: adopt shims, clean up after dead ones, go on with operations.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use engine::protocol::Told;
use engine::shim::Shim;
use fault::{Fault, OrFault, Result};
use model::{Id, NetworkSpec, Phase, Reaction};
use ops::Actor;
use store::{Expected, Txn};

use crate::codes::SHIM_DIED;
use crate::control::Control;
use crate::house::{House, broken, default_network, fact};
use crate::power::{On, exit_word, is_alive};
use crate::records::{StoredGuest, network_key};
use crate::remove;
use crate::watch::Heard;

/// Actor of what the daemon begins by itself.
pub(crate) fn daemon() -> Actor {
    "daemon".into()
}

/// How often the daemon looks after what has no events.
const ROUND: Duration = Duration::from_secs(5);

/// Records the default network once.
pub(crate) fn default_records(house: &House) -> Result<()> {
    let key = network_key(&default_network());
    if house.store.get::<NetworkSpec>(&key)?.is_none() {
        let txn = Txn::new()
            .expect(&key, Expected::Absent)
            .put(&key, &NetworkSpec::default());
        house.store.commit(txn)?;
    }
    Ok(())
}

/// Finds every guest again. Afterwards every record tells the truth and every living shim is listened to.
pub(crate) fn guests(house: &House) -> Result<()> {
    let mut known = HashSet::new();
    for stored in house.guests()? {
        known.insert(stored.id().clone());
        if let Err(fault) = guest(house, &stored) {
            house.observe(stored.id(), |status| {
                status.phase = Phase::Failed;
                status.reason = Some(fault.clone());
            })?;
        }
    }
    let alive: Vec<Id> = known.iter().cloned().collect();
    house.networks.sweep(&alive)?;
    let trashed: HashSet<Id> = remove::trash(house)?
        .iter()
        .map(|stored| stored.id().clone())
        .collect();
    orphans(&house.settings.run_dir.join("guests"), &known, |id| {
        let run_dir = house.run_of(id);
        if let Ok(mut shim) = Shim::connect(&run_dir) {
            let _ = shim.stop(engine::Stop::Forced);
            let _ = shim.delete();
        }
        shim_server::cleanup(&run_dir)?;
        remove::delete_tree(&run_dir)
    })?;
    let state = &house.settings.state_dir;
    orphans(&state.join("guests"), &known, |id| {
        remove::delete_tree(&house.state_of(id))
    })?;
    orphans(&state.join("trash"), &trashed, |id| {
        // A crash between moving the tree and recording it leaves a known guest's tree here.
        if known.contains(id) && !house.state_of(id).exists() {
            let back = house.state_of(id);
            return std::fs::rename(remove::trash_dir(house, id), &back).or_fault(|| broken(&back));
        }
        remove::delete_tree(&remove::trash_dir(house, id))
    })
}

fn guest(house: &House, stored: &StoredGuest) -> Result<()> {
    let id = stored.id();
    let phase = stored.guest.status.phase;
    let begun = Shim::connect(&house.run_of(id)).and_then(|mut shim| shim.status());
    if begun.is_ok_and(|status| matches!(status.phase, Phase::Starting | Phase::Defined)) {
        // Half up, for an operation that will begin again or for a copy that nobody waits for any more.
        house.lower(stored, true)?;
        return house.observe(id, |status| {
            if is_alive(status.phase) {
                status.phase = Phase::Stopped;
            }
        });
    }
    if let Some(status) = house.refresh(id)? {
        house.watch.subscribe(id, &house.run_of(id))?;
        if status.phase == Phase::Stopped && is_alive(phase) {
            // Ended while no daemon listened; the operation that gives back what it held follows.
            let event = fact("guest.exited", &stored.guest.name, &exit_details(status.exit));
            house.store.commit(Txn::new().event(&event).observed())?;
        }
        return Ok(());
    }
    let there = house.run_of(id).exists();
    if !there && !is_alive(phase) {
        return Ok(());
    }
    house.lower(stored, true)?;
    let rebooted = !there;
    let reason = Fault::new(SHIM_DIED).arg("name", &stored.guest.name);
    house
        .change(id, |stored, txn| {
            let status = &mut stored.guest.status;
            status.pid = None;
            status.shim_pid = None;
            if !is_alive(status.phase) {
                return Ok(txn.observed());
            }
            // After a reboot of the host there is no run directory: nothing failed, it is just down.
            status.phase = if rebooted { Phase::Stopped } else { Phase::Failed };
            status.reason = (!rebooted).then(|| reason.clone());
            let kind = if rebooted { "guest.stopped" } else { "guest.failed" };
            let event = fact(
                kind,
                &stored.guest.name,
                &[("reason", "host or shim ended".to_owned())],
            );
            Ok(txn.event(&event))
        })
        .map(drop)
}

fn exit_details(exit: Option<model::ExitStatus>) -> Vec<(&'static str, String)> {
    exit.map(|exit| ("exit", exit_word(exit))).into_iter().collect()
}

/// Hands every entry of a directory that is named like an identity and not known to `remove`.
fn orphans(dir: &Path, known: &HashSet<Id>, remove: impl Fn(&Id) -> Result<()>) -> Result<()> {
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.or_fault(|| broken(dir))?,
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_id = name.len() == 32 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        let id = Id(name);
        if is_id && !known.contains(&id) {
            remove(&id)?;
        }
    }
    Ok(())
}

/// What follows from what a shim tells.
pub(crate) fn follow(control: &Arc<Control>, id: &Id, heard: Heard) {
    let house = control.house();
    let Ok(Some(stored)) = house.find(id) else {
        return;
    };
    let name = &stored.guest.name;
    let event = match &heard {
        Heard::Told(Told::Started { pid }) => Some(fact("guest.started", name, &[("pid", pid.to_string())])),
        Heard::Told(Told::Paused) => Some(fact("guest.paused", name, &[])),
        Heard::Told(Told::Resumed) => Some(fact("guest.resumed", name, &[])),
        Heard::Told(Told::OutOfMemory) => Some(fact("guest.out-of-memory", name, &[])),
        Heard::Told(Told::Panicked) => Some(fact("guest.panicked", name, &[])),
        Heard::Told(Told::DiskFull { disk }) => {
            Some(fact("guest.disk-full", name, &[("disk", disk.clone())]))
        }
        Heard::Told(Told::DiskError { disk, error }) => {
            let details = [("disk", disk.clone()), ("error", error.clone())];
            Some(fact("guest.disk-error", name, &details))
        }
        Heard::Told(Told::Ended { exit, again, .. }) => {
            let details = [("exit", exit_word(*exit)), ("again", again.to_string())];
            Some(fact("guest.exited", name, &details))
        }
        Heard::Gone => None,
    };
    // An operation that starts it looks at it afterwards by itself.
    let looked_at = matches!(heard, Heard::Told(Told::Started { .. }))
        && control.runner().open_in(&id.0).is_ok_and(|open| !open.is_empty());
    let seen = if looked_at {
        None
    } else {
        house.refresh_and_tell(id, event.as_ref()).ok().flatten()
    };
    if let (None, Some(event)) = (seen, &event) {
        // One that cannot be written is lost; what it is about is observed again.
        let _ = house.store.commit(Txn::new().event(event).observed());
    }
    match heard {
        Heard::Told(Told::Ended {
            again: false,
            destroy,
            ..
        }) => settle(control, &stored, destroy),
        Heard::Told(_) => {}
        Heard::Gone => {
            settle(control, &stored, false);
            let spec = &stored.guest.spec;
            let again = stored.guest.status.wanted && spec.policies.on_crash == Reaction::Restart;
            if again && is_alive(stored.guest.status.phase) {
                // Without its shim a guest cannot restart itself.
                let _ = control.start(&id.0, &daemon());
            }
        }
    }
}

/// Has what an ended guest held given back, unless an operation that does so is on its way already.
fn settle(control: &Arc<Control>, stored: &StoredGuest, destroy: bool) {
    let open = control.runner().open_in(&stored.id().0).unwrap_or_default();
    let covers = |kind: &str| matches!(kind, "stop" | "restart" | "rm" | "settle");
    if open.iter().any(|operation| covers(&operation.kind)) && !destroy {
        return;
    }
    let house = control.house();
    let alive = house
        .find(stored.id())
        .ok()
        .flatten()
        .is_some_and(|s| is_alive(s.guest.status.phase));
    if !house.run_of(stored.id()).exists() && !alive {
        return;
    }
    let on = On {
        destroy,
        ..On::guest(stored.id())
    };
    // When the store cannot be written, the next daemon finds the guest ended and settles it.
    let _ = control.submit("settle", stored, &on, &daemon(), Txn::new());
}

/// After the daemon found everything: operations go on, ended guests are settled, autostart happens once per boot,
/// and a thread looks after networks and trash.
pub(crate) fn go_on(control: &Arc<Control>) -> Result<()> {
    control.runner().resume(control.house_arc())?;
    for stored in control.house().guests()? {
        let run_dir = control.house().run_of(stored.id());
        let down = matches!(stored.guest.status.phase, Phase::Stopped | Phase::Failed);
        if down && run_dir.exists() {
            settle(control, &stored, false);
        } else if down && stored.guest.spec.ephemeral {
            // Its end came with the host's; it goes as it would have gone.
            control.submit("settle", &stored, &On::guest(stored.id()), &daemon(), Txn::new())?;
        }
    }
    // The volatile directory is empty after a boot; the kernel's boot_id would not tell a container's reboot.
    let mark = control.house().around().run_dir.join("booted");
    let broken = || Fault::new(crate::codes::STATE_BROKEN).arg("path", mark.display());
    if !mark.try_exists().or_fault(broken)? {
        std::fs::write(&mark, "").or_fault(broken)?;
        autostart(control)?;
    }
    let control = Arc::downgrade(control);
    std::thread::Builder::new()
        .name("rounds".to_owned())
        .spawn(move || {
            while let Some(control) = control.upgrade() {
                rounds(control.house());
                drop(control);
                std::thread::sleep(ROUND);
            }
        })
        .or_fault(|| Fault::new(crate::codes::STATE_BROKEN).arg("path", "thread"))
        .map(drop)
}

/// Starts what shall start with the host, lower orders first, each after the delay of the one before.
fn autostart(control: &Arc<Control>) -> Result<()> {
    let mut due: Vec<StoredGuest> = control
        .house()
        .guests()?
        .into_iter()
        .filter(|stored| stored.guest.spec.autostart.enabled && !is_alive(stored.guest.status.phase))
        .collect();
    due.sort_by_key(|stored| (stored.guest.spec.autostart.order, stored.guest.name.clone()));
    if due.is_empty() {
        return Ok(());
    }
    let control = Arc::clone(control);
    std::thread::Builder::new()
        .name("autostart".to_owned())
        .spawn(move || {
            for stored in due {
                // Its own failure stands in its record; the others start all the same.
                let _ = control.start(&stored.id().0, &daemon());
                let delay = stored.guest.spec.autostart.delay;
                std::thread::sleep(Duration::from_secs(delay.into()));
            }
        })
        .or_fault(|| Fault::new(crate::codes::STATE_BROKEN).arg("path", "thread"))
        .map(drop)
}

/// Heals networks whose process died, and deletes what has been in the trash for its time.
fn rounds(house: &House) {
    // What does not heal now is tried again in the next round.
    let _ = house.networks.supervise();
    let _ = remove::empty(house, false);
}
