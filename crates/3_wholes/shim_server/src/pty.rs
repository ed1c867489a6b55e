//! Pseudo-terminals: of the host for a guest's console, of the guest's own devpts for its sessions.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use jail::recipe::IdRange;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::pty::OpenptFlags;

/// Both ends of a terminal.
#[derive(Debug)]
pub struct Pty {
    /// The end that controls; non-blocking.
    pub master: OwnedFd,
    /// The end that a process gets.
    pub slave: OwnedFd,
}

/// Group `tty` in every distribution.
const TTY_GROUP: u32 = 5;
const DEVPTS: u64 = 0x1cd1;

/// A terminal of the host, its slave owned by the guest's root.
///
/// # Errors
/// Those of posix_openpt(3).
pub fn of_host(ids: Option<IdRange>) -> io::Result<Pty> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = rustix::pty::openpt(flags)?;
    rustix::pty::unlockpt(&master)?;
    open_slave(master, ids)
}

/// A terminal of the guest's own devpts, so that ttyname(3) works inside. The guest decides what stands at its
/// /dev/pts/ptmx: nothing but a master device of a devpts is opened.
///
/// # Errors
/// When the guest has none.
pub fn of_guest(pid: u32, ids: Option<IdRange>) -> io::Result<Pty> {
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(format!("/proc/{pid}/root"), directory, Mode::empty())?;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
    let path = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let found = rustix::fs::openat2(&root, "dev/pts/ptmx", path, Mode::empty(), resolve)?;
    let stat = rustix::fs::fstat(&found)?;
    let device = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
    let character = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_char_device();
    let magic = u64::try_from(rustix::fs::fstatfs(&found)?.f_type).unwrap_or(0);
    if !character || device != (5, 2) || magic != DEVPTS {
        return Err(io::Error::other("no ptmx at /dev/pts/ptmx"));
    }
    let number = std::os::fd::AsRawFd::as_raw_fd(&found);
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let master = rustix::fs::open(format!("/proc/self/fd/{number}"), flags, Mode::empty())?;
    rustix::pty::unlockpt(&master)?;
    open_slave(master, ids)
}

fn open_slave(master: OwnedFd, ids: Option<IdRange>) -> io::Result<Pty> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags)?;
    if let Some(ids) = ids {
        own(&slave, ids.base, ids.base + TTY_GROUP)?;
        rustix::fs::fchmod(&slave, Mode::from_raw_mode(0o620))?;
    }
    rustix::io::ioctl_fionbio(&master, true)?;
    Ok(Pty { master, slave })
}

/// Gives a descriptor's file to a user, so that the guest may open it again through /dev/stdout.
pub fn own(fd: impl AsFd, uid: u32, gid: u32) -> io::Result<()> {
    let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
    rustix::fs::fchown(fd, Some(uid), Some(gid))?;
    Ok(())
}

/// A pipe whose ends the guest's processes may open again: the ends to read and to write.
///
/// # Errors
/// Those of pipe2(2).
pub fn pipe(ids: Option<IdRange>) -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    if let Some(ids) = ids {
        own(&write, ids.base, ids.base)?;
    }
    rustix::fs::fchmod(&write, Mode::from_raw_mode(0o666))?;
    Ok((read, write))
}

/// Sets the size of a terminal, in characters.
pub fn resize(terminal: impl AsFd, rows: u16, cols: u16) -> io::Result<()> {
    let size = rustix::termios::Winsize {
        ws_row: rows,
        ws_col: cols,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    rustix::termios::tcsetwinsize(terminal, size)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_carries_bytes_and_its_size() {
        let pty = of_host(None).unwrap();
        resize(&pty.master, 40, 100).unwrap();
        let size = rustix::termios::tcgetwinsize(&pty.slave).unwrap();
        assert_eq!((size.ws_row, size.ws_col), (40, 100));
        rustix::io::write(&pty.slave, b"hello").unwrap();
        let mut bytes = [0; 10];
        assert_eq!(rustix::io::read(&pty.master, &mut bytes).unwrap(), 5);
        assert_eq!(
            rustix::io::read(&pty.master, &mut bytes),
            Err(rustix::io::Errno::AGAIN)
        );
    }
}
