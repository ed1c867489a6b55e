//! The v1 and the hybrid layout: a hierarchy per controller, and perhaps a v2 hierarchy without controllers beside.
//!
//! The v2 hierarchy is what the guest's own cgroup2 mount shows; where it exists it also freezes and kills, because it
//! does both as one step.

use std::path::{Path, PathBuf};
use std::time::Duration;

use fault::{Fault, OrFault, Result};
use rustix::event::EventfdFlags;

use super::devices;
use super::files::{
    absent, delegate, keyed, make, number, procs, read, remove, wait_until, write, write_limit,
    write_or_fault,
};
use super::{
    Cgroups, Entry, FREEZE_FAILED, Hierarchy, KILL_FAILED, Layout, Limits, Missing, OomWatch, Probe, Request,
    Stats, WRITE_FAILED, checked, v2,
};

/// Hierarchies that a guest gets a directory in; the others (net_cls, perf_event, hugetlb…) hold nothing we use.
const WANTED: [&str; 9] = [
    "cpu",
    "cpuacct",
    "cpuset",
    "memory",
    "pids",
    "freezer",
    "blkio",
    "devices",
    "name=systemd",
];
/// Limits above this are v1's way to write "unlimited".
const INFINITY: u64 = 1 << 62;
const PERIOD_US: f64 = 100_000.0;

/// A host whose controllers are on cgroup v1.
#[derive(Debug)]
pub struct V1 {
    hierarchies: Vec<Hierarchy>,
    unified: Option<PathBuf>,
}

impl V1 {
    /// Over the mounted v1 hierarchies and the v2 one beside them.
    #[must_use]
    pub fn over(hierarchies: Vec<Hierarchy>, unified: Option<PathBuf>) -> Self {
        let wanted = |name: &String| WANTED.contains(&name.as_str());
        V1 {
            hierarchies: hierarchies
                .into_iter()
                .filter(|hierarchy| hierarchy.controllers.iter().any(wanted))
                .collect(),
            unified,
        }
    }

    /// Directory of the cgroup in a controller's hierarchy; where the controller is missing, a path with no file.
    fn dir(&self, controller: &str, path: &Path) -> PathBuf {
        self.root(controller)
            .map_or_else(|| PathBuf::from("/proc/self/fd/missing"), |root| root.join(path))
    }

    fn root(&self, controller: &str) -> Option<&Path> {
        let has = |hierarchy: &&Hierarchy| hierarchy.controllers.iter().any(|name| name == controller);
        self.hierarchies
            .iter()
            .find(has)
            .map(|hierarchy| hierarchy.root.as_path())
    }

    /// The v2 directory, when the kernel can freeze and kill by it (5.14).
    fn whole(&self, path: &Path) -> Option<PathBuf> {
        let dir = self.unified.as_ref()?.join(path);
        dir.join("cgroup.kill").exists().then_some(dir)
    }

    fn roots(&self) -> impl Iterator<Item = &Path> {
        let v1 = self.hierarchies.iter().map(|hierarchy| hierarchy.root.as_path());
        v1.chain(self.unified.as_deref())
    }

    fn create_all(&self, path: &Path, request: &Request) -> Result<Vec<Missing>> {
        for hierarchy in &self.hierarchies {
            let dir = make(&hierarchy.root, path)?;
            if hierarchy.controllers.iter().any(|name| name == "cpuset") {
                fill_cpuset(&hierarchy.root, path)?;
            }
            if request.restrict_devices && hierarchy.controllers.iter().any(|name| name == "devices") {
                write_or_fault(&dir.join("devices.deny"), "a")?;
                for rule in devices::RULES {
                    write_or_fault(&dir.join("devices.allow"), &rule.to_string())?;
                }
            }
        }
        if let Some(root) = &self.unified {
            let dir = make(root, path)?;
            let _ = write(&dir.join("cgroup.max.descendants"), "10000");
            let _ = write(&dir.join("cgroup.max.depth"), "64");
            if let Some(owner) = request.owner {
                delegate(&dir, owner)?;
            }
        }
        let mut missing = self.limit(path, &request.limits)?;
        if request.restrict_devices && self.root("devices").is_none() {
            let by_program = self
                .unified
                .as_ref()
                .map(|root| devices::restrict(&root.join(path)));
            if by_program.is_none_or(|done| done.is_err()) {
                missing.push(absent("devices", "devices"));
            }
        }
        Ok(missing)
    }

