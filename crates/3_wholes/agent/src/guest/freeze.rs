//! Holding still what is on the guest's disks, while the host copies them.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::time::Duration;

use fault::{Fault, Result};
use rustix::event::{PollFd, PollFlags};

use super::exec::read;
use super::jobs::write_all;
use super::sys;
use crate::codes::SET_UP_FAILED;
use crate::protocol::Ending;

/// Freezes every file system that lives on a block device and is writable, the last mounted first; says so with an
/// empty line on the pipe, and thaws when the input ends or the time is over.
///
/// # Errors
/// `AGT007` when one cannot be frozen; those that were are thawed.
pub fn freeze(longest: Duration, word: &OwnedFd) -> Result<Ending> {
    let mut frozen: Vec<OwnedFd> = Vec::new();
    let mut failed = None;
    for path in on_disks(&read("/proc/self/mountinfo")).iter().rev() {
        let directory = match rustix::fs::open(
            path.as_str(),
            rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        ) {
            Ok(directory) => directory,
            // A single file is mounted there, of a file system that is mounted elsewhere too.
            Err(_) => continue,
        };
        match sys::set_frozen(&directory, true) {
            Ok(()) => frozen.push(directory),
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::EOPNOTSUPP | libc::EBUSY | libc::ENOTTY)
                ) => {}
            Err(error) => {
                let fault = Fault::new(SET_UP_FAILED).arg("what", format!("the freeze of {path}"));
                failed = Some(fault.because(error));
                break;
            }
        }
    }
    if failed.is_none() && write_all(word, b"\n").is_ok() {
        wait_for_input_end(longest);
    }
    for directory in frozen.iter().rev() {
        let _ = sys::set_frozen(directory, false);
    }
    failed.map_or(Ok(Ending::Done), Err)
}

fn wait_for_input_end(longest: Duration) {
    let end = std::time::Instant::now() + longest.min(Duration::from_secs(3600));
    let mut bytes = [0; 512];
    loop {
        let left = end.saturating_duration_since(std::time::Instant::now());
        let left = rustix::event::Timespec::try_from(left).unwrap_or_default();
        let stdin = rustix::stdio::stdin();
        let ready = rustix::event::poll(&mut [PollFd::new(&stdin, PollFlags::IN)], Some(&left));
        match ready {
            Err(rustix::io::Errno::INTR) => {}
            Ok(1..) if matches!(std::io::stdin().read(&mut bytes), Ok(1..)) => {}
            _ => return,
        }
    }
}

/// Mount points of writable file systems on block devices, one for each device, in the order of mounting
/// (proc_pid_mountinfo(5)).
fn on_disks(mountinfo: &str) -> Vec<String> {
    let mut devices = Vec::new();
    let mut found = Vec::new();
    for line in mountinfo.lines() {
        let Some((left, right)) = line.split_once(" - ") else {
            continue;
        };
        let left: Vec<&str> = left.split(' ').collect();
        let right: Vec<&str> = right.split(' ').collect();
        let (Some(device), Some(point), Some(options)) = (left.get(2), left.get(4), right.get(2)) else {
            continue;
        };
        let block = right.get(1).is_some_and(|source| source.starts_with("/dev/"));
        let writable = options.split(',').any(|option| option == "rw");
        if block && writable && !devices.contains(device) {
            devices.push(device);
            found.push(unescape(point));
        }
    }
    found
}

/// Undoes the octal escapes of mountinfo: `\040` is a space.
fn unescape(text: &str) -> String {
    let mut out = text.to_owned();
    for (escape, plain) in [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")] {
        out = out.replace(escape, plain);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_disk_is_frozen_once_and_nothing_else() {
        let mountinfo = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro\n\
            23 22 0:5 / /dev rw shared:2 - devtmpfs udev rw\n\
            24 22 8:2 / /my\\040data rw shared:3 - xfs /dev/sda2 rw\n\
            25 22 8:1 /srv /mnt rw shared:4 - ext4 /dev/sda1 rw\n\
            26 22 8:3 / /cd ro shared:5 - iso9660 /dev/sr0 ro\nbroken\n";
        assert_eq!(on_disks(mountinfo), ["/", "/my data"]);
    }
}
