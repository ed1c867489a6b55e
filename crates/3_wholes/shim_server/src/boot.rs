//! What the guest's service manager tells of its boot: sd_notify(3) over a socket that is bound into the guest, as
//! <https://systemd.io/CONTAINER_INTERFACE> has it.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use fault::{OrFault, Result};

use super::set_up;

/// Its name in the guest's run directory.
pub const SOCKET: &str = "notify.sock";
/// Messages listened to in one boot: a guest that sends more is not worth the host's time.
const MOST: u32 = 256;

/// What is known after looking at the messages that have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Nothing yet.
    Nothing,
    /// The system is up.
    Up,
    /// It will not be listened to any more.
    TooMuch,
}

/// The end that listens, for one boot. It must not outlive the wish to listen: whoever writes to a socket that nobody
/// reads waits, process 1 of the guest too; one that is closed refuses.
pub struct BootWatch {
    socket: UnixDatagram,
    heard: u32,
}

impl BootWatch {
    /// A socket that everybody inside may write to; what they say is believed in nothing but the guest's own boot.
    pub fn listen(run_dir: &Path) -> Result<BootWatch> {
        let path = run_dir.join(SOCKET);
        let fault = || set_up(&path.display().to_string());
        let _ = std::fs::remove_file(&path);
        let directory = super::directory(run_dir).or_fault(fault)?;
        let socket = UnixDatagram::bind(super::address(&directory, &path)).or_fault(fault)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).or_fault(fault)?;
        socket.set_nonblocking(true).or_fault(fault)?;
        Ok(BootWatch { socket, heard: 0 })
    }

    /// Takes the messages that have come.
    pub fn take(&mut self) -> Told {
        let mut message = [0; 4096];
        while let Ok(length) = self.socket.recv(&mut message) {
            let mut lines = message[..length].split(|byte| *byte == b'\n');
            if lines.any(|line| line == b"READY=1") {
                return Told::Up;
            }
            self.heard += 1;
            if self.heard > MOST {
                return Told::TooMuch;
            }
        }
        Told::Nothing
    }
}

impl AsFd for BootWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_boot_is_heard_among_other_messages_and_babble_is_not_listened_to() {
        let folder = tempfile::tempdir().unwrap();
        let mut watch = BootWatch::listen(folder.path()).unwrap();
        let guest = UnixDatagram::unbound().unwrap();
        let say = |words: &str| {
            guest
                .send_to(words.as_bytes(), folder.path().join(SOCKET))
                .unwrap()
        };
        assert_eq!(watch.take(), Told::Nothing);
        say("STATUS=booting\nNOTREADY=1");
        assert_eq!(watch.take(), Told::Nothing);
        say("READY=1\nSTATUS=Ready.");
        assert_eq!(watch.take(), Told::Up);
        let mut told = Told::Nothing;
        for _ in 0..=MOST {
            say("x");
            told = watch.take();
        }
        assert_eq!(told, Told::TooMuch);
        drop(watch);
        let refused = guest.send_to(b"x", folder.path().join(SOCKET));
        assert_eq!(refused.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    }
}