    fn limit_memory(&self, path: &Path, limits: &Limits, missing: &mut Vec<Missing>) -> Result<()> {
        let dir = self.dir("memory", path);
        let (limit, both) = (
            dir.join("memory.limit_in_bytes"),
            dir.join("memory.memsw.limit_in_bytes"),
        );
        // The sum may never be below the memory limit, so it is lifted first and set last.
        let _ = write(&both, "-1");
        let memory = limits.memory.map_or("-1".to_owned(), |bytes| bytes.to_string());
        write_limit(
            &limit,
            &memory,
            "memory",
            "memory",
            limits.memory.is_some(),
            missing,
        )?;
        match (limits.memory, limits.swap) {
            (_, None) => Ok(()),
            (Some(memory), Some(swap)) => {
                let sum = memory.saturating_add(swap).to_string();
                write_limit(&both, &sum, "swap", "memory.memsw", true, missing)
            }
            (None, Some(_)) => {
                missing.push(Missing {
                    limit: "swap",
                    reason: "cgroup v1 limits swap only together with memory".into(),
                });
                Ok(())
            }
        }
    }
}

impl Cgroups for V1 {
    fn probe(&self) -> Probe {
        let mut controllers: Vec<String> = self
            .hierarchies
            .iter()
            .flat_map(|hierarchy| hierarchy.controllers.clone())
            .collect();
        controllers.sort();
        let mut missing = Vec::new();
        for (limit, controller) in [
            ("memory", "memory"),
            ("cpus", "cpu"),
            ("cpu_weight", "cpu"),
            ("cpu_pin", "cpuset"),
            ("pids", "pids"),
        ] {
            if self.root(controller).is_none() {
                missing.push(absent(limit, controller));
            }
        }
        let swap = |root: &Path| root.join("memory.memsw.limit_in_bytes").exists();
        if !self.root("memory").is_some_and(swap) {
            missing.push(absent("swap", "memory.memsw"));
        }
        let layout = if self.unified.is_some() {
            Layout::Hybrid
        } else {
            Layout::V1
        };
        Probe {
            layout,
            controllers,
            missing,
        }
    }

    fn create(&self, path: &Path, request: &Request) -> Result<Vec<Missing>> {
        let path = checked(path)?;
        self.create_all(path, request).inspect_err(|_| {
            let _ = self.remove(path);
        })
    }

    fn entry(&self, path: &Path) -> Result<Entry> {
        let mut entry = Entry::default();
        let v1 = self
            .hierarchies
            .iter()
            .map(|hierarchy| (&hierarchy.root, "tasks"));
        let v2 = self.unified.iter().map(|root| (root, "cgroup.procs"));
        for (root, file) in v1.chain(v2) {
            let path = root.join(checked(path)?).join(file);
            let file = std::fs::OpenOptions::new().write(true).open(&path).or_fault(|| {
                Fault::new(WRITE_FAILED)
                    .arg("path", path.display())
                    .arg("value", 0)
            })?;
            entry.files.push((path, file));
        }
        if let Some(root) = &self.unified {
            let dir = root.join(path);
            let fault = || {
                Fault::new(WRITE_FAILED)
                    .arg("path", dir.display())
                    .arg("value", 0)
            };
            entry.directory = Some(std::fs::File::open(&dir).or_fault(fault)?.into());
        }
        Ok(entry)
    }

