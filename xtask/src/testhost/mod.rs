//! `cargo xtask testhost -- CMD`: a test host of its own, in which a command may do to a host what it likes.
//!
//! ```text
//! testhost (outer)   real host's network; private mounts: makes cgroups, runs slirp4netns, cleans up afterwards
//!  └ stage           joins the cgroups, then new mount, network, pid, uts, ipc and cgroup namespaces
//!     └ init         process 1 in there: mounts, /dev, names; starts CMD, reaps, ends with CMD and everything with it
//!        └ CMD
//! ```
//!
//! Inside, `/var/lib/posada`, `/run`, `/dev`, `/proc`, `/sys` and the cgroup trees are its own; `/var/cache/posada`
//! is the developer's cache, so that downloads survive; the rest of the file system is the host's.

mod cgroups;
mod ground;
mod uplink;

use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};

use cgroups::Hierarchy;

/// Names a folder that stands at `/var/lib/posada/images` in the test host, so that the test programs of one run share
/// the images that the first of them made.
pub const IMAGES: &str = "POSADA_TEST_IMAGES";

/// What one process of the test host hands to the next, as JSON in its first argument.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Order {
    command: Vec<String>,
    scratch: PathBuf,
    cache: PathBuf,
    hierarchies: Vec<Hierarchy>,
    /// Where the stage writes the pid of init.
    born: RawFd,
    /// From where init reads that the uplink is up.
    go: RawFd,
}

const USAGE: &str = "usage: cargo xtask testhost [--no-uplink] [--ipv6] [--] CMD…";

/// `cargo xtask testhost …`; ends with the exit status of CMD.
pub fn command(args: &[String]) -> ExitCode {
    let status = match args {
        [word, order] if word == "@stage" => parse(order).and_then(|order| stage(&order)),
        [word, order] if word == "@init" => parse(order).and_then(|order| ground::init(&order)),
        _ => outer(args),
    };
    status.map_or_else(
        |error| {
            eprintln!("testhost: {error:#}");
            ExitCode::from(125)
        },
        ExitCode::from,
    )
}

fn parse(order: &str) -> Result<Order> {
    serde_json::from_str(order).context("an order of the test host")
}

/// Runs a command in a test host from within xtask; an error unless it ends with 0.
pub fn run(command: &[String], variables: &[(&str, String)]) -> Result<()> {
    let mut child = Command::new(crate::own_program()?);
    child.args(["testhost", "--"]).args(command);
    child.envs(variables.iter().map(|(name, value)| (name, value)));
    let status = child.status().context("testhost")?;
    if !status.success() {
        bail!("{} ended with {status}", command.join(" "));
    }
    Ok(())
}

/// Where downloads, images and the target directory of test runs are kept: `$POSADA_CACHE`, else beside other caches.
pub fn cache_dir() -> PathBuf {
    let variable = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let beside = || variable("XDG_CACHE_HOME").map(|folder| folder.join("posada-dev"));
    let home = || variable("HOME").map(|folder| folder.join(".cache/posada-dev"));
    variable("POSADA_CACHE")
        .or_else(beside)
        .or_else(home)
        .unwrap_or_else(|| PathBuf::from("/var/tmp/posada-dev"))
}

fn outer(args: &[String]) -> Result<u8> {
    let options = args
        .iter()
        .take_while(|arg| arg.starts_with("--") && *arg != "--");
    let options: Vec<&str> = options.map(String::as_str).collect();
    if let Some(unknown) = options
        .iter()
        .find(|option| !["--no-uplink", "--ipv6"].contains(option))
    {
        bail!("{unknown} is unknown; {USAGE}");
    }
    let mut command = args[options.len()..].to_vec();
    if command.first().is_some_and(|word| word == "--") {
        command.remove(0);
    }
    if command.is_empty() {
        bail!(USAGE);
    }
    let cache = cache_dir();
    std::fs::create_dir_all(cache.join("posada")).with_context(|| cache.display().to_string())?;
    if !rustix::process::geteuid().is_root() {
        return Err(as_root(args, &cache));
    }
    let name = format!("posada-test-{}", std::process::id());
    let scratch = PathBuf::from("/var/tmp").join(&name);
    sweep();
    let hierarchies = cgroups::find(&name)?;
    cgroups::create(&hierarchies)?;
    std::fs::create_dir_all(&scratch).with_context(|| scratch.display().to_string())?;
    let order = Order {
        command,
        scratch,
        cache,
        hierarchies,
        born: -1,
        go: -1,
    };
    let status = run_in_ground(order.clone(), &options);
    cgroups::remove(&order.hierarchies);
    if let Err(error) = std::fs::remove_dir_all(&order.scratch) {
        eprintln!("testhost: {} stays behind: {error}", order.scratch.display());
    }
    status
}

