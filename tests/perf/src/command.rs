//! `/bin/true` in a fresh container with a network, through command line and daemon, beside podman and docker.

use std::time::Duration;

use crate::Options;
use crate::house::{debian_tree, peer_wanted, posada_does, run, until};
use crate::measure::compare;

/// See the module.
///
/// # Errors
/// When a program of either side fails.
pub fn bench(options: &Options) -> Result<(), String> {
    let rounds = options.rounds.unwrap_or(15);
    let tree = debian_tree()?;
    let ours = || {
        posada_does(&[
            "launch",
            "--quiet",
            "--rm",
            "debian/12",
            "perf-true",
            "--",
            "/bin/true",
        ])
        .map(drop)
    };
    if peer_wanted(options, "podman", "podman") {
        import(&tree, "podman")?;
        compare("command", "podman", rounds, ours, || {
            run(
                "podman",
                &["run", "--rm", "--network=podman", "posada-perf", "/bin/true"],
            )
            .map(drop)
        })?;
    }
    if peer_wanted(options, "docker", "dockerd") {
        let mut engine = Dockerd::start()?;
        let result = import(&tree, "docker").and_then(|()| {
            compare("command", "docker", rounds, ours, || {
                run("docker", &["run", "--rm", "posada-perf", "/bin/true"]).map(drop)
            })
        });
        engine.stop();
        result?;
    }
    Ok(())
}

/// Makes an image `posada-perf` of the same tree.
fn import(tree: &std::path::Path, program: &str) -> Result<(), String> {
    let script = format!("tar -C {} -c . | {program} import - posada-perf", tree.display());
    run("sh", &["-c", &script]).map(drop)
}

/// A Docker engine of our own, as long as it is measured.
struct Dockerd(std::process::Child);

impl Dockerd {
    fn start() -> Result<Self, String> {
        let child = std::process::Command::new("dockerd")
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .map_err(|error| format!("dockerd: {error}"))?;
        let engine = Dockerd(child);
        until("dockerd", Duration::from_secs(60), || {
            run("docker", &["info"]).is_ok()
        })?;
        Ok(engine)
    }

    fn stop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
