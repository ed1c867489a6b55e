//! One machine inside its shim: the instance of this engine.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use engine::protocol::{FileJob, Told};
use engine::{
    Accounting, DiskPlan, ExecPlan, ExecStreams, Executing, Instance, InstanceStatus, MachineBoot, Pausing,
    Plan, Showing, Stop,
};
use fault::{Fault, OrFault, Result};
use jail::Stdio;
use machine::control::{Event, Order, Said};
use machine::plan::{Boot, Disk, DiskBus, Fd, MachinePlan, Nic, PLAN_VERSION, Processor, Time};
use model::api::{Display, GuestStats};
use model::{Limits, MachineEngine, Phase, Unenforced};
use rustix::fs::{FlockOperation, MemfdFlags};
use shim_server::{ConsoleEnd, Guest, Jailed, SET_UP_FAILED, pty, translate};

use crate::monitor::Monitor;
use crate::pump::{self, Job};
use crate::{DISK_IN_USE, FILE, KVM_UNUSABLE, NEEDS_RUNNING, NO_MACHINE, NOT_BEGUN, cage, finder, link};

/// Port of the guest's agent.
const AGENT_PORT: u32 = 1024;

/// A guest that is a machine.
pub struct Machine {
    jailed: Jailed,
    console: Option<ConsoleEnd>,
    monitor: Option<Monitor>,
    served: Option<Served>,
}

/// The socket at which the screen is served, kept over the guest's reboots.
struct Served {
    listener: TcpListener,
    display: Display,
}

/// Descriptors that go along with a plan.
#[derive(Default)]
struct Descriptors(Vec<OwnedFd>);

impl Descriptors {
    fn add(&mut self, fd: impl Into<OwnedFd>) -> Fd {
        self.0.push(fd.into());
        Fd(self.0.len() - 1)
    }
}

impl Machine {
    /// Over a plan; nothing is made yet.
    ///
    /// # Errors
    /// `MAC010` when the plan is none of a machine; when the host has no cgroups.
    pub fn new(plan: Plan) -> Result<Machine> {
        if plan.machine.is_none() {
            return Err(Fault::new(NO_MACHINE).arg("name", &plan.name));
        }
        let root = cage::root(&plan);
        if !root.is_dir() {
            let made = std::fs::DirBuilder::new().mode(0o755).create(&root);
            made.or_fault(|| Fault::new(SET_UP_FAILED).arg("what", root.display()))?;
        }
        Ok(Machine {
            jailed: Jailed::new(plan, cage::recipe, cage::exit)?,
            console: None,
            monitor: None,
            served: None,
        })
    }

    fn hardware(&self) -> Result<engine::MachinePlan> {
        let plan = self.jailed.plan();
        plan.machine
            .clone()
            .ok_or_else(|| Fault::new(NO_MACHINE).arg("name", &plan.name))
    }

    /// The machine's plan and everything that it is handed.
    fn resolve(&mut self, serial: OwnedFd) -> Result<(MachinePlan, Descriptors)> {
        let hardware = self.hardware()?;
        let mut fds = Descriptors::default();
        let serial = fds.add(serial);
        let opened: Vec<Option<File>> = hardware
            .disks
            .iter()
            .map(|disk| self.open_disk(disk))
            .collect::<Result<_>>()?;
        let boot = self.boot(&hardware, &opened, &mut fds)?;
        let (processor, told) = processor(hardware.engine, &mut fds)?;
        self.jailed.status_mut().processor = Some(told);
        let mut disks = Vec::new();
        for (disk, file) in hardware.disks.iter().zip(opened) {
            let scratch = (hardware.discard_writes && !disk.cdrom)
                .then(|| self.scratch())
                .transpose()?;
            disks.push(Disk {
                name: disk.name.clone(),
                file: file.map(|file| fds.add(file)),
                format: disk.format.clone(),
                bus: if disk.cdrom { DiskBus::Ide } else { DiskBus::Virtio },
                cdrom: disk.cdrom,
                read_only: disk.read_only,
                scratch: scratch.map(|file| fds.add(file)),
            });
        }
        let mut nics = Vec::new();
        let namespace = self
            .jailed
            .network_namespace()
            .or_fault(|| Fault::new(SET_UP_FAILED).arg("what", "the network namespace"))?;
        for nic in &self.jailed.plan().nics {
            if let Some(namespace) = &namespace {
                nics.push(Nic {
                    mac: mac(&nic.mac),
                    link: fds.add(link::open(namespace, &nic.link)?),
                    header: link::HEADER,
                    mtu: nic.mtu.and_then(|mtu| u16::try_from(mtu).ok()).unwrap_or(1500),
                });
            }
        }
        let plan = self.jailed.plan();
        let machine = MachinePlan {
            version: PLAN_VERSION,
            name: plan.name.to_string(),
            uuid: uuid(&plan.id.0),
            cpus: hardware.cpus,
            memory: hardware.memory,
            processor,
            time: Time::Host,
            boot,
            disks,
            nics,
            shares: Vec::new(),
            display: hardware.keymap.clone(),
            serial,
            firmware_log: append(&plan.state_dir.join("firmware.log"))
                .ok()
                .map(|file| fds.add(file)),
        };
        Ok((machine, fds))
    }

