//! Entering a cgroup by its path, in every hierarchy where it exists.

use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use fault::{Fault, OrFault, Result};

use crate::codes;

/// Directories of all cgroup hierarchies, v1 and v2, given the content of /proc/self/mountinfo. Pure.
#[must_use]
pub fn hierarchies(mountinfo: &str) -> Vec<PathBuf> {
    mountinfo
        .lines()
        .filter_map(|line| {
            let (place, kind) = line.split_once(" - ")?;
            matches!(kind.split(' ').next()?, "cgroup" | "cgroup2").then_some(())?;
            Some(unescape(place.split(' ').nth(4)?))
        })
        .collect()
}

/// Undoes the octal escapes of mountinfo (`\040` is a space).
fn unescape(text: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let octal = (*first == b'\\')
            .then(|| after.get(..3))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        bytes.push(octal.unwrap_or(*first));
        rest = if octal.is_some() { &after[3..] } else { after };
    }
    std::ffi::OsString::from_vec(bytes).into()
}

/// Moves the calling process into the cgroup `path` of every hierarchy that has it.
pub(crate) fn join(path: &Path) -> Result<()> {
    let fault = || Fault::new(codes::CGROUP_FAILED).arg("path", path.display());
    let mountinfo = std::fs::read_to_string("/proc/self/mountinfo").or_fault(fault)?;
    let relative = path.strip_prefix("/").unwrap_or(path);
    let mut joined = false;
    for hierarchy in hierarchies(&mountinfo) {
        let procs = hierarchy.join(relative).join("cgroup.procs");
        match std::fs::File::options().write(true).open(&procs) {
            Ok(mut file) => {
                file.write_all(b"0").or_fault(fault)?;
                joined = true;
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(fault().because(error)),
        }
    }
    if joined { Ok(()) } else { Err(fault()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_of_both_versions_are_found_and_escapes_undone() {
        let info = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
                    32 31 0:29 / /sys/fs/cgroup/a\\040b rw,relatime - cgroup cgroup rw,cpu\n\
                    41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\nbroken\n";
        let expected = [
            PathBuf::from("/sys/fs/cgroup/a b"),
            PathBuf::from("/sys/fs/cgroup/unified"),
        ];
        assert_eq!(hierarchies(info), expected);
    }
}
