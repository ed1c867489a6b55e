//! One container inside its shim: the instance of this engine.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use engine::{Accounting, ExecPlan, ExecStreams, Executing, Instance, InstanceStatus, Pausing, Plan, Stop};
use fault::{Fault, OrFault, Result};
use jail::cgroup::{Cgroups, OomWatch, Request};
use jail::recipe::{Process, Recipe};
use jail::{Kept, Stdio, Target};
use model::api::GuestStats;
use model::{ExitStatus, Init, Input, Limits, Phase, Unenforced};
use rustix::process::{Pid, PidfdFlags, Signal, WaitIdOptions};

use crate::init::{Farewell, exit_of_init, farewell, parse_signal};
use crate::{SET_UP_FAILED, WRONG_PHASE, pty, translate};

/// The shim's end of the guest's console.
#[derive(Debug)]
pub enum ConsoleEnd {
    /// A terminal; the slave is kept open, so that a guest which closes its console may open it again.
    Terminal {
        /// Both ends.
        pty: pty::Pty,
    },
    /// Standard output and error of a command, to be read.
    Output {
        /// Standard output.
        output: OwnedFd,
        /// Standard error.
        errors: OwnedFd,
        /// Standard input, to be written.
        input: Option<OwnedFd>,
    },
}

/// Process 1.
#[derive(Debug)]
struct First {
    pid: u32,
    pidfd: OwnedFd,
    since: Instant,
}

/// A guest that is a jail.
pub struct Container {
    plan: Plan,
    cgroups: Box<dyn Cgroups>,
    kept: Option<Kept>,
    first: Option<First>,
    console: Option<ConsoleEnd>,
    status: InstanceStatus,
    asked_to_stop: bool,
    networked: bool,
}

