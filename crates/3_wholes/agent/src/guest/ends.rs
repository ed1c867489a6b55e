//! Both ends of a session's streams: a terminal, or pipes.

use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

use super::exec::Streams;

/// Parent's and child's ends.
#[derive(Debug)]
pub struct Ends {
    /// The child's.
    pub streams: Streams,
    /// Ours, to write.
    pub input: Option<OwnedFd>,
    /// Ours, to read.
    pub outputs: [Option<OwnedFd>; 2],
}

/// A size as the kernel wants it.
#[must_use]
pub fn size(rows: u16, cols: u16) -> Winsize {
    Winsize {
        ws_row: rows,
        ws_col: cols,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

/// A terminal of this size; our end does not block.
///
/// # Errors
/// Those of posix_openpt(3), ENOENT without devpts.
pub fn terminal(rows: u16, cols: u16) -> rustix::io::Result<Ends> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = rustix::pty::openpt(flags)?;
    rustix::pty::unlockpt(&master)?;
    rustix::termios::tcsetwinsize(&master, size(rows, cols))?;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags)?;
    rustix::io::ioctl_fionbio(&master, true)?;
    let copy = |fd: &OwnedFd| rustix::io::fcntl_dupfd_cloexec(fd, 3);
    Ok(Ends {
        input: Some(copy(&master)?),
        outputs: [Some(master), None],
        streams: Streams {
            stdin: copy(&slave)?,
            stdout: copy(&slave)?,
            stderr: slave,
        },
    })
}

/// Pipes where wanted, /dev/null elsewhere; our ends do not block.
///
/// # Errors
/// Those of pipe2(2).
pub fn pipes(stdin: bool, stdout: bool, stderr: bool) -> rustix::io::Result<Ends> {
    let ends = |wanted: bool, ours_writes: bool| -> rustix::io::Result<(Option<OwnedFd>, OwnedFd)> {
        if !wanted {
            let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
            return Ok((None, null));
        }
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        let (ours, theirs) = if ours_writes { (write, read) } else { (read, write) };
        rustix::io::ioctl_fionbio(&ours, true)?;
        Ok((Some(ours), theirs))
    };
    let (input, stdin) = ends(stdin, true)?;
    let (output, stdout) = ends(stdout, false)?;
    let (error, stderr) = ends(stderr, false)?;
    Ok(Ends {
        streams: Streams {
            stdin,
            stdout,
            stderr,
        },
        input,
        outputs: [output, error],
    })
}
