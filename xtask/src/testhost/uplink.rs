//! The uplink of a test host: slirp4netns on the host's side, `tap0` with 10.0.2.100 on the other, names by 10.0.2.3.

use std::io::Read;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use rustix::mount::{MountFlags, mount};

/// The name server that slirp4netns answers as.
pub const NAME_SERVER: &str = "10.0.2.3";

/// A running uplink; ends when dropped.
pub struct Uplink(Child);

impl Drop for Uplink {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts an uplink into the network namespace of a process and waits until it is up.
pub fn start(process: u32, ipv6: bool) -> Result<Uplink> {
    let (ready, told) = rustix::pipe::pipe().context("pipe")?;
    rustix::io::fcntl_setfd(&ready, rustix::io::FdFlags::CLOEXEC)?;
    let mut slirp = Command::new("slirp4netns");
    slirp.args(["--configure", "--mtu=1500", "--disable-host-loopback"]);
    slirp.arg(format!("--ready-fd={}", told.as_raw_fd()));
    if ipv6 {
        slirp.arg("--enable-ipv6");
    }
    slirp.arg(process.to_string()).arg("tap0");
    let log = tempfile()?;
    slirp
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log.try_clone()?);
    let child = slirp
        .spawn()
        .context("slirp4netns (Debian: apt-get install slirp4netns)")?;
    drop(told);
    let mut uplink = Uplink(child);
    let mut answer = String::new();
    std::fs::File::from(ready).read_to_string(&mut answer)?;
    if answer != "1" {
        let status = uplink.0.wait()?;
        bail!("slirp4netns ended with {status}: {}", said(log)?);
    }
    Ok(uplink)
}

/// An unnamed file for the words of a child.
fn tempfile() -> Result<std::fs::File> {
    let fd = rustix::fs::memfd_create("slirp4netns", rustix::fs::MemfdFlags::CLOEXEC)?;
    Ok(std::fs::File::from(fd))
}

fn said(mut log: std::fs::File) -> Result<String> {
    use std::io::Seek;
    log.rewind()?;
    let mut text = String::new();
    log.read_to_string(&mut text)?;
    Ok(text.trim().to_owned())
}

/// Gives slirp4netns its /dev/net/tun, in our own mounts, where the host has none.
pub fn ensure_tun() -> Result<()> {
    if Path::new("/dev/net/tun").exists() {
        return Ok(());
    }
    if !Path::new("/dev/net").is_dir() {
        // The folder cannot be made in the host's /dev: a small one of our own, with what slirp4netns needs.
        mount("tmpfs", "/dev", "tmpfs", MountFlags::NOSUID, Some(c"mode=755")).context("/dev")?;
        super::ground::node("/dev/null", 1, 3)?;
        super::ground::node("/dev/urandom", 1, 9)?;
        std::fs::create_dir("/dev/net")?;
    } else {
        mount(
            "tmpfs",
            "/dev/net",
            "tmpfs",
            MountFlags::NOSUID,
            Some(c"mode=755"),
        )
        .context("/dev/net")?;
    }
    super::ground::node("/dev/net/tun", 10, 200)
}
