//! Reading and writing control files, and walking the directories of one hierarchy.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fault::{Fault, OrFault, Result};
use rustix::io::Errno;

use super::{CREATE_FAILED, LIMIT_REFUSED, Missing, REMOVE_FAILED, WRITE_FAILED};

/// Writes one value by one write(2), without creating the file.
pub(super) fn write(path: &Path, value: &str) -> io::Result<()> {
    let file = std::fs::OpenOptions::new().write(true).open(path)?;
    rustix::io::write(&file, value.as_bytes())?;
    Ok(())
}

pub(super) fn write_or_fault(path: &Path, value: &str) -> Result<()> {
    write(path, value).or_fault(|| {
        Fault::new(WRITE_FAILED)
            .arg("path", path.display())
            .arg("value", value)
    })
}

/// Writes the value of a limit: a missing file is a limit that is not enforced, a refusal a fault.
pub(super) fn write_limit(
    path: &Path,
    value: &str,
    limit: &'static str,
    controller: &str,
    wanted: bool,
    missing: &mut Vec<Missing>,
) -> Result<()> {
    match write(path, value) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if wanted {
                missing.push(absent(limit, controller));
            }
            Ok(())
        }
        Err(error) => Err(Fault::new(LIMIT_REFUSED)
            .arg("limit", limit)
            .arg("value", value)
            .because(error)),
    }
}

/// A limit whose controller is not there.
pub(super) fn absent(limit: &'static str, controller: &str) -> Missing {
    Missing {
        limit,
        reason: format!("no {controller} controller"),
    }
}

pub(super) fn read(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// A file that holds one number; `max` and v1's practical infinity count as absent.
pub(super) fn number(path: &Path) -> Option<u64> {
    read(path)?.trim().parse().ok()
}

/// The value of a key in a file of `key value` lines.
pub(super) fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?
        .trim()
        .parse()
        .ok()
}

/// Makes a directory with its parents; another process may be removing empty parents at the same time.
pub(super) fn make(root: &Path, path: &Path) -> Result<PathBuf> {
    let full = root.join(path);
    let mut tries = 0;
    loop {
        match std::fs::create_dir_all(&full) {
            Ok(()) => return Ok(full),
            Err(error) if error.kind() == io::ErrorKind::NotFound && tries < 50 && root.is_dir() => {
                tries += 1
            }
            Err(error) => {
                return Err(Fault::new(CREATE_FAILED)
                    .arg("path", full.display())
                    .because(error));
            }
        }
    }
}

/// Directories of a subtree, deepest first; those that vanish meanwhile are left out.
fn subtree(top: &Path) -> Vec<PathBuf> {
    let mut all = vec![top.to_owned()];
    let mut next = 0;
    while next < all.len() {
        if let Ok(entries) = std::fs::read_dir(&all[next]) {
            all.extend(
                entries
                    .flatten()
                    .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                    .map(|entry| entry.path()),
            );
        }
        next += 1;
    }
    all.reverse();
    all
}

/// Process ids of a subtree of one hierarchy.
pub(super) fn procs(top: &Path) -> Vec<u32> {
    let mut pids: Vec<u32> = subtree(top)
        .iter()
        .filter_map(|dir| read(&dir.join("cgroup.procs")))
        .flat_map(|text| {
            text.lines()
                .filter_map(|line| line.parse().ok())
                .collect::<Vec<_>>()
        })
        .collect();
    pids.sort_unstable();
    pids.dedup();
    pids
}

/// Removes a cgroup, what is below it, and empty parents. Dead processes keep one busy for a moment.
pub(super) fn remove(root: &Path, path: &Path) -> Result<()> {
    let full = root.join(path);
    let until = Instant::now() + Duration::from_secs(5);
    let mut pause = Duration::from_micros(200);
    loop {
        let error = match remove_subtree(&full) {
            Ok(()) => break,
            Err(error) => error,
        };
        if Instant::now() > until {
            return Err(Fault::new(REMOVE_FAILED)
                .arg("path", full.display())
                .because(error));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
    let mut parent = path.parent();
    while let Some(dir) = parent.filter(|dir| !dir.as_os_str().is_empty()) {
        if rustix::fs::rmdir(root.join(dir)).is_err() {
            break;
        }
        parent = dir.parent();
    }
    Ok(())
}

fn remove_subtree(full: &Path) -> io::Result<()> {
    match rustix::fs::rmdir(full) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        // Children, or processes.
        Err(Errno::BUSY | Errno::NOTEMPTY) => {}
        Err(error) => return Err(error.into()),
    }
    for dir in subtree(full) {
        match rustix::fs::rmdir(&dir) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Repeats a look until it is satisfied or the time is over.
pub(super) fn wait_until(limit: Duration, mut look: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + limit;
    let mut pause = Duration::from_micros(100);
    while !look() {
        if Instant::now() > until {
            return false;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
    true
}

/// Gives a cgroup directory of the v2 hierarchy to a user, as /sys/kernel/cgroup/delegate says: the directory and the
/// files that move processes and enable controllers below, never the limits themselves.
pub(super) fn delegate(dir: &Path, (uid, gid): (u32, u32)) -> Result<()> {
    let fault = |path: &Path| Fault::new(CREATE_FAILED).arg("path", path.display());
    std::os::unix::fs::chown(dir, Some(uid), Some(gid)).or_fault(|| fault(dir))?;
    for name in ["cgroup.procs", "cgroup.threads", "cgroup.subtree_control"] {
        let file = dir.join(name);
        match std::os::unix::fs::chown(&file, Some(uid), Some(gid)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fault(&file).because(error)),
            _ => {}
        }
    }
    Ok(())
}
