//! Cgroups of a test host: one below our own in every mounted hierarchy, v1 and v2, removed afterwards.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// One mounted hierarchy and the cgroup that the test host gets in it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Hierarchy {
    /// Where the host has it mounted, such as `/sys/fs/cgroup/memory`.
    pub mounted: PathBuf,
    /// Options of the mount that name its controllers; empty for v2.
    pub options: String,
    /// The test host's own cgroup.
    pub own: PathBuf,
    /// Version 2 with controllers of its own (and not the empty tree of a hybrid host).
    pub rules: bool,
}

impl Hierarchy {
    /// Whether it is of version 2.
    pub fn is_v2(&self) -> bool {
        self.options.is_empty()
    }
}

/// The hierarchies mounted below `/sys/fs/cgroup`, with a cgroup of this name each.
pub fn find(name: &str) -> Result<Vec<Hierarchy>> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("/proc/self/mountinfo")?;
    let own = fs::read_to_string("/proc/self/cgroup").context("/proc/self/cgroup")?;
    Ok(mounts
        .lines()
        .filter_map(|line| hierarchy(line, &own, name))
        .collect())
}

/// Reads a line of proc_pid_mountinfo(5), `own` being /proc/self/cgroup.
fn hierarchy(line: &str, own: &str, name: &str) -> Option<Hierarchy> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ').skip(3);
    let (root, mounted) = (left.next()?, PathBuf::from(left.next()?));
    let mut right = right.split(' ');
    let kind = right.next()?;
    let options = right.nth(1).unwrap_or_default();
    if !mounted.starts_with("/sys/fs/cgroup") || !kind.starts_with("cgroup") {
        return None;
    }
    let v2 = kind == "cgroup2";
    let controllers: Vec<&str> = options
        .split(',')
        .filter(|option| is_controller(option))
        .collect();
    let path = own.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (names, path) = (parts.next()?, parts.next()?);
        let same = if v2 {
            names.is_empty()
        } else {
            names.split(',').eq(controllers.iter().copied())
        };
        same.then_some(path)
    })?;
    // A systemd host gives its controllers to the children of the root only, and our own cgroup holds processes.
    let whole = v2 && mounted == Path::new("/sys/fs/cgroup");
    let below = if whole {
        ""
    } else {
        path.strip_prefix(root).unwrap_or(path).trim_start_matches('/')
    };
    Some(Hierarchy {
        own: mounted.join(below).join(name),
        rules: whole,
        options: if v2 { String::new() } else { controllers.join(",") },
        mounted,
    })
}

fn is_controller(option: &str) -> bool {
    let generic = [
        "rw",
        "ro",
        "xattr",
        "clone_children",
        "nsdelegate",
        "memory_recursiveprot",
        "noprefix",
    ];
    !generic.contains(&option) && !option.starts_with("release_agent=")
}

/// Makes the cgroups. A cpuset needs processors and memory nodes before a process may enter.
pub fn create(hierarchies: &[Hierarchy]) -> Result<()> {
    for hierarchy in hierarchies {
        let own = &hierarchy.own;
        fs::create_dir(own).with_context(|| format!("making the cgroup {}", own.display()))?;
        let Some(parent) = own.parent() else { continue };
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if hierarchy
                .options
                .split(',')
                .any(|controller| controller == "cpuset")
            {
                let value = fs::read_to_string(parent.join(file))?;
                fs::write(own.join(file), value.trim())
                    .with_context(|| own.join(file).display().to_string())?;
            }
        }
    }
    Ok(())
}

/// Moves this process into the cgroups.
pub fn join(hierarchies: &[Hierarchy]) -> Result<()> {
    for hierarchy in hierarchies {
        let file = hierarchy.own.join("cgroup.procs");
        fs::write(&file, "0").with_context(|| file.display().to_string())?;
    }
    Ok(())
}

/// On a v2 host, moves on into a leaf, so that controllers can be given to the children of the test host's root.
pub fn make_room(hierarchies: &[Hierarchy]) -> Result<()> {
    for hierarchy in hierarchies.iter().filter(|hierarchy| hierarchy.rules) {
        let leaf = hierarchy.own.join("testhost");
        fs::create_dir(&leaf).with_context(|| leaf.display().to_string())?;
        fs::write(leaf.join("cgroup.procs"), "0").with_context(|| leaf.display().to_string())?;
    }
    Ok(())
}

/// Mounts the hierarchies again below the new `/sys/fs/cgroup`: in our cgroup namespace only our part is seen.
pub fn mount_again(hierarchies: &[Hierarchy]) -> Result<()> {
    use rustix::mount::{MountFlags, mount};
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    if !hierarchies.iter().any(|hierarchy| hierarchy.rules) {
        mount("tmpfs", "/sys/fs/cgroup", "tmpfs", flags, Some(c"mode=755")).context("/sys/fs/cgroup")?;
    }
    for hierarchy in hierarchies {
        let place = &hierarchy.mounted;
        fs::create_dir_all(place).with_context(|| place.display().to_string())?;
        let options = std::ffi::CString::new(hierarchy.options.as_str())?;
        let kind = if hierarchy.is_v2() { "cgroup2" } else { "cgroup" };
        mount(kind, place, kind, flags, Some(options.as_c_str()))
            .with_context(|| format!("mounting {}", place.display()))?;
    }
    Ok(())
}

/// Removes the cgroups with everything below, waiting a little for the last processes to be gone.
pub fn remove(hierarchies: &[Hierarchy]) {
    for hierarchy in hierarchies {
        let mut tries = 0;
        while let Err(error) = remove_tree(&hierarchy.own) {
            tries += 1;
            if tries > 100 {
                eprintln!(
                    "testhost: the cgroup {} stays behind: {error}",
                    hierarchy.own.display()
                );
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn remove_tree(cgroup: &Path) -> std::io::Result<()> {
    let entries = match fs::read_dir(cgroup) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(cgroup)
}

/// Removes the cgroups of test hosts that are dead, where no process is left in them.
pub fn sweep(dead: &dyn Fn(&str) -> bool) {
    for hierarchy in find("x").unwrap_or_default() {
        let parent = hierarchy.own.parent().map(Path::to_owned).unwrap_or_default();
        let Ok(entries) = fs::read_dir(parent) else {
            continue;
        };
        for entry in entries.flatten() {
            if dead(&entry.file_name().to_string_lossy()) {
                let _ = remove_tree(&entry.path());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_of_both_versions_are_found() {
        let own = "9:name=systemd:/\n4:memory:/a/b\n2:cpu,cpuacct:/\n0::/user.slice\n";
        let line = "31 29 0:27 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory";
        let memory = hierarchy(line, own, "t").unwrap();
        assert_eq!(
            (memory.own.to_str(), memory.options.as_str()),
            (Some("/sys/fs/cgroup/memory/a/b/t"), "memory")
        );
        let line = "31 29 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,xattr,cpu,cpuacct";
        assert_eq!(hierarchy(line, own, "t").unwrap().options, "cpu,cpuacct");
        let line = "31 29 0:27 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd";
        assert_eq!(hierarchy(line, own, "t").unwrap().options, "name=systemd");
        let line = "31 29 0:27 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate";
        let whole = hierarchy(line, own, "t").unwrap();
        assert!(whole.rules && whole.is_v2());
        assert_eq!(whole.own, Path::new("/sys/fs/cgroup/t"));
        assert!(hierarchy("22 1 0:5 / /dev rw - devtmpfs devtmpfs rw", own, "t").is_none());
    }
}
