//! Kernel settings: read, written with a record of what was there, and the plan of what forwarding needs.

use std::fs;
use std::path::{Path, PathBuf};

use fault::{Fault, OrFault, Result};
use serde::{Deserialize, Serialize};

use crate::SYSCTL_REFUSED;

/// One setting that was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Path below the root, as `net/ipv4/conf/eth0/forwarding`.
    pub key: String,
    /// What was there.
    pub before: String,
    /// What was written.
    pub after: String,
}

/// A tree of settings; on a host the directory `/proc/sys` of the calling thread's network namespace.
#[derive(Clone, Debug)]
pub struct Sysctl {
    root: PathBuf,
}

impl Sysctl {
    /// The settings below this directory.
    #[must_use]
    pub fn at(root: &Path) -> Self {
        Sysctl {
            root: root.to_owned(),
        }
    }

    /// The value of a setting; none when the kernel does not have it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<String> {
        fs::read_to_string(self.root.join(key))
            .ok()
            .map(|text| text.trim().to_owned())
    }

    /// Writes a setting.
    ///
    /// # Errors
    /// `NET004` when the kernel refuses.
    pub fn set(&self, key: &str, value: &str) -> Result<()> {
        fs::write(self.root.join(key), value)
            .or_fault(|| Fault::new(SYSCTL_REFUSED).arg("key", key).arg("value", value))
    }

    /// Names of the interfaces that have settings of this family (`ipv4`, `ipv6`).
    #[must_use]
    pub fn interfaces(&self, family: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.root.join(format!("net/{family}/conf"))) else {
            return Vec::new();
        };
        let mut names: Vec<String> = entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.retain(|name| name != "all" && name != "default");
        names.sort();
        names
    }

    /// What must change so that packets are forwarded between the bridge and the uplinks, in order; nothing of it is
    /// done yet. `learning` are the interfaces that learn routes from router advertisements.
    ///
    /// IPv4: `conf/IF/forwarding` of bridge and uplinks. IPv6: `conf/IF/force_forwarding` where the kernel has it;
    /// else the learning interfaces first go on learning (`accept_ra` = 2, because a forwarding host otherwise stops),
    /// then the global setting, and every interface that it switches along is recorded for the way back
    /// (Documentation/networking/ip-sysctl.rst).
    #[must_use]
    pub fn plan_forwarding(&self, bridge: &str, uplinks: &[String], learning: &[String]) -> Vec<Change> {
        let mut plan = Vec::new();
        let mut want = |key: String, value: &str| {
            if let Some(before) = self.get(&key)
                && before != value
            {
                plan.push(Change {
                    key,
                    before,
                    after: value.to_owned(),
                });
            }
        };
        let ours = || std::iter::once(bridge).chain(uplinks.iter().map(String::as_str));
        for interface in ours() {
            want(format!("net/ipv4/conf/{interface}/forwarding"), "1");
        }
        if self
            .get(&format!("net/ipv6/conf/{bridge}/force_forwarding"))
            .is_some()
        {
            for interface in ours() {
                want(format!("net/ipv6/conf/{interface}/force_forwarding"), "1");
            }
            return plan;
        }
        const ALL: &str = "net/ipv6/conf/all/forwarding";
        for interface in learning {
            let key = format!("net/ipv6/conf/{interface}/accept_ra");
            if self.get(&key).as_deref() == Some("1") {
                want(key, "2");
            }
        }
        if self.get(ALL).as_deref() == Some("0") {
            for interface in std::iter::once("default".to_owned()).chain(self.interfaces("ipv6")) {
                let key = format!("net/ipv6/conf/{interface}/forwarding");
                if let Some(before) = self.get(&key) {
                    plan_along(&mut plan, key, before);
                }
            }
            plan.push(Change {
                key: ALL.to_owned(),
                before: "0".to_owned(),
                after: "1".to_owned(),
            });
        } else {
            let key = format!("net/ipv6/conf/{bridge}/forwarding");
            if self.get(&key).as_deref() == Some("0") {
                plan_along(&mut plan, key, "0".to_owned());
            }
        }
        plan
    }

    /// Does one change.
    ///
    /// # Errors
    /// `NET004`.
    pub fn apply(&self, change: &Change) -> Result<()> {
        self.set(&change.key, &change.after)
    }

    /// Takes changes back, last first. A setting that somebody else has changed since, or whose interface is gone,
    /// is left alone.
    ///
    /// # Errors
    /// `NET004`, the first one, after all have been tried.
    pub fn undo(&self, changes: &[Change]) -> Result<()> {
        let mut first = Ok(());
        // The global switch writes all others, so it goes back before them: the list ends with it.
        let global_changed: Vec<bool> = changes
            .iter()
            .map(|change| self.get(&change.key).as_deref() == Some(change.after.as_str()))
            .collect();
        for (change, still_ours) in changes.iter().zip(global_changed).rev() {
            if !still_ours || self.get(&change.key).as_deref() == Some(change.before.as_str()) {
                continue;
            }
            let done = self.set(&change.key, &change.before);
            first = first.and(done);
        }
        first
    }
}