    fn limit(&self, path: &Path, limits: &Limits) -> Result<Vec<Missing>> {
        let path = checked(path)?;
        let mut missing = Vec::new();
        self.limit_memory(path, limits, &mut missing)?;
        let mut set = |file: PathBuf, value: String, limit, controller, wanted| {
            write_limit(&file, &value, limit, controller, wanted, &mut missing)
        };
        let cpu = self.dir("cpu", path);
        let quota = limits.cpus.map_or("-1".to_owned(), |cpus| {
            format!("{:.0}", (cpus * PERIOD_US).max(1000.0))
        });
        if limits.cpus.is_some() {
            let period = format!("{PERIOD_US:.0}");
            set(cpu.join("cpu.cfs_period_us"), period, "cpus", "cpu", false)?;
        }
        set(
            cpu.join("cpu.cfs_quota_us"),
            quota,
            "cpus",
            "cpu",
            limits.cpus.is_some(),
        )?;
        let weight = u64::from(limits.cpu_weight.unwrap_or(100).clamp(1, 10_000));
        let shares = (weight * 1024 / 100).max(2).to_string();
        set(
            cpu.join("cpu.shares"),
            shares,
            "cpu_weight",
            "cpu",
            limits.cpu_weight.is_some(),
        )?;
        let cpuset = self.dir("cpuset", path);
        let all = || {
            let parent = cpuset.parent()?;
            Some(read(&parent.join("cpuset.cpus"))?.trim().to_owned())
        };
        if let Some(pin) = limits.cpu_pin.clone().or_else(all) {
            set(
                cpuset.join("cpuset.cpus"),
                pin,
                "cpu_pin",
                "cpuset",
                limits.cpu_pin.is_some(),
            )?;
        }
        let pids = limits.pids.map_or("max".to_owned(), |pids| pids.to_string());
        let file = self.dir("pids", path).join("pids.max");
        set(file, pids, "pids", "pids", limits.pids.is_some())?;
        Ok(missing)
    }

    fn stats(&self, path: &Path) -> Result<Stats> {
        let path = checked(path)?;
        let memory = self.dir("memory", path);
        let blkio = self.dir("blkio", path);
        let io = ["recursive", ""].iter().find_map(|suffix| {
            let name = format!("blkio.throttle.io_service_bytes_{suffix}");
            read(&blkio.join(name.trim_end_matches('_')))
        });
        let (read_bytes, write_bytes) = io_bytes(&io.unwrap_or_default());
        Ok(Stats {
            cpu_ns: number(&self.dir("cpuacct", path).join("cpuacct.usage")).unwrap_or(0),
            memory: number(&memory.join("memory.usage_in_bytes")).unwrap_or(0),
            memory_limit: number(&memory.join("memory.limit_in_bytes")).filter(|limit| *limit < INFINITY),
            pids: number(&self.dir("pids", path).join("pids.current")).unwrap_or(0),
            read_bytes,
            write_bytes,
            oom_kills: read(&memory.join("memory.oom_control"))
                .and_then(|text| keyed(&text, "oom_kill"))
                .unwrap_or(0),
        })
    }

    fn freeze(&self, path: &Path) -> Result<()> {
        let path = checked(path)?;
        if let Some(dir) = self.whole(path) {
            return v2::freeze(&dir);
        }
        let dir = self.dir("freezer", path);
        let state = dir.join("freezer.state");
        let fault = || Fault::new(FREEZE_FAILED).arg("path", dir.display());
        write(&state, "FROZEN").or_fault(fault)?;
        let frozen = || read(&state).is_some_and(|state| state.trim() == "FROZEN");
        if wait_until(Duration::from_secs(10), frozen) {
            return Ok(());
        }
        let _ = write(&state, "THAWED");
        Err(fault())
    }

    fn thaw(&self, path: &Path) -> Result<()> {
        let path = checked(path)?;
        match self.whole(path) {
            Some(dir) => write_or_fault(&dir.join("cgroup.freeze"), "0"),
            None => write_or_fault(&self.dir("freezer", path).join("freezer.state"), "THAWED"),
        }
    }

