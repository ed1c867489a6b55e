//! The ground on which the contract suite runs guests: a tree made of this machine's shell and a tool of our own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use engine::shim::Shim;
use engine::{Plan, Stop};
use jail::recipe::{IdRange, Root};
use model::{Id, Init, Limits, Name, Phase, Policies};

/// First of the host ids that the suite's guests use, far from everybody else's.
const IDS: u32 = 0x6000_0000;

/// One guest of the suite with everything around it; ended and removed whatever happens.
pub struct Ground {
    dir: tempfile::TempDir,
    shim_exe: PathBuf,
    /// Its plan, to be changed before [`Ground::shim`].
    pub plan: Plan,
}

static NEXT: AtomicU32 = AtomicU32::new(0);

impl Ground {
    /// A guest that runs the tool with these words.
    #[must_use]
    pub fn new(shim_exe: &Path, tool: &Path, words: &[&str]) -> Ground {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let tree = dir.path().join("tree");
        furnish(&tree, tool);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let id = format!("{:08x}{number:024x}", std::process::id());
        let mut argv = vec!["/bin/tool".to_owned()];
        argv.extend(words.iter().map(|word| (*word).to_owned()));
        for name in ["upper", "work", "state"] {
            std::fs::create_dir(dir.path().join(name)).expect("a directory");
        }
        let base = IDS + (std::process::id() % 512) * 0x10_0000 + number * 0x1_0000;
        for name in ["upper", "work"] {
            std::os::unix::fs::chown(dir.path().join(name), Some(base), Some(base)).expect("root");
        }
        // Processes inside have to pass through the temporary directory.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(dir.path(), open).expect("a directory");
        let plan = Plan {
            version: engine::PLAN_VERSION,
            id: Id(id.clone()),
            name: name("guest"),
            run_dir: dir.path().join("run"),
            state_dir: dir.path().join("state"),
            ids: Some(IdRange {
                base,
                count: 0x1_0000,
            }),
            root: Root::Overlay {
                layers: vec![tree],
                upper: dir.path().join("upper"),
                work: dir.path().join("work"),
            },
            mounts: Vec::new(),
            files: Vec::new(),
            init: Init::Command { argv },
            env: std::collections::BTreeMap::new(),
            input: model::Input::Nothing,
            workdir: None,
            user: None,
            hostname: "guest".into(),
            nics: Vec::new(),
            limits: Limits::default(),
            cgroup: PathBuf::from(format!("posada-contract-{}/{id}", std::process::id())),
            policies: Policies::default(),
            stop_signal: None,
            console_log_limit: 1 << 20,
            privileged: false,
            nesting: false,
            machine: None,
        };
        Ground {
            dir,
            shim_exe: shim_exe.to_owned(),
            plan,
        }
    }

    /// Starts the shim, or connects to it once more.
    #[must_use]
    pub fn shim(&self) -> Shim {
        engine::spawn(&self.shim_exe, &self.plan).unwrap_or_else(|fault| {
            panic!("{fault}\n{}", self.words());
        })
    }

    /// A shim whose guest runs.
    #[must_use]
    pub fn running(&self) -> Shim {
        let mut shim = self.shim();
        shim.create().expect("create");
        shim.start()
            .unwrap_or_else(|fault| panic!("{fault}\n{}", self.words()));
        shim
    }

    /// What the guest has written to its console so far.
    #[must_use]
    pub fn log(&self) -> String {
        let bytes = std::fs::read(self.dir.path().join("state/console.log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// What the shim has written to its own log.
    #[must_use]
    pub fn words(&self) -> String {
        std::fs::read_to_string(self.plan.run_dir.join("shim.log")).unwrap_or_default()
    }

    /// The socket for sessions.
    #[must_use]
    pub fn attach_socket(&self) -> PathBuf {
        self.plan.run_dir.join("attach.sock")
    }

    /// Everything on this machine that belongs to the guest: cgroups, mounts, processes, run files.
    #[must_use]
    pub fn remains(&self) -> Vec<String> {
        let mut found = Vec::new();
        let cgroups = jail::cgroup::detect().expect("cgroups");
        found.extend(
            cgroups
                .directories(&self.plan.cgroup)
                .iter()
                .filter(|dir| dir.exists())
                .map(|dir| dir.display().to_string()),
        );
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let place = self.dir.path().display().to_string();
        found.extend(
            mounts
                .lines()
                .filter(|line| line.contains(&place))
                .map(str::to_owned),
        );
        if self.plan.run_dir.exists() {
            found.push(self.plan.run_dir.display().to_string());
        }
        found.extend(self.processes());
        found
    }

    /// Processes whose ids are the guest's.
    fn processes(&self) -> Vec<String> {
        let Some(ids) = self.plan.ids else {
            return Vec::new();
        };
        let inside = |pid: &str| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let uid: u32 = status
                .lines()
                .find_map(|line| line.strip_prefix("Uid:"))?
                .split_whitespace()
                .next()?
                .parse()
                .ok()?;
            (ids.base..ids.base + ids.count)
                .contains(&uid)
                .then(|| status.lines().take(3).collect())
        };
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        entries
            .filter_map(|entry| inside(entry.file_name().to_str()?))
            .collect()
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if let Ok(mut shim) = Shim::connect(&self.plan.run_dir) {
            let _ = shim.stop(Stop::Forced);
            let _ = shim.delete();
        }
        if let Err(fault) = shim_server::cleanup(&self.plan.run_dir) {
            eprintln!("{fault}");
        }
    }
}

/// A valid name.
#[must_use]
pub fn name(text: &str) -> Name {
    serde_json::from_value(text.into()).expect("a name")
}

/// Looks again and again until it is so.
///
/// # Panics
/// When it is not so after ten seconds.
pub fn until(what: &str, mut look: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !look() {
        assert!(Instant::now() < end, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits for a phase.
///
/// # Panics
/// When it does not come.
pub fn until_phase(shim: &mut Shim, phase: Phase) {
    until(&format!("{phase:?}"), || {
        shim.status().expect("status").phase == phase
    });
}

/// Puts a shell, the tool and the libraries of both into a directory.
fn furnish(tree: &Path, tool: &Path) {
    for dir in ["bin", "etc", "proc", "sys", "dev", "run", "tmp", "root", "lib64"] {
        std::fs::create_dir_all(tree.join(dir)).expect("a directory");
    }
    install(tree, tool, Path::new("/bin/tool"));
    install(tree, Path::new("/bin/sh"), Path::new("/bin/sh"));
    std::fs::write(
        tree.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\nana:x:1000:1000::/tmp:/bin/sh\n",
    )
    .expect("a file");
    std::fs::write(tree.join("etc/group"), "root:x:0:\nana:x:1000:\nsudo:x:27:ana\n").expect("a file");
}

fn install(tree: &Path, program: &Path, target: &Path) {
    copy(tree, program, target);
    let listed = Command::new("ldd").arg(program).output().expect("ldd");
    for word in String::from_utf8_lossy(&listed.stdout).split_whitespace() {
        if word.starts_with('/') {
            copy(tree, Path::new(word), Path::new(word));
        }
    }
}

fn copy(tree: &Path, from: &Path, to: &Path) {
    let to = tree.join(to.strip_prefix("/").unwrap_or(to));
    std::fs::create_dir_all(to.parent().expect("a file")).expect("a directory");
    std::fs::copy(from, to).expect("a copy");
}