/// Becomes root by sudo, with the same environment. Returns only when that fails.
fn as_root(args: &[String], cache: &std::path::Path) -> anyhow::Error {
    let own = crate::own_program().unwrap_or_default();
    let mut sudo = Command::new("sudo");
    sudo.arg("--")
        .arg("env")
        .arg(format!("POSADA_CACHE={}", cache.display()));
    for (name, value) in
        std::env::vars().filter(|(name, _)| !name.starts_with("SUDO_") && name != "POSADA_CACHE")
    {
        sudo.arg(format!("{name}={value}"));
    }
    let error = sudo.arg(own).arg("testhost").args(args).exec();
    anyhow::Error::from(error).context("a test host needs root: run as root, or install sudo")
}

fn run_in_ground(mut order: Order, options: &[&str]) -> Result<u8> {
    ground::private_mounts()?;
    uplink::ensure_tun()?;
    // Inherited on purpose: the stage and init find the descriptors by number and close them before CMD.
    let (born_in, born_out) = rustix::pipe::pipe().context("pipe")?;
    let (go_in, go_out) = rustix::pipe::pipe().context("pipe")?;
    for fd in [&born_in, &go_out] {
        rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::CLOEXEC)?;
    }
    order.born = born_out.as_raw_fd();
    order.go = go_in.as_raw_fd();
    let mut child = own("@stage", &order)?.spawn().context("the stage")?;
    let stage = Pid::from_child(&child);
    drop((born_out, go_in));
    end_on_signals(stage)?;

    let mut born = String::new();
    std::fs::File::from(born_in).read_to_string(&mut born)?;
    let uplink = match born.parse::<u32>() {
        Ok(init) if !options.contains(&"--no-uplink") => {
            match uplink::start(init, options.contains(&"--ipv6")) {
                Ok(uplink) => Some(uplink),
                Err(error) => {
                    let _ = rustix::process::kill_process(stage, Signal::KILL);
                    child.wait()?;
                    return Err(error);
                }
            }
        }
        _ => None,
    };
    // Fails only when init is gone already; its exit status tells.
    let _ = std::fs::File::from(go_out).write_all(b"1");
    let status = child.wait()?;
    drop(uplink);
    Ok(code_of(status))
}

/// This program again, in another role.
fn own(role: &str, order: &Order) -> Result<Command> {
    let mut command = Command::new(crate::own_program()?);
    command.args(["testhost", role, &serde_json::to_string(order)?]);
    Ok(command)
}

/// A termination signal ends the stage (and so everything in the test host); we go on to clean up. The terminal's
/// interrupt goes to CMD too: it is ended by force only on the second.
fn end_on_signals(stage: Pid) -> Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    std::thread::spawn(move || {
        let mut interrupts = 0;
        for signal in signals.forever() {
            interrupts += 1;
            if signal != SIGINT || interrupts > 1 {
                let _ = rustix::process::kill_process(stage, Signal::KILL);
            }
        }
    });
    Ok(())
}

fn stage(order: &Order) -> Result<u8> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    cgroups::join(&order.hierarchies)?;
    ground::leave_the_host()?;
    cgroups::make_room(&order.hierarchies)?;
    let mut child = own("@init", order)?.spawn().context("init")?;
    let mut born = std::fs::File::from(inherited(order.born)?);
    born.write_all(child.id().to_string().as_bytes())?;
    drop(born);
    drop(inherited(order.go)?);
    Ok(code_of(child.wait()?))
}

fn code_of(status: std::process::ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt;
    let code = status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
    u8::try_from(code).unwrap_or(255)
}

/// Takes over a descriptor that our parent left open for us.
#[allow(
    unsafe_code,
    reason = "a number from our own parent becomes an owned descriptor"
)]
fn inherited(fd: RawFd) -> Result<OwnedFd> {
    if fd < 3 {
        bail!("descriptor {fd} was not handed over");
    }
    // SAFETY: the outer process opened it for this process alone, and every role takes it over once.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Removes what test hosts that were killed left behind: their cgroups and scratch folders.
fn sweep() {
    let dead = |name: &str| {
        let pid = name
            .strip_prefix("posada-test-")
            .and_then(|pid| pid.parse::<u32>().ok());
        pid.is_some_and(|pid| !PathBuf::from(format!("/proc/{pid}")).exists())
    };
    cgroups::sweep(&dead);
    let Ok(entries) = std::fs::read_dir("/var/tmp") else {
        return;
    };
    for entry in entries.flatten() {
        if dead(&entry.file_name().to_string_lossy()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}
