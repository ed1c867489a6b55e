//! The namespaces that outlive the processes inside.
//!
//! A child whose uid is the range's base makes the user namespace, so that the kernel's limits per user count per
//! guest; the caller writes the maps; the child makes the other namespaces, which so belong to the user namespace;
//! the caller opens them all, and the child ends.

use std::os::fd::{AsFd, OwnedFd};

use fault::{Fault, OrFault, Result};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, WaitOptions, waitpid};
use rustix::thread::UnshareFlags;

use crate::Kept;
use crate::codes;
use crate::recipe::{IdRange, Ns, Recipe};

/// Makes the namespaces of a recipe that outlive its processes: user, net, uts and ipc, as far as it wants new ones.
/// Forks.
///
/// # Errors
/// When the host refuses one.
pub fn make_namespaces(recipe: &Recipe) -> Result<Kept> {
    let wanted = &recipe.namespaces;
    let mut others = UnshareFlags::empty();
    others.set(UnshareFlags::NEWNET, wanted.net == Ns::New);
    others.set(UnshareFlags::NEWUTS, wanted.uts == Ns::New);
    others.set(UnshareFlags::NEWIPC, wanted.ipc == Ns::New);
    if recipe.ids.is_none() && others.is_empty() {
        return Ok(Kept::default());
    }
    let (ours, theirs) = socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .or_fault(refused)?;
    let pid = hostos::process::fork_into(|| match make(recipe.ids, others, &theirs) {
        Ok(()) => 0,
        Err(error) => {
            let _ = rustix::io::write(&theirs, &error.raw_os_error().to_ne_bytes());
            1
        }
    })
    .or_fault(|| Fault::new(codes::FORK_FAILED))?;
    drop(theirs);
    let kept = collect(recipe, pid, &ours);
    // Not just closed: the child has a copy of our end too.
    let _ = rustix::net::shutdown(&ours, rustix::net::Shutdown::Both);
    let _ = waitpid(Pid::from_raw(pid), WaitOptions::empty());
    kept
}

fn refused() -> Fault {
    Fault::new(codes::NAMESPACE_REFUSED)
}

/// In the child. Every step done is told by a zero word; an error by its number.
fn make(ids: Option<IdRange>, others: UnshareFlags, pipe: &OwnedFd) -> Result<(), Errno> {
    let mut word = [0u8; 4];
    if let Some(ids) = ids {
        rustix::thread::set_thread_groups(&[])?;
        let (uid, gid) = (
            rustix::fs::Uid::from_raw(ids.base),
            rustix::fs::Gid::from_raw(ids.base),
        );
        rustix::thread::set_thread_res_gid(gid, gid, gid)?;
        rustix::thread::set_thread_res_uid(uid, uid, uid)?;
        hostos::process::unshare(UnshareFlags::NEWUSER)?;
        rustix::io::write(pipe, &word)?;
        if rustix::io::read(pipe, &mut word)? == 0 {
            return Ok(());
        }
    }
    hostos::process::unshare(others)?;
    rustix::io::write(pipe, &[0; 4])?;
    // Until the caller has opened everything and closes its end.
    rustix::io::read(pipe, &mut word)?;
    Ok(())
}

fn collect(recipe: &Recipe, pid: i32, pipe: &OwnedFd) -> Result<Kept> {
    if let Some(ids) = recipe.ids {
        step(pipe)?;
        let map = format!("0 {} {}\n", ids.base, ids.count);
        for file in ["uid_map", "gid_map"] {
            std::fs::write(format!("/proc/{pid}/{file}"), &map).or_fault(refused)?;
        }
        rustix::io::write(pipe, &[0; 4]).or_fault(refused)?;
    }
    step(pipe)?;
    let open = |name: &str, wanted: bool| -> Result<Option<OwnedFd>> {
        if !wanted {
            return Ok(None);
        }
        let file = std::fs::File::open(format!("/proc/{pid}/ns/{name}")).or_fault(refused)?;
        Ok(Some(file.into()))
    };
    let wanted = &recipe.namespaces;
    Ok(Kept {
        user: open("user", recipe.ids.is_some())?,
        net: open("net", wanted.net == Ns::New)?,
        uts: open("uts", wanted.uts == Ns::New)?,
        ipc: open("ipc", wanted.ipc == Ns::New)?,
    })
}

fn step(pipe: impl AsFd) -> Result<()> {
    let mut word = [0u8; 4];
    match rustix::io::read(pipe, &mut word).or_fault(refused)? {
        4 if word == [0; 4] => Ok(()),
        4 => Err(refused().because(std::io::Error::from_raw_os_error(i32::from_ne_bytes(word)))),
        _ => Err(refused()),
    }
}
