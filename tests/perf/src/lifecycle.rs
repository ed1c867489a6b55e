//! One `/bin/true` from nothing to nothing, without the daemon: our shim beside crun with an equal configuration, and
//! the bare floor of the kernel below both.
//!
//! Ours: the shim by exec, plan on disk, user namespace, cgroup with limits of memory and processes, seccomp,
//! capabilities, masked paths, log and console pipe; create, start, wait, delete. Theirs: `crun create`, `start`, wait
//! for the end, `delete` with the same namespaces, mounts, limits, capabilities, masked paths and a filter.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use engine::Plan;
use jail::recipe::{IdRange, Root};
use model::{Id, Init, Limits, Name, Policies, Size};
use rustix::process::{Pid, PidfdFlags};
use serde_json::json;

use crate::Options;
use crate::house::{peer_wanted, posada, run};
use crate::measure::{compare, timed_median};

/// Host ids of the benchmark's guests.
const BASE: u32 = 0x5800_0000;

/// See the module.
///
/// # Errors
/// When a program of either side fails.
pub fn bench(options: &Options) -> Result<(), String> {
    let rounds = options.rounds.unwrap_or(50);
    let ground = Ground::new()?;
    let floor = timed_median(rounds, || ground.floor())?;
    println!(
        "lifecycle floor={:.2}ms (clone into eight new namespaces, exec, wait)",
        floor.as_secs_f64() * 1e3
    );
    ground.weigh()?;
    if peer_wanted(options, "crun", "crun") {
        if hide_unified()? {
            println!("lifecycle note: crun refuses hybrid cgroups, so both run without the v2 hierarchy");
        }
        let mut number = 0;
        compare(
            "lifecycle",
            "crun",
            rounds,
            || ground.ours(),
            || {
                number += 1;
                ground.crun(number)
            },
        )?;
    }
    Ok(())
}

struct Ground {
    dir: tempfile::TempDir,
    shim_exe: PathBuf,
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

impl Ground {
    fn new() -> Result<Ground, String> {
        let dir = tempfile::tempdir().map_err(text)?;
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(dir.path(), open).map_err(text)?;
        let tree = dir.path().join("bundle/rootfs");
        for name in ["bin", "etc", "proc", "sys", "dev", "run", "tmp", "root"] {
            std::fs::create_dir_all(tree.join(name)).map_err(text)?;
        }
        install(&tree, Path::new("/bin/true"))?;
        install(&tree, Path::new("/bin/sleep"))?;
        for name in ["upper", "work"] {
            let path = dir.path().join(name);
            std::fs::create_dir(&path).map_err(text)?;
            std::os::unix::fs::chown(&path, Some(BASE), Some(BASE)).map_err(text)?;
        }
        std::fs::create_dir(dir.path().join("state")).map_err(text)?;
        std::fs::write(dir.path().join("bundle/config.json"), config().to_string()).map_err(text)?;
        let shim_exe = posada().with_file_name("posada-shim");
        if !shim_exe.is_file() {
            return Err(format!("{} is missing", shim_exe.display()));
        }
        Ok(Ground { dir, shim_exe })
    }

    fn plan(&self, argv: &[&str]) -> Result<Plan, String> {
        let place = self.dir.path();
        let name: Name = serde_json::from_value("perf".into()).map_err(text)?;
        Ok(Plan {
            version: engine::PLAN_VERSION,
            id: Id("0123456789abcdef0123456789abcdef".into()),
            name,
            run_dir: place.join("run"),
            state_dir: place.join("state"),
            ids: Some(IdRange {
                base: BASE,
                count: 0x1_0000,
            }),
            root: Root::Overlay {
                layers: vec![place.join("bundle/rootfs")],
                upper: place.join("upper"),
                work: place.join("work"),
            },
            mounts: Vec::new(),
            files: Vec::new(),
            init: Init::Command {
                argv: argv.iter().map(|word| (*word).to_owned()).collect(),
            },
            env: BTreeMap::new(),
            input: model::Input::Nothing,
            workdir: None,
            user: None,
            hostname: "perf".into(),
            nics: Vec::new(),
            limits: Limits {
                memory: Some(Size(256 << 20)),
                pids: Some(100),
                ..Limits::default()
            },
            cgroup: PathBuf::from(format!("posada-perf-{}/ours", std::process::id())),
            policies: Policies::default(),
            stop_signal: None,
            console_log_limit: 1 << 20,
            privileged: false,
            nesting: false,
            machine: None,
        })
    }