    /// Opens a disk and locks it, so that no other machine has it at the same time.
    fn open_disk(&self, disk: &DiskPlan) -> Result<Option<File>> {
        let Some(path) = &disk.path else {
            return Ok(None);
        };
        let fault = || Fault::new(FILE).arg("path", path.display());
        let file = OpenOptions::new()
            .read(true)
            .write(!disk.read_only && !disk.cdrom)
            .open(path)
            .or_fault(fault)?;
        let lock = if disk.read_only || disk.cdrom {
            FlockOperation::NonBlockingLockShared
        } else {
            FlockOperation::NonBlockingLockExclusive
        };
        match rustix::fs::flock(&file, lock) {
            Ok(()) => Ok(Some(file)),
            Err(_) => Err(Fault::new(DISK_IN_USE)
                .arg("path", path.display())
                .arg("name", &self.jailed.plan().name)),
        }
    }

    /// A file for what the guest writes and nobody keeps.
    fn scratch(&self) -> Result<File> {
        let fault = || Fault::new(FILE).arg("path", self.jailed.plan().state_dir.display());
        let directory = &self.jailed.plan().state_dir;
        let flags = rustix::fs::OFlags::TMPFILE | rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC;
        let file = rustix::fs::open(directory, flags, rustix::fs::Mode::from_raw_mode(0o600));
        Ok(file.or_fault(fault)?.into())
    }

    fn boot(
        &mut self,
        hardware: &engine::MachinePlan,
        disks: &[Option<File>],
        fds: &mut Descriptors,
    ) -> Result<Boot> {
        let (kernel, initrd, command_line): (File, Option<File>, String) = match &hardware.boot {
            MachineBoot::Firmware => return self.firmware(hardware, fds),
            MachineBoot::Kernel {
                kernel,
                initrd,
                append,
            } => {
                let open =
                    |path: &Path| File::open(path).or_fault(|| Fault::new(FILE).arg("path", path.display()));
                (
                    open(kernel)?,
                    initrd.as_deref().map(open).transpose()?,
                    append.clone(),
                )
            }
            MachineBoot::Disk { append } => {
                let first = hardware.disks.iter().zip(disks).find(|(disk, _)| !disk.cdrom);
                let Some((disk, Some(file))) = first else {
                    return Err(Fault::new(NO_MACHINE).arg("name", &self.jailed.plan().name));
                };
                let found = finder::find(&mut self.jailed, file, &disk.format)?;
                let line = command_line(&found.told.command_line, append, hardware.keymap.is_some());
                (found.kernel, Some(found.initrd), line)
            }
        };
        let mut archives: Vec<Fd> = initrd.map(|file| fds.add(file)).into_iter().collect();
        let direct = matches!(hardware.boot, MachineBoot::Disk { .. });
        let mut command_line = command_line;
        if direct && let Some(agent) = agent_archive()? {
            archives.push(fds.add(agent));
            command_line.push_str(" rdinit=/posada-agent");
        }
        Ok(Boot::Kernel {
            kernel: fds.add(kernel),
            initrd: archives,
            command_line,
        })
    }

