//! Control groups of this host, in sub-cgroups of our own; needs root.
#![allow(clippy::unwrap_used)] // Helpers of tests.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use jail::cgroup::{Cgroups, Limits, Request, detect};

/// A cgroup that is removed at the end, whatever happens.
struct Ground {
    host: Box<dyn Cgroups>,
    path: PathBuf,
}

impl Ground {
    fn new(name: &str, limits: Limits) -> Ground {
        let host = detect().unwrap();
        let path = PathBuf::from(format!("posada-test-{}/{name}", std::process::id()));
        let request = Request {
            limits,
            owner: Some((12_345, 12_345)),
            restrict_devices: false,
        };
        assert_eq!(host.create(&path, &request).unwrap(), [], "not enforced");
        Ground { host, path }
    }

    /// Starts a shell inside, as jail does: it waits until it has been moved.
    fn run(&self, script: &str) -> Child {
        let child = Command::new("sh")
            .args(["-c", &format!("read go; {script}")])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let entry = self.host.entry(&self.path).unwrap();
        entry.join(child.id(), true).unwrap();
        use std::io::Write;
        child.stdin.as_ref().unwrap().write_all(b"go\n").unwrap();
        child
    }

    fn cpu(&self) -> Duration {
        Duration::from_nanos(self.host.stats(&self.path).unwrap().cpu_ns)
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let _ = self.host.kill(&self.path);
        let _ = self.host.remove(&self.path);
    }
}

/// Waits until the processes have used that much; a busy host may take a while.
fn until_used(ground: &Ground, time: Duration) {
    for _ in 0..1000 {
        if ground.cpu() > time {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{:?} used, {time:?} expected", ground.cpu());
}

fn left(ground: &dyn Cgroups, path: &Path) -> Vec<PathBuf> {
    let mut left = ground.directories(path);
    left.retain(|dir| dir.exists());
    left
}

#[test]
fn a_frozen_cgroup_uses_no_processor_and_a_killed_one_is_empty() {
    let ground = Ground::new("freeze", Limits::default());
    let mut child = ground.run("while :; do :; done & while :; do :; done");
    until_used(&ground, Duration::from_millis(20));
    ground.host.freeze(&ground.path).unwrap();
    let before = ground.cpu();
    std::thread::sleep(Duration::from_millis(300));
    assert!(ground.cpu() - before < Duration::from_millis(2));
    ground.host.thaw(&ground.path).unwrap();
    until_used(&ground, before + Duration::from_millis(20));
    ground.host.freeze(&ground.path).unwrap();
    assert_eq!(ground.host.procs(&ground.path).unwrap().len(), 2);
    ground.host.kill(&ground.path).unwrap();
    child.wait().unwrap();
    assert!(ground.host.procs(&ground.path).unwrap().is_empty());
    ground.host.remove(&ground.path).unwrap();
    assert_eq!(left(&*ground.host, &ground.path), Vec::<PathBuf>::new());
    ground.host.remove(&ground.path).unwrap();
}

#[test]
fn a_fork_bomb_stops_at_the_limit_of_processes() {
    let limits = Limits {
        pids: Some(20),
        ..Limits::default()
    };
    let ground = Ground::new("pids", limits);
    let mut child = ground.run("f() { f | f & }; f; sleep 5");
    let until = Instant::now() + Duration::from_millis(700);
    while Instant::now() < until {
        assert!(ground.host.stats(&ground.path).unwrap().pids <= 20);
        std::thread::sleep(Duration::from_millis(20));
    }
    ground.host.kill(&ground.path).unwrap();
    child.wait().unwrap();
}

#[test]
fn a_memory_hog_dies_alone_and_the_kill_is_told() {
    let limits = Limits {
        memory: Some(16 << 20),
        swap: Some(0),
        ..Limits::default()
    };
    let ground = Ground::new("memory", limits);
    let watch = ground.host.watch_oom(&ground.path).unwrap();
    let mut child = ground.run("exec tail /dev/zero");
    assert!(!child.wait().unwrap().success());
    let stats = ground.host.stats(&ground.path).unwrap();
    assert!(
        stats.oom_kills >= 1 && stats.memory_limit == Some(16 << 20),
        "{stats:?}"
    );
    let events = if watch.is_exceptional() {
        rustix::event::PollFlags::PRI
    } else {
        rustix::event::PollFlags::IN
    };
    let mut poll = [rustix::event::PollFd::new(&watch, events)];
    let timeout = rustix::event::Timespec {
        tv_sec: 2,
        tv_nsec: 0,
    };
    assert_eq!(rustix::event::poll(&mut poll, Some(&timeout)).unwrap(), 1);
}

#[test]
fn a_quota_holds_and_is_lifted_while_running() {
    let limits = Limits {
        cpus: Some(0.1),
        cpu_weight: Some(50),
        cpu_pin: Some("0".into()),
        ..Limits::default()
    };
    let ground = Ground::new("cpu", limits);
    let mut child = ground.run("while :; do :; done");
    std::thread::sleep(Duration::from_millis(300));
    let before = ground.cpu();
    std::thread::sleep(Duration::from_millis(1000));
    let used = ground.cpu() - before;
    assert!(used < Duration::from_millis(250), "{used:?}");
    assert_eq!(ground.host.limit(&ground.path, &Limits::default()).unwrap(), []);
    let before = ground.cpu();
    std::thread::sleep(Duration::from_millis(1000));
    let used = ground.cpu() - before;
    assert!(used > Duration::from_millis(250), "{used:?}");
    ground.host.kill(&ground.path).unwrap();
    child.wait().unwrap();
}

#[test]
fn a_limit_that_the_kernel_refuses_is_a_fault_and_leaves_nothing() {
    let host = detect().unwrap();
    let path = PathBuf::from(format!("posada-test-{}/refused", std::process::id()));
    let request = Request {
        limits: Limits {
            cpu_pin: Some("4000".into()),
            ..Limits::default()
        },
        ..Request::default()
    };
    let fault = host.create(&path, &request).unwrap_err();
    assert!(fault.is(jail::cgroup::LIMIT_REFUSED), "{fault}");
    assert_eq!(left(&*host, &path), Vec::<PathBuf>::new());
}

#[test]
fn on_cgroup2_a_program_keeps_all_but_harmless_devices_closed() {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let root = mounts
        .lines()
        .find(|line| line.contains(" - cgroup2 "))
        .and_then(|line| line.split(' ').nth(4))
        .expect("a host of today has cgroup2 mounted");
    let host = jail::cgroup::V2::at(PathBuf::from(root));
    let path = PathBuf::from(format!("posada-test-{}/devices", std::process::id()));
    let request = Request {
        limits: Limits::default(),
        owner: None,
        restrict_devices: true,
    };
    assert_eq!(host.create(&path, &request).unwrap(), [], "not enforced");
    let ground = Ground {
        host: Box::new(host),
        path,
    };
    let folder = tempfile::tempdir().unwrap();
    let status = |script: &str| {
        let script = format!("cd {} && {script}", folder.path().display());
        ground.run(&script).wait().unwrap().code()
    };
    assert_eq!(
        status("mknod null c 1 3 && mknod disk b 7 0 && mknod mem c 1 1"),
        Some(0)
    );
    assert_eq!(status("echo > null"), Some(0));
    assert_ne!(status("head -c 1 disk > null"), Some(0), "a disk");
    assert_ne!(status("head -c 1 mem > null"), Some(0), "memory");
    assert!(
        std::fs::File::open(folder.path().join("disk")).is_ok(),
        "outside it opens"
    );
}
