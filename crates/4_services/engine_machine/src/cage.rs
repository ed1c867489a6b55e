//! The jail of a machine's process: nothing of the host but what it is handed.

use std::collections::BTreeMap;
use std::path::PathBuf;

use engine::Plan;
use jail::recipe::{Capabilities, Namespaces, NicSetup, Process, Recipe, Root, Seccomp};
use machine::control::End;
use model::ExitStatus;

/// The empty directory that is the root of the jail, in the guest's run directory.
pub fn root(plan: &Plan) -> PathBuf {
    plan.run_dir.join("empty")
}

/// The recipe of a plan. The links in the network namespace get no addresses: what comes there is the guest's alone.
pub fn recipe(plan: &Plan) -> Recipe {
    let bare = |nic: &NicSetup| NicSetup {
        addresses: Vec::new(),
        gateways: Vec::new(),
        ..nic.clone()
    };
    Recipe {
        ids: plan.ids,
        namespaces: Namespaces::default(),
        root: Root::Tree {
            path: root(plan),
            idmap: false,
            read_only: true,
        },
        mounts: Vec::new(),
        masked: Vec::new(),
        read_only_paths: Vec::new(),
        files: Vec::new(),
        hostname: None,
        nics: plan.nics.iter().map(bare).collect(),
        sysctls: BTreeMap::from([("net.ipv6.conf.all.disable_ipv6".to_owned(), "1".to_owned())]),
        rlimits: BTreeMap::from([("nofile".to_owned(), (4096, 4096)), ("core".to_owned(), (0, 0))]),
        capabilities: Capabilities::Only { names: Vec::new() },
        seccomp: Seccomp::Machine,
        lsm: None,
        cgroup: Some(plan.cgroup.clone()),
        oom_score_adj: Some(0),
        process: Process::default(),
    }
}

/// What the end of the machine's process means for the guest.
pub fn exit(exit: ExitStatus) -> ExitStatus {
    match exit {
        ExitStatus::Code(code) => match End::of_code(code) {
            Some(End::PowerOff) => ExitStatus::Poweroff,
            Some(End::Reset) => ExitStatus::Reboot,
            _ => exit,
        },
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_of_the_guests_own_will_are_told_from_crashes() {
        assert_eq!(exit(ExitStatus::Code(0)), ExitStatus::Poweroff);
        assert_eq!(exit(ExitStatus::Code(End::Reset.code())), ExitStatus::Reboot);
        let panic = ExitStatus::Code(End::Panic.code());
        assert_eq!(exit(panic), panic);
        assert_eq!(exit(ExitStatus::Signal(9)), ExitStatus::Signal(9));
    }
}
