//! The last stage of a bootstrap: the packages' own scripts, run by dpkg in a jail.

use std::collections::BTreeMap;
use std::path::Path;

use archive::deb::Unpacked;
use fault::{Fault, Result};
use model::{Progress, Watcher};

use crate::attend::attend;
use crate::codes;
use crate::confine::{self, Tools};

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
    let command = jail::launch::command(what.tools.shim_exe, &recipe)?;
    let mut done = 0;
    let ended = attend(command, watcher, &fault, &mut |line| {
        let Some(package) = line.and_then(|line| line.strip_prefix("Setting up ")) else {
            return;
        };
        done += 1;
        watcher.progress(Progress {
            step: "step-configure".to_owned(),
            done,
            total: what.order.len() as u64,
            unit: "packages".to_owned(),
            detail: package.split(' ').next().unwrap_or_default().to_owned(),
        });
    })?;
    match ended.status.success() {
        true => Ok(()),
        false => Err(ended.explain(fault())),
    }
}

/// The environment of packages' scripts and tools.
pub(crate) fn environment() -> BTreeMap<String, String> {
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
