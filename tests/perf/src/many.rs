//! A hundred guests in a row and fifty at once, beside lxc; what shim and daemon weigh; a new daemon's first answer.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::Options;
use crate::house::{debian_tree, peer_wanted, posada, posada_does, pss_kib, run, until};
use crate::measure::report;

/// Time of a hundred in a row, and of fifty at once. lxc does the same job with `lxc-copy --ephemeral`: a copy over the
/// image with a card on a bridge, which is started, runs one command and is destroyed. `lxc-execute` only runs the
/// command, in the image itself, without copy, card or removal: how near the whole comes to that is told too.
///
/// # Errors
/// When a program of either side fails.
pub fn bench(options: &Options) -> Result<(), String> {
    let tree = debian_tree()?;
    let ours = |n: usize| {
        let mut command = Command::new(posada());
        command.args([
            "launch",
            "--quiet",
            "--rm",
            "debian/12",
            &format!("perf-many{n}"),
            "--",
            "/bin/true",
        ]);
        command
    };
    if peer_wanted(options, "lxc", "lxc-copy") {
        let lxc = Lxc::new(&tree)?;
        let theirs = |n: usize| lxc.copy(n);
        report("row100", "lxc", in_a_row(100, ours)?, in_a_row(100, theirs)?);
        report("once50", "lxc", at_once(50, ours)?, at_once(50, theirs)?);
    }
    if peer_wanted(options, "lxc-execute", "lxc-execute") {
        let lxc = Lxc::new(&tree)?;
        let theirs = |n: usize| lxc.execute(n);
        report(
            "row100",
            "lxc-execute",
            in_a_row(100, ours)?,
            in_a_row(100, theirs)?,
        );
        report("once50", "lxc-execute", at_once(50, ours)?, at_once(50, theirs)?);
    }
    Ok(())
}

/// lxc's directory of containers, with one whose root is the image, and a bridge.
struct Lxc {
    path: PathBuf,
    config: PathBuf,
}

const BRIDGE: &str = "perf-lxc";

impl Lxc {
    fn new(tree: &Path) -> Result<Self, String> {
        let path = std::env::temp_dir().join("posada-perf-lxc");
        let base = path.join("base");
        let rootfs = base.join("rootfs");
        std::fs::create_dir_all(&rootfs).map_err(|error| error.to_string())?;
        let made = Lxc {
            config: path.join("execute.conf"),
            path,
        };
        run(
            "mount",
            &["--bind", &tree.to_string_lossy(), &rootfs.to_string_lossy()],
        )?;
        run("ip", &["link", "add", BRIDGE, "type", "bridge"])?;
        run("ip", &["link", "set", BRIDGE, "up"])?;
        let config = format!(
            "lxc.rootfs.path = dir:{}\nlxc.uts.name = base\nlxc.net.0.type = veth\nlxc.net.0.link = {BRIDGE}\n\
             lxc.net.0.flags = up\nlxc.mount.auto = proc sys cgroup\nlxc.init.cmd = /bin/true\n",
            rootfs.display()
        );
        let write = |path: &Path, text: &str| std::fs::write(path, text).map_err(|error| error.to_string());
        write(&base.join("config"), &config)?;
        let execute = format!(
            "lxc.rootfs.path = dir:{}\nlxc.net.0.type = empty\n",
            tree.display()
        );
        write(&made.config, &execute)?;
        Ok(made)
    }

    fn copy(&self, n: usize) -> Command {
        let mut command = Command::new("lxc-copy");
        command.arg("-P").arg(&self.path);
        command.args(["-n", "base", "-N", &format!("perf-many{n}"), "-e", "-F"]);
        command
    }

    fn execute(&self, n: usize) -> Command {
        let mut command = Command::new("lxc-execute");
        command
            .args(["-n", &format!("perf-many{n}"), "-f"])
            .arg(&self.config);
        command.args(["--", "/bin/true"]);
        command
    }
}

