//! Where paths begin: the root directory of process 1, which changes when the initial ram disk hands over.

use std::os::fd::OwnedFd;

use rustix::fs::{self, Mode, OFlags};

const PROC_MAGIC: u64 = 0x9fa0;

/// The root directory that the agent works in.
#[derive(Debug)]
pub struct Ground {
    /// /proc, kept open: after the hand-over the old path leads nowhere.
    proc: Option<OwnedFd>,
    follow: bool,
}

impl Ground {
    /// With `follow` the root of process 1, else the agent's own.
    #[must_use]
    pub fn new(follow: bool) -> Self {
        let mut ground = Ground { proc: None, follow };
        ground.look();
        ground
    }

    /// Notices whether the system has moved on to another root, and goes along; true when it has.
    pub fn follow(&mut self) -> bool {
        self.look();
        self.moved().unwrap_or(false)
    }

    fn look(&mut self) {
        if !self.follow || self.proc.is_some() {
            return;
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let Ok(proc) = fs::open("/proc", flags, Mode::empty()) else {
            return;
        };
        let magic = fs::fstatfs(&proc).map(|stat| u64::try_from(stat.f_type).unwrap_or(0));
        if magic == Ok(PROC_MAGIC) {
            self.proc = Some(proc);
        }
    }

    fn moved(&self) -> rustix::io::Result<bool> {
        let Some(proc) = &self.proc else {
            return Ok(false);
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = fs::openat(proc, "1/root", flags, Mode::empty())?;
        let (theirs, ours) = (fs::fstat(&root)?, fs::stat("/")?);
        if (theirs.st_dev, theirs.st_ino) == (ours.st_dev, ours.st_ino) {
            return Ok(false);
        }
        rustix::process::fchdir(&root)?;
        rustix::process::chroot(".")?;
        Ok(true)
    }
}
