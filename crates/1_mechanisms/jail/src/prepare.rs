//! What can be worked out of a recipe before anything is done: pure.

use std::collections::BTreeMap;
use std::path::Path;

use fault::{Fault, OrFault, Result};
use hostos::seccomp::Instruction;
use rustix::process::{Resource, Rlimit};

use crate::codes;
use crate::recipe::{Mount, MountKind, Policy, Seccomp};
use crate::{caps, filter};

/// A policy in the kernel's terms.
#[derive(Debug)]
pub(crate) struct Bounds {
    /// Capabilities that remain; absent: all.
    pub capabilities: Option<u64>,
    /// System call filter.
    pub filter: Option<Vec<Instruction>>,
    /// The filter needs no_new_privs in any case.
    pub no_new_privs: bool,
    /// Resource limits.
    pub rlimits: Vec<(Resource, Rlimit)>,
    /// oom_score_adj.
    pub oom_score_adj: Option<i32>,
    /// Security label.
    pub lsm: Option<crate::recipe::Lsm>,
}

/// Works out the bounds of a policy.
pub(crate) fn bounds(policy: &Policy) -> Result<Bounds> {
    Ok(Bounds {
        capabilities: caps::mask(&policy.capabilities)?,
        filter: filter::build(policy.seccomp),
        no_new_privs: matches!(policy.seccomp, Seccomp::Worker | Seccomp::Machine),
        rlimits: rlimits(&policy.rlimits)?,
        oom_score_adj: policy.oom_score_adj,
        lsm: policy.lsm.clone(),
    })
}

fn rlimits(named: &BTreeMap<String, (u64, u64)>) -> Result<Vec<(Resource, Rlimit)>> {
    let limit = |value: u64| Some(value).filter(|value| *value != u64::MAX);
    let one = |(name, (soft, hard)): (&String, &(u64, u64))| {
        let resource = match name.as_str() {
            "as" => Resource::As,
            "core" => Resource::Core,
            "cpu" => Resource::Cpu,
            "data" => Resource::Data,
            "fsize" => Resource::Fsize,
            "locks" => Resource::Locks,
            "memlock" => Resource::Memlock,
            "msgqueue" => Resource::Msgqueue,
            "nice" => Resource::Nice,
            "nofile" => Resource::Nofile,
            "nproc" => Resource::Nproc,
            "rss" => Resource::Rss,
            "rtprio" => Resource::Rtprio,
            "rttime" => Resource::Rttime,
            "sigpending" => Resource::Sigpending,
            "stack" => Resource::Stack,
            _ => return Err(Fault::new(codes::RLIMIT_REFUSED).arg("name", name)),
        };
        Ok((
            resource,
            Rlimit {
                current: limit(*soft),
                maximum: limit(*hard),
            },
        ))
    };
    named.iter().map(one).collect()
}

/// Applies limits and oom_score_adj to the calling process, with the caller's rights.
pub(crate) fn limit_resources(bounds: &Bounds) -> Result<()> {
    for (resource, limit) in &bounds.rlimits {
        let set = match rustix::process::setrlimit(*resource, *limit) {
            // Without CAP_SYS_RESOURCE (a host that is a container itself) our own limits bound those inside.
            Err(rustix::io::Errno::PERM) => {
                let own = rustix::process::getrlimit(*resource).maximum.unwrap_or(u64::MAX);
                let within = |value: Option<u64>| {
                    Some(value.unwrap_or(u64::MAX).min(own)).filter(|value| *value != u64::MAX)
                };
                let limit = Rlimit {
                    current: within(limit.current),
                    maximum: within(limit.maximum),
                };
                rustix::process::setrlimit(*resource, limit)
            }
            other => other,
        };
        set.or_fault(|| {
            Fault::new(codes::RLIMIT_REFUSED).arg("name", format!("{resource:?}").to_lowercase())
        })?;
    }
    if let Some(score) = bounds.oom_score_adj {
        std::fs::write("/proc/self/oom_score_adj", score.to_string())
            .or_fault(|| Fault::new(codes::CONFINEMENT_FAILED).arg("what", "oom_score_adj"))?;
    }
    Ok(())
}

/// Divides the mounts of a recipe: those made by the caller's rights (guests cannot undo them), and those that need a
/// process in the new pid and cgroup namespaces, with whatever lies below those.
pub(crate) fn divide(mounts: &[Mount]) -> (Vec<&Mount>, Vec<&Mount>) {
    let (mut outer, mut inner): (Vec<&Mount>, Vec<&Mount>) = (Vec::new(), Vec::new());
    for mount in mounts {
        let below =
            |other: &&Mount| mount.target.starts_with(&other.target) && mount.target != Path::new("/");
        if matches!(mount.what, MountKind::Proc | MountKind::Cgroup2) || inner.iter().any(below) {
            inner.push(mount);
        } else {
            outer.push(mount);
        }
    }
    (outer, inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_below_proc_are_made_after_it_and_all_others_before() {
        let mut mounts = crate::guest::mounts();
        mounts.push(Mount {
            target: "/proc/meminfo".into(),
            what: MountKind::Content {
                content: String::new(),
            },
            read_only: true,
        });
        let (outer, inner) = divide(&mounts);
        let names = |mounts: &[&Mount]| -> Vec<String> {
            mounts
                .iter()
                .map(|mount| mount.target.display().to_string())
                .collect()
        };
        assert_eq!(names(&outer), ["/sys", "/dev", "/run"]);
        assert_eq!(names(&inner), ["/proc", "/sys/fs/cgroup", "/proc/meminfo"]);
    }

    #[test]
    fn an_unknown_limit_is_refused() {
        let named = BTreeMap::from([("nofiles".to_owned(), (1, 1))]);
        assert!(rlimits(&named).is_err());
    }
}
