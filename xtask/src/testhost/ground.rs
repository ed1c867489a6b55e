//! The inside of a test host: namespaces, mounts, /dev, names, and its process 1.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use rustix::fs::{FileType, Mode};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change};
use rustix::process::{Signal, WaitOptions};
use rustix::thread::UnshareFlags;

use super::{Order, cgroups, inherited, uplink};

/// The name of a test host.
const NAME: &str = "testhost";

/// Takes this process into a mount namespace of its own from which nothing gets out.
#[allow(
    unsafe_code,
    reason = "rustix marks every unshare as unsafe, for the flag that unshares descriptors"
)]
pub fn private_mounts() -> Result<()> {
    // SAFETY: the flags do not touch the descriptor table, and this process has one thread.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }.context("a mount namespace")?;
    let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", flags).context("making mounts private")
}

/// Takes this process (and its children into a pid namespace) away from the host.
#[allow(
    unsafe_code,
    reason = "rustix marks every unshare as unsafe, for the flag that unshares descriptors"
)]
pub fn leave_the_host() -> Result<()> {
    let flags = UnshareFlags::NEWNS
        | UnshareFlags::NEWNET
        | UnshareFlags::NEWPID
        | UnshareFlags::NEWUTS
        | UnshareFlags::NEWIPC
        | UnshareFlags::NEWCGROUP;
    // SAFETY: the flags do not touch the descriptor table, and this process has one thread.
    unsafe { rustix::thread::unshare_unsafe(flags) }.context("the namespaces of a test host")
}

/// Process 1 of the test host: lays the ground, runs the command, reaps until it ends.
pub fn init(order: &Order) -> Result<u8> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    drop(inherited(order.born)?);
    let mut go = fs::File::from(inherited(order.go)?);
    rustix::io::fcntl_setfd(&go, rustix::io::FdFlags::CLOEXEC)?;
    lay(order)?;
    go.read_to_end(&mut Vec::new())?;
    drop(go);

    let (program, args) = order.command.split_first().context("a command")?;
    let mut command = Command::new(program);
    command
        .args(args)
        .env("POSADA_CACHE", &order.cache)
        .env("POSADA_TESTHOST", NAME);
    let child = command.spawn().with_context(|| program.clone())?;
    let child = rustix::process::Pid::from_child(&child);
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == child => {
                let code = status
                    .exit_status()
                    .or_else(|| status.terminating_signal().map(|signal| 128 + signal));
                return Ok(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(255));
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("waiting for the command"),
        }
    }
}

fn lay(order: &Order) -> Result<()> {
    let plain = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    rustix::system::sethostname(NAME.as_bytes())?;
    mount("proc", "/proc", "proc", plain, None).context("/proc")?;
    mount("sysfs", "/sys", "sysfs", plain, None).context("/sys")?;
    cgroups::mount_again(&order.hierarchies)?;
    devices()?;
    let resolv = fs::canonicalize("/etc/resolv.conf").unwrap_or_else(|_| PathBuf::from("/etc/resolv.conf"));
    let run = MountFlags::NOSUID | MountFlags::NODEV;
    mount("tmpfs", "/run", "tmpfs", run, Some(c"mode=755")).context("/run")?;
    for folder in ["/run/lock", "/run/user"] {
        fs::create_dir(folder)?;
    }
    names(order, &resolv)?;
    for (own, place) in [("state", "/var/lib/posada"), ("log", "/var/log/posada")] {
        let own = order.scratch.join(own);
        fs::create_dir(&own)?;
        bind(&own, Path::new(place))?;
    }
    bind(&order.cache.join("posada"), Path::new("/var/cache/posada"))?;
    if let Some(images) = std::env::var_os(super::IMAGES) {
        fs::create_dir_all(&images)?;
        bind(Path::new(&images), Path::new("/var/lib/posada/images"))?;
    }
    let up = Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status()
        .context("ip (Debian: iproute2)")?;
    anyhow::ensure!(up.success(), "ip link set lo up ended with {up}");
    Ok(())
}