    fn firmware(&self, hardware: &engine::MachinePlan, fds: &mut Descriptors) -> Result<Boot> {
        let open = |path: &str| File::open(path).or_fault(|| Fault::new(FILE).arg("path", path));
        let cdroms = hardware
            .disks
            .iter()
            .filter(|disk| disk.cdrom && disk.path.is_some());
        let others = hardware.disks.iter().filter(|disk| !disk.cdrom);
        Ok(Boot::Firmware {
            image: fds.add(open("/usr/share/seabios/bios-256k.bin")?),
            vga: match hardware.keymap {
                Some(_) => Some(fds.add(open("/usr/share/seabios/vgabios-stdvga.bin")?)),
                None => None,
            },
            order: cdroms.chain(others).map(|disk| disk.name.clone()).collect(),
        })
    }

    /// A new boot is shown where the last one was.
    fn show_again(&mut self) {
        if let Some(served) = &self.served
            && let Ok(listener) = served.listener.try_clone()
            && let Some(monitor) = &mut self.monitor
        {
            let password = served.display.password.clone();
            // A machine whose screen is not served runs all the same.
            let _ = monitor.ask(&Order::Display { password }, vec![listener.into()]);
        }
    }

    /// What happens to a machine, as shims tell it.
    fn hear(&mut self, event: Event) -> Option<Told> {
        match event {
            Event::Up => {
                self.jailed.set_booted();
                None
            }
            Event::Panicked => Some(Told::Panicked),
            Event::DiskFull { disk } => Some(Told::DiskFull { disk }),
            Event::DiskError { disk, error } => Some(Told::DiskError { disk, error }),
        }
    }

    fn monitor(&mut self) -> Result<&mut Monitor> {
        let name = self.jailed.plan().name.clone();
        self.monitor
            .as_mut()
            .ok_or_else(|| Fault::new(NEEDS_RUNNING).arg("name", name))
    }

    /// Starts the process of a session with the agent.
    fn session(&mut self, job: &Job, streams: Stdio) -> Result<(u32, OwnedFd)> {
        self.jailed.running()?;
        let (_, fds) = self
            .monitor()?
            .ask(&Order::Connect { port: AGENT_PORT }, Vec::new())?;
        let name = self.jailed.plan().name.to_string();
        let stream = fds
            .into_iter()
            .next()
            .ok_or_else(|| Fault::new(crate::NO_AGENT).arg("name", &name))?;
        let recipe = self.jailed.recipe();
        let started = pump::start(&recipe, self.jailed.namespaces()?, &name, job, stream, streams)?;
        Ok((started.pid, started.pidfd))
    }
}

impl Instance for Machine {
    fn create(&mut self) -> Result<Option<OwnedFd>> {
        self.jailed.create()
    }

    fn start(&mut self) -> Result<()> {
        let console = || Fault::new(SET_UP_FAILED).arg("what", "the console");
        let pty = pty::of_host(None).or_fault(console)?;
        make_raw(&pty.slave).or_fault(console)?;
        let serial = pty.slave.try_clone().or_fault(console)?;
        let (plan, fds) = self.resolve(serial)?;
        let name = plan.name.clone();
        let (ours, theirs) = UnixStream::pair().or_fault(|| Fault::new(NOT_BEGUN).arg("name", &name))?;
        let errors = append(&self.jailed.plan().state_dir.join("machine.log"));
        let null = || OpenOptions::new().read(true).write(true).open("/dev/null");
        let errors = errors.or_else(|_| null()).or_fault(console)?;
        let stdio = Stdio {
            stdin: theirs.into(),
            stdout: null().or_fault(console)?.into(),
            stderr: errors.into(),
        };
        self.jailed.start_work(&stdio, &machine::process::run)?;
        drop(stdio);
        let mut monitor = Monitor::new(ours, &name)?;
        let begin = Order::Begin { plan: Box::new(plan) };
        if let Err(fault) = monitor.ask(&begin, fds.0) {
            self.jailed.kill();
            return Err(fault);
        }
        self.console = Some(ConsoleEnd::Terminal { pty });
        self.monitor = Some(monitor);
        self.show_again();
        // Only a machine that we give an agent tells of its boot.
        let told = matches!(self.hardware()?.boot, MachineBoot::Disk { .. });
        self.jailed.status_mut().booting = told && agent_program().is_some();
        Ok(())
    }

