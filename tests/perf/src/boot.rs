//! From `launch` of a kept image to a systemd that says `running`, beside systemd-nspawn with the same tree.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::Options;
use crate::house::{debian_tree, peer_wanted, posada_does, run, until};
use crate::measure::compare;

const LONGEST: Duration = Duration::from_secs(60);

/// See the module.
///
/// # Errors
/// When a program of either side fails or a guest does not come up.
pub fn bench(options: &Options) -> Result<(), String> {
    let rounds = options.rounds.unwrap_or(5);
    let tree = debian_tree()?;
    if !peer_wanted(options, "systemd-nspawn", "systemd-nspawn") {
        return Ok(());
    }
    let work = std::env::temp_dir().join("posada-perf-boot");
    let copy = work.join("tree");
    std::fs::create_dir_all(&work).map_err(|error| error.to_string())?;
    let mut booted: Option<Child> = None;
    let mut number = 0;
    compare(
        "boot",
        "systemd-nspawn",
        rounds,
        || {
            number += 1;
            let name = format!("perf-boot{number}");
            posada_does(&["launch", "--quiet", "debian/12", &name])?;
            until("systemd in the guest", LONGEST, || {
                posada_does(&["exec", &name, "--", "systemctl", "is-system-running", "--wait"]).is_ok()
            })
        },
        || {
            end(&mut booted);
            mount_overlay(&tree, &work, &copy)?;
            booted = Some(nspawn(&copy)?);
            let leader = booted.as_ref().map_or(0, Child::id);
            until("systemd under systemd-nspawn", LONGEST, || {
                inside_is_running(leader)
            })
        },
    )?;
    end(&mut booted);
    let _ = run("umount", &[&copy.to_string_lossy()]);
    for done in 1..=number {
        posada_does(&["rm", "--force", "--purge", "--yes", &format!("perf-boot{done}")])?;
    }
    std::fs::remove_dir_all(&work).map_err(|error| error.to_string())
}

fn mount_overlay(
    tree: &std::path::Path,
    work: &std::path::Path,
    copy: &std::path::Path,
) -> Result<(), String> {
    let _ = run("umount", &[&copy.to_string_lossy()]);
    for folder in ["upper", "work", "tree"] {
        let _ = std::fs::remove_dir_all(work.join(folder));
        std::fs::create_dir_all(work.join(folder)).map_err(|error| error.to_string())?;
    }
    let options = format!(
        "lowerdir={},upperdir={w}/upper,workdir={w}/work",
        tree.display(),
        w = work.display()
    );
    run(
        "mount",
        &[
            "-t",
            "overlay",
            "overlay",
            "-o",
            &options,
            &copy.to_string_lossy(),
        ],
    )
    .map(drop)
}

fn nspawn(tree: &std::path::Path) -> Result<Child, String> {
    Command::new("systemd-nspawn")
        // Debian 12's cannot map ids over an overlay; without a user namespace it has less to do.
        .args(["--quiet", "--register=no", "--keep-unit", "--private-users=no"])
        .args(["--network-veth", "--boot", "--console=pipe", "--directory"])
        .arg(tree)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("systemd-nspawn: {error}"))
}

/// Asks the systemd below this systemd-nspawn.
fn inside_is_running(nspawn: u32) -> bool {
    let children =
        std::fs::read_to_string(format!("/proc/{nspawn}/task/{nspawn}/children")).unwrap_or_default();
    children.split_whitespace().any(|pid| {
        run(
            "nsenter",
            &["-t", pid, "-a", "systemctl", "is-system-running", "--wait"],
        )
        .is_ok()
    })
}

fn end(child: &mut Option<Child>) {
    if let Some(mut child) = child.take() {
        let _ = run("kill", &["-TERM", &child.id().to_string()]);
        let _ = child.wait();
    }
}
