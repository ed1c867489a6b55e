//! Which hierarchies are mounted, read from the text of /proc/self/mountinfo.

use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// One mounted v1 hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    /// Where it is mounted.
    pub root: PathBuf,
    /// Its controllers, several when co-mounted; `name=systemd` for named ones.
    pub controllers: Vec<String>,
}

/// The mounted hierarchies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mounted {
    /// v1 ones, each once.
    pub v1: Vec<Hierarchy>,
    /// The v2 one.
    pub unified: Option<PathBuf>,
}

impl Mounted {
    /// Reads the text of a mountinfo file (proc_pid_mountinfo(5)). Of a hierarchy mounted several times the mount
    /// below /sys/fs/cgroup counts, else the first.
    #[must_use]
    pub fn parse(text: &str) -> Mounted {
        let mut found = Mounted::default();
        for line in text.lines() {
            let Some((before, after)) = line.split_once(" - ") else {
                continue;
            };
            let (Some(point), mut after) = (before.split(' ').nth(4), after.split(' ')) else {
                continue;
            };
            let root = unescape(point);
            match (after.next(), after.nth(1)) {
                (Some("cgroup2"), _) if found.unified.as_ref().is_none_or(|old| better(old, &root)) => {
                    found.unified = Some(root);
                }
                (Some("cgroup"), Some(options)) => {
                    let controllers = controllers(options);
                    match found.v1.iter_mut().find(|old| old.controllers == controllers) {
                        Some(old) if better(&old.root, &root) => old.root = root,
                        Some(_) => {}
                        None if controllers.is_empty() => {}
                        None => found.v1.push(Hierarchy { root, controllers }),
                    }
                }
                _ => {}
            }
        }
        found
    }
}

fn better(old: &std::path::Path, new: &std::path::Path) -> bool {
    new.starts_with("/sys/fs/cgroup") && (!old.starts_with("/sys/fs/cgroup") || old == new)
}

/// The controllers among the options of a v1 super block.
fn controllers(options: &str) -> Vec<String> {
    const OTHER: [&str; 7] = [
        "rw",
        "ro",
        "xattr",
        "noprefix",
        "clone_children",
        "cpuset_v2_mode",
        "favordynmods",
    ];
    options
        .split(',')
        .filter(|option| !OTHER.contains(option) && !option.starts_with("release_agent="))
        .map(str::to_owned)
        .collect()
}

/// Undoes the octal escapes of mountinfo (space, tab, newline, backslash).
fn unescape(text: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let octal = |digits: &[u8]| {
            digits.iter().try_fold(0u8, |sum, digit| {
                let digit = digit.checked_sub(b'0').filter(|digit| *digit < 8)?;
                sum.checked_mul(8)?.checked_add(digit)
            })
        };
        match (first, tail.get(..3).and_then(octal)) {
            (b'\\', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_hybrid_host_is_read() {
        let mounted = Mounted::parse(
            "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
             32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
             33 31 0:30 / /elsewhere/memory rw - cgroup cgroup rw,memory\n\
             34 31 0:30 / /sys/fs/cgroup/memory rw shared:3 - cgroup cgroup rw,memory\n\
             40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
             41 31 0:38 / /sys/fs/cgroup/uni\\040fied rw - cgroup2 cgroup2 rw\n",
        );
        assert_eq!(mounted.unified, Some("/sys/fs/cgroup/uni fied".into()));
        let names: Vec<_> = mounted.v1.iter().map(|h| h.controllers.join("+")).collect();
        assert_eq!(names, ["cpu+cpuacct", "memory", "name=systemd"]);
        assert_eq!(mounted.v1[1].root, PathBuf::from("/sys/fs/cgroup/memory"));
    }

    #[test]
    fn a_v2_host_is_read() {
        let mounted = Mounted::parse("30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n");
        assert_eq!(mounted.unified, Some("/sys/fs/cgroup".into()));
        assert!(mounted.v1.is_empty());
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "[ -~\\\\0-9\n]{0,300}") {
            let _ = Mounted::parse(&text);
        }
    }
}