fn plan_along(plan: &mut Vec<Change>, key: String, before: String) {
    plan.push(Change {
        key,
        before,
        after: "1".to_owned(),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree as a kernel without force_forwarding shows it.
    fn host(settings: &[(&str, &str)]) -> (tempfile::TempDir, Sysctl) {
        let root = tempfile::tempdir().unwrap();
        for (key, value) in settings {
            let path = root.path().join(key);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, value).unwrap();
        }
        let sysctl = Sysctl::at(root.path());
        (root, sysctl)
    }

    fn keys(plan: &[Change]) -> Vec<(&str, &str)> {
        plan.iter()
            .map(|change| (change.key.as_str(), change.after.as_str()))
            .collect()
    }

    #[test]
    fn an_old_kernel_keeps_learning_routes_before_it_forwards() {
        let (_root, sysctl) = host(&[
            ("net/ipv4/conf/b0/forwarding", "0"),
            ("net/ipv4/conf/eth0/forwarding", "1"),
            ("net/ipv6/conf/all/forwarding", "0"),
            ("net/ipv6/conf/default/forwarding", "0"),
            ("net/ipv6/conf/eth0/forwarding", "0"),
            ("net/ipv6/conf/eth0/accept_ra", "1"),
            ("net/ipv6/conf/b0/forwarding", "0"),
        ]);
        let plan = sysctl.plan_forwarding("b0", &["eth0".to_owned()], &["eth0".to_owned()]);
        let keys = keys(&plan);
        assert_eq!(keys[0], ("net/ipv4/conf/b0/forwarding", "1"));
        assert_eq!(keys[1], ("net/ipv6/conf/eth0/accept_ra", "2"));
        assert_eq!(*keys.last().unwrap(), ("net/ipv6/conf/all/forwarding", "1"));
        for change in &plan {
            sysctl.apply(change).unwrap();
        }
        assert!(
            sysctl
                .plan_forwarding("b0", &["eth0".to_owned()], &["eth0".to_owned()])
                .is_empty()
        );
        sysctl.undo(&plan).unwrap();
        assert_eq!(sysctl.get("net/ipv6/conf/all/forwarding").as_deref(), Some("0"));
        assert_eq!(sysctl.get("net/ipv6/conf/eth0/accept_ra").as_deref(), Some("1"));
        assert_eq!(sysctl.get("net/ipv4/conf/eth0/forwarding").as_deref(), Some("1"));
    }

    #[test]
    fn a_new_kernel_forwards_only_where_it_is_ours() {
        let (_root, sysctl) = host(&[
            ("net/ipv4/conf/b0/forwarding", "0"),
            ("net/ipv4/conf/eth0/forwarding", "0"),
            ("net/ipv6/conf/all/forwarding", "0"),
            ("net/ipv6/conf/b0/force_forwarding", "0"),
            ("net/ipv6/conf/eth0/force_forwarding", "0"),
        ]);
        let plan = sysctl.plan_forwarding("b0", &["eth0".to_owned()], &[]);
        assert_eq!(plan.len(), 4);
        assert!(plan.iter().all(|change| !change.key.contains("/all/")));
    }

    #[test]
    fn what_somebody_else_changed_since_is_left_alone() {
        let (_root, sysctl) = host(&[("net/ipv4/conf/b0/forwarding", "0")]);
        let plan = sysctl.plan_forwarding("b0", &[], &[]);
        sysctl.apply(&plan[0]).unwrap();
        sysctl.set("net/ipv4/conf/b0/forwarding", "2").unwrap();
        sysctl.undo(&plan).unwrap();
        assert_eq!(sysctl.get("net/ipv4/conf/b0/forwarding").as_deref(), Some("2"));
    }
}
