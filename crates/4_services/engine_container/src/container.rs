//! One container inside its shim: the instance of this engine.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use engine::protocol::FileJob;
use engine::{Accounting, ExecPlan, ExecStreams, Executing, Instance, InstanceStatus, Pausing, Plan, Stop};
use fault::{Fault, OrFault, Result};
use jail::Stdio;
use jail::recipe::{Process, Recipe};
use model::api::GuestStats;
use model::{Init, Input, Limits, Unenforced};
use shim_server::{ConsoleEnd, Guest, Jailed, SET_UP_FAILED, pty, translate};

use crate::init::{Farewell, exit_of_init, farewell, parse_signal};

/// A guest that is a jail.
pub struct Container {
    jailed: Jailed,
    console: Option<ConsoleEnd>,
}

impl Container {
    /// Over a plan; nothing is made yet.
    ///
    /// # Errors
    /// When the host has no cgroups.
    pub fn new(plan: Plan) -> Result<Container> {
        Ok(Container {
            jailed: Jailed::new(plan, translate::recipe, exit_of_init)?,
            console: None,
        })
    }

    fn plan(&self) -> &Plan {
        self.jailed.plan()
    }

    fn first_streams(&self) -> io::Result<(Stdio, ConsoleEnd)> {
        if self.plan().init == Init::System || self.plan().input == Input::Terminal {
            let pty = pty::of_host(self.plan().ids)?;
            pty::resize(&pty.master, 24, 80)?;
            let stdio = Stdio {
                stdin: pty.slave.try_clone()?,
                stdout: pty.slave.try_clone()?,
                stderr: pty.slave.try_clone()?,
            };
            return Ok((stdio, ConsoleEnd::Terminal { pty }));
        }
        let (output, stdout) = pty::pipe(self.plan().ids)?;
        let (errors, stderr) = pty::pipe(self.plan().ids)?;
        for pipe in [&output, &errors] {
            rustix::io::ioctl_fionbio(pipe, true)?;
        }
        let (stdin, input) = if self.plan().input == Input::Pipe {
            let (stdin, input) = pty::pipe(self.plan().ids)?;
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

    fn enter(&self, process: &Process, stdio: Stdio) -> Result<(u32, OwnedFd)> {
        let target = self.jailed.target(self.jailed.running()?);
        let started = jail::enter(&target, process, &self.jailed.recipe().policy(), stdio)?;
        Ok((started.pid, started.pidfd))
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
            Err(_) => self.jailed.signal_first(30),
        }
    }
}

impl Instance for Container {
    fn create(&mut self) -> Result<Option<OwnedFd>> {
        self.jailed.create()
    }

    fn start(&mut self) -> Result<()> {
        let (stdio, console) = self
            .first_streams()
            .or_fault(|| Fault::new(SET_UP_FAILED).arg("what", "the console"))?;
        let pid = self.jailed.start(&stdio)?;
        drop(stdio);
        self.console = Some(console);
        self.jailed.status_mut().booting = self.plan().init == Init::System && tells_of_its_boot(pid);
        Ok(())
    }

    fn stop(&mut self, how: Stop) -> Result<()> {
        let way = match &self.plan().stop_signal {
            _ if how == Stop::Forced => Farewell::Signal(9),
            Some(text) => Farewell::Signal(parse_signal(text)?),
            None if self.plan().init == Init::System => {
                farewell(&executable(self.jailed.status().pid.unwrap_or_default()))
            }
            None => Farewell::Signal(15),
        };
        self.jailed.ask_to_stop()?;
        match way {
            Farewell::Signal(number) => self.jailed.signal_first(number),
            Farewell::Poweroff => self.power_off_inside(),
        }
    }

    fn delete(&mut self) -> Result<()> {
        self.jailed.delete()
    }

    fn status(&self) -> InstanceStatus {
        self.jailed.status().clone()
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

impl Guest for Container {
    fn engine(&self) -> &'static str {
        "container"
    }

    fn jailed(&self) -> &Jailed {
        &self.jailed
    }

    fn jailed_mut(&mut self) -> &mut Jailed {
        &mut self.jailed
    }

    fn take_console(&mut self) -> Option<ConsoleEnd> {
        self.console.take()
    }

    /// Beside the guest's own, or, while the guest does not run, as process 1 of a passing jail over the same root.
    fn run_inside(&mut self, plan: &ExecPlan, stdio: Stdio) -> Result<(u32, OwnedFd)> {
        let process = translate::process(plan);
        if self.jailed.runs() {
            return self.enter(&process, stdio);
        }
        let recipe = Recipe {
            process,
            ..self.jailed.passing_recipe()
        };
        let started = jail::start_bound(&recipe, self.jailed.namespaces()?, &stdio)?;
        Ok((started.pid, started.pidfd))
    }

    /// Confined as the guest is, with the standard streams as its only descriptors; while the guest does not run, in a passing jail.
    fn copy(&mut self, job: &FileJob, stdio: Stdio) -> Result<OwnedFd> {
        let work = || shim_server::files::work(job);
        if self.jailed.runs() {
            let target = self.jailed.target(self.jailed.running()?);
            let policy = self.jailed.recipe().policy();
            return Ok(jail::work_inside(&target, &policy, stdio, &work)?.pidfd);
        }
        let recipe = self.jailed.passing_recipe();
        Ok(jail::work_in(&recipe, self.jailed.namespaces()?, &stdio, &work)?.pidfd)
    }
}

impl Pausing for Container {
    fn pause(&mut self) -> Result<()> {
        self.jailed.pause()
    }

    fn resume(&mut self) -> Result<()> {
        self.jailed.resume()
    }
}

impl Accounting for Container {
    fn limit(&mut self, limits: &Limits) -> Result<Vec<Unenforced>> {
        self.jailed.limit(limits)
    }

    fn stats(&mut self) -> Result<GuestStats> {
        self.jailed.stats()
    }
}

impl Executing for Container {
    fn exec(&mut self, plan: &ExecPlan) -> Result<(u32, OwnedFd, ExecStreams)> {
        let first = self.jailed.running()?.pid;
        let ids = self.plan().ids;
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

/// The path inside of the program that a process runs; empty when it cannot be told.
fn executable(pid: u32) -> PathBuf {
    std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default()
}

fn tells_of_its_boot(pid: u32) -> bool {
    executable(pid).file_name().is_some_and(|name| name == "systemd")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use shim_server::WRONG_PHASE;

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
    fn a_guest_that_does_not_run_refuses_what_needs_it_running() {
        let mut container = Container::new(plan()).unwrap();
        assert!(container.exec(&ExecPlan::default()).unwrap_err().is(WRONG_PHASE));
        assert!(container.stop(Stop::Forced).unwrap_err().is(WRONG_PHASE));
        assert!(container.pause().unwrap_err().is(WRONG_PHASE));
        assert!(container.stats().unwrap_err().is(WRONG_PHASE));
    }
}
