//! crun behind the shim protocol: a thin adapter, so that the suite is tested against somebody else's engine. One thread
//! a connection; what crun has no word for (console, policies, copying) is an absent facet.

use std::collections::BTreeMap;
use std::io::{self, BufRead};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use engine::protocol::{
    Answer, Attach, AttachControl, AttachEvent, Attached, Call, FACET_ABSENT, Hello, PROTOCOL_VERSION, Reply,
    Request, TICKET_UNKNOWN,
};
use engine::wire::{Filled, Wire};
use engine::{ExecPlan, InstanceStatus, Plan, Stop};
use fault::{Code, Fault, OrFault, Result};
use jail::cgroup::{Cgroups, Mounted, V1};
use jail::recipe::Root;
use model::{ExitStatus, Init, Phase, Unenforced};
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, WaitOptions};
use serde_json::{Value, json};

/// What crun said.
const CRUN: Code = Code("SHM012");

struct Adapter {
    plan: Plan,
    tree: PathBuf,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    status: InstanceStatus,
    tickets: BTreeMap<String, ExecPlan>,
    next: u32,
}

fn main() {
    let run_dir = std::env::args().nth(2).map(PathBuf::from).expect("serve RUN_DIR");
    if std::env::var_os("CRUN_SHIM_SERVES").is_none() {
        let mut again = Command::new("/proc/self/exe");
        again.args(std::env::args().skip(1)).env("CRUN_SHIM_SERVES", "1");
        again.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        drop(again.spawn().expect("a process"));
        return;
    }
    let bytes = std::fs::read(run_dir.join("plan.json")).expect("a plan");
    let plan: Plan = serde_json::from_slice(&bytes).expect("a plan");
    // Containers become our children when crun leaves.
    rustix::process::set_child_subreaper(Pid::from_raw(1)).expect("subreaper");
    hide_unified().expect("a mount namespace");
    let Root::Overlay { layers, .. } = &plan.root else {
        panic!("the suite's guests have layers")
    };
    let adapter = Arc::new(Adapter {
        tree: layers[0].clone(),
        plan,
        state: Mutex::default(),
        changed: Condvar::new(),
    });
    let shim = UnixListener::bind(run_dir.join("shim.sock")).expect("a socket");
    let attach = UnixListener::bind(run_dir.join("attach.sock")).expect("a socket");
    println!("ready");
    let null = std::fs::File::options()
        .write(true)
        .open("/dev/null")
        .expect("null");
    rustix::stdio::dup2_stdout(null).expect("standard output");
    std::thread::spawn(reap_strays);
    let attached = Arc::clone(&adapter);
    std::thread::spawn(move || {
        for client in attach.incoming().flatten() {
            let adapter = Arc::clone(&attached);
            std::thread::spawn(move || adapter.session(Wire::new(client)));
        }
    });
    for client in shim.incoming().flatten() {
        let adapter = Arc::clone(&adapter);
        std::thread::spawn(move || adapter.serve(Wire::new(client)));
    }
}

/// crun refuses to run where the v2 hierarchy beside v1 ones holds controllers.
fn hide_unified() -> io::Result<()> {
    use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};
    let mounted = Mounted::parse(&std::fs::read_to_string("/proc/self/mountinfo")?);
    let Some(unified) = mounted.unified.filter(|_| !mounted.v1.is_empty()) else {
        return Ok(());
    };
    hostos::process::unshare(rustix::thread::UnshareFlags::NEWNS)?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    Ok(unmount(&unified, UnmountFlags::DETACH)?)
}

fn crun(args: &[&str]) -> Result<()> {
    let fault = || Fault::new(CRUN).arg("what", "crun");
    let out = Command::new("crun").args(args).output().or_fault(fault)?;
    if out.status.success() {
        return Ok(());
    }
    Err(fault().because_of(String::from_utf8_lossy(&out.stderr).into_owned()))
}

fn absent(facet: &str) -> Fault {
    Fault::new(FACET_ABSENT).arg("facet", facet)
}

fn wrong_phase() -> Fault {
    Fault::new(shim_server::WRONG_PHASE)
}

/// The next message; none when the client is gone.
fn receive(wire: &mut Wire) -> Result<Option<Vec<u8>>> {
    loop {
        if let Some((body, _)) = wire.take_raw()? {
            return Ok(Some(body));
        }
        if !matches!(wire.fill(), Ok(Filled::Data)) {
            return Ok(None);
        }
    }
}

