//! The v2 layout: one hierarchy, controllers enabled down the path.

use std::path::{Path, PathBuf};
use std::time::Duration;

use fault::{Fault, OrFault, Result};

use super::devices;
use super::files::{
    absent, delegate, keyed, make, number, procs, read, remove, wait_until, write, write_limit,
    write_or_fault,
};
use super::{
    Cgroups, Entry, FREEZE_FAILED, KILL_FAILED, Layout, Limits, Missing, OomWatch, Probe, Request, Stats,
    WRITE_FAILED, checked,
};

/// Controllers that we use.
const WANTED: [&str; 5] = ["cpu", "cpuset", "io", "memory", "pids"];
/// Most cgroups that a guest may make below its own, and how deep: the kernel's memory pays for them.
const DESCENDANTS: &str = "10000";
const DEPTH: &str = "64";
const PERIOD_US: f64 = 100_000.0;

/// A host whose controllers are on cgroup2.
#[derive(Debug)]
pub struct V2 {
    root: PathBuf,
}

impl V2 {
    /// Over the mount point of a cgroup2 file system.
    #[must_use]
    pub fn at(root: PathBuf) -> Self {
        V2 { root }
    }

    fn dir(&self, path: &Path) -> Result<PathBuf> {
        Ok(self.root.join(checked(path)?))
    }

    fn available(&self, dir: &Path) -> Vec<String> {
        let text = read(&dir.join("cgroup.controllers")).unwrap_or_default();
        text.split_whitespace().map(str::to_owned).collect()
    }

    /// Enables the controllers for the children of every directory above the cgroup. What the host refuses (a
    /// controller bound to v1, a parent with processes) shows later as a missing file.
    fn enable(&self, path: &Path) {
        let mut dir = self.root.clone();
        let parents = path.parent().into_iter().flat_map(Path::components);
        for part in std::iter::once(None).chain(parents.map(Some)) {
            if let Some(part) = part {
                dir.push(part);
            }
            let enabled = read(&dir.join("cgroup.subtree_control")).unwrap_or_default();
            let enabled: Vec<&str> = enabled.split_whitespace().collect();
            for name in self.available(&dir) {
                if WANTED.contains(&name.as_str()) && !enabled.contains(&name.as_str()) {
                    let _ = write(&dir.join("cgroup.subtree_control"), &format!("+{name}"));
                }
            }
        }
    }
}

impl Cgroups for V2 {
    fn probe(&self) -> Probe {
        let mut controllers = self.available(&self.root);
        controllers.sort();
        let has = |name: &str| controllers.iter().any(|have| have == name);
        let mut missing = Vec::new();
        for (limit, controller) in [
            ("memory", "memory"),
            ("swap", "memory"),
            ("cpus", "cpu"),
            ("cpu_weight", "cpu"),
            ("cpu_pin", "cpuset"),
            ("pids", "pids"),
        ] {
            if !has(controller) {
                missing.push(absent(limit, controller));
            }
        }
        Probe {
            layout: Layout::V2,
            controllers,
            missing,
        }
    }

    fn create(&self, path: &Path, request: &Request) -> Result<Vec<Missing>> {
        let dir = make(&self.root, checked(path)?)?;
        self.enable(path);
        let _ = write(&dir.join("cgroup.max.descendants"), DESCENDANTS);
        let _ = write(&dir.join("cgroup.max.depth"), DEPTH);
        let done = (|| {
            if let Some(owner) = request.owner {
                delegate(&dir, owner)?;
            }
            self.limit(path, &request.limits)
        })();
        let mut missing = match done {
            Ok(missing) => missing,
            Err(fault) => {
                let _ = remove(&self.root, path);
                return Err(fault);
            }
        };
        if request.restrict_devices
            && let Err(error) = devices::restrict(&dir)
        {
            missing.push(Missing {
                limit: "devices",
                reason: format!("the kernel takes no device program: {error}"),
            });
        }
        Ok(missing)
    }

    fn entry(&self, path: &Path) -> Result<Entry> {
        let dir = self.dir(path)?;
        let procs = dir.join("cgroup.procs");
        let fault = || {
            Fault::new(WRITE_FAILED)
                .arg("path", procs.display())
                .arg("value", 0)
        };
        let file = std::fs::OpenOptions::new()
            .write(true)
            .open(&procs)
            .or_fault(fault)?;
        let directory = std::fs::File::open(&dir).or_fault(fault)?;
        Ok(Entry {
            directory: Some(directory.into()),
            files: vec![(procs, file)],
        })
    }

