//! The socket that clients connect to: handed over by systemd, or our own.

use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use fault::{Fault, OrFault, Result};

use crate::codes::{SOCKET_FAILED, SOCKET_TAKEN};

/// First descriptor that systemd hands over (sd_listen_fds(3)).
const LISTEN_FDS_START: i32 = 3;

/// The listening socket that systemd handed over, when `LISTEN_PID` and `LISTEN_FDS` say so.
pub(crate) fn handed_over(variable: impl Fn(&str) -> Option<String>) -> Option<UnixListener> {
    let for_us = variable("LISTEN_PID")?.parse() == Ok(std::process::id());
    let count: u32 = variable("LISTEN_FDS")?.parse().ok()?;
    if !for_us || count == 0 {
        return None;
    }
    duplicate(LISTEN_FDS_START).map(UnixListener::from)
}

/// A duplicate, closed on exec, of a descriptor that the process inherited.
fn duplicate(number: i32) -> Option<std::os::fd::OwnedFd> {
    hostos::descriptors::inherited(number).ok()
}

/// Binds the socket with mode 0660 and the group, in place of one that nobody listens on any more.
pub(crate) fn bind(path: &Path, group: Option<u32>) -> Result<UnixListener> {
    let failed = || Fault::new(SOCKET_FAILED).arg("path", path.display());
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).or_fault(failed)?;
    }
    if UnixStream::connect(path).is_ok() {
        return Err(Fault::new(SOCKET_TAKEN).arg("path", path.display()));
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed().because(error)),
        _ => {}
    }
    // Bound under another name until owner and mode are right, so that nobody slips in before.
    let hidden = path.with_extension(format!("{}.new", std::process::id()));
    let _ = std::fs::remove_file(&hidden);
    let listener = UnixListener::bind(&hidden).or_fault(failed)?;
    chown(&hidden, None, group).or_fault(failed)?;
    std::fs::set_permissions(&hidden, std::fs::Permissions::from_mode(0o660)).or_fault(failed)?;
    std::fs::rename(&hidden, path).or_fault(failed)?;
    Ok(listener)
}
