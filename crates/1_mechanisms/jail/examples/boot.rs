//! Boots the init of a root tree as a system container and tells when it is up: `boot TREE [SECONDS]`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jail::cgroup::{Request, detect};
use jail::recipe::{FileEntry, IdRange, Namespaces, Process, Recipe, Root, Seccomp};
use jail::{Stdio, Target, enter, guest, make_namespaces, start};
use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

const IDS: IdRange = IdRange {
    base: 1_879_048_192,
    count: 65_536,
};

fn recipe(tree: &Path, state: &Path, cgroup: &Path) -> Recipe {
    Recipe {
        ids: Some(IDS),
        namespaces: Namespaces::default(),
        root: Root::Overlay {
            layers: vec![tree.to_owned()],
            upper: state.join("upper"),
            work: state.join("work"),
        },
        mounts: guest::mounts(),
        masked: guest::masked(),
        read_only_paths: guest::read_only_paths(),
        files: vec![FileEntry {
            path: "/etc/machine-id".into(),
            content: "0123456789abcdef0123456789abcdef\n".into(),
            mode: 0o444,
            keep_existing: true,
        }],
        hostname: Some("boot".into()),
        nics: Vec::new(),
        sysctls: guest::sysctls(Some(IDS)),
        rlimits: guest::rlimits(),
        capabilities: guest::capabilities(false),
        seccomp: Seccomp::Guest,
        lsm: None,
        cgroup: Some(cgroup.to_owned()),
        oom_score_adj: None,
        process: Process {
            argv: vec!["/sbin/init".into()],
            env: BTreeMap::from([
                ("container".into(), "posada".into()),
                ("TERM".into(), "linux".into()),
            ]),
            cwd: Some("/".into()),
            terminal: true,
            ..Process::default()
        },
    }
}

fn terminal() -> (OwnedFd, OwnedFd) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let controller = openpt(flags).expect("a terminal");
    grantpt(&controller).expect("granted");
    unlockpt(&controller).expect("unlocked");
    let name = ptsname(&controller, Vec::new()).expect("a name");
    let ours = open(
        name.as_c_str(),
        OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC,
        Mode::empty(),
    );
    (controller, ours.expect("opened"))
}

fn streams(fd: &OwnedFd) -> Stdio {
    let copy = || fd.try_clone().expect("a copy");
    Stdio {
        stdin: copy(),
        stdout: copy(),
        stderr: copy(),
    }
}

fn ask(target: &Target<'_>, recipe: &Recipe, argv: &[&str]) -> String {
    let (output, input) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).expect("a pipe");
    let null: OwnedFd = File::open("/dev/null").expect("null").into();
    let stdio = Stdio {
        stdin: null,
        stdout: input.try_clone().expect("a copy"),
        stderr: input,
    };
    let process = Process {
        argv: argv.iter().map(|word| (*word).to_owned()).collect(),
        ..Process::default()
    };
    let started = match enter(target, &process, &recipe.policy(), stdio) {
        Ok(started) => started,
        Err(fault) => return fault.to_string(),
    };
    let mut text = String::new();
    let _ = File::from(output).read_to_string(&mut text);
    let pid = rustix::process::Pid::from_raw(started.pid.cast_signed());
    let _ = rustix::process::waitpid(pid, rustix::process::WaitOptions::empty());
    text
}

fn main() {
    let mut args = std::env::args().skip(1);
    let tree = PathBuf::from(args.next().expect("usage: boot TREE [SECONDS]"));
    let patience = Duration::from_secs(args.next().map_or(30, |text| text.parse().expect("seconds")));
    // Upper directories cannot lie on an overlay or tmpfs without extended attributes: beside the tree.
    let state = tree.with_extension(format!("boot-{}", std::process::id()));
    for name in ["upper", "work"] {
        std::fs::create_dir_all(state.join(name)).expect("made");
    }
    chown(state.join("upper"), Some(IDS.base), Some(IDS.base)).expect("owned");
    let cgroups = detect().expect("cgroups");
    let cgroup = PathBuf::from(format!("posada-boot/{}", std::process::id()));
    let request = Request {
        owner: Some((IDS.base, IDS.base)),
        ..Request::default()
    };
    cgroups.create(&cgroup, &request).expect("a cgroup");

    let recipe = recipe(&tree, &state, &cgroup);
    let (controller, ours) = terminal();
    let begun = Instant::now();
    let kept = make_namespaces(&recipe).expect("namespaces");
    let started = start(&recipe, &kept, streams(&ours)).expect("started");
    drop(ours);
    println!("process 1 is {} after {:?}", started.pid, begun.elapsed());
    let console = File::from(controller);
    rustix::fs::fcntl_setfl(&console, OFlags::NONBLOCK).expect("not blocking");
    let target = Target {
        pidfd: started.pidfd.as_fd(),
        ids: Some(IDS),
        cgroup: Some(cgroup.clone()),
    };
    let mut shown = Vec::new();
    let state_of = loop {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = (&console).read(&mut buffer) {
            shown.extend_from_slice(&buffer[..count]);
        }
        let state = ask(&target, &recipe, &["systemctl", "is-system-running"]);
        if ["running", "degraded"].contains(&state.trim()) || begun.elapsed() > patience {
            break state;
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    println!("{} after {:?}", state_of.trim(), begun.elapsed());
    println!("{}", String::from_utf8_lossy(&shown));
    for argv in [
        &["systemctl", "list-units", "--failed", "--no-pager", "--no-legend"][..],
        &[
            "sh",
            "-c",
            "cat /proc/self/uid_map /proc/self/cgroup; ps ax 2>/dev/null || ls -d /proc/[0-9]*",
        ],
        &["journalctl", "--no-pager", "-p", "warning", "-b"],
    ] {
        println!("$ {}\n{}", argv.join(" "), ask(&target, &recipe, argv));
    }
    cgroups.kill(&cgroup).expect("killed");
    let pid = rustix::process::Pid::from_raw(started.pid.cast_signed());
    let _ = rustix::process::waitpid(pid, rustix::process::WaitOptions::empty());
    cgroups.remove(&cgroup).expect("removed");
    std::fs::remove_dir_all(&state).expect("removed");
}
