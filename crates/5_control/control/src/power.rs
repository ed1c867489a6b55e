//! The steps that bring guests up and down.

use std::time::{Duration, Instant};

use engine::Stop;
use fault::{Fault, Result};
use model::api::StopRequest;
use model::{ExitStatus, GuestKind, Id, Init, NicStatus, Phase, Progress, Watcher};
use ops::{Kind, Step, Work, nothing};
use serde::{Deserialize, Serialize};

use crate::codes::{NO_INIT, NOT_RUNNING, SETUP_FAILED, SHIM_DIED};
use crate::disks;
use crate::hardware::{self, is_machine};
use crate::house::{House, fact};
use crate::records::StoredGuest;
use crate::setup;

/// Seconds that a system has to end gracefully when the request says nothing.
const GRACE: u32 = 30;
/// The same for a command, which has no services to stop.
const GRACE_OF_COMMAND: u32 = 10;
/// The same for a machine, whose processor may be software.
const GRACE_OF_MACHINE: u32 = 120;

/// How long a system may boot before whoever started it goes on without it.
const BOOT: Duration = Duration::from_secs(60);

/// Arguments of the operations on one guest.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct On {
    /// The guest.
    pub id: Id,
    /// How to stop it.
    #[serde(default)]
    pub stop: StopRequest,
    /// Its shim said that policy asks for its removal.
    #[serde(default)]
    pub destroy: bool,
}

impl On {
    pub(crate) fn guest(id: &Id) -> Self {
        On {
            id: id.clone(),
            stop: StopRequest::default(),
            destroy: false,
        }
    }
}

pub(crate) fn id_of(work: &Work) -> Result<Id> {
    Ok(work.args::<On>()?.id)
}

/// Makes the image when it is not here, and writes down what the guest stands on.
pub(crate) fn image() -> Step<House> {
    Step {
        name: "step-image",
        run: |house, work| {
            let stored = house.guest(&id_of(work)?)?;
            let spec = &stored.guest.spec;
            if spec.image.is_nothing() || has_disk(house, &stored) {
                return Ok(());
            }
            if !stored.layers.is_empty() && stored.layers.iter().all(|layer| layer.is_dir()) {
                return Ok(());
            }
            let packages = setup::all_packages(spec)?;
            let image = match spec.kind {
                GuestKind::Container => house.images.ensure(&spec.image, &packages, work)?,
                GuestKind::Machine => house.images.ensure_any(&spec.image, &packages, work)?,
            };
            if image.disk.is_some() {
                hardware::without_tree(&spec.setup)?;
            } else if spec.init == Init::System && !image.has_init {
                return Err(Fault::new(NO_INIT)
                    .arg("image", &spec.image)
                    .arg("name", &stored.guest.name));
            }
            house
                .change(stored.id(), |stored, txn| {
                    stored.guest.spec.image_digest = Some(image.spec.digest.clone());
                    stored.layers.clone_from(&image.layers);
                    stored.disk_format = image
                        .disk
                        .as_ref()
                        .map(|disk| disks::word(disk.format).to_owned());
                    // On disk with the operation's next word at the latest; until then this step is repeated.
                    Ok(txn.observed())
                })
                .map(drop)
        },
        undo: nothing,
    }
}

/// Addresses, shim, namespaces, links.
pub(crate) fn raise() -> Step<House> {
    Step {
        name: "step-create",
        run: |house, work| {
            let id = id_of(work)?;
            house.copies.await_end(&id, work)?;
            if running(house, &id)? {
                work.yields("already", "running");
                return Ok(());
            }
            house.observe(&id, |status| {
                status.phase = Phase::Starting;
                status.exit = None;
                status.reason = None;
            })?;
            house.raise(&id).map(drop)
        },
        undo: |house, work| match house.find(&id_of(work)?)? {
            Some(stored) => house.lower(&stored, true),
            None => Ok(()),
        },
    }
}