    fn stop(&mut self, how: Stop) -> Result<()> {
        let paused = self.jailed.status().phase == Phase::Paused;
        if how == Stop::Forced {
            self.jailed.ask_to_stop()?;
            return self.jailed.signal_first(9);
        }
        if paused {
            self.monitor()?.ask(&Order::Resume, Vec::new())?;
        }
        self.jailed.ask_to_stop()?;
        self.monitor()?.ask(&Order::PowerButton, Vec::new()).map(drop)
    }

    fn delete(&mut self) -> Result<()> {
        self.monitor = None;
        let root = cage::root(self.jailed.plan());
        self.jailed.delete()?;
        let _ = std::fs::remove_dir(root);
        Ok(())
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

    fn showing(&mut self) -> Option<&mut dyn Showing> {
        let machine = self.jailed.plan().machine.as_ref();
        machine
            .is_some_and(|machine| machine.keymap.is_some())
            .then_some(self)
    }
}

impl Showing for Machine {
    fn serve(&mut self) -> Result<Display> {
        self.jailed.running()?;
        if self.served.is_none() {
            let fault = || Fault::new(SET_UP_FAILED).arg("what", "the screen");
            let served = Served::new().or_fault(fault)?;
            let listener = served.listener.try_clone().or_fault(fault)?;
            let order = Order::Display {
                password: served.display.password.clone(),
            };
            self.monitor()?.ask(&order, vec![listener.into()])?;
            self.served = Some(served);
        }
        let served = self.served.as_ref();
        served
            .map(|served| served.display.clone())
            .ok_or_else(|| self.jailed.wrong_phase("running"))
    }

    fn picture(&mut self, text: bool) -> Result<OwnedFd> {
        self.jailed.running()?;
        let (said, fds) = self.monitor()?.ask(&Order::Screenshot { text }, Vec::new())?;
        let fault = || Fault::new(SET_UP_FAILED).arg("what", "the picture");
        if let Said::Text { text } = said {
            let mut file: File = rustix::fs::memfd_create("text", MemfdFlags::CLOEXEC)
                .or_fault(fault)?
                .into();
            file.write_all(text.as_bytes()).or_fault(fault)?;
            return Ok(file.into());
        }
        fds.into_iter().next().ok_or_else(fault)
    }
}

impl Served {
    /// A socket on a port of the loopback that is free, from 5900 up, and a password.
    fn new() -> std::io::Result<Served> {
        let bind = |port| TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, port));
        let listener = (5900..6000)
            .find_map(|port| bind(port).ok())
            .map_or_else(|| bind(0), Ok)?;
        let mut bytes = [0; 8];
        rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
        // Letters and digits that are not taken for one another.
        const SIGNS: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz23456789z";
        let password = bytes
            .iter()
            .map(|byte| char::from(SIGNS[usize::from(byte & 31)]))
            .collect();
        let address = listener.local_addr()?.to_string();
        Ok(Served {
            listener,
            display: Display { address, password },
        })
    }
}

impl Guest for Machine {
    fn engine(&self) -> &'static str {
        "machine"
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

