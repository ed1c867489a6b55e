//! The last stage of a bootstrap: the packages' own scripts, run by dpkg in a jail.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use archive::deb::Unpacked;
use fault::{Fault, OrFault, Result};
use jail::recipe::IdRange;
use model::{Progress, Watcher};

use crate::codes;

/// How often a running dpkg is looked after.
const TICK: Duration = Duration::from_millis(20);
/// Lines of dpkg's last words that a fault shows.
const LAST_WORDS: usize = 12;

/// What is configured.
pub(crate) struct Configure<'a> {
    pub(crate) root: &'a Path,
    /// The unpacked packages, dependencies first.
    pub(crate) order: &'a [&'a Unpacked],
    pub(crate) shim_exe: &'a Path,
    pub(crate) ids: IdRange,
}

/// The script that is run inside: preinst scripts that act on a first installation, then dpkg. base-passwd makes
/// the users and base-files the files that all other scripts take for granted.
fn script(order: &[&Unpacked]) -> String {
    let mut out = String::from("set -e\ncd /\numask 022\n");
    let (first, others): (Vec<&Unpacked>, Vec<&Unpacked>) =
        order.iter().partition(|u| u.name == "base-passwd");
    for package in first.iter().chain(&others).filter(|u| u.preinst) {
        out.push_str(&format!(
            "DPKG_MAINTSCRIPT_PACKAGE={} DPKG_MAINTSCRIPT_ARCH={} DPKG_MAINTSCRIPT_NAME=preinst \
             DPKG_MAINTSCRIPT_PACKAGE_REFCOUNT=1 DPKG_ADMINDIR=/var/lib/dpkg DPKG_ROOT= DPKG_FORCE=unsafe-io \
             /var/lib/dpkg/info/{}.preinst install\n",
            package.name, package.architecture, package.info
        ));
    }
    for name in ["base-passwd", "base-files"] {
        if order.iter().any(|u| u.name == name) {
            out.push_str(&format!(
                "dpkg --force-unsafe-io --force-depends --configure {name}\n"
            ));
        }
    }
    out.push_str("exec dpkg --force-unsafe-io --configure -a\n");
    out
}

/// Runs the scripts of all unpacked packages.
///
/// # Errors
/// [`codes::CONFIGURE`] with dpkg's last words, [`model::CANCELLED`].
pub(crate) fn configure(what: &Configure<'_>, watcher: &dyn Watcher) -> Result<()> {
    let fault = || Fault::new(codes::CONFIGURE);
    let mut command = jailed(what)?;
    let (reader, writer) = std::io::pipe().or_fault(fault)?;
    command
        .stdin(Stdio::null())
        .stdout(writer.try_clone().or_fault(fault)?)
        .stderr(writer);
    let mut child = command.spawn().or_fault(fault)?;
    drop(command);
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        use std::io::BufRead;
        for line in std::io::BufReader::new(reader)
            .split(b'\n')
            .map_while(std::io::Result::ok)
        {
            if tell.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                return;
            }
        }
    });
    let mut words: Vec<String> = Vec::new();
    let mut done = 0;
    let status = loop {
        if watcher.is_cancelled() {
            let _ = child.kill();
            let _ = child.wait();
            return Err(Fault::new(model::CANCELLED));
        }
        while let Ok(line) = told.try_recv() {
            if let Some(package) = line.strip_prefix("Setting up ") {
                done += 1;
                watcher.progress(Progress {
                    step: "step-configure".to_owned(),
                    done,
                    total: what.order.len() as u64,
                    unit: "packages".to_owned(),
                    detail: package.split(' ').next().unwrap_or_default().to_owned(),
                });
            }
            words.push(line);
        }
        if let Some(status) = child.try_wait().or_fault(fault)? {
            break status;
        }
        std::thread::sleep(TICK);
    };
    while let Ok(line) = told.recv_timeout(Duration::from_millis(200)) {
        words.push(line);
    }
    if status.success() {
        return Ok(());
    }
    let mut failed = fault().because_of(status.to_string());
    for line in words.iter().skip(words.len().saturating_sub(LAST_WORDS)) {
        failed = failed.because_of(line.clone());
    }
    Err(failed)
}

fn jailed(what: &Configure<'_>) -> Result<Command> {
    let _ = (what.shim_exe, what.ids);
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--pid", "--fork", "--ipc", "--uts", "--net", "--kill-child", "--propagation", "private", "sh", "-c"])
        .arg("mount -t proc proc \"$1/proc\" && mount --rbind /dev \"$1/dev\" && exec chroot \"$1\" /bin/sh -c \"$2\"")
        .arg("sh")
        .arg(what.root)
        .arg(script(what.order))
        .env_clear()
        .envs(environment());
    Ok(command)
}

fn environment() -> [(&'static str, &'static str); 6] {
    [
        ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
        ("HOME", "/root"),
        ("LC_ALL", "C.UTF-8"),
        ("DEBIAN_FRONTEND", "noninteractive"),
        ("DEBCONF_NONINTERACTIVE_SEEN", "true"),
        ("DPKG_FORCE", "unsafe-io"),
    ]
}