fn send(wire: &mut Wire, message: &impl serde::Serialize, fds: Vec<OwnedFd>) -> Option<()> {
    wire.push(message, fds).ok()?;
    wire.flush().ok().map(drop)
}

fn wait_child(pidfd: impl AsFd) -> ExitStatus {
    match rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED) {
        Ok(Some(status)) => match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => ExitStatus::Code(code),
            (None, signal) => ExitStatus::Signal(signal.unwrap_or(-1)),
        },
        _ => ExitStatus::Code(-1),
    }
}

/// Reaps what crun leaves to us without anybody waiting for it: as long as it is there, a pid namespace cannot end.
fn reap_strays() {
    let ours = format!(" Z {} ", std::process::id());
    let mut before = Vec::new();
    loop {
        std::thread::sleep(Duration::from_millis(100));
        let mut dead = Vec::new();
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            if stat.contains(&ours) {
                dead.extend(
                    entry
                        .file_name()
                        .to_str()
                        .and_then(|name| name.parse::<i32>().ok()),
                );
            }
        }
        for pid in dead.iter().filter(|pid| before.contains(*pid)) {
            let _ = rustix::process::waitpid(Pid::from_raw(*pid), WaitOptions::NOHANG);
        }
        before = dead;
    }
}

fn pid_of(path: &Path) -> Result<(u32, OwnedFd)> {
    let fault = || Fault::new(CRUN).arg("what", path.display());
    let text = std::fs::read_to_string(path).or_fault(fault)?;
    let number: i32 = text.trim().parse().or_fault(fault)?;
    let pid = Pid::from_raw(number).ok_or_else(fault)?;
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).or_fault(fault)?;
    Ok((number.unsigned_abs(), pidfd))
}

impl Adapter {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn id(&self) -> &str {
        &self.plan.id.0
    }

    fn serve(self: Arc<Self>, mut wire: Wire) {
        let hello = Hello {
            protocol: PROTOCOL_VERSION,
            version: "crun".into(),
            engine: "crun".into(),
            guest: self.id().to_owned(),
            pid: std::process::id(),
        };
        let Ok(answers) = wire.socket().try_clone() else {
            return;
        };
        let answers = Arc::new(Mutex::new(Wire::new(answers)));
        if send(&mut wire, &hello, Vec::new()).is_none() {
            return;
        }
        loop {
            let message = receive(&mut wire).and_then(|body| {
                let Some(body) = body else { return Ok(None) };
                let broken = || Fault::new(engine::protocol::MESSAGE_BROKEN);
                serde_json::from_slice::<Call>(&body).or_fault(broken).map(Some)
            });
            let call = match message {
                Ok(Some(call)) => call,
                Ok(None) => return,
                Err(fault) => {
                    let reply = Reply::Fault(fault);
                    send(&mut wire, &Answer { call: 0, reply }, Vec::new());
                    return;
                }
            };
            let (adapter, answers) = (Arc::clone(&self), Arc::clone(&answers));
            std::thread::spawn(move || adapter.answer(call, &answers));
        }
    }

    fn answer(self: Arc<Self>, Call { call, request }: Call, answers: &Mutex<Wire>) {
        let gone = matches!(request, Request::Delete);
        let (reply, fds) = self
            .request(request)
            .unwrap_or_else(|fault| (Reply::Fault(fault), Vec::new()));
        let leave = gone && reply == Reply::Done;
        let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
        send(&mut answers, &Answer { call, reply }, fds);
        if leave {
            #[allow(clippy::disallowed_methods)] // Other threads wait in accept(2) for ever.
            std::process::exit(0);
        }
    }