    fn news(&self) -> Option<BorrowedFd<'_>> {
        self.monitor.as_ref().map(AsFd::as_fd)
    }

    fn take_news(&mut self) -> Vec<Told> {
        let events = self
            .monitor
            .as_mut()
            .map(Monitor::take_events)
            .unwrap_or_default();
        events.into_iter().filter_map(|event| self.hear(event)).collect()
    }

    /// Through the agent of a running guest; otherwise in the tree that its disk will be made of, in a jail as a container's.
    fn run_inside(&mut self, plan: &ExecPlan, stdio: Stdio) -> Result<(u32, OwnedFd)> {
        if self.jailed.runs() {
            return self.session(&Job::Exec(plan.clone()), stdio);
        }
        let guest = self.jailed.plan();
        let own = |disk: &DiskPlan| {
            disk.path
                .as_ref()
                .is_some_and(|path| path.starts_with(&guest.state_dir) && path.exists())
        };
        if self.hardware()?.disks.iter().any(own) {
            return Err(Fault::new(NEEDS_RUNNING).arg("name", &guest.name));
        }
        let mut recipe = translate::recipe(guest);
        recipe.nics.clear();
        recipe.process = translate::process(plan);
        let started = jail::start_bound(&recipe, self.jailed.namespaces()?, &stdio)?;
        Ok((started.pid, started.pidfd))
    }

    fn copy(&mut self, job: &FileJob, stdio: Stdio) -> Result<OwnedFd> {
        self.session(&Job::Files(job.clone()), stdio)
            .map(|(_, pidfd)| pidfd)
    }
}

impl Pausing for Machine {
    fn pause(&mut self) -> Result<()> {
        if !self.jailed.runs() || self.jailed.status().phase != Phase::Running {
            return Err(self.jailed.wrong_phase("running"));
        }
        self.monitor()?.ask(&Order::Pause, Vec::new())?;
        self.jailed.set_phase(Phase::Paused);
        Ok(())
    }

    fn resume(&mut self) -> Result<()> {
        if self.jailed.status().phase != Phase::Paused {
            return Err(self.jailed.wrong_phase("paused"));
        }
        self.monitor()?.ask(&Order::Resume, Vec::new())?;
        self.jailed.set_phase(Phase::Running);
        Ok(())
    }
}

impl Executing for Machine {
    fn exec(&mut self, plan: &ExecPlan) -> Result<(u32, OwnedFd, ExecStreams)> {
        let fault = || Fault::new(SET_UP_FAILED).arg("what", "the session");
        let (stdio, streams) = if let Some((rows, cols)) = plan.terminal {
            let pty = pty::of_host(None).or_fault(fault)?;
            pty::resize(&pty.master, rows, cols).or_fault(fault)?;
            make_raw(&pty.slave).or_fault(fault)?;
            rustix::io::ioctl_fionbio(&pty.master, false).or_fault(fault)?;
            let stdio = Stdio {
                stdin: pty.slave.try_clone().or_fault(fault)?,
                stdout: pty.slave.try_clone().or_fault(fault)?,
                stderr: pty.slave,
            };
            (stdio, ExecStreams::Terminal(pty.master))
        } else {
            let pipe = || pty::pipe(None).or_fault(fault);
            let (stdin, to_stdin) = pipe()?;
            let (from_stdout, stdout) = pipe()?;
            let (from_stderr, stderr) = pipe()?;
            (
                Stdio {
                    stdin,
                    stdout,
                    stderr,
                },
                ExecStreams::Pipes(to_stdin, from_stdout, from_stderr),
            )
        };
        let (pid, pidfd) = self.session(&Job::Exec(plan.clone()), stdio)?;
        Ok((pid, pidfd, streams))
    }
}

impl Accounting for Machine {
    fn limit(&mut self, limits: &Limits) -> Result<Vec<Unenforced>> {
        self.jailed.limit(limits)
    }

    fn stats(&mut self) -> Result<GuestStats> {
        self.jailed.stats()
    }
}

/// What executes the machine: KVM where it really works, else the software CPU; and how that is told.
fn processor(wanted: MachineEngine, fds: &mut Descriptors) -> Result<(Processor, model::Processor)> {
    let software = |reason| {
        let told = model::Processor {
            engine: MachineEngine::Software,
            reason,
        };
        Ok((Processor::Software, told))
    };
    if wanted == MachineEngine::Software {
        return software(None);
    }
    match crate::engine::usable_kvm() {
        Ok(device) => {
            let told = model::Processor {
                engine: MachineEngine::Kvm,
                reason: None,
            };
            let device = fds.add(device);
            Ok((Processor::Kvm { device }, told))
        }
        Err(fault) if wanted == MachineEngine::Kvm => Err(Fault::new(KVM_UNUSABLE).because(fault)),
        Err(fault) => software(Some(fault)),
    }
}

