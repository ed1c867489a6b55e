//! A guest that is a jail, whatever runs in it: its namespaces, its cgroup, its first process.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use engine::{InstanceStatus, Plan};
use fault::{Fault, OrFault, Result};
use jail::cgroup::{Cgroups, OomWatch, Request};
use jail::recipe::Recipe;
use jail::{Kept, Started, Stdio, Target};
use model::api::GuestStats;
use model::{ExitStatus, Limits, Phase, Unenforced};
use rustix::process::Signal;

use crate::process::{exit_of, send_signal};
use crate::{SET_UP_FAILED, WRONG_PHASE};

/// The first process.
#[derive(Debug)]
pub struct First {
    /// Host process id.
    pub pid: u32,
    /// Process descriptor.
    pub pidfd: OwnedFd,
    since: Instant,
}

/// The jail of a guest.
pub struct Jailed {
    plan: Plan,
    recipe: fn(&Plan) -> Recipe,
    exit: fn(ExitStatus) -> ExitStatus,
    cgroups: Box<dyn Cgroups>,
    kept: Option<Kept>,
    first: Option<First>,
    status: InstanceStatus,
    asked_to_stop: bool,
    networked: bool,
}

impl Jailed {
    /// Over a plan; nothing is made yet. `recipe` tells the jail of a plan, `exit` what the end of its first process means for the guest.
    ///
    /// # Errors
    /// When the host has no cgroups.
    pub fn new(
        plan: Plan,
        recipe: fn(&Plan) -> Recipe,
        exit: fn(ExitStatus) -> ExitStatus,
    ) -> Result<Jailed> {
        Ok(Jailed {
            plan,
            recipe,
            exit,
            cgroups: jail::cgroup::detect()?,
            kept: None,
            first: None,
            status: InstanceStatus::default(),
            asked_to_stop: false,
            networked: false,
        })
    }

    /// Its plan.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Its plan, to be amended for the next start.
    pub fn plan_mut(&mut self) -> &mut Plan {
        &mut self.plan
    }

