//! What the daemon may ask, and the answers.

use engine::protocol::{FACET_ABSENT, MESSAGE_BROKEN, REQUEST_UNKNOWN, Reply, Request, Told};
use engine::{InstanceStatus, Stop};
use fault::{Fault, OrFault, Result};
use model::Phase;
use serde::Deserialize;

use super::deferred::Awaited;
use super::loops::Server;
use super::{sessions::Wish, set_up};

/// A call whose request may be newer than this shim.
#[derive(Deserialize)]
struct AnyCall {
    call: u64,
    request: serde_json::Value,
}

/// The name of a request, to tell an unknown one from a broken one.
#[derive(Deserialize)]
struct Named {
    #[serde(rename = "do")]
    name: String,
}

const KNOWN: [&str; 22] = [
    "create",
    "start",
    "stop",
    "restart",
    "delete",
    "status",
    "wait",
    "pause",
    "resume",
    "limit",
    "stats",
    "exec",
    "console",
    "run",
    "files",
    "network-namespace",
    "amend",
    "subscribe",
    "vnc",
    "screenshot",
    "medium",
    "hello",
];

impl Server {
    /// One message of a client.
    pub fn message(&mut self, client: u32, body: &[u8]) {
        let any: AnyCall = match serde_json::from_slice(body) {
            Ok(any) => any,
            Err(error) => return self.refuse(client, Fault::new(MESSAGE_BROKEN).because(error)),
        };
        let call = any.call;
        let known = Named::deserialize(&any.request).is_ok_and(|named| KNOWN.contains(&named.name.as_str()));
        match serde_json::from_value::<Request>(any.request) {
            Ok(request) => {
                if let Err(fault) = self.request(client, call, request) {
                    self.answer(client, call, Reply::Fault(fault), Vec::new());
                }
            }
            Err(error) => {
                let code = if known { MESSAGE_BROKEN } else { REQUEST_UNKNOWN };
                let fault = Fault::new(code).because(error);
                self.answer(client, call, Reply::Fault(fault), Vec::new());
            }
        }
    }

    fn request(&mut self, client: u32, call: u64, request: Request) -> Result<()> {
        let mut fds = Vec::new();
        let reply = match request {
            Request::Create => {
                fds.extend(self.guest.create()?);
                self.guest.jailed_mut().set_networked();
                Reply::Done
            }
            Request::Start => {
                if self.passing_jails() {
                    self.defer(client, call, Awaited::Start);
                    return Ok(());
                }
                self.start_guest()?;
                Reply::Done
            }
            Request::Stop { how } => return self.stop(client, call, how),
            Request::Restart { how } => return self.restart(client, call, how),
            Request::Delete => return self.delete(client, call),
            Request::Status => Reply::Status(self.guest.status()),
            Request::Wait => {
                if self.at_rest() {
                    Reply::Status(self.guest.status())
                } else {
                    self.defer(client, call, Awaited::End);
                    return Ok(());
                }
            }
            Request::Pause => {
                let pausing = self.guest.pausing();
                pausing.ok_or_else(|| facet("pause"))?.pause()?;
                self.tell(&Told::Paused);
                Reply::Done
            }
            Request::Resume => {
                let pausing = self.guest.pausing();
                pausing.ok_or_else(|| facet("resume"))?.resume()?;
                self.tell(&Told::Resumed);
                Reply::Done
            }
            Request::Limit { limits } => {
                let accounting = self.guest.accounting();
                let unenforced = accounting.ok_or_else(|| facet("limit"))?.limit(&limits)?;
                self.keep_plan()?;
                Reply::Unenforced(unenforced)
            }
            Request::Stats => {
                let accounting = self.guest.accounting();
                Reply::Stats(accounting.ok_or_else(|| facet("stats"))?.stats()?)
            }
            Request::Exec { plan } => {
                self.guest.jailed().running()?;
                Reply::Ticket(self.sessions.ticket(Wish::Exec(plan))?)
            }
            Request::Console => Reply::Ticket(self.sessions.ticket(Wish::Console)?),
            Request::Run { plan, input } => return self.run_process(client, call, &plan, input),
            Request::Files { job } => {
                fds.push(self.copy(&job)?);
                Reply::Done
            }
            Request::NetworkNamespace => {
                let net = self.guest.jailed().network_namespace();
                fds.extend(net.or_fault(|| set_up("the network namespace"))?);
                Reply::Done
            }
            Request::Amend { policies, nics } => {
                let plan = self.guest.jailed_mut().plan_mut();
                plan.policies = policies;
                plan.nics = nics;
                self.keep_plan()?;
                Reply::Done
            }
            Request::Subscribe => {
                if let Some(client) = self.clients.get_mut(&client) {
                    client.subscribed = true;
                }
                Reply::Done
            }
            Request::Vnc => {
                let showing = self.guest.showing();
                Reply::Display(showing.ok_or_else(|| facet("screen"))?.serve()?)
            }
            Request::Screenshot { text } => {
                let showing = self.guest.showing();
                fds.push(showing.ok_or_else(|| facet("screen"))?.picture(text)?);
                Reply::Done
            }
            Request::Medium { disk, path } => {
                let loading = self.guest.loading();
                loading
                    .ok_or_else(|| facet("cdrom"))?
                    .load(&disk, path.as_deref())?;
                self.keep_plan()?;
                Reply::Done
            }
        };
        self.answer(client, call, reply, fds);
        Ok(())
    }

    /// Whether the guest neither runs nor is about to.
    fn at_rest(&self) -> bool {
        let InstanceStatus { phase, .. } = self.guest.status();
        !self.guest.jailed().runs() && self.again_at.is_none() && phase == Phase::Stopped
    }

    /// A guest that has ended already is as the caller wants it; only what runs has to be waited for.
    fn stop(&mut self, client: u32, call: u64, how: Stop) -> Result<()> {
        if self.again_at.take().is_some() {
            self.guest.jailed_mut().set_phase(Phase::Stopped);
            self.ended_for_good();
        }
        if !self.guest.jailed().runs() {
            let status = Reply::Status(self.guest.status());
            self.answer(client, call, status, Vec::new());
            return Ok(());
        }
        self.begin_stop(how)?;
        self.defer(client, call, Awaited::Stop);
        Ok(())
    }

    fn restart(&mut self, client: u32, call: u64, how: Stop) -> Result<()> {
        if self.guest.jailed().runs() {
            self.begin_stop(how)?;
            self.defer(client, call, Awaited::Restart);
            return Ok(());
        }
        self.start_guest()?;
        self.answer(client, call, Reply::Done, Vec::new());
        Ok(())
    }

    fn delete(&mut self, client: u32, call: u64) -> Result<()> {
        self.guest.delete()?;
        crate::cleanup::remove_files(&self.guest.jailed().plan().run_dir);
        self.leave = true;
        self.answer(client, call, Reply::Done, Vec::new());
        Ok(())
    }

    fn keep_plan(&self) -> Result<()> {
        engine::shim::write_plan(self.guest.jailed().plan()).or_fault(|| set_up("plan.json"))
    }

    /// Starts the guest when the last passing jail has ended.
    pub fn start_when_idle(&mut self) {
        if self.passing_jails() || !self.awaits(&Awaited::Start) {
            return;
        }
        let started = self.start_guest();
        self.answer_all(&Awaited::Start, || match &started {
            Ok(()) => Reply::Done,
            Err(fault) => Reply::Fault(fault.clone()),
        });
    }
}

pub fn facet(name: &str) -> Fault {
    Fault::new(FACET_ABSENT).arg("facet", name)
}
