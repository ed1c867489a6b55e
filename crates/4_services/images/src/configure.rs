//! The last stage of a bootstrap: the packages' own scripts, run by dpkg in a jail.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use archive::deb::Unpacked;
use fault::{Fault, OrFault, Result};
use model::{Progress, Watcher};

use crate::codes;
use crate::confine::{self, Tools};

/// How often a running dpkg is looked after.
const TICK: Duration = Duration::from_millis(20);
/// Lines of dpkg's last words that a fault shows.
const LAST_WORDS: usize = 12;

/// What is configured.
pub(crate) struct Configure<'a> {
    pub(crate) root: &'a Path,
    /// The unpacked packages, dependencies first.
    pub(crate) order: &'a [&'a Unpacked],
    pub(crate) tools: Tools<'a>,
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
    let argv = ["/bin/sh", "-c", &script(what.order)].map(str::to_owned).to_vec();
    let recipe = confine::scripts(what.tools, what.root, argv, environment())?;
    let mut command = jail::launch::command(what.tools.shim_exe, &recipe)?;
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
    if let Some(fault) = words
        .last()
        .and_then(|line| serde_json::from_str::<Fault>(line).ok())
    {
        return Err(fault);
    }
    let mut failed = fault().because_of(status.to_string());
    for line in words.iter().skip(words.len().saturating_sub(LAST_WORDS)) {
        failed = failed.because_of(line.clone());
    }
    Err(failed)
}

fn environment() -> BTreeMap<String, String> {
    [
        (
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        ),
        ("HOME", "/root"),
        ("LC_ALL", "C.UTF-8"),
        ("DEBIAN_FRONTEND", "noninteractive"),
        ("DEBCONF_NONINTERACTIVE_SEEN", "true"),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect()
}