    fn kill(&self, path: &Path) -> Result<()> {
        let path = checked(path)?;
        if let Some(dir) = self.whole(path) {
            v2::kill(&dir)?;
        }
        // Whatever is not in the v2 hierarchy, or everything where there is none: frozen, so that nothing is forked
        // between reading and killing, then thawed, because the frozen do not die.
        let state = self.dir("freezer", path).join("freezer.state");
        let empty = || {
            let left = self.procs(path).unwrap_or_default();
            if left.is_empty() {
                return true;
            }
            let _ = write(&state, "FROZEN");
            v2::kill_each(&self.procs(path).unwrap_or_default());
            let _ = write(&state, "THAWED");
            false
        };
        if wait_until(Duration::from_secs(10), empty) {
            Ok(())
        } else {
            Err(Fault::new(KILL_FAILED).arg("path", path.display()))
        }
    }

    fn procs(&self, path: &Path) -> Result<Vec<u32>> {
        let path = checked(path)?;
        let mut all: Vec<u32> = self.roots().flat_map(|root| procs(&root.join(path))).collect();
        all.sort_unstable();
        all.dedup();
        Ok(all)
    }

    fn remove(&self, path: &Path) -> Result<()> {
        let path = checked(path)?;
        self.roots().try_for_each(|root| remove(root, path))
    }

    fn watch_oom(&self, path: &Path) -> Option<OomWatch> {
        let dir = self.dir("memory", path);
        let source = std::fs::File::open(dir.join("memory.oom_control")).ok()?;
        let fd = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).ok()?;
        let (event, watched) = (
            std::os::fd::AsRawFd::as_raw_fd(&fd),
            std::os::fd::AsRawFd::as_raw_fd(&source),
        );
        write(&dir.join("cgroup.event_control"), &format!("{event} {watched}")).ok()?;
        Some(OomWatch {
            fd,
            kept: Some(source),
            priority: false,
        })
    }

    fn directories(&self, path: &Path) -> Vec<PathBuf> {
        self.roots().map(|root| root.join(path)).collect()
    }
}

/// Gives every directory down the path the processors and memory nodes of its parent: v1 lets no process into a
/// cpuset without them.
fn fill_cpuset(root: &Path, path: &Path) -> Result<()> {
    let mut dir = root.to_owned();
    for part in path.components() {
        let parent = dir.clone();
        dir.push(part);
        for name in ["cpuset.cpus", "cpuset.mems"] {
            let own = read(&dir.join(name)).unwrap_or_default();
            if own.trim().is_empty() {
                let inherited = read(&parent.join(name)).unwrap_or_default();
                write_or_fault(&dir.join(name), inherited.trim())?;
            }
        }
    }
    Ok(())
}

/// Bytes read and written over all devices, from blkio's `8:0 Read 1` lines.
fn io_bytes(text: &str) -> (u64, u64) {
    let sum = |kind: &str| {
        text.lines()
            .filter_map(|line| {
                let mut words = line.split_whitespace().skip(1);
                (words.next()? == kind)
                    .then(|| words.next()?.parse::<u64>().ok())
                    .flatten()
            })
            .fold(0, u64::saturating_add)
    };
    (sum("Read"), sum("Write"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_device_figures_are_summed_over_devices() {
        let text = "8:0 Read 10\n8:0 Write 5\n8:0 Sync 1\n8:16 Read 1\nTotal 17\n";
        assert_eq!(io_bytes(text), (11, 5));
    }

    #[test]
    fn a_missing_controller_is_reported_for_each_limit_that_needs_it() {
        let host = V1::over(Vec::new(), None);
        let limits = Limits {
            memory: Some(1 << 20),
            swap: Some(0),
            cpus: Some(1.0),
            cpu_weight: Some(10),
            cpu_pin: Some("0".into()),
            pids: Some(1),
        };
        let missing = host.limit(Path::new("x"), &limits).unwrap();
        let names: Vec<_> = missing.iter().map(|missing| missing.limit).collect();
        assert_eq!(names, ["memory", "swap", "cpus", "cpu_weight", "cpu_pin", "pids"]);
    }
}