    fn ours(&self) -> Result<(), String> {
        let mut shim = engine::spawn(&self.shim_exe, &self.plan(&["/bin/true"])?).map_err(text)?;
        shim.create().map_err(text)?;
        shim.start().map_err(text)?;
        let status = shim.wait().map_err(text)?;
        shim.delete().map_err(text)?;
        match status.exit {
            Some(model::ExitStatus::Code(0)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    }

    /// What a shim weighs while its guest sleeps.
    fn weigh(&self) -> Result<(), String> {
        let mut shim = engine::spawn(&self.shim_exe, &self.plan(&["/bin/sleep", "100"])?).map_err(text)?;
        shim.create().map_err(text)?;
        shim.start().map_err(text)?;
        let weight = crate::house::pss_kib(shim.hello().pid).unwrap_or(0);
        shim.stop(engine::Stop::Forced).map_err(text)?;
        shim.delete().map_err(text)?;
        let size = std::fs::metadata(&self.shim_exe).map_err(text)?.len();
        println!(
            "lifecycle shim_pss={:.2}MB shim_file={:.2}MB",
            weight as f64 / 1024.0,
            size as f64 / 1e6
        );
        Ok(())
    }

    fn crun(&self, number: usize) -> Result<(), String> {
        let id = format!("posada-perf-{}-{number}", std::process::id());
        let bundle = self.dir.path().join("bundle").display().to_string();
        let pid_file = self.dir.path().join("crun.pid");
        let pid_path = pid_file.display().to_string();
        // What runs inside keeps the standard streams, so nobody may wait for their end.
        let log = std::fs::File::create(self.dir.path().join("crun.log")).map_err(text)?;
        let created = Command::new("crun")
            .args(["create", "--bundle", &bundle, "--pid-file", &pid_path, &id])
            .stdin(std::process::Stdio::null())
            .stdout(log.try_clone().map_err(text)?)
            .stderr(log)
            .status()
            .map_err(text)?;
        if !created.success() {
            let said = std::fs::read_to_string(self.dir.path().join("crun.log")).unwrap_or_default();
            return Err(format!("crun create: {created}: {said}"));
        }
        let pid = std::fs::read_to_string(&pid_file).map_err(text)?;
        let pid = pid
            .trim()
            .parse()
            .ok()
            .and_then(Pid::from_raw)
            .ok_or("no process id")?;
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).map_err(text)?;
        run("crun", &["start", &id])?;
        let mut poll = [rustix::event::PollFd::new(&pidfd, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut poll, None).map_err(text)?;
        run("crun", &["delete", &id]).map(drop)
    }

    /// The least that the kernel takes for a process in namespaces of its own.
    fn floor(&self) -> Result<(), String> {
        const ALL: u64 =
            0x1000_0000 | 0x2000_0000 | 0x0002_0000 | 0x0400_0000 | 0x0800_0000 | 0x4000_0000 | 0x0200_0000;
        let child = || {
            let (program, argv) = (c"/bin/true", [c"true".to_owned()]);
            drop(hostos::exec::exec(program, &argv, &[]));
            1
        };
        let pid = hostos::process::clone_into(ALL, None, child).map_err(text)?;
        let options = rustix::process::WaitOptions::empty();
        rustix::process::waitpid(Pid::from_raw(pid), options).map_err(text)?;
        Ok(())
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if let Ok(mut shim) = engine::shim::Shim::connect(&self.dir.path().join("run")) {
            let _ = shim.stop(engine::Stop::Forced);
            let _ = shim.delete();
        }
    }
}

/// Takes the v2 hierarchy away from this process and its children where v1 ones are mounted beside it and it holds
/// controllers: crun does not run there.
fn hide_unified() -> Result<bool, String> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").map_err(text)?;
    let mounted = jail::cgroup::Mounted::parse(&table);
    let Some(unified) = mounted.unified.filter(|_| !mounted.v1.is_empty()) else {
        return Ok(false);
    };
    let controllers = std::fs::read_to_string(unified.join("cgroup.controllers")).unwrap_or_default();
    if controllers.trim().is_empty() {
        return Ok(false);
    }
    use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};
    hostos::process::unshare(rustix::thread::UnshareFlags::NEWNS).map_err(text)?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).map_err(text)?;
    unmount(&unified, UnmountFlags::DETACH).map_err(text)?;
    Ok(true)
}

/// Puts a program and its libraries into a tree.
fn install(tree: &Path, program: &Path) -> Result<(), String> {
    let listed = Command::new("ldd").arg(program).output().map_err(text)?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let libraries = listed
        .split_whitespace()
        .filter(|word| word.starts_with('/'))
        .map(Path::new);
    for path in libraries.chain([program]) {
        let target = tree.join(path.strip_prefix("/").unwrap_or(path));
        std::fs::create_dir_all(target.parent().unwrap_or(tree)).map_err(text)?;
        std::fs::copy(path, target).map_err(text)?;
    }
    Ok(())
}

/// crun's configuration, equal to what the recipe of our guest holds.
fn config() -> serde_json::Value {
    let capabilities = jail::guest::CAPABILITIES;
    let mount = |target: &str, kind: &str, options: &[&str]| json!({"destination": target, "type": kind, "source": kind, "options": options});
    // As our jail does where the host itself may not raise limits.
    let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    let most = most.unwrap_or(1_048_576).min(1_048_576);
    let map = json!([{"containerID": 0, "hostID": BASE, "size": 65536}]);
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false, "user": {"uid": 0, "gid": 0}, "args": ["/bin/true"],
            "env": ["PATH=/usr/bin:/bin", "container=posada"], "cwd": "/",
            "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
            "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1024.min(most), "hard": most}],
            "oomScoreAdj": 0
        },
        "root": {"path": "rootfs", "readonly": false},
        "hostname": "perf",
        "mounts": [
            mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
            mount("/dev", "tmpfs", &["nosuid", "mode=755", "size=4m"]),
            mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
            mount("/dev/shm", "tmpfs", &["nosuid", "nodev", "mode=1777"]),
            mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
            mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        ],
        "linux": {
            "uidMappings": map, "gidMappings": map,
            "cgroupsPath": format!("/posada-perf-{}/theirs", std::process::id()),
            "resources": {"memory": {"limit": 256 << 20}, "pids": {"limit": 100}},
            "namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "uts"}, {"type": "ipc"}, {"type": "network"},
                {"type": "cgroup"}, {"type": "user"}],
            "maskedPaths": jail::guest::MASKED, "readonlyPaths": jail::guest::READ_ONLY,
            "seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
                "syscalls": [{"names": ["kexec_load", "kexec_file_load", "init_module", "finit_module", "delete_module",
                    "iopl", "ioperm", "swapon", "swapoff", "bpf", "perf_event_open", "open_by_handle_at", "settimeofday",
                    "clock_settime", "clock_adjtime", "adjtimex", "acct", "add_key", "keyctl", "request_key", "userfaultfd"],
                    "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]}
        }
    })
}
