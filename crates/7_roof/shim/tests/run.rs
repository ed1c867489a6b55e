//! `posada-shim run`: one recipe in a tree, as `posada jail` and the helpers use it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use jail::codes;
use jail::launch::{Launch, command};
use jail::recipe::{Capabilities, IdRange, Mount, MountKind, Namespaces, Process, Recipe, Root, Seccomp};
use jail::tree::{Wish, recipe_for_tree};

/// The executable that `cargo xtask build` has placed.
fn shim() -> PathBuf {
    let folder = std::env::var_os("POSADA_BIN").map_or_else(
        || {
            let own = std::env::current_exe().expect("a test program has a path");
            own.ancestors()
                .nth(2)
                .expect("test programs lie in target/PROFILE/deps")
                .to_owned()
        },
        PathBuf::from,
    );
    let shim = folder.join("posada-shim");
    assert!(
        shim.is_file(),
        "{} is not there: `cargo xtask build`",
        shim.display()
    );
    shim
}

/// A tree with the host's own programs, bound read-only.
struct Tree {
    dir: tempfile::TempDir,
}

impl Tree {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        for name in ["usr", "etc", "root", "proc", "sys", "dev", "run", "tmp"] {
            fs::create_dir(dir.path().join(name)).expect("made");
        }
        for name in ["bin", "sbin", "lib", "lib64"] {
            std::os::unix::fs::symlink(format!("usr/{name}"), dir.path().join(name)).expect("a link");
        }
        fs::write(
            dir.path().join("etc/passwd"),
            "root:x:0:0::/root:/bin/sh\nana:x:1000:1000::/:/bin/sh\n",
        )
        .expect("written");
        Tree { dir }
    }

    fn wish(&self, argv: &[&str]) -> Wish {
        Wish {
            dir: self.dir.path().into(),
            argv: argv.iter().map(|word| (*word).to_owned()).collect(),
            mounts: vec!["/usr:/usr:ro".into()],
            ..Wish::default()
        }
    }

    fn recipe(&self, argv: &[&str]) -> Recipe {
        recipe_for_tree(&self.wish(argv)).expect("a recipe")
    }
}

fn output(recipe: &Recipe) -> (String, Option<i32>) {
    let output = command(&shim(), recipe)
        .expect("a command")
        .output()
        .expect("runs");
    let text = [output.stdout, output.stderr].concat();
    (String::from_utf8_lossy(&text).into_owned(), output.status.code())
}

#[test]
fn a_jail_has_its_own_processes_and_mounts_and_leaves_nothing_behind() {
    let tree = Tree::new();
    let mounts = || fs::read_to_string("/proc/self/mountinfo").expect("read");
    let before = mounts();
    let script = "echo $$; ls /proc | grep -c '^[0-9]'; cat /etc/resolv.conf; touch /usr/x 2>/dev/null || echo ro; echo $LANG";
    let mut wish = tree.wish(&["sh", "-c", script]);
    wish.resolv_conf = Some("nameserver 192.0.2.1\n".into());
    wish.host_env = BTreeMap::from([("LANG".to_owned(), "C.UTF-8".to_owned())]);
    let (text, code) = output(&recipe_for_tree(&wish).expect("a recipe"));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "1", "{text}");
    assert!(lines[1].parse::<u32>().expect("a number") <= 4, "{text}");
    assert_eq!(
        (&lines[2..], code),
        (&["nameserver 192.0.2.1", "ro", "C.UTF-8"][..], Some(0)),
        "{text}"
    );
    assert_eq!(mounts(), before);
}

#[test]
fn namespaces_can_be_shared_with_the_host() {
    let tree = Tree::new();
    let script = "stat -Lc %i /proc/self/ns/pid /proc/self/ns/net /proc/self/ns/uts";
    let mut wish = tree.wish(&["sh", "-c", script]);
    wish.share = vec!["pid".into(), "net".into()];
    let (text, _) = output(&recipe_for_tree(&wish).expect("a recipe"));
    let ours = ["pid", "net", "uts"].map(|name| {
        fs::metadata(format!("/proc/self/ns/{name}"))
            .expect("stat")
            .ino()
            .to_string()
    });
    let theirs: Vec<&str> = text.lines().collect();
    assert_eq!(theirs[..2], ours[..2], "{text}");
    assert_ne!(theirs[2], ours[2]);
}

#[test]
fn exit_codes_and_faults_reach_the_caller() {
    let tree = Tree::new();
    assert_eq!(output(&tree.recipe(&["sh", "-c", "exit 7"])).1, Some(7));
    assert_eq!(
        output(&tree.recipe(&["sh", "-c", "kill -KILL $$; sleep 9 & kill -KILL $!; exit 3"])).1,
        Some(3)
    );
    let (text, code) = output(&tree.recipe(&["no-such-program"]));
    assert!(text.contains("JAL015") && code == Some(125), "{text}");
    let mut launch = Launch::new(&shim(), &tree.recipe(&["no-such-program"])).expect("a launch");
    assert!(launch.status().expect_err("a fault").is(codes::EXEC_FAILED));
    let mut launch = Launch::new(&shim(), &tree.recipe(&["true"])).expect("a launch");
    assert!(launch.status().expect("runs").success());
    assert!(command(Path::new("/no/such/shim"), &tree.recipe(&["true"])).is_err());
}

