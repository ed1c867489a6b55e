//! What the daemon asks this engine without running anything.

use std::path::Path;

use engine::{Engine, Plan};
use fault::{Fault, Result};
use jail::cgroup::{Layout, Probe};
use jail::recipe::Root;
use model::api::{Finding, Verdict};
use model::{Init, Unenforced};

use crate::{NO_INIT, parse_signal};

/// The engine `container`.
#[derive(Clone, Copy, Debug, Default)]
pub struct ContainerEngine;

impl Engine for ContainerEngine {
    fn name(&self) -> &'static str {
        "container"
    }

    fn probe(&self) -> Vec<Finding> {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let mut findings = vec![
            kernel(release.trim()),
            user_namespaces(),
            overlay(),
            present("doctor-seccomp", "/proc/sys/kernel/seccomp/actions_avail"),
        ];
        findings.push(match jail::cgroup::detect() {
            Ok(cgroups) => controllers(&cgroups.probe()),
            Err(fault) => finding("doctor-cgroups", Verdict::Bad, fault.to_string()),
        });
        findings
    }

    fn check(&self, plan: &Plan) -> Result<Vec<Unenforced>> {
        if let Some(signal) = &plan.stop_signal {
            parse_signal(signal)?;
        }
        if plan.init == Init::System && !has_init(&plan.root) {
            return Err(Fault::new(NO_INIT).arg("name", &plan.name));
        }
        Ok(unenforced(plan, &jail::cgroup::detect()?.probe()))
    }
}

/// Limits of the plan that the host cannot enforce.
fn unenforced(plan: &Plan, probe: &Probe) -> Vec<Unenforced> {
    let limits = &plan.limits;
    let wanted = [
        ("memory", limits.memory.is_some()),
        ("swap", limits.swap.is_some()),
        ("cpus", limits.cpus.is_some()),
        ("cpu_weight", limits.cpu_weight.is_some()),
        ("cpu_pin", limits.cpu_pin.is_some()),
        ("pids", limits.pids.is_some()),
    ];
    let mut all: Vec<Unenforced> = probe
        .missing
        .iter()
        .filter(|missing| wanted.contains(&(missing.limit, true)))
        .map(|missing| Unenforced {
            limit: missing.limit.to_owned(),
            reason: missing.reason.clone(),
        })
        .collect();
    let known = all.iter().any(|one| one.limit == "swap");
    if limits.swap.is_some() && limits.memory.is_none() && probe.layout != Layout::V2 && !known {
        all.push(Unenforced {
            limit: "swap".into(),
            reason: "cgroup v1 limits swap only together with memory".into(),
        });
    }
    all
}

/// Whether some layer holds an init; links are not followed, because they are the guest's.
fn has_init(root: &Root) -> bool {
    let trees: Vec<&Path> = match root {
        Root::Tree { path, .. } => vec![path],
        Root::Overlay { layers, upper, .. } => layers.iter().chain([upper]).map(AsRef::as_ref).collect(),
    };
    let candidates = ["sbin/init", "usr/sbin/init", "bin/init", "usr/bin/init"];
    trees.iter().any(|tree| {
        let found = |name: &&str| tree.join(name).symlink_metadata().is_ok();
        candidates.iter().any(found)
    })
}

fn finding(check: &str, verdict: Verdict, seen: impl Into<String>) -> Finding {
    Finding {
        check: check.to_owned(),
        verdict,
        seen: seen.into(),
        remedy: None,
    }
}

/// Id-mapped layers of an overlay need Linux 5.19.
fn kernel(release: &str) -> Finding {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map_while(|word| word.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let verdict = match version {
        (major, minor) if (major, minor) >= (5, 19) => Verdict::Good,
        _ => Verdict::Bad,
    };
    finding("doctor-kernel", verdict, release)
}

fn user_namespaces() -> Finding {
    let path = "/proc/sys/user/max_user_namespaces";
    let most: Option<u64> = std::fs::read_to_string(path)
        .ok()
        .and_then(|text| text.trim().parse().ok());
    match most {
        None => finding("doctor-user-namespaces", Verdict::Bad, "CONFIG_USER_NS"),
        Some(0) => Finding {
            remedy: Some("sysctl user.max_user_namespaces=65536".into()),
            ..finding(
                "doctor-user-namespaces",
                Verdict::Bad,
                "user.max_user_namespaces = 0",
            )
        },
        Some(most) => finding("doctor-user-namespaces", Verdict::Good, most.to_string()),
    }
}

fn overlay() -> Finding {
    let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if known
        .lines()
        .any(|line| line.trim_start_matches("nodev").trim() == "overlay")
    {
        return finding("doctor-overlay", Verdict::Good, "overlay");
    }
    // A module that is not loaded yet shows only when it is asked for.
    Finding {
        remedy: Some("modprobe overlay".into()),
        ..finding("doctor-overlay", Verdict::Bad, "")
    }
}

fn present(check: &str, path: &str) -> Finding {
    let found = Path::new(path).exists();
    let verdict = if found { Verdict::Good } else { Verdict::Bad };
    finding(check, verdict, if found { "" } else { path })
}

fn controllers(probe: &Probe) -> Finding {
    let layout = match probe.layout {
        Layout::V1 => "v1",
        Layout::Hybrid => "v1 + v2 (hybrid)",
        Layout::V2 => "v2",
    };
    let mut seen = format!("{layout}: {}", probe.controllers.join(" "));
    for missing in &probe.missing {
        seen.push_str(&format!("; {}: {}", missing.limit, missing.reason));
    }
    let verdict = if probe.missing.is_empty() {
        Verdict::Good
    } else {
        Verdict::Limited
    };
    finding("doctor-cgroups", verdict, seen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::tests::plan;
    use jail::cgroup::Missing;
    use model::Size;

    #[test]
    fn a_root_without_init_is_refused_at_planning_and_a_command_needs_none() {
        let dir = tempfile::tempdir().unwrap();
        let mut plan = plan();
        plan.root = Root::Tree {
            path: dir.path().to_owned(),
            idmap: true,
            read_only: false,
        };
        assert!(ContainerEngine.check(&plan).unwrap_err().is(NO_INIT));
        plan.init = Init::Command {
            argv: vec!["true".into()],
        };
        ContainerEngine.check(&plan).unwrap();
        plan.init = Init::System;
        std::fs::create_dir(dir.path().join("sbin")).unwrap();
        std::os::unix::fs::symlink("/lib/systemd/systemd", dir.path().join("sbin/init")).unwrap();
        ContainerEngine.check(&plan).unwrap();
    }

    #[test]
    fn only_limits_that_were_asked_for_are_reported() {
        let probe = Probe {
            layout: Layout::V2,
            controllers: vec!["cpu".into()],
            missing: vec![
                Missing {
                    limit: "memory",
                    reason: "no memory controller".into(),
                },
                Missing {
                    limit: "pids",
                    reason: "no pids controller".into(),
                },
            ],
        };
        let mut plan = plan();
        assert_eq!(unenforced(&plan, &probe), []);
        plan.limits.memory = Some(Size(1 << 20));
        let limits: Vec<_> = unenforced(&plan, &probe)
            .into_iter()
            .map(|one| one.limit)
            .collect();
        assert_eq!(limits, ["memory"]);
    }

    #[test]
    fn a_kernel_is_judged_by_its_version() {
        assert_eq!(kernel("6.1.0-28-amd64").verdict, Verdict::Good);
        assert_eq!(kernel("5.10.0").verdict, Verdict::Bad);
        assert_eq!(kernel("").verdict, Verdict::Bad);
    }
}