/// An image over an open file.
pub fn open_image(file: File, format: &str, read_only: bool) -> Result<Box<dyn disk::Image>> {
    let format = if format == "qcow2" {
        disk::Format::Qcow2
    } else {
        disk::Format::Raw
    };
    disk::open(file, format, read_only)
}

/// The agent's executable, which lies beside this one.
fn agent_program() -> Option<PathBuf> {
    let path = std::env::current_exe().ok()?.with_file_name("posada-agent");
    path.exists().then_some(path)
}

/// The agent's executable as an archive that is unpacked over the guest's initrd; none where it is not installed.
fn agent_archive() -> Result<Option<OwnedFd>> {
    let Some(path) = std::env::current_exe()
        .ok()
        .map(|exe| exe.with_file_name("posada-agent"))
    else {
        return Ok(None);
    };
    let Ok(program) = std::fs::read(&path) else {
        return Ok(None);
    };
    let fault = || Fault::new(FILE).arg("path", path.display());
    let archive = boot::initrd::cpio(&[("posada-agent", 0o100_755, &program)])?;
    let mut file: File = rustix::fs::memfd_create("agent", MemfdFlags::CLOEXEC)
        .or_fault(fault)?
        .into();
    file.write_all(&archive).or_fault(fault)?;
    Ok(Some(file.into()))
}

/// The command line of a kernel that is entered directly: the boot loader's own, where our hardware shows text, and what was added.
fn command_line(found: &str, append: &str, screen: bool) -> String {
    let mut words: Vec<&str> = found.split_whitespace().filter(|word| *word != "quiet").collect();
    if !words.iter().any(|word| word.starts_with("console=")) {
        if screen {
            words.push("console=tty0");
        }
        words.push("console=ttyS0");
    }
    if !words.iter().any(|word| word.starts_with("net.ifnames=")) {
        words.push("net.ifnames=0");
    }
    words.extend(append.split_whitespace());
    words.join(" ")
}

fn append(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

/// Bytes go through as they are.
fn make_raw(terminal: impl AsFd) -> std::io::Result<()> {
    let mut attributes = rustix::termios::tcgetattr(&terminal)?;
    attributes.make_raw();
    rustix::termios::tcsetattr(&terminal, rustix::termios::OptionalActions::Now, &attributes)?;
    Ok(())
}

/// The identity of a guest, 32 hexadecimal digits, as bytes.
fn uuid(id: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    for (byte, digits) in bytes.iter_mut().zip(id.as_bytes().chunks(2)) {
        let digits = std::str::from_utf8(digits).unwrap_or_default();
        *byte = u8::from_str_radix(digits, 16).unwrap_or_default();
    }
    bytes
}

/// Six octets of `02:00:…`.
fn mac(text: &str) -> [u8; 6] {
    let mut mac = [0; 6];
    for (octet, digits) in mac.iter_mut().zip(text.split(':')) {
        *octet = u8::from_str_radix(digits, 16).unwrap_or_default();
    }
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_speaks_on_the_consoles_that_the_machine_has() {
        assert_eq!(
            command_line("root=UUID=x ro quiet", "debug", false),
            "root=UUID=x ro console=ttyS0 net.ifnames=0 debug"
        );
        assert_eq!(
            command_line("root=/dev/vda1 console=ttyS0,9600", "", true),
            "root=/dev/vda1 console=ttyS0,9600 net.ifnames=0"
        );
        assert!(command_line("ro", "", true).contains("console=tty0 console=ttyS0"));
    }

    #[test]
    fn identities_and_addresses_are_read_as_they_are_written() {
        assert_eq!(uuid("0123456789abcdef0123456789abcdef")[..3], [0x01, 0x23, 0x45]);
        assert_eq!(mac("02:00:5e:10:00:0a"), [2, 0, 0x5e, 0x10, 0, 10]);
    }
}
