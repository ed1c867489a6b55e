//! Taking guests away: to the trash, back from it, and for good.

use std::path::{Path, PathBuf};

use fault::{Fault, OrFault, Result};
use model::api::TrashEntry;
use model::{Id, rfc3339};
use ops::{Kind, Step, Work, nothing};
use serde::{Deserialize, Serialize};
use store::{Expected, Txn};

use crate::codes::{NAME_TAKEN, NOT_IN_TRASH};
use crate::house::{House, broken, fact, make_dir};
use crate::power::{is_alive, look_again};
use crate::records::{StoredGuest, guest_key, name_key, now_ms, range_key, trash_key};

/// Milliseconds that a removed guest is kept.
const KEPT_MS: u64 = 7 * 86_400_000;

/// Arguments of a removal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Removal {
    /// The guest.
    pub id: Id,
    /// Delete it for good at once.
    pub purge: bool,
    /// Kill it when it runs.
    pub force: bool,
}

/// What the API shows of a guest in the trash.
pub(crate) fn entry_of(stored: &StoredGuest) -> TrashEntry {
    let removed = stored.removed_ms.unwrap_or(0);
    TrashEntry {
        id: stored.id().clone(),
        name: stored.guest.name.clone(),
        removed: rfc3339(removed),
        expires: rfc3339(removed + KEPT_MS),
        image: stored.guest.spec.image.clone(),
    }
}

pub(crate) fn trash(house: &House) -> Result<Vec<StoredGuest>> {
    let all = house.store.list::<StoredGuest>("trash/")?;
    Ok(all.into_iter().map(|(_, entry)| entry.value).collect())
}

/// Where the tree of a guest in the trash lies.
pub(crate) fn trash_dir(house: &House, id: &Id) -> PathBuf {
    house.settings.state_dir.join("trash").join(&id.0)
}

/// Takes a guest that is down out of the world: into the trash, or for good. Does nothing twice.
pub(crate) fn take_away(house: &House, stored: &StoredGuest, purge: bool) -> Result<()> {
    let (id, name) = (stored.id(), &stored.guest.name);
    house.watch.forget(id);
    house.networks.release(id)?;
    let state = house.state_of(id);
    let txn = Txn::new().delete(&guest_key(id)).delete(&name_key(name));
    if purge {
        delete_tree(&state)?;
        let event = fact("guest.removed", name, &[("id", id.to_string())]);
        // On disk with the operation's end at the latest; until then this is repeated.
        let txn = free_range(txn, stored).event(&event).observed();
        return house.store.commit(txn).map(drop);
    }
    make_dir(&house.settings.state_dir.join("trash"), 0o711, None)?;
    move_tree(&state, &trash_dir(house, id))?;
    let mut stored = stored.clone();
    stored.removed_ms = Some(now_ms());
    stored.nics.clear();
    stored.guest.status.nics.clear();
    stored.guest.status.wanted = false;
    let event = fact("guest.trashed", name, &[("id", id.to_string())]);
    let txn = txn.put(&trash_key(id), &stored).event(&event);
    house.store.commit(txn).map(drop)
}

fn free_range(txn: Txn, stored: &StoredGuest) -> Txn {
    match stored.ids {
        Some(ids) => txn.delete(&range_key(ids.base)),
        None => txn,
    }
}

/// Moves a directory within one file system; one that has been moved already is left alone.
fn move_tree(from: &Path, to: &Path) -> Result<()> {
    match std::fs::rename(from, to) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        done => done.or_fault(|| broken(from)),
    }
}

/// Deletes a directory with all below it, following no link. A tree deeper than we have descriptors for is left to
/// rm(1), which walks any depth.
pub(crate) fn delete_tree(path: &Path) -> Result<()> {
    match std::fs::remove_dir_all(path) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !path.exists() => return Ok(()),
        Err(_) => {}
    }
    let output = std::process::Command::new("/bin/rm")
        .args(["-rf", "--one-file-system", "--"])
        .arg(path)
        .output()
        .or_fault(|| broken(path))?;
    if output.status.success() {
        return Ok(());
    }
    let told = String::from_utf8_lossy(&output.stderr);
    let last = told.lines().next_back().unwrap_or_default().to_owned();
    Err(broken(path).because_of(last))
}