    fn request(self: &Arc<Self>, request: Request) -> Result<(Reply, Vec<OwnedFd>)> {
        let mut fds = Vec::new();
        let reply = match request {
            Request::Create => {
                self.create()?;
                fds.push(self.network_namespace()?);
                Reply::Done
            }
            Request::NetworkNamespace => {
                fds.push(self.network_namespace()?);
                Reply::Done
            }
            Request::Start => {
                if self.state().status.phase == Phase::Running {
                    return Err(wrong_phase());
                }
                self.create()?;
                crun(&["start", self.id()])?;
                self.until_executed();
                let mut state = self.state();
                // It may have ended already.
                if state.status.phase == Phase::Starting {
                    state.status.phase = Phase::Running;
                }
                Reply::Done
            }
            Request::Status => {
                let mut status = self.state().status.clone();
                // The process that crun has made by now is not yet the guest's.
                status.pid = status.pid.filter(|_| status.phase != Phase::Starting);
                Reply::Status(status)
            }
            Request::Wait => Reply::Status(self.ended(None)),
            Request::Stop { how } => Reply::Status(self.stop(how)?),
            Request::Delete => {
                if !matches!(
                    self.state().status.phase,
                    Phase::Stopped | Phase::Starting | Phase::Defined
                ) {
                    return Err(wrong_phase());
                }
                let _ = crun(&["delete", "--force", self.id()]);
                self.cgroups()?.remove(&self.plan.cgroup)?;
                let _ = std::fs::remove_dir_all(&self.plan.run_dir);
                Reply::Done
            }
            Request::Pause => {
                crun(&["pause", self.id()])?;
                self.state().status.phase = Phase::Paused;
                Reply::Done
            }
            Request::Resume => {
                if self.state().status.phase != Phase::Paused {
                    return Err(wrong_phase());
                }
                crun(&["resume", self.id()])?;
                self.state().status.phase = Phase::Running;
                Reply::Done
            }
            Request::Limit { limits } => {
                let cgroups = self.cgroups()?;
                let limits = shim_server::cgroup_limits(&limits);
                let missing = cgroups.limit(&self.plan.cgroup, &limits)?;
                let unenforced = missing.into_iter().map(|missing| Unenforced {
                    limit: missing.limit.into(),
                    reason: missing.reason,
                });
                Reply::Unenforced(unenforced.collect())
            }
            Request::Stats => {
                let used = self.cgroups()?.stats(&self.plan.cgroup)?;
                Reply::Stats(model::api::GuestStats {
                    cpu_ns: used.cpu_ns,
                    memory: used.memory,
                    memory_limit: used.memory_limit,
                    pids: used.pids,
                    ..Default::default()
                })
            }
            Request::Exec { plan } => {
                let mut state = self.state();
                if state.status.phase != Phase::Running {
                    return Err(wrong_phase());
                }
                state.next += 1;
                let ticket = format!("ticket-{}", state.next);
                state.tickets.insert(ticket.clone(), plan);
                Reply::Ticket(ticket)
            }
            other => return Err(absent(&format!("{other:?}"))),
        };
        Ok((reply, fds))
    }

    fn cgroups(&self) -> Result<V1> {
        let table = std::fs::read_to_string("/proc/self/mountinfo").or_fault(|| absent("cgroups"))?;
        Ok(V1::over(Mounted::parse(&table).v1, None))
    }

    fn network_namespace(&self) -> Result<OwnedFd> {
        let pid = self.state().status.pid.ok_or_else(wrong_phase)?;
        let file = std::fs::File::open(format!("/proc/{pid}/ns/net")).or_fault(wrong_phase)?;
        Ok(file.into())
    }

    fn create(self: &Arc<Self>) -> Result<()> {
        if self.state().status.phase == Phase::Starting {
            return Ok(());
        }
        let fault = || Fault::new(CRUN).arg("what", "bundle");
        let bundle = self.plan.run_dir.join("bundle");
        std::fs::create_dir_all(&bundle).or_fault(fault)?;
        std::fs::write(bundle.join("config.json"), self.config().to_string()).or_fault(fault)?;
        let pid_file = self.plan.run_dir.join("crun.pid");
        let console = self.plan.state_dir.join("console.log");
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(console)
            .or_fault(fault)?;
        let _ = crun(&["delete", "--force", self.id()]);
        let status = Command::new("crun")
            .args(["create", "--bundle"])
            .arg(&bundle)
            .arg("--pid-file")
            .arg(&pid_file)
            .arg(self.id())
            .stdin(Stdio::null())
            .stdout(log.try_clone().or_fault(fault)?)
            .stderr(log)
            .status()
            .or_fault(fault)?;
        if !status.success() {
            return Err(fault().because_of(status.to_string()));
        }
        let (pid, pidfd) = pid_of(&pid_file)?;
        let mut state = self.state();
        state.status.pid = Some(pid);
        state.status.phase = Phase::Starting;
        drop(state);
        let watcher = Arc::clone(self);
        std::thread::spawn(move || {
            let exit = wait_child(pidfd);
            let mut state = watcher.state();
            state.status.exit = Some(exit);
            state.status.pid = None;
            state.status.phase = Phase::Stopped;
            watcher.changed.notify_all();
        });
        Ok(())
    }