    /// Process descriptor of process 1, readable when it has ended.
    #[must_use]
    pub fn first(&self) -> Option<BorrowedFd<'_>> {
        self.first.as_ref().map(|first| first.pidfd.as_fd())
    }

    /// A watch on kills by the memory limit.
    #[must_use]
    pub fn watch_oom(&self) -> Option<OomWatch> {
        self.cgroups.watch_oom(&self.plan.cgroup)
    }

    /// The network namespace, once made.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub fn network_namespace(&self) -> io::Result<Option<OwnedFd>> {
        let net = self.kept.as_ref().and_then(|kept| kept.net.as_ref());
        net.map(OwnedFd::try_clone).transpose()
    }

    /// Notes that the owner of the networks has put links into the network namespace.
    pub fn set_networked(&mut self) {
        self.networked = true;
    }

    /// Whether the guest's process 1 is there.
    #[must_use]
    pub fn runs(&self) -> bool {
        self.first.is_some()
    }

    /// Notes that the guest's system says it is up.
    pub fn set_booted(&mut self) {
        self.status.booting = false;
    }

    /// Whether its end was asked for.
    #[must_use]
    pub fn asked_to_stop(&self) -> bool {
        self.asked_to_stop
    }

    /// Sets the phase between an end and the next start.
    pub fn set_phase(&mut self, phase: Phase) {
        self.status.phase = phase;
    }

    /// Counts one more start by policy.
    pub fn count_restart(&mut self) {
        self.status.restarts += 1;
    }

    /// Reaps process 1 after its end: how it ended and how long it ran. Its remains are killed.
    pub fn reap(&mut self) -> Option<(ExitStatus, Duration)> {
        let exit = exit_of(self.first.as_ref()?.pidfd.as_fd())?;
        let first = self.first.take()?;
        if let Err(fault) = self.empty_cgroup() {
            eprintln!("{fault}");
        }
        let exit = (self.exit)(exit);
        self.status.pid = None;
        self.status.booting = false;
        self.status.exit = Some(exit);
        self.status.phase = Phase::Stopped;
        self.asked_to_stop = false;
        Some((exit, first.since.elapsed()))
    }

    /// The end of process 1 ended its pid namespace; whoever else was moved into the cgroup ends here.
    fn empty_cgroup(&mut self) -> Result<()> {
        if self.cgroups.procs(&self.plan.cgroup)?.is_empty() {
            return Ok(());
        }
        self.cgroups.kill(&self.plan.cgroup)?;
        self.cgroups.remove(&self.plan.cgroup)?;
        self.make_cgroup()
    }

    /// Kills process 1; its end comes as usual.
    pub fn kill(&mut self) {
        if let Some(first) = &self.first {
            let _ = rustix::process::pidfd_send_signal(&first.pidfd, Signal::KILL);
            if self.status.phase == Phase::Paused {
                let _ = self.cgroups.thaw(&self.plan.cgroup);
            }
        }
    }

    /// The fault of a request that needs another phase.
    pub fn wrong_phase(&self, wanted: &str) -> Fault {
        let phase = serde_json::to_value(self.status.phase).unwrap_or_default();
        Fault::new(WRONG_PHASE)
            .arg("name", &self.plan.name)
            .arg("phase", phase.as_str().unwrap_or_default())
            .arg("wanted", wanted)
    }

    /// The first process of a guest that runs.
    ///
    /// # Errors
    /// `SHM008`.
    pub fn running(&self) -> Result<&First> {
        match (&self.first, self.status.phase) {
            (Some(first), Phase::Running | Phase::Stopping) => Ok(first),
            _ => Err(self.wrong_phase("running")),
        }
    }

    /// Removes a cgroup that an earlier life has left: the kernel may kill whatever is cloned into one that was
    /// killed once.
    fn clear_cgroup(&self) -> Result<()> {
        let path = &self.plan.cgroup;
        if !self.cgroups.directories(path).iter().any(|dir| dir.exists()) {
            return Ok(());
        }
        self.cgroups.kill(path)?;
        self.cgroups.remove(path)
    }

    fn make_cgroup(&mut self) -> Result<()> {
        let request = Request {
            limits: cgroup_limits(&self.plan.limits),
            owner: self.plan.ids.map(|ids| (ids.base, ids.base)),
            restrict_devices: self.plan.ids.is_none(),
        };
        let missing = self.cgroups.create(&self.plan.cgroup, &request)?;
        self.status.unenforced = Some(unenforced(missing));
        Ok(())
    }

    /// Makes namespaces and cgroup, unless they are there.
    ///
    /// # Errors
    /// When the host refuses one.
    pub fn create_namespaces(&mut self) -> Result<()> {
        if self.kept.is_some() {
            return Ok(());
        }
        self.clear_cgroup()?;
        self.make_cgroup()?;
        let made = jail::make_namespaces(&(self.recipe)(&self.plan));
        let kept = made.inspect_err(|_| {
            let _ = self.cgroups.remove(&self.plan.cgroup);
        })?;
        self.kept = Some(kept);
        Ok(())
    }

    /// The running guest, to be entered.
    pub fn target<'a>(&self, first: &'a First) -> Target<'a> {
        Target {
            pidfd: first.pidfd.as_fd(),
            ids: self.plan.ids,
            cgroup: Some(self.plan.cgroup.clone()),
        }
    }

    /// Sends the first process a signal, by number.
    ///
    /// # Errors
    /// When the guest does not run.
    pub fn signal_first(&self, number: i32) -> Result<()> {
        let first = self.running()?;
        send_signal(first.pidfd.as_fd(), number)
            .or_fault(|| Fault::new(WRONG_PHASE).arg("name", &self.plan.name))
    }

    /// The recipe of its jail.
    #[must_use]
    pub fn recipe(&self) -> Recipe {
        (self.recipe)(&self.plan)
    }

    /// The recipe of a jail over the guest's root while the guest does not run.
    #[must_use]
    pub fn passing_recipe(&self) -> Recipe {
        let mut recipe = self.recipe();
        if !self.networked {
            recipe.nics.clear();
        }
        recipe
    }

    /// The namespaces, made if they are not there yet.
    ///
    /// # Errors
    /// When the host refuses one.
    pub fn namespaces(&mut self) -> Result<&Kept> {
        self.create_namespaces()?;
        self.kept.as_ref().ok_or_else(|| self.wrong_phase("starting"))
    }

    /// What the guest is doing.
    #[must_use]
    pub fn status(&self) -> &InstanceStatus {
        &self.status
    }

    /// What the guest is doing, to be changed.
    pub fn status_mut(&mut self) -> &mut InstanceStatus {
        &mut self.status
    }

    /// [`engine::Instance::create`].
    ///
    /// # Errors
    /// When the host refuses a namespace, a mount or a cgroup.
    pub fn create(&mut self) -> Result<Option<OwnedFd>> {
        self.create_namespaces()?;
        if self.status.phase == Phase::Defined {
            self.status.phase = Phase::Starting;
        }
        self.network_namespace()
            .or_fault(|| Fault::new(SET_UP_FAILED).arg("what", "the network namespace"))
    }

    /// Executes the first process with these streams; should this shim be killed, it goes too, and the daemon gives back what is
    /// left. Its process id.
    ///
    /// # Errors
    /// When it runs already, or the jail cannot be made.
    pub fn start(&mut self, stdio: &Stdio) -> Result<u32> {
        self.start_with(|recipe, kept| jail::start_bound(recipe, kept, stdio))
    }

    /// As [`Jailed::start`]; the first process is work of our own, see [`jail::work_in`].
    ///
    /// # Errors
    /// As [`Jailed::start`].
    pub fn start_work(&mut self, stdio: &Stdio, work: &dyn Fn() -> i32) -> Result<u32> {
        self.start_with(|recipe, kept| jail::work_in(recipe, kept, stdio, work))
    }

    fn start_with(&mut self, begin: impl FnOnce(&Recipe, &Kept) -> Result<Started>) -> Result<u32> {
        if self.first.is_some() {
            return Err(self.wrong_phase("stopped"));
        }
        let recipe = self.recipe();
        let started = begin(&recipe, self.namespaces()?)?;
        self.first = Some(First {
            pid: started.pid,
            pidfd: started.pidfd,
            since: Instant::now(),
        });
        self.asked_to_stop = false;
        self.status.phase = Phase::Running;
        self.status.pid = Some(started.pid);
        self.status.started_ms = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .ok()
            .and_then(|since| u64::try_from(since.as_millis()).ok());
        Ok(started.pid)
    }

    /// Notes that its end is asked for; a frozen guest is thawed, so that it can hear it.
    ///
    /// # Errors
    /// When it does not run, or does not thaw.
    pub fn ask_to_stop(&mut self) -> Result<()> {
        if self.first.is_none() {
            return Err(self.wrong_phase("running"));
        }
        if self.status.phase == Phase::Paused {
            self.cgroups.thaw(&self.plan.cgroup)?;
        }
        self.asked_to_stop = true;
        self.status.phase = Phase::Stopping;
        Ok(())
    }

    /// [`engine::Instance::delete`].
    ///
    /// # Errors
    /// When the guest runs, or its cgroup cannot be removed.
    pub fn delete(&mut self) -> Result<()> {
        if self.first.is_some() {
            return Err(self.wrong_phase("stopped"));
        }
        self.kept = None;
        self.cgroups.kill(&self.plan.cgroup)?;
        self.cgroups.remove(&self.plan.cgroup)
    }
    /// Freezes it: [`engine::Pausing::pause`].
    ///
    /// # Errors
    /// When it does not run or the freezer is missing.
    pub fn pause(&mut self) -> Result<()> {
        if self.first.is_none() || self.status.phase != Phase::Running {
            return Err(self.wrong_phase("running"));
        }
        self.cgroups.freeze(&self.plan.cgroup)?;
        self.status.phase = Phase::Paused;
        Ok(())
    }

    /// Thaws it: [`engine::Pausing::resume`].
    ///
    /// # Errors
    /// When it is not frozen.
    pub fn resume(&mut self) -> Result<()> {
        if self.status.phase != Phase::Paused {
            return Err(self.wrong_phase("paused"));
        }
        self.cgroups.thaw(&self.plan.cgroup)?;
        self.status.phase = Phase::Running;
        Ok(())
    }
    /// [`engine::Accounting::limit`].
    ///
    /// # Errors
    /// When the kernel refuses a value.
    pub fn limit(&mut self, limits: &Limits) -> Result<Vec<Unenforced>> {
        let missing = if self.kept.is_some() {
            self.cgroups.limit(&self.plan.cgroup, &cgroup_limits(limits))?
        } else {
            Vec::new()
        };
        self.plan.limits = limits.clone();
        let mut told = unenforced(missing);
        // What its devices may be is settled when the cgroup is made.
        let before = self.status.unenforced.take().unwrap_or_default();
        told.extend(before.into_iter().filter(|one| one.limit == "devices"));
        self.status.unenforced = Some(told.clone());
        Ok(told)
    }

    /// [`engine::Accounting::stats`].
    ///
    /// # Errors
    /// When the guest does not run.
    pub fn stats(&mut self) -> Result<GuestStats> {
        let Some(first) = &self.first else {
            return Err(self.wrong_phase("running"));
        };
        let used = self.cgroups.stats(&self.plan.cgroup)?;
        let net = std::fs::read_to_string(format!("/proc/{}/net/dev", first.pid)).unwrap_or_default();
        let (rx_bytes, tx_bytes) = net_bytes(&net);
        Ok(GuestStats {
            cpu_ns: used.cpu_ns,
            memory: used.memory,
            memory_limit: used.memory_limit,
            pids: used.pids,
            rx_bytes,
            tx_bytes,
            read_bytes: used.read_bytes,
            write_bytes: used.write_bytes,
            oom_kills: used.oom_kills,
        })
    }
}