impl Container {
    /// Over a plan; nothing is made yet.
    ///
    /// # Errors
    /// When the host has no cgroups.
    pub fn new(plan: Plan) -> Result<Container> {
        Ok(Container {
            plan,
            cgroups: jail::cgroup::detect()?,
            kept: None,
            first: None,
            console: None,
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

    /// The console of the last start, for the one who reads it.
    pub fn take_console(&mut self) -> Option<ConsoleEnd> {
        self.console.take()
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
        let exit = exit_of_init(exit);
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

    fn wrong_phase(&self, wanted: &str) -> Fault {
        let phase = serde_json::to_value(self.status.phase).unwrap_or_default();
        Fault::new(WRONG_PHASE)
            .arg("name", &self.plan.name)
            .arg("phase", phase.as_str().unwrap_or_default())
            .arg("wanted", wanted)
    }

    fn running(&self) -> Result<&First> {
        match (&self.first, self.status.phase) {
            (Some(first), Phase::Running | Phase::Stopping) => Ok(first),
            _ => Err(self.wrong_phase("running")),
        }
    }

    /// Refuses what needs the guest to run, before a ticket is given out for it.
    ///
    /// # Errors
    /// `SHM008`.
    pub fn ready_for_exec(&self) -> Result<()> {
        self.running().map(drop)
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

    fn first_streams(&self) -> io::Result<(Stdio, ConsoleEnd)> {
        if self.plan.init == Init::System || self.plan.input == Input::Terminal {
            let pty = pty::of_host(self.plan.ids)?;
            pty::resize(&pty.master, 24, 80)?;
            let stdio = Stdio {
                stdin: pty.slave.try_clone()?,
                stdout: pty.slave.try_clone()?,
                stderr: pty.slave.try_clone()?,
            };
            return Ok((stdio, ConsoleEnd::Terminal { pty }));
        }
        let (output, stdout) = pty::pipe(self.plan.ids)?;
        let (errors, stderr) = pty::pipe(self.plan.ids)?;
        for pipe in [&output, &errors] {
            rustix::io::ioctl_fionbio(pipe, true)?;
        }
        let (stdin, input) = if self.plan.input == Input::Pipe {
            let (stdin, input) = pty::pipe(self.plan.ids)?;
            rustix::io::ioctl_fionbio(&input, true)?;
            (stdin, Some(input))
        } else {
            (std::fs::File::open("/dev/null")?.into(), None)
        };
        let stdio = Stdio {
            stdin,
            stdout,
            stderr,
        };
        let end = ConsoleEnd::Output {
            output,
            errors,
            input,
        };
        Ok((stdio, end))
    }

    /// Starts a process inside: beside the guest's own, or, while the guest does not run, as process 1 of a passing
    /// jail over the same root.
    ///
    /// # Errors
    /// Those of the jail.
    pub fn run_inside(&mut self, process: &Process, stdio: Stdio) -> Result<(u32, OwnedFd)> {
        if self.first.is_some() {
            return self.enter(process, stdio);
        }
        self.create_namespaces()?;
        let Some(kept) = &self.kept else {
            return Err(self.wrong_phase("starting"));
        };
        let recipe = Recipe {
            process: process.clone(),
            ..self.passing_recipe()
        };
        let started = jail::start_bound(&recipe, kept, &stdio)?;
        Ok((started.pid, started.pidfd))
    }

    /// The recipe of a jail over the guest's root while the guest does not run.
    fn passing_recipe(&self) -> Recipe {
        let mut recipe = translate::recipe(&self.plan);
        if !self.networked {
            recipe.nics.clear();
        }
        recipe
    }

    /// Runs work of our own inside, confined as the guest is, with the standard streams as its only descriptors; while
    /// the guest does not run, in a passing jail.
    ///
    /// # Errors
    /// Those of the jail.
    pub fn work_inside(&mut self, stdio: Stdio, work: &dyn Fn() -> i32) -> Result<OwnedFd> {
        if self.first.is_some() {
            let first = self.running()?;
            let target = self.target(first);
            let policy = translate::recipe(&self.plan).policy();
            return Ok(jail::work_inside(&target, &policy, stdio, work)?.pidfd);
        }
        self.create_namespaces()?;
        let Some(kept) = &self.kept else {
            return Err(self.wrong_phase("starting"));
        };
        Ok(jail::work_in(&self.passing_recipe(), kept, &stdio, work)?.pidfd)
    }

    fn target<'a>(&self, first: &'a First) -> Target<'a> {
        Target {
            pidfd: first.pidfd.as_fd(),
            ids: self.plan.ids,
            cgroup: Some(self.plan.cgroup.clone()),
        }
    }

    fn enter(&self, process: &Process, stdio: Stdio) -> Result<(u32, OwnedFd)> {
        let first = self.running()?;
        let target = self.target(first);
        let policy = translate::recipe(&self.plan).policy();
        let started = jail::enter(&target, process, &policy, stdio)?;
        Ok((started.pid, started.pidfd))
    }

    fn create_namespaces(&mut self) -> Result<()> {
        if self.kept.is_some() {
            return Ok(());
        }
        self.clear_cgroup()?;
        self.make_cgroup()?;
        let made = jail::make_namespaces(&translate::recipe(&self.plan));
        let kept = made.inspect_err(|_| {
            let _ = self.cgroups.remove(&self.plan.cgroup);
        })?;
        self.kept = Some(kept);
        Ok(())
    }

    /// Asks an init that listens to no signal we know, by its own poweroff(8); by SIGPWR where there is none.
    fn power_off_inside(&self) -> Result<()> {
        let null = || {
            std::fs::OpenOptions::new()
                .read(true)
                .write(true)
                .open("/dev/null")
                .map(OwnedFd::from)
        };
        let streams = || -> io::Result<Stdio> {
            Ok(Stdio {
                stdin: null()?,
                stdout: null()?,
                stderr: null()?,
            })
        };
        let fault = || Fault::new(SET_UP_FAILED).arg("what", "/dev/null");
        let process = translate::process(&ExecPlan {
            argv: vec!["poweroff".into()],
            ..ExecPlan::default()
        });
        match self.enter(&process, streams().or_fault(fault)?) {
            Ok(_) => Ok(()),
            Err(_) => self.signal_first(30),
        }
    }

    fn signal_first(&self, number: i32) -> Result<()> {
        let first = self.running()?;
        send_signal(first.pidfd.as_fd(), number)
            .or_fault(|| Fault::new(WRONG_PHASE).arg("name", &self.plan.name))
    }
}

impl Instance for Container {
    fn create(&mut self) -> Result<Option<OwnedFd>> {
        self.create_namespaces()?;
        if self.status.phase == Phase::Defined {
            self.status.phase = Phase::Starting;
        }
        self.network_namespace()
            .or_fault(|| Fault::new(SET_UP_FAILED).arg("what", "the network namespace"))
    }

    fn start(&mut self) -> Result<()> {
        if self.first.is_some() {
            return Err(self.wrong_phase("stopped"));
        }
        self.create_namespaces()?;
        let Some(kept) = &self.kept else {
            return Err(self.wrong_phase("starting"));
        };
        let (stdio, console) = self
            .first_streams()
            .or_fault(|| Fault::new(SET_UP_FAILED).arg("what", "the console"))?;
        // Should this shim be killed, the guest goes with it; the daemon gives back what is left.
        let started = jail::start_bound(&translate::recipe(&self.plan), kept, &stdio)?;
        drop(stdio);
        self.console = Some(console);
        self.first = Some(First {
            pid: started.pid,
            pidfd: started.pidfd,
            since: Instant::now(),
        });
        self.asked_to_stop = false;
        self.status.phase = Phase::Running;
        self.status.pid = Some(started.pid);
        self.status.booting = self.plan.init == Init::System && tells_of_its_boot(started.pid);
        self.status.started_ms = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .ok()
            .and_then(|since| u64::try_from(since.as_millis()).ok());
        Ok(())
    }

    fn stop(&mut self, how: Stop) -> Result<()> {
        let Some(first) = &self.first else {
            return Err(self.wrong_phase("running"));
        };
        let way = match &self.plan.stop_signal {
            _ if how == Stop::Forced => Farewell::Signal(9),
            Some(text) => Farewell::Signal(parse_signal(text)?),
            None if self.plan.init == Init::System => farewell(&executable(first.pid)),
            None => Farewell::Signal(15),
        };
        if self.status.phase == Phase::Paused {
            self.cgroups.thaw(&self.plan.cgroup)?;
        }
        self.asked_to_stop = true;
        self.status.phase = Phase::Stopping;
        match way {
            Farewell::Signal(number) => self.signal_first(number),
            Farewell::Poweroff => self.power_off_inside(),
        }
    }

    fn delete(&mut self) -> Result<()> {
        if self.first.is_some() {
            return Err(self.wrong_phase("stopped"));
        }
        self.kept = None;
        self.cgroups.kill(&self.plan.cgroup)?;
        self.cgroups.remove(&self.plan.cgroup)
    }

    fn status(&self) -> InstanceStatus {
        self.status.clone()
    }

    fn pausing(&mut self) -> Option<&mut dyn Pausing> {
        Some(self)
    }

    fn executing(&mut self) -> Option<&mut dyn Executing> {
        Some(self)
    }

    fn accounting(&mut self) -> Option<&mut dyn Accounting> {
        Some(self)
    }
}

impl Pausing for Container {
    fn pause(&mut self) -> Result<()> {
        if self.first.is_none() || self.status.phase != Phase::Running {
            return Err(self.wrong_phase("running"));
        }
        self.cgroups.freeze(&self.plan.cgroup)?;
        self.status.phase = Phase::Paused;
        Ok(())
    }

    fn resume(&mut self) -> Result<()> {
        if self.status.phase != Phase::Paused {
            return Err(self.wrong_phase("paused"));
        }
        self.cgroups.thaw(&self.plan.cgroup)?;
        self.status.phase = Phase::Running;
        Ok(())
    }
}

impl Executing for Container {
    fn exec(&mut self, plan: &ExecPlan) -> Result<(u32, OwnedFd, ExecStreams)> {
        let first = self.running()?.pid;
        let ids = self.plan.ids;
        let terminal = || Fault::new(SET_UP_FAILED).arg("what", "a terminal");
        let (stdio, streams) = if let Some((rows, cols)) = plan.terminal {
            let pty = pty::of_guest(first, ids)
                .or_else(|_| pty::of_host(ids))
                .or_fault(terminal)?;
            pty::resize(&pty.master, rows, cols).or_fault(terminal)?;
            let stdio = Stdio {
                stdin: pty.slave.try_clone().or_fault(terminal)?,
                stdout: pty.slave.try_clone().or_fault(terminal)?,
                stderr: pty.slave,
            };
            // The client takes the master over, and expects an ordinary descriptor.
            rustix::io::ioctl_fionbio(&pty.master, false).or_fault(terminal)?;
            (stdio, ExecStreams::Terminal(pty.master))
        } else {
            let pipe = || pty::pipe(ids).or_fault(|| Fault::new(SET_UP_FAILED).arg("what", "a pipe"));
            let (stdin, to_stdin) = pipe()?;
            let (from_stdout, stdout) = pipe()?;
            let (from_stderr, stderr) = pipe()?;
            let stdio = Stdio {
                stdin,
                stdout,
                stderr,
            };
            (stdio, ExecStreams::Pipes(to_stdin, from_stdout, from_stderr))
        };
        let (pid, pidfd) = self.enter(&translate::process(plan), stdio)?;
        Ok((pid, pidfd, streams))
    }
}

impl Accounting for Container {
    fn limit(&mut self, limits: &Limits) -> Result<Vec<Unenforced>> {
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

    fn stats(&mut self) -> Result<GuestStats> {
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

/// The path inside of the program that a process runs; empty when it cannot be told.
fn executable(pid: u32) -> PathBuf {
    std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default()
}

fn tells_of_its_boot(pid: u32) -> bool {
    executable(pid).file_name().is_some_and(|name| name == "systemd")
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

/// How the process of a descriptor ended, reaping it; none while it runs.
#[must_use]
pub fn exit_of(pidfd: BorrowedFd<'_>) -> Option<ExitStatus> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    match rustix::process::waitid(rustix::process::WaitId::PidFd(pidfd), options) {
        Ok(Some(status)) => Some(match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => ExitStatus::Code(code),
            (None, Some(signal)) => ExitStatus::Signal(signal),
            (None, None) => ExitStatus::Code(-1),
        }),
        Ok(None) | Err(rustix::io::Errno::INTR) => None,
        // Not our child any more: nobody can tell how it ended.
        Err(_) => Some(ExitStatus::Code(-1)),
    }
}

/// Sends a signal by number, real-time ones too.
pub fn send_signal(pidfd: BorrowedFd<'_>, number: i32) -> io::Result<()> {
    hostos::signal::send(pidfd, number)
}

/// Opens the process descriptor of a process id.
pub fn pidfd(pid: u32) -> Option<OwnedFd> {
    let pid = Pid::from_raw(i32::try_from(pid).ok()?)?;
    rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()
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

/// The guest's console log, in its lasting directory.
#[must_use]
pub fn console_log(plan: &Plan) -> PathBuf {
    plan.state_dir.join("console.log")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A plan that needs nothing of the host.
    pub fn plan() -> Plan {
        serde_json::from_value(serde_json::json!({
            "version": 1, "id": "0123456789abcdef0123456789abcdef", "name": "web",
            "run_dir": "/run/posada/guests/x", "state_dir": "/var/lib/posada/guests/x",
            "ids": {"base": 1_000_000, "count": 65536},
            "root": {"type": "tree", "path": "/tree", "idmap": true, "read_only": false},
            "mounts": [], "files": [], "init": {"type": "system"}, "env": {}, "workdir": null, "user": null,
            "hostname": "web", "nics": [], "limits": {}, "cgroup": "posada/guests/x",
            "policies": {"on_poweroff": "stop", "on_reboot": "restart", "on_crash": "stop"},
            "stop_signal": null, "console_log_limit": 1_048_576, "privileged": false, "nesting": false
        }))
        .unwrap()
    }

    #[test]
    fn network_figures_are_summed_without_the_loopback() {
        let text = "Inter-|   Receive\n face |bytes\n    lo: 9 0 0 0 0 0 0 0 9 0 0 0 0 0 0 0\n  \
                    eth0: 5 1 0 0 0 0 0 0 7 1 0 0 0 0 0 0\neth1:1 1 0 0 0 0 0 0 2 1 0 0 0 0 0 0\n";
        assert_eq!(net_bytes(text), (6, 9));
    }

    #[test]
    fn a_guest_that_does_not_run_refuses_what_needs_it_running() {
        let mut container = Container::new(plan()).unwrap();
        assert!(container.exec(&ExecPlan::default()).unwrap_err().is(WRONG_PHASE));
        assert!(container.stop(Stop::Forced).unwrap_err().is(WRONG_PHASE));
        assert!(container.pause().unwrap_err().is(WRONG_PHASE));
        assert!(container.stats().unwrap_err().is(WRONG_PHASE));
    }
}
