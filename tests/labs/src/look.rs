//! A look at the host: mounts, links, rules, cgroups, processes and files, to compare before and after.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::sh;

/// Everything of the host that Posada could leave behind, one thing a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look(BTreeSet<String>);

/// Folders whose files are compared.
const FOLDERS: [&str; 4] = ["/var/lib/posada", "/run", "/etc", "/var/lib/machines"];

impl Look {
    /// Looks at the host now.
    ///
    /// # Panics
    /// When a tool that tells it is missing.
    #[must_use]
    pub fn now() -> Self {
        let mut seen = BTreeSet::new();
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("/proc is mounted");
        for line in mounts.lines() {
            let place: Vec<&str> = line.split(' ').skip(3).take(2).collect();
            seen.insert(format!("mount {}", place.join(" ")));
        }
        for link in names("/sys/class/net") {
            seen.insert(format!("link {link}"));
        }
        for line in sh("ip -o addr; ip route; ip -6 route").ok().lines() {
            // A bridge gets its link-local address by itself, a while after it first had a carrier.
            if line.contains("fe80::") {
                continue;
            }
            // Lifetimes tick; everything else of an address counts.
            let passing = |word: &&str| !word.ends_with("sec") && *word != "tentative" && *word != "linkdown";
            let words = line.split_whitespace().filter(passing);
            seen.insert(format!("address {}", words.collect::<Vec<_>>().join(" ")));
        }
        for line in sh("nft --stateless list ruleset").ok().lines() {
            seen.insert(format!("rule {line}"));
        }
        for controller in names("/sys/fs/cgroup") {
            let top = Path::new("/sys/fs/cgroup").join(controller);
            cgroups(&top, &mut seen);
        }
        for pid in names("/proc")
            .into_iter()
            .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
        {
            let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            if command.contains("posada") || command.contains("sleep") || command.contains("systemd") {
                seen.insert(format!("process {pid} {}", command.replace('\0', " ").trim_end()));
            }
        }
        for file in [
            "/proc/sys/net/ipv4/ip_forward",
            "/proc/sys/net/ipv6/conf/all/forwarding",
        ] {
            seen.insert(format!(
                "sysctl {file} {}",
                fs::read_to_string(file).unwrap_or_default().trim()
            ));
        }
        for folder in FOLDERS {
            files(Path::new(folder), 0, &mut seen);
        }
        Look(seen)
    }

    /// What is there now and was not there before.
    #[must_use]
    pub fn new_since(&self, before: &Look) -> Vec<String> {
        self.0.difference(&before.0).cloned().collect()
    }

    /// What was there before and is there no more.
    #[must_use]
    pub fn gone_since(&self, before: &Look) -> Vec<String> {
        before.0.difference(&self.0).cloned().collect()
    }
}

fn names(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

fn cgroups(folder: &Path, seen: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            seen.insert(format!("cgroup {}", entry.path().display()));
            cgroups(&entry.path(), seen);
        }
    }
}

/// Files by name; trees of images and guests only down to the guest's own folder.
fn files(folder: &Path, depth: usize, seen: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        seen.insert(format!("file {}", path.display()));
        let folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if folder && depth < 3 && entry.file_name() != "root" {
            files(&path, depth + 1, seen);
        }
    }
}
