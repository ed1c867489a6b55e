//! The first half of a start: a process with the caller's rights and a mount namespace of its own puts the jail
//! together, joins the jail's namespaces and then starts the second half, which has only the rights inside.
//!
//! What this half mounts, the jail cannot undo: the second half works on a copy of this mount namespace that belongs
//! to the jail's user namespace, and the kernel locks in such a copy what it inherits (mount_namespaces(7)).

use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use fault::{Fault, OrFault, Result};
use hostos::mounting::{Change, attr, set};
use hostos::netlink::Netlink;
use hostos::process::flag;
use rustix::fs::{CWD, Gid, Mode, OFlags, Uid};
use rustix::thread::{LinkNameSpaceType, ThreadNameSpaceType, UnshareFlags};

use crate::cgroup::Entry;
use crate::fittings::{self, Site};
use crate::prepare::{self, Bounds};
use crate::recipe::{NicSetup, Ns, Recipe, Root};
use crate::roots::{self, Assembled};
use crate::{Kept, Stdio, codes, confine, inner, joining, report};

/// Everything that the two halves know.
pub(crate) struct Job<'a> {
    /// The recipe.
    pub recipe: &'a Recipe,
    /// The way into its cgroup.
    pub entry: Option<Entry>,
    /// Its policy in the kernel's terms.
    pub bounds: Bounds,
    /// Namespaces made before.
    pub kept: &'a Kept,
    /// Standard streams.
    pub stdio: &'a Stdio,
    /// Where to tell the caller.
    pub pipe: BorrowedFd<'a>,
    /// The program dies with the process that started it.
    pub die_with_parent: bool,
    /// What is done instead of executing the program.
    pub work: Option<&'a dyn Fn() -> i32>,
}

/// Runs the first half, in a process of its own.
pub(crate) fn run(job: &Job<'_>) -> Result<()> {
    let recipe = job.recipe;
    confine::hide()?;
    confine::take_streams(job.stdio)?;
    joining::join(job.entry.as_ref())?;
    let console = fittings::console(&job.stdio.stdin);
    own_terminal(job);
    hostos::process::unshare(UnshareFlags::NEWNS).or_fault(namespace)?;
    set(
        CWD,
        c"/",
        Change {
            private: true,
            recursive: true,
            ..Change::default()
        },
    )
    .or_fault(namespace)?;
    for (fd, kind) in [
        (&job.kept.net, LinkNameSpaceType::Network),
        (&job.kept.uts, LinkNameSpaceType::HostNameAndNISDomainName),
        (&job.kept.ipc, LinkNameSpaceType::InterProcessCommunication),
    ] {
        if let Some(fd) = fd {
            rustix::thread::move_into_link_name_space(fd.as_fd(), Some(kind)).or_fault(namespace)?;
        }
    }
    let root = build(job, console.as_ref().map(AsFd::as_fd))?;
    if let (Some(name), true) = (&recipe.hostname, job.kept.uts.is_some()) {
        rustix::system::sethostname(name.as_bytes()).or_fault(namespace)?;
    }
    if job.kept.net.is_some() {
        bring_up_network(&recipe.nics)?;
    }
    prepare::limit_resources(&job.bounds)?;
    rustix::process::fchdir(&root).or_fault(namespace)?;
    hand_over(job)
}

fn namespace() -> Fault {
    Fault::new(codes::NAMESPACE_REFUSED)
}

/// The root with all mounts that the caller's rights make.
fn build(job: &Job<'_>, console: Option<BorrowedFd<'_>>) -> Result<OwnedFd> {
    let recipe = job.recipe;
    let user = job.kept.user.as_ref().map(AsFd::as_fd);
    let (outer, inner) = prepare::divide(&recipe.mounts);
    let needs_scratch = fittings::needs_scratch(&outer);
    let Assembled { root, scratch } = roots::assemble(&recipe.root, recipe.ids, user, needs_scratch)?;
    let scratch = scratch.as_ref().map(AsFd::as_fd);
    let site = Site {
        root: root.as_fd(),
        ids: recipe.ids,
        user,
        console,
        scratch,
    };
    for mount in outer {
        fittings::fit(&site, mount)?;
    }
    // Places for the second half's mounts, where they are no part of a mount made there.
    for mount in inner
        .iter()
        .filter(|mount| mount.target.parent() == Some("/".as_ref()))
    {
        site.as_owner(|| {
            crate::place::find_or_make(root.as_fd(), &mount.target, crate::place::Kind::Directory)
        })?;
    }
    if let Root::Tree {
        read_only: true,
        path,
        ..
    } = &recipe.root
    {
        set(
            &root,
            c"",
            Change {
                set: attr::READ_ONLY,
                ..Change::default()
            },
        )
        .or_fault(|| Fault::new(codes::ROOT_FAILED).arg("path", path.display()))?;
    }
    Ok(root)
}

