//! Changing a guest that exists: its specification, name, passwords.

use std::path::Path;

use engine::protocol::Request;
use fault::{Fault, Result};
use model::{GuestSpec, Id, Name, Unenforced};
use ops::{Kind, Step, Work, nothing};
use serde::{Deserialize, Serialize};
use store::{Expected, Txn};

use crate::codes::{NAME_TAKEN, NOT_RUNNING};
use crate::hardware::{self, is_machine};
use crate::house::{House, fact};
use crate::merge;
use crate::power::{look_again, running, setup_failed};
use crate::records::{StoredGuest, name_key};

/// Arguments of a change of the specification.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Change {
    pub id: Id,
    pub old: GuestSpec,
    pub new: GuestSpec,
}

/// Arguments of a change of name.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Renaming {
    pub id: Id,
    pub old: Name,
    pub new: Name,
}

/// Arguments of a change of password.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Password {
    pub id: Id,
    pub user: String,
    pub hash: String,
}

/// Makes a specification hold: in the record, and as far as it can be felt at once, in the running guest.
fn apply(house: &House, id: &Id, from: &GuestSpec, to: &GuestSpec) -> Result<Vec<String>> {
    let changed = merge::changed(from, to);
    let has = |name: &str| changed.iter().any(|field| field == name);
    let up = running(house, id)?;
    let stored = house.guest(id)?;
    let mut unenforced: Option<Vec<Unenforced>> = None;
    if up {
        if has("publish") && !stored.nics.is_empty() {
            house.networks.publish(id, &to.publish)?;
        }
        if has("limits") {
            // A machine keeps the memory that it was started with.
            let limits = match house.memory_in_use(id).filter(|_| is_machine(to)) {
                Some(memory) => hardware::limits(&to.limits, memory),
                None => to.limits.clone(),
            };
            unenforced = Some(house.shim(&stored)?.limit(limits)?);
        }
        if has("policies") {
            house.shim(&stored)?.call(Request::Amend {
                policies: to.policies.clone(),
                nics: stored.nics.clone(),
            })?;
        }
    }
    house.change(id, |stored, txn| {
        stored.guest.spec = to.clone();
        if let Some(list) = &unenforced {
            stored.guest.status.unenforced.clone_from(list);
        }
        let fields = [("fields", changed.join(" "))];
        let event = fact("guest.changed", &stored.guest.name, &fields);
        Ok(txn.event(&event))
    })?;
    if !up {
        return Ok(Vec::new());
    }
    let mut pending = merge::at_next_start(&changed);
    if is_machine(to) {
        pending.retain(|field| field != "machine");
        pending.extend(machine_at_next_start(house, &stored, from, to)?);
    }
    Ok(pending)
}

/// Of a machine's memory and hardware, what it takes up only when it starts again; the medium of its CD-ROM drive is
/// changed at once, where it has one.
fn machine_at_next_start(
    house: &House,
    stored: &StoredGuest,
    from: &GuestSpec,
    to: &GuestSpec,
) -> Result<Vec<String>> {
    let mut waiting = hardware::changed(from, to);
    if waiting.iter().any(|field| field == "iso") {
        let iso = to.machine.as_ref().and_then(|hardware| hardware.iso.as_deref());
        match house.shim(stored)?.medium(hardware::CDROM, iso.map(Path::new)) {
            Ok(()) => waiting.retain(|field| field != "iso"),
            // It was started without a drive, or is not far enough to have one.
            Err(fault) if fault.is(engine::protocol::FACET_ABSENT) => {}
            Err(fault) => return Err(fault),
        }
    }
    let mut pending: Vec<String> = waiting.iter().map(|field| format!("machine.{field}")).collect();
    if from.limits.memory != to.limits.memory {
        pending.push("limits.memory".to_owned());
    }
    Ok(pending)
}

fn set(house: &House, work: &mut Work) -> Result<()> {
    let change: Change = work.args()?;
    let pending = apply(house, &change.id, &change.old, &change.new)?;
    if !pending.is_empty() {
        work.yields("pending", pending.join(" "));
        work.notice("notice-next-start");
    }
    Ok(())
}

fn unset(house: &House, work: &mut Work) -> Result<()> {
    let change: Change = work.args()?;
    match house.find(&change.id)? {
        Some(_) => apply(house, &change.id, &change.new, &change.old).map(drop),
        None => Ok(()),
    }
}

fn give_name(house: &House, id: &Id, from: &Name, to: &Name) -> Result<()> {
    let stored = house.guest(id)?;
    if stored.guest.name != *to {
        let renamed = house.change(id, |stored: &mut StoredGuest, txn: Txn| {
            let event = fact("guest.renamed", from, &[("name", to.to_string())]);
            stored.guest.name = to.clone();
            Ok(txn
                .expect(&name_key(to), Expected::Absent)
                .delete(&name_key(from))
                .put(&name_key(to), id)
                .event(&event))
        });
        renamed?;
    }
    house.networks.rename(id, to)
}

fn rename(house: &House, work: &mut Work) -> Result<()> {
    let renaming: Renaming = work.args()?;
    let owner = house.store.get::<Id>(&name_key(&renaming.new))?;
    if owner.is_some_and(|owner| owner.value != renaming.id) {
        return Err(Fault::new(NAME_TAKEN).arg("name", &renaming.new));
    }
    give_name(house, &renaming.id, &renaming.old, &renaming.new)?;
    let stored = house.guest(&renaming.id)?;
    let spec = &stored.guest.spec;
    // A machine's name inside is its own matter once its disk is made.
    if spec.hostname.is_none() && !is_machine(spec) && running(house, &renaming.id)? {
        work.yields("pending", "hostname");
        work.notice("notice-next-start");
    }
    Ok(())
}

fn rename_back(house: &House, work: &mut Work) -> Result<()> {
    let renaming: Renaming = work.args()?;
    match house.find(&renaming.id)? {
        Some(stored) if stored.guest.name == renaming.new => {
            give_name(house, &renaming.id, &renaming.new, &renaming.old)
        }
        _ => Ok(()),
    }
}

fn password(house: &House, work: &mut Work) -> Result<()> {
    let wanted: Password = work.args()?;
    house.copies.await_end(&wanted.id, work)?;
    let up = running(house, &wanted.id)?;
    let (stored, mut shim) = if up {
        let stored = house.guest(&wanted.id)?;
        let shim = house.shim(&stored)?;
        (stored, shim)
    } else {
        let stored = house.guest(&wanted.id)?;
        if is_machine(&stored.guest.spec) {
            // Its users are on its disk, and only the agent inside gets there.
            return Err(Fault::new(NOT_RUNNING).arg("name", &stored.guest.name));
        }
        house.raise(&wanted.id)?
    };
    let (plan, input) = crate::setup::password(&wanted.user, &wanted.hash);
    let done = shim.run(plan, input);
    drop(shim);
    if !up {
        house.lower(&stored, true)?;
    }
    match done? {
        (model::ExitStatus::Code(0), _) => Ok(()),
        (exit, output) => Err(setup_failed(&stored, exit, &output)),
    }
}

/// The kinds of operations of this module.
pub(crate) fn kinds() -> Vec<Kind<House>> {
    let one = |name, run, undo| Kind {
        name,
        steps: vec![Step {
            name: "step-change",
            run,
            undo,
        }],
        abandoned: look_again,
    };
    vec![
        one("set", set, unset),
        one("publish", set, unset),
        one("rename", rename, rename_back),
        one("passwd", password, nothing),
    ]
}