    /// crun answers a start before the program is executed, and enters no container before that.
    fn until_executed(&self) {
        let pid = self.state().status.pid.unwrap_or_default();
        let until = Instant::now() + Duration::from_secs(5);
        while Instant::now() < until {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm"));
            if !name.is_ok_and(|name| name.starts_with("crun")) {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits for the end, at most so long.
    fn ended(&self, patience: Option<Duration>) -> InstanceStatus {
        let until = patience.map(|patience| Instant::now() + patience);
        let mut state = self.state();
        while state.status.phase != Phase::Stopped {
            let left = match until.map(|until| until.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => break,
                left => left.unwrap_or(Duration::from_secs(3600)),
            };
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.status.clone()
    }

    fn stop(&self, how: Stop) -> Result<InstanceStatus> {
        let mut state = self.state();
        match state.status.phase {
            Phase::Stopped => return Ok(state.status.clone()),
            Phase::Paused => drop(crun(&["resume", self.id()])),
            _ => {}
        }
        state.status.phase = Phase::Stopping;
        drop(state);
        if let Stop::Graceful { deadline_ms } = how {
            let _ = crun(&["kill", self.id(), "TERM"]);
            let status = self.ended(Some(Duration::from_millis(deadline_ms)));
            if status.phase == Phase::Stopped {
                return Ok(status);
            }
        }
        let _ = crun(&["kill", self.id(), "KILL"]);
        Ok(self.ended(None))
    }

    /// One local client, from its ticket to the end of its process.
    fn session(&self, mut wire: Wire) -> Option<()> {
        let body = receive(&mut wire).ok()??;
        let ticket = serde_json::from_slice::<Attach>(&body).ok()?.ticket;
        let plan = self.state().tickets.remove(&ticket);
        let started = plan.map_or_else(
            || Err(Fault::new(TICKET_UNKNOWN)),
            |plan| self.exec(&plan, &ticket),
        );
        let (pidfd, fds) = match started {
            Ok(started) => started,
            Err(fault) => return send(&mut wire, &Attached::Fault(fault), Vec::new()),
        };
        let terminal = (fds.len() == 1).then(|| fds[0].try_clone()).transpose().ok()?;
        let kind = if terminal.is_some() {
            Attached::Terminal
        } else {
            Attached::Pipes
        };
        send(&mut wire, &kind, fds)?;
        let told = wire.socket().try_clone().ok()?;
        let waiting = pidfd.try_clone().ok()?;
        std::thread::spawn(move || {
            let exit = wait_child(waiting);
            send(&mut Wire::new(told), &AttachEvent::Exited { exit }, Vec::new())
        });
        while let Some(body) = receive(&mut wire).ok()? {
            match serde_json::from_slice(&body).ok()? {
                AttachControl::Resize { size } => {
                    let size = rustix::termios::Winsize {
                        ws_row: size.rows,
                        ws_col: size.cols,
                        ws_xpixel: 0,
                        ws_ypixel: 0,
                    };
                    rustix::termios::tcsetwinsize(terminal.as_ref()?, size).ok()?;
                }
                AttachControl::Signal { signal } => hostos::signal::send(pidfd.as_fd(), signal).ok()?,
            }
        }
        None
    }

    fn exec(&self, plan: &ExecPlan, ticket: &str) -> Result<(OwnedFd, Vec<OwnedFd>)> {
        let fault = || Fault::new(CRUN).arg("what", "crun exec");
        let pid_file = self.plan.run_dir.join(format!("{ticket}.pid"));
        let socket = self.plan.run_dir.join(format!("{ticket}.sock"));
        let mut command = Command::new("crun");
        command.args(["exec", "--detach", "--pid-file"]).arg(&pid_file);
        command.args(["--env", "PATH=/usr/bin:/bin"]);
        for (name, value) in &plan.env {
            command.arg("--env").arg(format!("{name}={value}"));
        }
        if let Some(dir) = &plan.workdir {
            command.args(["--cwd", dir]);
        }
        if let Some(user) = &plan.user {
            command.args(["--user", &self.numbers(user)?]);
        }
        let listener = plan
            .terminal
            .map(|_| UnixListener::bind(&socket))
            .transpose()
            .or_fault(fault)?;
        let mut ends = Vec::new();
        if listener.is_some() {
            command.arg("--tty").arg("--console-socket").arg(&socket);
            let log = std::fs::File::create(self.plan.run_dir.join("exec.log")).or_fault(fault)?;
            command.stderr(log);
        } else {
            let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).or_fault(fault);
            let (stdin, to_stdin) = pipe()?;
            let (from_stdout, stdout) = pipe()?;
            let (from_stderr, stderr) = pipe()?;
            command.stdin(stdin).stdout(stdout).stderr(stderr);
            ends = vec![to_stdin, from_stdout, from_stderr];
        }
        command.arg(self.id()).args(&plan.argv);
        let status = command.status().or_fault(fault)?;
        drop(command);
        if !status.success() {
            let log = self.plan.run_dir.join("exec.log");
            let mut said = std::fs::read_to_string(log).unwrap_or_default();
            if let Some(stderr) = ends.pop() {
                let _ = io::Read::read_to_string(&mut std::fs::File::from(stderr), &mut said);
            }
            return Err(fault().because_of(format!("{status}: {said}")));
        }
        if let (Some(listener), Some((rows, cols))) = (listener, plan.terminal) {
            let master = passed(&listener.accept().or_fault(fault)?.0).ok_or_else(fault)?;
            let size = rustix::termios::Winsize {
                ws_row: rows,
                ws_col: cols,
                ws_xpixel: 0,
                ws_ypixel: 0,
            };
            rustix::termios::tcsetwinsize(&master, size).or_fault(fault)?;
            ends = vec![master];
        }
        Ok((pid_of(&pid_file)?.1, ends))
    }

    /// crun knows users by number only.
    fn numbers(&self, user: &str) -> Result<String> {
        let fault = || Fault::new(CRUN).arg("what", user);
        let file = std::fs::File::open(self.tree.join("etc/passwd")).or_fault(fault)?;
        for line in io::BufReader::new(file).lines().map_while(io::Result::ok) {
            let fields: Vec<&str> = line.split(':').collect();
            if let [name, _, uid, gid, ..] = fields[..]
                && name == user
            {
                return Ok(format!("{uid}:{gid}"));
            }
        }
        Err(fault())
    }

    fn config(&self) -> Value {
        let argv = match &self.plan.init {
            Init::Command { argv } => argv.clone(),
            Init::System => vec!["/sbin/init".into()],
        };
        let capabilities = jail::guest::CAPABILITIES;
        let mount = |target: &str, kind: &str, options: &[&str]| json!({"destination": target, "type": kind, "source": kind, "options": options});
        let mut linux = json!({
            "cgroupsPath": format!("/{}", self.plan.cgroup.display()),
            "namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "uts"}, {"type": "ipc"}, {"type": "network"},
                {"type": "user"}]
        });
        if let Some(ids) = self.plan.ids {
            let map = json!([{"containerID": 0, "hostID": ids.base, "size": ids.count}]);
            linux["uidMappings"] = map.clone();
            linux["gidMappings"] = map;
        }
        let limits = &self.plan.limits;
        let mut resources = json!({});
        if let Some(memory) = limits.memory {
            resources["memory"] = json!({"limit": memory.0});
            if let Some(swap) = limits.swap {
                resources["memory"]["swap"] = json!(memory.0 + swap.0);
            }
        }
        if let Some(pids) = limits.pids {
            resources["pids"] = json!({"limit": pids});
        }
        if let Some(cpus) = limits.cpus {
            resources["cpu"] = json!({"quota": (cpus * 100_000.0).round(), "period": 100_000});
            resources["cpu"]["quota"] = json!((cpus * 100_000.0) as i64);
        }
        linux["resources"] = resources;
        json!({
            "ociVersion": "1.0.2",
            "process": {"terminal": false, "user": {"uid": 0, "gid": 0}, "args": argv, "cwd": "/",
                "env": ["PATH=/usr/bin:/bin"],
                "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities}},
            "root": {"path": self.tree, "readonly": false},
            "hostname": self.plan.hostname,
            "mounts": [
                mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
                mount("/dev", "tmpfs", &["nosuid", "mode=755", "size=4m"]),
                mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
            ],
            "linux": linux
        })
    }
}

/// The descriptor that crun passes on its console socket.
fn passed(socket: &UnixStream) -> Option<OwnedFd> {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [0; 256];
    let mut into = [io::IoSliceMut::new(&mut bytes)];
    recvmsg(socket, &mut into, &mut ancillary, RecvFlags::CMSG_CLOEXEC).ok()?;
    ancillary.drain().find_map(|item| match item {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    })
}
