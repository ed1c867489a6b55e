//! Looking at guests: what they use, whether they are as somebody waits for, their logs and screens.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use engine::shim::Shim;
use fault::{Fault, OrFault, Result};
use model::api::{Display, GuestStats};
use model::{Guest, Phase};

use crate::codes::{CONDITION_UNKNOWN, NO_MACHINE, NO_SCREEN, NOT_RUNNING, WAIT_OVER};
use crate::control::Control;
use crate::hardware;
use crate::records::{StoredGuest, guest_key};

/// How long a shim may take to greet whoever only wants to know what its guest uses.
const GLANCE: Duration = Duration::from_secs(1);

impl Control {
    /// What a guest uses now.
    ///
    /// # Errors
    /// `GST001`, `GST004`.
    pub fn stats(&self, name: &str) -> Result<GuestStats> {
        let stored = self.house().named(name)?;
        self.stats_of(&stored)
    }

    /// What every running guest uses now, by name.
    ///
    /// # Errors
    /// Faults of the store.
    pub fn all_stats(&self) -> Result<BTreeMap<String, GuestStats>> {
        let mut all = BTreeMap::new();
        let mut up = self.house().guests()?;
        up.retain(|stored| matches!(stored.guest.status.phase, Phase::Running | Phase::Paused));
        // Beside one another: a shim that does not answer holds up the whole list once, not once for each.
        for some in up.chunks(32) {
            std::thread::scope(|scope| {
                let asked: Vec<_> = some
                    .iter()
                    .map(|stored| (stored, scope.spawn(|| self.stats_of(stored))))
                    .collect();
                for (stored, answer) in asked {
                    if let Ok(Ok(stats)) = answer.join() {
                        all.insert(stored.guest.name.to_string(), stats);
                    }
                }
            });
        }
        Ok(all)
    }

    fn stats_of(&self, stored: &StoredGuest) -> Result<GuestStats> {
        let run_dir = self.house().run_of(stored.id());
        let mut stats = match Shim::connect_within(&run_dir, GLANCE) {
            Ok(mut shim) => shim.stats()?,
            Err(_) => return Err(Fault::new(NOT_RUNNING).arg("name", &stored.guest.name)),
        };
        let (mut received, mut sent) = (0, 0);
        for nic in &stored.guest.status.nics {
            // What the host's end sends is what the guest receives.
            received += link_bytes(&nic.host_link, "tx_bytes");
            sent += link_bytes(&nic.host_link, "rx_bytes");
        }
        stats.rx_bytes = stats.rx_bytes.max(received);
        stats.tx_bytes = stats.tx_bytes.max(sent);
        Ok(stats)
    }

    /// Looks whether a guest fulfils one of the conditions: `running`, `stopped`, `paused`, `failed`, `ip`. `removed` is
    /// fulfilled by none that is there: whoever waits for it waits for `GST001`.
    ///
    /// # Errors
    /// `GST001`, `GST023`; the guest's own reason when it failed instead.
    pub fn look(&self, name: &str, conditions: &[&str]) -> Result<Seen> {
        const KNOWN: [&str; 6] = ["running", "stopped", "paused", "ip", "failed", "removed"];
        if let Some(condition) = conditions.iter().find(|condition| !KNOWN.contains(condition)) {
            return Err(Fault::new(CONDITION_UNKNOWN).arg("condition", condition));
        }
        let revision = self.house().store.revision();
        let guest = self.guest(name)?;
        if conditions.iter().any(|condition| fulfils(&guest, condition)) {
            return Ok(Seen::Fulfilled(Box::new(guest)));
        }
        let failed = guest.status.phase == Phase::Failed;
        if let (true, Some(reason)) = (failed, &guest.status.reason)
            && conditions != ["removed"]
            && self.runner().open_in(&guest.id.0)?.is_empty()
        {
            return Err(reason.clone());
        }
        let fault = Fault::new(WAIT_OVER)
            .arg("name", name)
            .arg("waited", conditions.join(","))
            .arg("phase", format!("{:?}", guest.status.phase).to_lowercase());
        Ok(Seen::NotYet {
            guest: Box::new(guest),
            revision,
            fault,
        })
    }

    /// Whether another look at a guest can show anything else than the one at this revision of the store.
    #[must_use]
    pub fn worth_a_look(&self, guest: &Guest, revision: u64) -> bool {
        // Of one that failed it also matters whether an operation is still at work on it.
        guest.status.phase == Phase::Failed || self.house().store.touched(&guest_key(&guest.id)) > revision
    }

    /// Where the screen of a machine is served, and by which password.
    ///
    /// # Errors
    /// `GST001`, `GST004`, `GST037`.
    pub fn display(&self, name: &str) -> Result<Display> {
        let stored = self.shown(name)?;
        self.house().shim(&stored)?.vnc()
    }

    /// What the screen of a machine shows, in a file: a PNG picture, or text.
    ///
    /// # Errors
    /// `GST001`, `GST004`, `GST037`.
    pub fn screenshot(&self, name: &str, text: bool) -> Result<OwnedFd> {
        let stored = self.shown(name)?;
        let taken = self.house().shim(&stored)?.screenshot(text)?;
        rustix::fs::seek(&taken, rustix::fs::SeekFrom::Start(0))
            .or_fault(|| Fault::new(NO_SCREEN).arg("name", name))?;
        Ok(taken)
    }

    /// A guest that has a screen.
    fn shown(&self, name: &str) -> Result<StoredGuest> {
        let stored = self.house().named(name)?;
        let spec = &stored.guest.spec;
        let headless = spec.machine.as_ref().is_none_or(|hardware| hardware.headless);
        if !hardware::is_machine(spec) || headless {
            return Err(Fault::new(NO_SCREEN).arg("name", &stored.guest.name));
        }
        Ok(stored)
    }

    /// Files of the console log, or of what a machine's firmware says, older first; those that do not exist are left
    /// out.
    ///
    /// # Errors
    /// `GST001`, `GST031`.
    pub fn log_files(&self, name: &str, firmware: bool) -> Result<(Guest, Vec<PathBuf>)> {
        let stored = self.house().named(name)?;
        if firmware && !hardware::is_machine(&stored.guest.spec) {
            return Err(Fault::new(NO_MACHINE).arg("name", &stored.guest.name));
        }
        let dir = self.house().state_of(stored.id());
        let files: &[&str] = match firmware {
            true => &["firmware.log"],
            false => &["console.log.1", "console.log"],
        };
        let files = files.iter().map(|file| dir.join(file));
        Ok((stored.guest, files.filter(|path| path.exists()).collect()))
    }
}

/// What a look at a guest that is waited for shows.
#[derive(Clone, Debug)]
pub enum Seen {
    /// It is as wanted.
    Fulfilled(Box<Guest>),
    /// It is not, so far.
    NotYet {
        /// As it is.
        guest: Box<Guest>,
        /// The store's revision before the look.
        revision: u64,
        /// What to say when nobody waits any longer.
        fault: Fault,
    },
}

fn fulfils(guest: &Guest, condition: &str) -> bool {
    let status = &guest.status;
    match condition {
        "running" => status.phase == Phase::Running,
        "stopped" => matches!(status.phase, Phase::Stopped | Phase::Defined | Phase::Failed),
        "paused" => status.phase == Phase::Paused,
        "failed" => status.phase == Phase::Failed,
        "removed" => false,
        _ => status.phase == Phase::Running && status.nics.iter().any(|nic| !nic.addresses.is_empty()),
    }
}

fn link_bytes(link: &str, counter: &str) -> u64 {
    let path = format!("/sys/class/net/{link}/statistics/{counter}");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}