/// What is done inside once, before the first boot.
pub(crate) fn set_up() -> Step<House> {
    Step {
        name: "step-setup",
        run: |house, work| {
            let id = id_of(work)?;
            let stored = house.guest(&id)?;
            let spec = &stored.guest.spec;
            if stored.set_up || stored.layers.is_empty() || has_disk(house, &stored) {
                return Ok(());
            }
            let host_keys = stored.layers.iter().any(|layer| {
                // Only whether something is there; what a link of the image means is not followed.
                layer.join("usr/sbin/sshd").symlink_metadata().is_ok()
            });
            let proxy = match spec.setup.proxy.as_deref() {
                Some("host") => house.settings.proxy.as_deref(),
                Some("none") | None => None,
                given => given,
            };
            let Some(plan) = setup::process(&spec.setup, &spec.init, host_keys, proxy) else {
                return Ok(());
            };
            let (exit, output) = house.shim(&stored)?.run(plan, setup::SCRIPT.to_owned())?;
            if exit != ExitStatus::Code(0) {
                return Err(setup_failed(&stored, exit, &output));
            }
            house
                .change(&id, |stored, txn| {
                    stored.set_up = true;
                    Ok(txn)
                })
                .map(drop)
        },
        undo: nothing,
    }
}

pub(crate) fn setup_failed(stored: &StoredGuest, exit: ExitStatus, output: &str) -> Fault {
    let last: Vec<&str> = output.lines().rev().take(6).collect();
    let last: Vec<&str> = last.into_iter().rev().collect();
    let exit = match exit {
        ExitStatus::Code(code) => code.to_string(),
        ExitStatus::Signal(signal) => format!("signal {signal}"),
        ExitStatus::Poweroff | ExitStatus::Reboot => "reboot".to_owned(),
    };
    Fault::new(SETUP_FAILED)
        .arg("name", &stored.guest.name)
        .arg("status", exit)
        .because_of(last.join(" | "))
}

/// Whether a machine has the disk that is made for it.
fn has_disk(house: &House, stored: &StoredGuest) -> bool {
    let made = hardware::made_disk(&stored.guest.spec).is_some();
    made && hardware::disk_file(&house.state_of(stored.id()), stored.disk_format()).exists()
}

/// The disk of a machine, once: from the tree of its image, or empty.
pub(crate) fn disk() -> Step<House> {
    Step {
        name: "step-disk",
        run: |house, work| {
            let stored = house.guest(&id_of(work)?)?;
            let Some(size) = hardware::made_disk(&stored.guest.spec) else {
                return Ok(());
            };
            if has_disk(house, &stored) {
                return Ok(());
            }
            disks::make(house, &stored, size, work)
        },
        undo: nothing,
    }
}

/// Ports of the host.
pub(crate) fn publish() -> Step<House> {
    Step {
        name: "step-publish",
        run: |house, work| {
            let stored = house.guest(&id_of(work)?)?;
            if stored.nics.is_empty() {
                return Ok(());
            }
            house.networks.publish(stored.id(), &stored.guest.spec.publish)
        },
        undo: |house, work| house.networks.publish(&id_of(work)?, &[]),
    }
}

/// Process 1.
pub(crate) fn start() -> Step<House> {
    Step {
        name: "step-start",
        run: |house, work| {
            let id = id_of(work)?;
            let stored = house.guest(&id)?;
            let mut shim = house.shim(&stored)?;
            if shim.status()?.phase == Phase::Starting {
                house.watch.subscribe(&id, &house.run_of(&id))?;
                shim.start()?;
            }
            house.refresh(&id)?;
            tell_addresses(work, &house.guest(&id)?.guest.status.nics);
            Ok(())
        },
        undo: nothing,
    }
}

