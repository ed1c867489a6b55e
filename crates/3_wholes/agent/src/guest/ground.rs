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

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change, mount_move};
    use rustix::process::{Pid, WaitOptions, waitpid};

    /// Runs `work` in a child to its end; zero is well.
    fn child(work: impl FnOnce() -> rustix::io::Result<()>) -> Option<i32> {
        let pid = hostos::process::fork_into(|| i32::from(work().is_err())).expect("a fork");
        let (_, status) = waitpid(Pid::from_raw(pid), WaitOptions::empty())
            .expect("our child")
            .expect("it has ended");
        status.exit_status()
    }

    /// The steps of run-init(8) in an initial ram disk, with the agent started before them.
    fn hand_over(place: &std::path::Path) -> rustix::io::Result<()> {
        let unchanged = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", unchanged)?;
        mount("none", "/proc", "proc", MountFlags::empty(), None)?;
        mount("none", place, "tmpfs", MountFlags::empty(), None)?;
        fs::mkdir(place.join("proc"), Mode::RWXU)?;
        fs::mkdir(place.join("the-new-root"), Mode::RWXU)?;
        let (before, started) = rustix::pipe::pipe()?;
        let (after, moved) = rustix::pipe::pipe()?;
        let agent = hostos::process::fork_into(|| {
            let mut ground = Ground::new(true);
            let early = ground.follow();
            let _ = rustix::io::write(&started, b"x");
            let _ = rustix::io::read(&after, &mut [0; 1][..]);
            let (first, second) = (ground.follow(), ground.follow());
            let arrived = fs::stat("/the-new-root").is_ok() && fs::stat("/proc/1").is_ok();
            i32::from((early, first, second, arrived) != (false, true, false, true))
        });
        let agent = agent.map_err(|_| rustix::io::Errno::AGAIN)?;
        rustix::io::read(&before, &mut [0; 1][..])?;
        mount_move("/proc", place.join("proc"))?;
        rustix::process::chdir(place)?;
        mount_move(".", "/")?;
        rustix::process::chroot(".")?;
        rustix::io::write(&moved, b"x")?;
        let ended = waitpid(Pid::from_raw(agent), WaitOptions::empty())?;
        match ended.and_then(|(_, status)| status.exit_status()) {
            Some(0) => Ok(()),
            _ => Err(rustix::io::Errno::INVAL),
        }
    }

    #[test]
    fn the_agent_follows_process_1_into_the_real_root() {
        let place = tempfile::tempdir().unwrap();
        let outer = child(|| {
            use rustix::thread::UnshareFlags;
            hostos::process::unshare(UnshareFlags::NEWNS | UnshareFlags::NEWPID)?;
            match child(|| hand_over(place.path())) {
                Some(0) => Ok(()),
                _ => Err(rustix::io::Errno::INVAL),
            }
        });
        assert_eq!(outer, Some(0));
    }

    #[test]
    fn it_stays_where_it_is_unless_told_to_follow() {
        assert!(!Ground::new(false).follow());
    }
}
