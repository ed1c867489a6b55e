//! From a plan to a jail's recipe: pure.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use engine::{ExecPlan, Plan};
use jail::recipe::{FileEntry, Mount, MountKind, Namespaces, Process, Recipe, Seccomp};
use model::{Init, Input};

/// Where programs are looked up inside.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Where the service manager finds the socket that it tells of its boot.
const NOTIFY_INSIDE: &str = "/run/host/notify";

/// The recipe of a guest.
#[must_use]
pub fn recipe(plan: &Plan) -> Recipe {
    let system = plan.init == Init::System;
    let mut mounts = jail::guest::mounts();
    if !system {
        // A command finds its /run as the image has it.
        mounts.retain(|mount| mount.target != Path::new("/run"));
    }
    let mut files = plan.files.clone();
    if system {
        // https://systemd.io/CONTAINER_INTERFACE
        files.push(run_host("container-manager", "posada\n".into()));
        files.push(run_host("container-uuid", format!("{}\n", plan.id)));
        mounts.push(Mount {
            target: PathBuf::from(NOTIFY_INSIDE),
            what: MountKind::Bind {
                source: plan.run_dir.join(crate::NOTIFY_SOCKET),
                idmap: false,
                recursive: false,
            },
            read_only: false,
        });
    }
    mounts.extend(plan.mounts.iter().cloned());
    Recipe {
        ids: plan.ids,
        namespaces: Namespaces::default(),
        root: plan.root.clone(),
        mounts,
        masked: if plan.privileged {
            Vec::new()
        } else {
            jail::guest::masked()
        },
        read_only_paths: if plan.privileged {
            Vec::new()
        } else {
            jail::guest::read_only_paths()
        },
        files,
        hostname: Some(plan.hostname.clone()),
        nics: plan.nics.clone(),
        sysctls: jail::guest::sysctls(plan.ids),
        rlimits: jail::guest::rlimits(),
        capabilities: jail::guest::capabilities(plan.privileged),
        seccomp: if plan.privileged {
            Seccomp::Off
        } else {
            Seccomp::Guest
        },
        lsm: None,
        cgroup: Some(plan.cgroup.clone()),
        oom_score_adj: Some(0),
        process: first_process(plan),
    }
}

fn run_host(name: &str, content: String) -> FileEntry {
    FileEntry {
        path: PathBuf::from("/run/host").join(name),
        content,
        mode: 0o644,
        keep_existing: false,
    }
}

/// The guest's process 1.
fn first_process(plan: &Plan) -> Process {
    match &plan.init {
        Init::System => Process {
            argv: vec!["/sbin/init".into()],
            env: BTreeMap::from(
                [
                    ("PATH", PATH),
                    ("TERM", "linux"),
                    ("container", "posada"),
                    ("container_uuid", plan.id.0.as_str()),
                    ("NOTIFY_SOCKET", NOTIFY_INSIDE),
                ]
                .map(|(name, value)| (name.to_owned(), value.to_owned())),
            ),
            cwd: Some(PathBuf::from("/")),
            ..Process::default()
        },
        Init::Command { argv } => Process {
            argv: argv.clone(),
            env: environment(&plan.env, plan.input == Input::Terminal),
            cwd: plan.workdir.clone(),
            user: plan.user.clone(),
            terminal: plan.input == Input::Terminal,
            ..Process::default()
        },
    }
}

/// A process beside the guest's own.
#[must_use]
pub fn process(exec: &ExecPlan) -> Process {
    Process {
        argv: exec.argv.clone(),
        env: environment(&exec.env, exec.terminal.is_some()),
        cwd: exec.workdir.as_ref().map(PathBuf::from),
        user: exec.user.clone(),
        terminal: exec.terminal.is_some(),
        ..Process::default()
    }
}

/// What every process finds, overridden by what was asked for.
fn environment(wanted: &BTreeMap<String, String>, terminal: bool) -> BTreeMap<String, String> {
    let mut env = BTreeMap::from([
        ("PATH".to_owned(), PATH.to_owned()),
        ("container".to_owned(), "posada".to_owned()),
    ]);
    if terminal {
        env.insert("TERM".to_owned(), "xterm-256color".to_owned());
    }
    env.extend(wanted.clone());
    env
}

#[cfg(test)]
mod tests {
    use super::*;
    use jail::recipe::{Capabilities, IdRange};

    /// A plan that needs nothing of the host.
    fn plan() -> Plan {
        serde_json::from_value(serde_json::json!({
            "version": 1, "id": "0123456789abcdef0123456789abcdef", "name": "web",
            "run_dir": "/run/posada/guests/x", "state_dir": "/var/lib/posada/guests/x",
            "ids": {"base": 1_000_000, "count": 65536},
            "root": {"type": "tree", "path": "/tree", "idmap": true, "read_only": false},
            "mounts": [], "files": [], "init": {"type": "system"}, "env": {}, "workdir": null, "user": null,
            "hostname": "web", "nics": [], "limits": {}, "cgroup": "posada/guests/x",
            "policies": {"on_poweroff": "stop", "on_reboot": "restart", "on_crash": "stop"},
            "stop_signal": null, "console_log_limit": 1_048_576, "privileged": false, "nesting": false
        }))
        .unwrap()
    }

    #[test]
    fn a_system_container_is_told_where_it_runs_and_keeps_its_bounds() {
        let mut plan = plan();
        plan.init = Init::System;
        let recipe = recipe(&plan);
        assert_eq!(recipe.process.env["container"], "posada");
        assert_eq!(recipe.seccomp, Seccomp::Guest);
        assert!(
            !recipe.process.terminal,
            "Ctrl-C on the console must not reach process 1"
        );
        assert_eq!(recipe.cgroup.as_ref(), Some(&plan.cgroup));
        let Capabilities::Only { names } = &recipe.capabilities else {
            panic!("unbounded")
        };
        assert!(
            !names
                .iter()
                .any(|name| name == "CAP_SYS_MODULE" || name == "CAP_SYS_RAWIO")
        );
        assert!(
            recipe
                .mounts
                .iter()
                .any(|mount| mount.target == Path::new("/run"))
        );
    }

    #[test]
    fn an_application_container_runs_its_command_with_its_environment() {
        let mut plan = plan();
        plan.init = Init::Command {
            argv: vec!["env".into()],
        };
        plan.env = BTreeMap::from([("PATH".into(), "/bin".into()), ("A".into(), "b".into())]);
        let recipe = recipe(&plan);
        assert_eq!(recipe.process.argv, ["env"]);
        assert_eq!(
            (
                recipe.process.env["PATH"].as_str(),
                recipe.process.env["A"].as_str()
            ),
            ("/bin", "b")
        );
        assert!(
            !recipe
                .mounts
                .iter()
                .any(|mount| mount.target == Path::new("/run"))
        );
    }

    #[test]
    fn a_privileged_guest_has_no_user_namespace_and_no_filter() {
        let mut plan = plan();
        plan.privileged = true;
        plan.ids = None::<IdRange>;
        let recipe = recipe(&plan);
        assert_eq!(recipe.capabilities, Capabilities::All);
        assert_eq!(recipe.seccomp, Seccomp::Off);
        assert_eq!(recipe.ids, None);
    }

    #[test]
    fn the_users_mounts_come_after_those_of_every_guest() {
        let mut plan = plan();
        plan.mounts = vec![jail::recipe::Mount {
            target: "/srv".into(),
            what: jail::recipe::MountKind::Tmpfs {
                options: String::new(),
            },
            read_only: true,
        }];
        assert_eq!(recipe(&plan).mounts.last(), plan.mounts.last());
    }
}
