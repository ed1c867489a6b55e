//! What a disk would boot: looked for in a jail of its own, since the bytes are the guest's.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};

use fault::{Fault, OrFault, Result};
use jail::Stdio;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::MemfdFlags;
use serde::{Deserialize, Serialize};
use shim_server::Jailed;
use shim_server::process::exit_of;

use crate::FINDER;

/// Seconds that looking for a kernel may take.
const PATIENCE: i64 = 60;

/// What was found.
pub struct Found {
    /// The kernel, in a memory file.
    pub kernel: File,
    /// Its initrd, in a memory file; empty when it has none.
    pub initrd: File,
    /// What is told of them.
    pub told: Told,
}

/// What is told of a kernel.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Told {
    /// Command line of the boot loader's entry.
    pub command_line: String,
    /// Version, where its name tells.
    pub version: String,
}

/// How it went, behind the initrd's bytes.
#[derive(Serialize, Deserialize)]
enum Outcome {
    Found(Told),
    Fault(Fault),
}

/// Looks for the kernel of a disk.
///
/// # Errors
/// The finder's own (`BOO…`), or `MAC018` when it ended without a word.
pub fn find(jailed: &mut Jailed, disk: &File, format: &str) -> Result<Found> {
    let fault = || Fault::new(FINDER).arg("name", "");
    let memory = |name: &str| -> Result<File> {
        Ok(rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC)
            .or_fault(fault)?
            .into())
    };
    let (kernel, mut initrd) = (memory("kernel")?, memory("initrd")?);
    let stdio = Stdio {
        stdin: disk.try_clone().or_fault(fault)?.into(),
        stdout: kernel.try_clone().or_fault(fault)?.into(),
        stderr: initrd.try_clone().or_fault(fault)?.into(),
    };
    let mut recipe = jailed.recipe();
    recipe.nics.clear();
    recipe.seccomp = jail::recipe::Seccomp::Worker;
    let kept = jailed.namespaces()?;
    let started = jail::work_in(&recipe, kept, &stdio, &|| work(format))?;
    let timeout = Timespec {
        tv_sec: PATIENCE,
        tv_nsec: 0,
    };
    let mut ready = [PollFd::new(&started.pidfd, PollFlags::IN)];
    if rustix::event::poll(&mut ready, Some(&timeout)) != Ok(1) {
        let _ = rustix::process::pidfd_send_signal(&started.pidfd, rustix::process::Signal::KILL);
        let _ = rustix::event::poll(&mut [PollFd::new(&started.pidfd, PollFlags::IN)], None);
    }
    // How it ended stands in what it has written.
    let _ = exit_of(started.pidfd.as_fd());
    let told = match outcome(&mut initrd).or_fault(fault)? {
        Outcome::Found(told) => told,
        Outcome::Fault(fault) => return Err(fault),
    };
    Ok(Found { kernel, initrd, told })
}

/// Takes the outcome off the end of the initrd's file: JSON, then its length in 8 bytes.
fn outcome(file: &mut File) -> std::io::Result<Outcome> {
    let end = file.seek(SeekFrom::End(0))?;
    let lost = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
    let at = end.checked_sub(8).ok_or_else(lost)?;
    let mut length = [0; 8];
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    let start = at
        .checked_sub(length)
        .filter(|_| length < 1 << 20)
        .ok_or_else(lost)?;
    let mut text = vec![0; usize::try_from(length).map_err(|_| lost())?];
    file.seek(SeekFrom::Start(start))?;
    file.read_exact(&mut text)?;
    file.set_len(start)?;
    Ok(serde_json::from_slice(&text)?)
}

/// In the jail: standard input is the disk, standard output takes the kernel, standard error the initrd.
fn work(format: &str) -> i32 {
    let (outcome, code) = match look(format) {
        Ok(told) => (Outcome::Found(told), 0),
        Err(fault) => (Outcome::Fault(fault), 1),
    };
    let text = serde_json::to_vec(&outcome).unwrap_or_default();
    let length = (text.len() as u64).to_le_bytes();
    let done = write(rustix::stdio::stderr(), &text).and_then(|()| write(rustix::stdio::stderr(), &length));
    if done.is_err() { 1 } else { code }
}

fn look(format: &str) -> Result<Told> {
    let fault = || Fault::new(FINDER).arg("name", "");
    let file: OwnedFd = rustix::io::dup(rustix::stdio::stdin()).or_fault(fault)?;
    let image = crate::guest::open_image(file.into(), format, true)?;
    let found = boot::finder::find(&*image)?;
    write(rustix::stdio::stdout(), &found.kernel).or_fault(fault)?;
    write(
        rustix::stdio::stderr(),
        found.initrd.as_deref().unwrap_or_default(),
    )
    .or_fault(fault)?;
    found.start.require_virtio()?;
    Ok(Told {
        command_line: found.start.command_line,
        version: found.start.version.unwrap_or_default(),
    })
}

fn write(to: impl AsFd, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = File::from(to.as_fd().try_clone_to_owned()?);
    file.write_all(bytes)
}