/// Mounts a folder over another, which is made when the host lacks it.
fn bind(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| to.display().to_string())?;
    mount_bind(from, to).with_context(|| format!("{} on {}", from.display(), to.display()))
}

/// The test host's own resolv.conf and hosts.
fn names(order: &Order, resolv: &Path) -> Result<()> {
    let server = format!("nameserver {}\n", uplink::NAME_SERVER);
    let hosts = format!("127.0.0.1 localhost\n127.0.1.1 {NAME}\n::1 localhost ip6-localhost ip6-loopback\n");
    if resolv.starts_with("/run") {
        // Where systemd-resolved or NetworkManager write it: the link stays, the file is ours.
        fs::create_dir_all(resolv.parent().unwrap_or(Path::new("/run")))?;
        fs::write(resolv, &server)?;
    } else if resolv.exists() {
        let own = order.scratch.join("resolv.conf");
        fs::write(&own, &server)?;
        mount_bind(&own, resolv).context("/etc/resolv.conf")?;
    }
    if Path::new("/etc/hosts").exists() {
        let own = order.scratch.join("hosts");
        fs::write(&own, hosts)?;
        mount_bind(&own, "/etc/hosts").context("/etc/hosts")?;
    }
    Ok(())
}

/// A /dev with the usual nodes and those of tun, fuse and kvm, open to everybody.
fn devices() -> Result<()> {
    let has_kvm = Path::new("/sys/class/misc/kvm").exists();
    mount("tmpfs", "/dev", "tmpfs", MountFlags::NOSUID, Some(c"mode=755")).context("/dev")?;
    for (name, major, minor) in [
        ("null", 1, 3),
        ("zero", 1, 5),
        ("full", 1, 7),
        ("random", 1, 8),
        ("urandom", 1, 9),
    ] {
        node(format!("/dev/{name}"), major, minor)?;
    }
    node("/dev/tty", 5, 0)?;
    node("/dev/fuse", 10, 229)?;
    if has_kvm {
        node("/dev/kvm", 10, 232)?;
    }
    for folder in ["/dev/pts", "/dev/shm", "/dev/mqueue", "/dev/net"] {
        fs::create_dir(folder)?;
    }
    node("/dev/net/tun", 10, 200)?;
    let noexec = MountFlags::NOSUID | MountFlags::NOEXEC;
    let pts = c"newinstance,ptmxmode=0666,mode=0620,gid=5";
    mount("devpts", "/dev/pts", "devpts", noexec, Some(pts)).context("/dev/pts")?;
    mount(
        "tmpfs",
        "/dev/shm",
        "tmpfs",
        MountFlags::NOSUID | MountFlags::NODEV,
        Some(c"mode=1777"),
    )
    .context("/dev/shm")?;
    mount(
        "mqueue",
        "/dev/mqueue",
        "mqueue",
        noexec | MountFlags::NODEV,
        None,
    )
    .context("/dev/mqueue")?;
    for (link, target) in [("ptmx", "pts/ptmx"), ("fd", "/proc/self/fd")] {
        symlink(target, format!("/dev/{link}"))?;
    }
    for (number, name) in ["stdin", "stdout", "stderr"].iter().enumerate() {
        symlink(format!("/proc/self/fd/{number}"), format!("/dev/{name}"))?;
    }
    Ok(())
}

/// A character device that everybody may use, whatever the umask.
pub fn node(path: impl AsRef<Path>, major: u32, minor: u32) -> Result<()> {
    let path = path.as_ref();
    let device = rustix::fs::makedev(major, minor);
    rustix::fs::mknodat(
        rustix::fs::CWD,
        path,
        FileType::CharacterDevice,
        Mode::from_raw_mode(0o666),
        device,
    )
    .with_context(|| format!("mknod {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o666)).with_context(|| path.display().to_string())
}