    fn limit(&self, path: &Path, limits: &Limits) -> Result<Vec<Missing>> {
        let dir = self.dir(path)?;
        let mut missing = Vec::new();
        let mut set = |file: &str, value: String, limit, controller, wanted| {
            write_limit(&dir.join(file), &value, limit, controller, wanted, &mut missing)
        };
        let bytes = |value: Option<u64>| value.map_or("max".to_owned(), |value| value.to_string());
        set(
            "memory.max",
            bytes(limits.memory),
            "memory",
            "memory",
            limits.memory.is_some(),
        )?;
        set(
            "memory.swap.max",
            bytes(limits.swap),
            "swap",
            "swap",
            limits.swap.is_some(),
        )?;
        let quota = limits.cpus.map_or("max".to_owned(), |cpus| {
            format!("{:.0}", (cpus * PERIOD_US).max(1000.0))
        });
        set(
            "cpu.max",
            format!("{quota} {PERIOD_US:.0}"),
            "cpus",
            "cpu",
            limits.cpus.is_some(),
        )?;
        let weight = limits.cpu_weight.unwrap_or(100).clamp(1, 10_000);
        set(
            "cpu.weight",
            weight.to_string(),
            "cpu_weight",
            "cpu",
            limits.cpu_weight.is_some(),
        )?;
        // An empty list would be refused by write(2); a line end lifts the limit.
        let pin = limits.cpu_pin.clone().unwrap_or_else(|| "\n".into());
        set("cpuset.cpus", pin, "cpu_pin", "cpuset", limits.cpu_pin.is_some())?;
        set(
            "pids.max",
            bytes(limits.pids),
            "pids",
            "pids",
            limits.pids.is_some(),
        )?;
        Ok(missing)
    }

    fn stats(&self, path: &Path) -> Result<Stats> {
        let dir = self.dir(path)?;
        let cpu = read(&dir.join("cpu.stat")).unwrap_or_default();
        let (read_bytes, write_bytes) = io_bytes(&read(&dir.join("io.stat")).unwrap_or_default());
        Ok(Stats {
            cpu_ns: keyed(&cpu, "usage_usec").unwrap_or(0).saturating_mul(1000),
            memory: number(&dir.join("memory.current")).unwrap_or(0),
            memory_limit: number(&dir.join("memory.max")),
            pids: number(&dir.join("pids.current")).unwrap_or(0),
            read_bytes,
            write_bytes,
            oom_kills: read(&dir.join("memory.events"))
                .and_then(|text| keyed(&text, "oom_kill"))
                .unwrap_or(0),
        })
    }

    fn freeze(&self, path: &Path) -> Result<()> {
        freeze(&self.dir(path)?)
    }

    fn thaw(&self, path: &Path) -> Result<()> {
        write_or_fault(&self.dir(path)?.join("cgroup.freeze"), "0")
    }

    fn kill(&self, path: &Path) -> Result<()> {
        kill(&self.dir(path)?)
    }

    fn procs(&self, path: &Path) -> Result<Vec<u32>> {
        Ok(procs(&self.dir(path)?))
    }

    fn remove(&self, path: &Path) -> Result<()> {
        remove(&self.root, checked(path)?)
    }

    fn watch_oom(&self, path: &Path) -> Option<OomWatch> {
        let file = std::fs::File::open(self.dir(path).ok()?.join("memory.events")).ok()?;
        let watch = OomWatch {
            fd: file.into(),
            kept: None,
            priority: true,
        };
        watch.acknowledge();
        Some(watch)
    }

    fn directories(&self, path: &Path) -> Vec<PathBuf> {
        vec![self.root.join(path)]
    }
}

/// Freezes a directory of a v2 hierarchy and waits until it is.
pub(super) fn freeze(dir: &Path) -> Result<()> {
    let fault = || Fault::new(FREEZE_FAILED).arg("path", dir.display());
    write(&dir.join("cgroup.freeze"), "1").or_fault(fault)?;
    let frozen = || {
        read(&dir.join("cgroup.events"))
            .and_then(|text| keyed(&text, "frozen"))
            .is_some_and(|frozen| frozen == 1)
    };
    if wait_until(Duration::from_secs(10), frozen) {
        return Ok(());
    }
    let _ = write(&dir.join("cgroup.freeze"), "0");
    Err(fault())
}

/// Kills a subtree of a v2 hierarchy; a kernel before 5.14 has no cgroup.kill.
pub(super) fn kill(dir: &Path) -> Result<()> {
    // An empty one is left alone: after cgroup.kill, kernels up to at least 6.18 kill whatever is cloned into the cgroup
    // (they compare its kill count with that of the parent's cgroup).
    let populated = || {
        let events = read(&dir.join("cgroup.events"));
        events.is_some_and(|text| keyed(&text, "populated") != Some(0))
    };
    if !populated() {
        return Ok(());
    }
    let whole = write(&dir.join("cgroup.kill"), "1").is_ok();
    let empty = || {
        if !populated() {
            return true;
        }
        if !whole {
            let _ = write(&dir.join("cgroup.freeze"), "0");
            kill_each(&procs(dir));
        }
        false
    };
    if wait_until(Duration::from_secs(10), empty) {
        Ok(())
    } else {
        Err(Fault::new(KILL_FAILED).arg("path", dir.display()))
    }
}

