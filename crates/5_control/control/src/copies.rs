//! Copies between the host and guests, running or not.
//!
//! A guest that is down has no shim. For a copy one is raised, which never starts process 1; all copies of that time
//! share it, operations that need the guest wait for their end, and after the last one an operation takes it back.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use engine::protocol::FileJob;
use engine::shim::Shim;
use fault::{Fault, Result};
use model::{Id, Phase};
use ops::{Kind, New, Runner, Work};
use store::Txn;

use crate::adopt::daemon;
use crate::codes::{NOT_RUNNING, WRONG_PHASE};
use crate::hardware::is_machine;
use crate::house::House;
use crate::power::{On, id_of, simple};
use crate::records::StoredGuest;

/// How long a copy waits for a guest that is on its way up or down.
const PATIENCE: Duration = Duration::from_secs(60);

/// How many copies use the shim of each guest that is down.
#[derive(Default)]
pub(crate) struct Copies(Mutex<HashMap<Id, usize>>);

impl Copies {
    fn lock(&self) -> MutexGuard<'_, HashMap<Id, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a guest's shim is there for copies only.
    pub(crate) fn under_way(&self, id: &Id) -> bool {
        self.lock().contains_key(id)
    }

    /// For operations that need a guest for themselves: waits for the end of its copies.
    ///
    /// # Errors
    /// [`model::CANCELLED`].
    pub(crate) fn await_end(&self, id: &Id, work: &Work) -> Result<()> {
        while self.under_way(id) {
            work.safe_point()?;
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

/// A running copy between host and guest.
pub struct Files {
    /// The stream: to read from, or to write to and then shut down for writing and read to its end.
    pub stream: OwnedFd,
    _share: Option<Share>,
}

/// A share in the shim of a guest that is down.
struct Share {
    house: Arc<House>,
    runner: Arc<Runner<House>>,
    stored: StoredGuest,
}

impl Drop for Share {
    fn drop(&mut self) {
        let id = self.stored.id();
        let mut shares = self.house.copies.lock();
        let left = shares.get(id).map_or(0, |count| count - 1);
        if left > 0 {
            shares.insert(id.clone(), left);
            return;
        }
        shares.remove(id);
        let new = New {
            kind: "give-back",
            target: self.stored.target(),
            queue: id.0.clone(),
            args: serde_json::to_value(On::guest(id)).unwrap_or_default(),
            actor: daemon(),
        };
        // What cannot be taken back now is taken back by the next start or daemon.
        let _ = self.runner.submit(&self.house, new, Txn::new());
    }
}

/// Begins a copy.
pub(crate) fn begin(
    house: &Arc<House>,
    runner: &Arc<Runner<House>>,
    stored: StoredGuest,
    job: FileJob,
) -> Result<Files> {
    let (mut shim, share) = reach(house, runner, stored)?;
    let stream = shim.files(job)?;
    Ok(Files {
        stream,
        _share: share,
    })
}

/// The shim of a guest that runs, or one that is shared by copies.
fn reach(
    house: &Arc<House>,
    runner: &Arc<Runner<House>>,
    stored: StoredGuest,
) -> Result<(Shim, Option<Share>)> {
    let begin = Instant::now();
    loop {
        let share = || Share {
            house: Arc::clone(house),
            runner: Arc::clone(runner),
            stored: stored.clone(),
        };
        let mut shares = house.copies.lock();
        if let Some(count) = shares.get_mut(stored.id()) {
            *count += 1;
            drop(shares);
            let share = share();
            return Ok((house.shim(&stored)?, Some(share)));
        }
        if let Ok(mut shim) = house.shim(&stored)
            && matches!(shim.status()?.phase, Phase::Running | Phase::Paused)
        {
            return Ok((shim, None));
        }
        if runner.open_in(&stored.id().0)?.is_empty() {
            if is_machine(&stored.guest.spec) {
                // What it has is on its disk, and only the agent inside gets there.
                return Err(Fault::new(NOT_RUNNING).arg("name", &stored.guest.name));
            }
            let (_, shim) = house.raise(stored.id()).inspect_err(|_| {
                // What stands already of the guest has no other use.
                let _ = house.lower(&stored, true);
            })?;
            shares.insert(stored.id().clone(), 1);
            drop(shares);
            return Ok((shim, Some(share())));
        }
        drop(shares);
        if begin.elapsed() > PATIENCE {
            return Err(Fault::new(WRONG_PHASE)
                .arg("name", &stored.guest.name)
                .arg("phase", format!("{:?}", stored.guest.status.phase).to_lowercase())
                .arg("verb", "cp"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The kinds of operations of this module.
pub(crate) fn kinds() -> Vec<Kind<House>> {
    vec![simple("give-back", |house, work| {
        let Some(stored) = house.find(&id_of(work)?)? else {
            return Ok(());
        };
        if house.copies.under_way(stored.id()) {
            return Ok(());
        }
        let phase = house
            .shim(&stored)
            .and_then(|mut shim| shim.status())
            .map(|status| status.phase);
        match phase {
            // Somebody has brought it up.
            Ok(Phase::Running | Phase::Paused | Phase::Stopping) => Ok(()),
            Ok(_) => house.lower(&stored, true),
            Err(_) => Ok(()),
        }
    })]
}