#[test]
fn a_user_of_the_tree_runs_without_capabilities() {
    let tree = Tree::new();
    let mut wish = tree.wish(&["sh", "-c", "id -u; grep CapEff /proc/self/status"]);
    wish.user = Some("ana".into());
    let (text, _) = output(&recipe_for_tree(&wish).expect("a recipe"));
    assert_eq!(text, "1000\nCapEff:\t0000000000000000\n");
}

fn started(recipe: &Recipe) -> std::process::Child {
    let mut command = command(&shim(), recipe).expect("a command");
    let mut child = command.stdout(Stdio::piped()).spawn().expect("starts");
    let mut word = [0; 3];
    std::io::Read::read_exact(child.stdout.as_mut().expect("piped"), &mut word).expect("told");
    assert_eq!(&word, b"up\n");
    child
}

fn kill(signal: &str, pid: u32) {
    let done = Command::new("kill")
        .args([&format!("-{signal}"), &pid.to_string()])
        .status();
    assert!(done.expect("kill runs").success());
}

#[test]
fn a_signal_ends_a_program_that_would_be_deaf_to_it_as_process_1() {
    let tree = Tree::new();
    let mut child = started(&tree.recipe(&["sh", "-c", "echo up; exec sleep 100"]));
    kill("TERM", child.id());
    assert_eq!(child.wait().expect("ended").code(), Some(128 + 15));
    let mut child = started(&tree.recipe(&[
        "sh",
        "-c",
        "trap 'exit 5' TERM; echo up; while :; do sleep 0.1; done",
    ]));
    kill("TERM", child.id());
    assert_eq!(child.wait().expect("ended").code(), Some(5));
}

fn children(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect()
}

#[test]
fn the_program_dies_with_whoever_runs_it_and_the_executable_cannot_be_written() {
    let tree = Tree::new();
    let mut child = started(&tree.recipe(&["sh", "-c", "echo up; exec sleep 100"]));
    let exe = fs::File::open(format!("/proc/{}/exe", child.id())).expect("open");
    let flags = rustix::fs::fstatvfs(&exe).expect("asked").f_flag;
    assert!(flags.contains(rustix::fs::StatVfsMountFlags::RDONLY));
    // The process that put the jail together may still be about to end.
    while children(child.id()).len() != 1 {
        std::thread::sleep(Duration::from_millis(5));
    }
    let inside = children(child.id());
    child.kill().expect("killed");
    child.wait().expect("ended");
    let gone = PathBuf::from(format!("/proc/{}", inside[0]));
    let begun = Instant::now();
    while gone.exists() && begun.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(!gone.exists());
}

#[test]
fn a_worker_reads_and_writes_its_descriptors_and_can_do_nothing_else() {
    let tree = Tree::new();
    let worker = |script: &str| Recipe {
        ids: Some(IdRange {
            base: 1_946_222_592,
            count: 65_536,
        }),
        namespaces: Namespaces::default(),
        root: Root::Tree {
            path: tree.dir.path().into(),
            idmap: true,
            read_only: true,
        },
        mounts: vec![
            Mount {
                target: "/usr".into(),
                what: MountKind::Bind {
                    source: "/usr".into(),
                    idmap: false,
                    recursive: false,
                },
                read_only: true,
            },
            Mount {
                target: "/dev".into(),
                what: MountKind::Dev,
                read_only: false,
            },
        ],
        masked: Vec::new(),
        read_only_paths: Vec::new(),
        files: Vec::new(),
        hostname: None,
        nics: Vec::new(),
        sysctls: BTreeMap::new(),
        rlimits: BTreeMap::new(),
        capabilities: Capabilities::Only { names: Vec::new() },
        seccomp: Seccomp::Worker,
        lsm: None,
        cgroup: None,
        oom_score_adj: None,
        process: Process {
            argv: vec!["perl".into(), "-e".into(), script.into()],
            ..Process::default()
        },
    };
    let (text, code) = output(&worker("print 6 * 7"));
    assert_eq!((text.as_str(), code), ("42", Some(0)));
    // socket, ptrace, mount, kill, unshare, chroot.
    let script = "for (41, 101, 165, 62, 272, 161) { $! = 0; syscall($_, 2, 1, 0, 0, 0); print $!+0, ' ' }";
    if cfg!(target_arch = "x86_64") {
        assert_eq!(output(&worker(script)).0, "1 1 1 1 1 1 ");
    }
    assert_eq!(
        output(&worker("print open(my $f, '>', '/x') ? 'written' : 'no'")).0,
        "no"
    );
}
