//! What the tests of the jail stand on: a small tree copied from the host's own programs, and running things in it.
#![allow(dead_code)] // Each test program uses a part of it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use fault::Result;
use jail::recipe::{IdRange, Namespaces, Process, Recipe, Root, Seccomp};
use jail::{Kept, Started, Stdio, Target, enter, guest, make_namespaces, start};

/// The ids of all test jails.
pub const IDS: IdRange = IdRange {
    base: 1_946_157_056,
    count: 65_536,
};

const PROGRAMS: [&str; 17] = [
    "sh", "cat", "chmod", "env", "grep", "hostname", "id", "ls", "mkfifo", "mount", "perl", "pwd", "sleep",
    "stat", "stty", "tty", "umount",
];

/// A directory with an unshifted tree `layer` and the directories `upper` and `work` of a guest.
pub struct Ground {
    pub dir: tempfile::TempDir,
}

impl Ground {
    /// Lays it out.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("mode");
        let ground = Ground { dir };
        let layer = ground.layer();
        for name in [
            "usr/bin",
            "usr/sbin",
            "usr/lib",
            "usr/lib64",
            "etc",
            "root",
            "tmp",
            "proc",
            "sys",
            "dev",
            "run",
        ] {
            fs::create_dir_all(layer.join(name)).expect("made");
        }
        for name in ["bin", "sbin", "lib", "lib64"] {
            symlink(format!("usr/{name}"), layer.join(name)).expect("a link");
        }
        fs::write(
            layer.join("etc/passwd"),
            "root:x:0:0::/root:/bin/sh\nana:x:1000:1000::/tmp:/bin/sh\n",
        )
        .expect("written");
        fs::write(
            layer.join("etc/group"),
            "root:x:0:\nana:x:1000:\nteam:x:2000:ana\n",
        )
        .expect("written");
        for program in PROGRAMS {
            ground.copy_program(program);
        }
        for name in ["upper", "work"] {
            fs::create_dir(ground.dir.path().join(name)).expect("made");
        }
        chown(ground.dir.path().join("upper"), Some(IDS.base), Some(IDS.base)).expect("owned");
        ground
    }

    /// The unshifted tree.
    pub fn layer(&self) -> PathBuf {
        self.dir.path().join("layer")
    }

    fn copy_program(&self, name: &str) {
        let path = ["/usr/bin", "/usr/sbin", "/bin"].map(|dir| Path::new(dir).join(name));
        let path = path
            .iter()
            .find(|path| path.exists())
            .unwrap_or_else(|| panic!("no {name} on this host"));
        fs::copy(path, self.layer().join("usr/bin").join(name)).expect("copied");
        let ldd = Command::new("ldd").arg(path).output().expect("ldd runs");
        for word in String::from_utf8_lossy(&ldd.stdout)
            .split_whitespace()
            .filter(|word| word.starts_with('/'))
        {
            let target = self.layer().join(word.trim_start_matches('/'));
            if !target.exists() {
                fs::create_dir_all(target.parent().expect("a parent")).expect("made");
                fs::copy(word, &target).expect("copied");
            }
        }
    }

    /// The recipe of a guest over the tree that runs a shell script.
    pub fn recipe(&self, script: &str) -> Recipe {
        Recipe {
            ids: Some(IDS),
            namespaces: Namespaces::default(),
            root: Root::Overlay {
                layers: vec![self.layer()],
                upper: self.dir.path().join("upper"),
                work: self.dir.path().join("work"),
            },
            mounts: guest::mounts(),
            masked: guest::masked(),
            read_only_paths: guest::read_only_paths(),
            files: Vec::new(),
            hostname: Some("inside".into()),
            nics: Vec::new(),
            sysctls: guest::sysctls(Some(IDS)),
            rlimits: guest::rlimits(),
            capabilities: guest::capabilities(false),
            seccomp: Seccomp::Guest,
            lsm: None,
            cgroup: None,
            oom_score_adj: None,
            process: process(script),
        }
    }
}

/// A shell script as a process.
pub fn process(script: &str) -> Process {
    Process {
        argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
        env: BTreeMap::from([("PATH".to_owned(), "/usr/bin".to_owned())]),
        ..Process::default()
    }
}

/// Streams whose output comes out of the file.
pub fn streams() -> (Stdio, File) {
    let (output, input) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).expect("a pipe");
    let stdin = OwnedFd::from(File::open("/dev/null").expect("null"));
    (
        Stdio {
            stdin,
            stdout: input.try_clone().expect("a copy"),
            stderr: input,
        },
        File::from(output),
    )
}

/// Waits for the end; exit code, or 128 + signal.
pub fn wait(started: &Started) -> i32 {
    let pid = rustix::process::Pid::from_raw(started.pid.cast_signed());
    let (_, status) = rustix::process::waitpid(pid, rustix::process::WaitOptions::empty())
        .expect("a child")
        .expect("ended");
    status
        .exit_status()
        .unwrap_or_else(|| 128 + status.terminating_signal().unwrap_or(0))
}

/// Runs a recipe to its end: its output and exit code.
pub fn run(recipe: &Recipe) -> Result<(String, i32)> {
    let kept = make_namespaces(recipe)?;
    run_in(recipe, &kept)
}

/// As [`run`], in namespaces made before.
pub fn run_in(recipe: &Recipe, kept: &Kept) -> Result<(String, i32)> {
    let (stdio, output) = streams();
    let started = start(recipe, kept, stdio)?;
    Ok((read(output), wait(&started)))
}

fn read(mut output: File) -> String {
    let mut text = String::new();
    output.read_to_string(&mut text).expect("text");
    text
}

/// A guest that sleeps; killed when dropped.
pub struct Sleeper {
    pub recipe: Recipe,
    pub started: Started,
    pub kept: Kept,
}

impl Sleeper {
    pub fn start(recipe: Recipe) -> Self {
        let kept = make_namespaces(&recipe).expect("namespaces");
        let started = start(&recipe, &kept, streams().0).expect("started");
        Sleeper {
            recipe,
            started,
            kept,
        }
    }

    pub fn target(&self) -> Target<'_> {
        Target {
            pidfd: self.started.pidfd.as_fd(),
            ids: self.recipe.ids,
            cgroup: self.recipe.cgroup.clone(),
        }
    }

    pub fn enter(&self, process: &Process) -> Result<(String, i32)> {
        let (stdio, output) = streams();
        let started = enter(&self.target(), process, &self.recipe.policy(), stdio)?;
        Ok((read(output), wait(&started)))
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = rustix::process::pidfd_send_signal(&self.started.pidfd, rustix::process::Signal::KILL);
        wait(&self.started);
    }
}