/// A terminal that the jail controls belongs to its root.
fn own_terminal(job: &Job<'_>) {
    let Some(ids) = job.recipe.ids else { return };
    if job.recipe.process.terminal && rustix::termios::isatty(&job.stdio.stdin) {
        let group = Gid::from_raw(ids.base + fittings::TTY_GROUP);
        // A terminal that stays the caller's can still be used, only not be opened anew inside.
        let _ = rustix::fs::fchown(&job.stdio.stdin, Some(Uid::from_raw(ids.base)), Some(group));
        let _ = rustix::fs::fchmod(&job.stdio.stdin, Mode::from(0o620));
    }
}

fn bring_up_network(nics: &[NicSetup]) -> Result<()> {
    let lo = || Fault::new(codes::NIC_FAILED).arg("link", "lo");
    let mut netlink = Netlink::open().or_fault(lo)?;
    netlink.up(1).or_fault(lo)?;
    for nic in nics {
        configure(&mut netlink, nic).or_fault(|| Fault::new(codes::NIC_FAILED).arg("link", &nic.link))?;
    }
    Ok(())
}

fn configure(netlink: &mut Netlink, nic: &NicSetup) -> std::io::Result<()> {
    let index = netlink.index(&nic.link)?;
    let mac = parse_mac(&nic.mac);
    if mac.is_some() || nic.mtu.is_some() {
        netlink.configure(index, mac, nic.mtu)?;
    }
    netlink.up(index)?;
    for (address, prefix) in &nic.addresses {
        netlink.add_address(index, *address, *prefix)?;
    }
    for gateway in &nic.gateways {
        match netlink.default_route(index, *gateway) {
            // A host without IPv6.
            Err(error)
                if matches!(gateway, IpAddr::V6(_)) && error.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
            other => other?,
        }
    }
    Ok(())
}

/// Six octets of `02:00:…`. Pure.
fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for octet in &mut mac {
        *octet = u8::from_str_radix(parts.next()?, 16).ok()?;
    }
    parts.next().is_none().then_some(mac)
}

/// Leaves the caller's rights behind and starts the second half as a sibling.
fn hand_over(job: &Job<'_>) -> Result<()> {
    let proc = rustix::fs::openat(
        CWD,
        c"/proc",
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .or_fault(namespace)?;
    if let Some(user) = &job.kept.user {
        rustix::thread::move_into_thread_name_spaces(user.as_fd(), ThreadNameSpaceType::USER)
            .or_fault(namespace)?;
    }
    let namespaces = &job.recipe.namespaces;
    let mut flags = flag::SIBLING | flag::CLEAR_SIGNALS | flag::NEW_MOUNT;
    if namespaces.pid == Ns::New {
        flags |= flag::NEW_PID;
    }
    if namespaces.cgroup == Ns::New {
        flags |= flag::NEW_CGROUP;
    }
    let pid = hostos::process::clone_into(flags, None, || inner::run(job, proc))
        .or_fault(|| Fault::new(codes::FORK_FAILED))?;
    report::tell_pid(job.pipe, pid);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_addresses_are_six_octets() {
        assert_eq!(parse_mac("02:00:0a:ff:00:01"), Some([2, 0, 10, 255, 0, 1]));
        for broken in ["", "02:00:0a:ff:00", "02:00:0a:ff:00:01:02", "02:00:0a:ff:00:xx"] {
            assert_eq!(parse_mac(broken), None, "{broken}");
        }
    }
}