impl Drop for Lxc {
    fn drop(&mut self) {
        let _ = run("ip", &["link", "delete", BRIDGE]);
        let rootfs = self.path.join("base/rootfs");
        // While the image is mounted there, nothing below may be deleted.
        if run("umount", &[&rootfs.to_string_lossy()]).is_ok() {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

fn in_a_row(count: usize, command: impl Fn(usize) -> Command) -> Result<Duration, String> {
    let start = Instant::now();
    for n in 0..count {
        let out = command(n).output().map_err(|error| error.to_string())?;
        if !out.status.success() {
            return Err(String::from_utf8_lossy(&out.stderr).into_owned());
        }
    }
    Ok(start.elapsed())
}

fn at_once(count: usize, command: impl Fn(usize) -> Command) -> Result<Duration, String> {
    let start = Instant::now();
    let children: Vec<_> = (0..count)
        .map(|n| command(n).stdout(std::process::Stdio::null()).spawn())
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())?;
    for mut child in children {
        if !child.wait().map_err(|error| error.to_string())?.success() {
            return Err("one of those at once failed".to_owned());
        }
    }
    Ok(start.elapsed())
}

/// Weight of shims and daemon with a hundred guests, and how soon a new daemon answers.
///
/// # Errors
/// When a guest does not start or the daemon does not come back.
pub fn weight(options: &Options) -> Result<(), String> {
    let count = options.rounds.unwrap_or(100);
    let name = |n: usize| format!("perf-w{n}");
    for n in 0..count {
        posada_does(&[
            "launch",
            "--quiet",
            "--detach",
            "debian/12",
            &name(n),
            "--",
            "sleep",
            "3600",
        ])?;
    }
    until("all guests", Duration::from_secs(120), || {
        let running = posada_does(&["ls", "--quiet", "--running"]).unwrap_or_default();
        running.lines().count() >= count
    })?;
    let listing = posada_does(&["ls", "--format", "json"])?;
    let guests: serde_json::Value = serde_json::from_str(&listing).map_err(|error| error.to_string())?;
    let shims: Vec<u64> = guests
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|guest| pss_kib(u32::try_from(guest["status"]["shim_pid"].as_u64()?).ok()?))
        .collect();
    let daemon = daemon_pid()?;
    println!(
        "weight guests={count} shim_pss={:.2}MB daemon_pss={:.2}MB",
        shims.iter().sum::<u64>() as f64 / 1024.0 / shims.len().max(1) as f64,
        pss_kib(daemon).unwrap_or(0) as f64 / 1024.0
    );
    run("kill", &["-KILL", &daemon.to_string()])?;
    let start = Instant::now();
    until("the new daemon", Duration::from_secs(60), || {
        posada_does(&["ls", "--quiet"]).is_ok()
    })?;
    println!(
        "adopt guests={count} ready={:.0}ms",
        start.elapsed().as_secs_f64() * 1e3
    );
    for n in 0..count {
        posada_does(&["rm", "--force", "--purge", "--yes", &name(n)])?;
    }
    Ok(())
}

fn daemon_pid() -> Result<u32, String> {
    let version = posada_does(&["version", "--format", "json"])?;
    let version: serde_json::Value = serde_json::from_str(&version).map_err(|error| error.to_string())?;
    version["daemon"]["pid"]
        .as_u64()
        .or_else(|| version["pid"].as_u64())
        .and_then(|pid| u32::try_from(pid).ok())
        .ok_or_else(|| "version does not tell the daemon's process id".to_owned())
}

/// `ls` of a thousand stored guests beside `podman ps` of none.
///
/// # Errors
/// When a program of either side fails.
pub fn listing(options: &Options) -> Result<(), String> {
    let count = 1000;
    debian_tree()?;
    for n in 0..count {
        posada_does(&[
            "launch",
            "--quiet",
            "--no-start",
            "--no-network",
            "debian/12",
            &format!("perf-l{n}"),
        ])?;
    }
    if peer_wanted(options, "podman", "podman") {
        crate::measure::compare(
            "ls1000",
            "podman",
            options.rounds.unwrap_or(15),
            || posada_does(&["ls", "--all"]).map(drop),
            || run("podman", &["ps"]).map(drop),
        )?;
    }
    posada_does(&["rm", "--purge", "--yes", "perf-l*"]).map(drop)
}