/// Sends SIGKILL to each.
pub(super) fn kill_each(pids: &[u32]) {
    for pid in pids {
        let pid = i32::try_from(*pid).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

/// Bytes read and written over all devices, from io.stat (`8:0 rbytes=1 wbytes=2 …`).
fn io_bytes(text: &str) -> (u64, u64) {
    let sum = |key: &str| {
        text.split_whitespace()
            .filter_map(|word| word.strip_prefix(key)?.parse::<u64>().ok())
            .fold(0, u64::saturating_add)
    };
    (sum("rbytes="), sum("wbytes="))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory of files in the place of the kernel's.
    fn ground(controllers: &str) -> (tempfile::TempDir, V2, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = PathBuf::from("posada/guests/x");
        let full = dir.path().join(&path);
        std::fs::create_dir_all(&full).unwrap();
        for parent in ["", "posada", "posada/guests"] {
            std::fs::write(dir.path().join(parent).join("cgroup.controllers"), controllers).unwrap();
            std::fs::write(dir.path().join(parent).join("cgroup.subtree_control"), "").unwrap();
        }
        let v2 = V2::at(dir.path().to_owned());
        (dir, v2, path)
    }

    fn files(dir: &Path, files: &[(&str, &str)]) {
        for (name, text) in files {
            std::fs::write(dir.join(name), text).unwrap();
        }
    }

    fn text(path: PathBuf) -> String {
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn limits_are_written_as_the_kernel_reads_them() {
        let (dir, v2, path) = ground("cpu memory pids cpuset");
        let full = dir.path().join(&path);
        let names = [
            "memory.max",
            "memory.swap.max",
            "cpu.max",
            "cpu.weight",
            "cpuset.cpus",
            "pids.max",
        ];
        files(&full, &names.map(|name| (name, "")));
        let limits = Limits {
            memory: Some(64 << 20),
            swap: Some(0),
            cpus: Some(0.5),
            cpu_weight: Some(200),
            cpu_pin: Some("0-1".into()),
            pids: Some(50),
        };
        assert_eq!(v2.limit(&path, &limits).unwrap(), []);
        let written = names.map(|name| text(full.join(name)));
        assert_eq!(written, ["67108864", "0", "50000 100000", "200", "0-1", "50"]);
        files(&full, &names.map(|name| (name, "")));
        assert_eq!(v2.limit(&path, &Limits::default()).unwrap(), []);
        let written = names.map(|name| text(full.join(name)));
        assert_eq!(written, ["max", "max", "max 100000", "100", "\n", "max"]);
    }

    #[test]
    fn a_limit_without_its_controller_is_reported() {
        let (_dir, v2, path) = ground("cpu");
        let limits = Limits {
            memory: Some(1 << 20),
            pids: Some(5),
            ..Limits::default()
        };
        let missing = v2.limit(&path, &limits).unwrap();
        let names: Vec<_> = missing.iter().map(|missing| missing.limit).collect();
        assert_eq!(names, ["memory", "pids"]);
        assert_eq!(v2.limit(&path, &Limits::default()).unwrap(), []);
        assert!(
            v2.probe()
                .missing
                .iter()
                .any(|missing| missing.limit == "cpu_pin")
        );
    }

    #[test]
    fn controllers_are_enabled_down_the_path_and_only_those_that_exist() {
        let (dir, v2, path) = ground("cpu rdma");
        v2.create(&path, &Request::default()).unwrap();
        for parent in ["", "posada", "posada/guests"] {
            let enabled = text(dir.path().join(parent).join("cgroup.subtree_control"));
            assert_eq!(enabled, "+cpu", "{parent}");
        }
    }

    #[test]
    fn use_is_read_from_the_kernels_files() {
        let (dir, v2, path) = ground("cpu memory pids io");
        files(
            &dir.path().join(&path),
            &[
                ("cpu.stat", "usage_usec 1500\nuser_usec 1000\n"),
                ("memory.current", "4096\n"),
                ("memory.max", "max\n"),
                ("memory.events", "low 0\noom 2\noom_kill 1\n"),
                ("pids.current", "3\n"),
                (
                    "io.stat",
                    "8:0 rbytes=10 wbytes=20 rios=1\n8:16 rbytes=1 wbytes=2\n",
                ),
            ],
        );
        let stats = v2.stats(&path).unwrap();
        let expected = Stats {
            cpu_ns: 1_500_000,
            memory: 4096,
            memory_limit: None,
            pids: 3,
            read_bytes: 11,
            write_bytes: 22,
            oom_kills: 1,
        };
        assert_eq!(stats, expected);
    }

    #[test]
    fn a_path_that_leads_out_is_refused() {
        let (_dir, v2, _) = ground("");
        for bad in ["/etc", "../x", "a/../../b", ""] {
            assert!(v2.create(Path::new(bad), &Request::default()).is_err(), "{bad}");
            assert!(v2.remove(Path::new(bad)).is_err(), "{bad}");
        }
    }
}