fn unenforced(missing: Vec<jail::cgroup::Missing>) -> Vec<Unenforced> {
    let told = |missing: jail::cgroup::Missing| Unenforced {
        limit: missing.limit.to_owned(),
        reason: missing.reason,
    };
    missing.into_iter().map(told).collect()
}

/// The limits of a spec as the cgroup module takes them.
#[must_use]
pub fn cgroup_limits(limits: &Limits) -> jail::cgroup::Limits {
    jail::cgroup::Limits {
        memory: limits.memory.map(|size| size.0),
        swap: limits.swap.map(|size| size.0),
        cpus: limits.cpus,
        cpu_weight: limits.cpu_weight,
        cpu_pin: limits.cpu_pin.clone(),
        pids: limits.pids,
    }
}

/// Bytes received and sent over all links but the loopback, from /proc/PID/net/dev.
fn net_bytes(text: &str) -> (u64, u64) {
    text.lines()
        .filter_map(|line| {
            let (name, figures) = line.split_once(':')?;
            let figures: Vec<u64> = figures
                .split_whitespace()
                .map_while(|word| word.parse().ok())
                .collect();
            (name.trim() != "lo").then_some((*figures.first()?, *figures.get(8)?))
        })
        .fold((0, 0), |(rx, tx), (more_rx, more_tx)| {
            (rx.saturating_add(more_rx), tx.saturating_add(more_tx))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_figures_are_summed_without_the_loopback() {
        let text = "Inter-|   Receive\n face |bytes\n    lo: 9 0 0 0 0 0 0 0 9 0 0 0 0 0 0 0\n  \
                    eth0: 5 1 0 0 0 0 0 0 7 1 0 0 0 0 0 0\neth1:1 1 0 0 0 0 0 0 2 1 0 0 0 0 0 0\n";
        assert_eq!(net_bytes(text), (6, 9));
    }
}