/// Until the guest's system says that it is up, so that the next command finds its services; not for ever, and
/// whoever cancels the wait has a running guest all the same.
pub(crate) fn boot() -> Step<House> {
    Step {
        name: "step-boot",
        run: |house, work| {
            let stored = house.guest(&id_of(work)?)?;
            if stored.guest.spec.init != Init::System {
                return Ok(());
            }
            let begin = Instant::now();
            let mut waited = false;
            while booting(house, &stored) {
                waited = true;
                if begin.elapsed() > BOOT || work.safe_point().is_err() {
                    work.notice("notice-booting");
                    break;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            if waited {
                // It may have ended meanwhile.
                house.refresh(stored.id())?;
            }
            Ok(())
        },
        undo: nothing,
    }
}

fn booting(house: &House, stored: &StoredGuest) -> bool {
    let status = house.shim(stored).and_then(|mut shim| shim.status());
    status.is_ok_and(|status| status.booting && status.phase == Phase::Running)
}

fn tell_addresses(work: &mut Work, nics: &[NicStatus]) {
    let addresses: Vec<&str> = nics
        .iter()
        .flat_map(|nic| &nic.addresses)
        .map(|address| address.split('/').next().unwrap_or(address))
        .collect();
    if !addresses.is_empty() {
        work.yields("addresses", addresses.join(" "));
    }
}

/// Whether the guest runs in truth, whatever its record says.
pub(crate) fn running(house: &House, id: &Id) -> Result<bool> {
    let status = house.refresh(id)?;
    Ok(status.is_some_and(|status| matches!(status.phase, Phase::Running | Phase::Paused)))
}

/// Ends process 1, asking first unless told otherwise.
pub(crate) fn stop() -> Step<House> {
    Step {
        name: "step-stop",
        run: |house, work| {
            let on: On = work.args()?;
            let Some(stored) = house.find(&on.id)? else {
                return Ok(());
            };
            let Ok(mut shim) = house.shim(&stored) else {
                return Ok(());
            };
            let phase = shim.status()?.phase;
            if phase == Phase::Stopped {
                return Ok(());
            }
            house.observe(&on.id, |status| status.phase = Phase::Stopping)?;
            let how = if on.stop.force {
                Stop::Forced
            } else {
                let usual = match stored.guest.spec.init {
                    Init::System if is_machine(&stored.guest.spec) => GRACE_OF_MACHINE,
                    Init::System => GRACE,
                    Init::Command { .. } => GRACE_OF_COMMAND,
                };
                let seconds = on.stop.timeout.unwrap_or(usual);
                engine::graceful(Duration::from_secs(seconds.into()))
            };
            if phase == Phase::Paused {
                // A frozen guest cannot hear that it shall end.
                shim.resume()?;
            }
            work.progress(Progress::default());
            match shim.stop(how) {
                Ok(_) => Ok(()),
                // It ended by itself between the question and the order, or its shim died: both are down.
                Err(_) if !running(house, &on.id)? => Ok(()),
                Err(fault) => Err(fault),
            }
        },
        undo: |house, work| house.refresh(&id_of(work)?).map(drop),
    }
}

/// Gives back what a guest holds of the host once its process 1 has ended.
pub(crate) fn settle() -> Step<House> {
    Step {
        name: "step-settle",
        run: |house, work| {
            let id = id_of(work)?;
            let Some(stored) = house.find(&id)? else {
                return Ok(());
            };
            if !house.run_of(&id).exists() && !is_alive(stored.guest.status.phase) {
                return Ok(());
            }
            let seen = house.refresh(&id)?;
            let died = seen.is_none() && is_alive(stored.guest.status.phase);
            if seen.is_some_and(|status| is_alive(status.phase) && status.phase != Phase::Starting) {
                // Somebody brought it up again.
                return Ok(());
            }
            house.lower(&stored, true)?;
            let reason = died.then(|| Fault::new(SHIM_DIED).arg("name", &stored.guest.name));
            house
                .change(&id, |stored, txn| {
                    let status = &mut stored.guest.status;
                    let was_stopping = status.phase == Phase::Stopping;
                    status.pid = None;
                    status.shim_pid = None;
                    status.processor = None;
                    status.phase = if died && !was_stopping {
                        Phase::Failed
                    } else {
                        Phase::Stopped
                    };
                    if died && !was_stopping {
                        status.reason.clone_from(&reason);
                    }
                    let kind = if status.phase == Phase::Failed {
                        "guest.failed"
                    } else {
                        "guest.stopped"
                    };
                    let details = match status.exit {
                        Some(exit) => vec![("exit", exit_word(exit))],
                        None => Vec::new(),
                    };
                    let event = fact(kind, &stored.guest.name, &details);
                    // On disk with the operation's end at the latest; until then this step is repeated.
                    Ok(txn.event(&event).observed())
                })
                .map(drop)
        },
        undo: nothing,
    }
}

pub(crate) fn is_alive(phase: Phase) -> bool {
    matches!(
        phase,
        Phase::Starting | Phase::Running | Phase::Paused | Phase::Stopping
    )
}

/// How an end is told in events.
pub(crate) fn exit_word(exit: ExitStatus) -> String {
    match exit {
        ExitStatus::Code(code) => format!("code {code}"),
        ExitStatus::Signal(signal) => format!("signal {signal}"),
        ExitStatus::Poweroff => "poweroff".to_owned(),
        ExitStatus::Reboot => "reboot".to_owned(),
    }
}

/// Takes an ephemeral guest, or one whose policy says so, away once it has ended.
fn take_away_if_due() -> Step<House> {
    Step {
        name: "step-remove",
        run: |house, work| {
            let on: On = work.args()?;
            let Some(stored) = house.find(&on.id)? else {
                return Ok(());
            };
            let due = on.destroy || stored.guest.spec.ephemeral;
            if due && !is_alive(stored.guest.status.phase) {
                crate::remove::take_away(house, &stored, true)?;
                work.yields("removed", stored.guest.name.to_string());
            }
            Ok(())
        },
        undo: nothing,
    }
}

/// A guest that could not be brought up is down, and tells why.
fn failed_to_start(house: &House, work: &mut Work, fault: &Fault) -> Result<()> {
    let id = id_of(work)?;
    let Some(stored) = house.find(&id)? else {
        return Ok(());
    };
    house.lower(&stored, true)?;
    let cancelled = fault.is(model::CANCELLED);
    house
        .change(&id, |stored, txn| {
            let status = &mut stored.guest.status;
            status.phase = if cancelled { Phase::Stopped } else { Phase::Failed };
            status.reason = (!cancelled).then(|| fault.clone());
            status.wanted = false;
            status.pid = None;
            status.shim_pid = None;
            let details = [("fault", fault.to_string())];
            let event = fact("guest.failed", &stored.guest.name, &details);
            Ok(txn.event(&event))
        })
        .map(drop)
}

/// What could not be done leaves the guest as it is found.
pub(crate) fn look_again(house: &House, work: &mut Work, _: &Fault) -> Result<()> {
    house.refresh(&id_of(work)?).map(drop)
}

pub(crate) fn simple(name: &'static str, run: fn(&House, &mut Work) -> Result<()>) -> Kind<House> {
    Kind {
        name,
        steps: vec![Step {
            name: "step-do",
            run,
            undo: nothing,
        }],
        abandoned: look_again,
    }
}

/// The kinds of operations of this module.
pub(crate) fn kinds() -> Vec<Kind<House>> {
    vec![
        Kind {
            name: "start",
            steps: vec![image(), raise(), set_up(), disk(), publish(), start(), boot()],
            abandoned: failed_to_start,
        },
        Kind {
            name: "stop",
            steps: vec![stop(), settle(), take_away_if_due()],
            abandoned: look_again,
        },
        Kind {
            name: "restart",
            steps: vec![
                stop(),
                settle(),
                image(),
                raise(),
                set_up(),
                disk(),
                publish(),
                start(),
                boot(),
            ],
            abandoned: failed_to_start,
        },
        Kind {
            name: "settle",
            steps: vec![settle(), take_away_if_due()],
            abandoned: look_again,
        },
        simple("pause", |house, work| {
            let stored = house.guest(&id_of(work)?)?;
            let mut shim = house.shim(&stored)?;
            if shim.status()?.phase != Phase::Paused {
                shim.pause()?;
            }
            house.refresh(stored.id()).map(drop)
        }),
        simple("resume", |house, work| {
            let stored = house.guest(&id_of(work)?)?;
            let mut shim = house.shim(&stored)?;
            match shim.status()?.phase {
                Phase::Running => {}
                Phase::Paused => shim.resume()?,
                _ => return Err(Fault::new(NOT_RUNNING).arg("name", &stored.guest.name)),
            }
            house.refresh(stored.id()).map(drop)
        }),
    ]
}