/// Deletes for good what has been in the trash for its time, or all of it.
pub(crate) fn empty(house: &House, all: bool) -> Result<usize> {
    let now = now_ms();
    let mut count = 0;
    for stored in trash(house)? {
        let due = stored.removed_ms.unwrap_or(0) + KEPT_MS <= now;
        if all || due {
            delete_tree(&trash_dir(house, stored.id()))?;
            let event = fact(
                "guest.removed",
                &stored.guest.name,
                &[("id", stored.id().to_string())],
            );
            let txn = Txn::new().delete(&trash_key(stored.id())).event(&event);
            house.store.commit(free_range(txn, &stored))?;
            count += 1;
        }
    }
    Ok(count)
}

fn remove() -> Step<House> {
    Step {
        name: "step-remove",
        run: |house, work| {
            let removal: Removal = work.args()?;
            let Some(stored) = house.find(&removal.id)? else {
                return Ok(());
            };
            let seen = house.refresh(&removal.id)?;
            if !removal.force && seen.is_some_and(|status| is_alive(status.phase)) {
                // It was brought up between the request and its turn.
                return Err(Fault::new(crate::codes::RUNNING).arg("name", &stored.guest.name));
            }
            house.lower(&stored, true)?;
            take_away(house, &stored, removal.purge)
        },
        undo: nothing,
    }
}

fn restore(house: &House, work: &mut Work) -> Result<()> {
    let id = crate::power::id_of(work)?;
    let Some(entry) = house.store.get::<StoredGuest>(&trash_key(&id))? else {
        // Done by an earlier run of this step.
        return house.guest(&id).map(drop);
    };
    let mut stored = entry.value;
    make_dir(&house.settings.state_dir.join("guests"), 0o711, None)?;
    move_tree(&trash_dir(house, &id), &house.state_of(&id))?;
    stored.removed_ms = None;
    stored.guest.status.phase = model::Phase::Stopped;
    let name = name_key(&stored.guest.name);
    let event = fact("guest.restored", &stored.guest.name, &[]);
    let txn = Txn::new()
        .expect(&name, Expected::Absent)
        .delete(&trash_key(&id))
        .put(&name, &id)
        .put(&guest_key(&id), &stored)
        .event(&event);
    if let Err(fault) = house.store.commit(txn) {
        move_tree(&house.state_of(&id), &trash_dir(house, &id))?;
        let taken = || Fault::new(NAME_TAKEN).arg("name", &stored.guest.name);
        return Err(if fault.is(store::CONFLICT) { taken() } else { fault });
    }
    house.attach(&id).map(drop)
}

/// A guest in the trash by its identity, or by its name when only one in there had it.
pub(crate) fn in_trash(house: &House, which: &str) -> Result<StoredGuest> {
    let mut found: Vec<StoredGuest> = trash(house)?
        .into_iter()
        .filter(|stored| stored.id().0 == which || stored.guest.name.as_str() == which)
        .collect();
    // The one removed last is meant.
    found.sort_by_key(|stored| stored.removed_ms);
    found
        .pop()
        .ok_or_else(|| Fault::new(NOT_IN_TRASH).arg("id", which))
}

/// The kinds of operations of this module.
pub(crate) fn kinds() -> Vec<Kind<House>> {
    let one = |name, step, run| Kind {
        name,
        steps: vec![Step {
            name: step,
            run,
            undo: nothing,
        }],
        abandoned: |_, _, _| Ok(()),
    };
    vec![
        Kind {
            name: "rm",
            steps: vec![remove()],
            abandoned: look_again,
        },
        one("restore", "step-restore", restore),
        one("empty-trash", "step-remove", |house, work| {
            let count = empty(house, true)?;
            work.yields("removed", count.to_string());
            Ok(())
        }),
    ]
}
