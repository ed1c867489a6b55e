//! From a guest's record to the plan of its engine: a pure function.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use engine::{PLAN_VERSION, Plan};
use jail::recipe::{FileEntry, Mount, MountKind, Root};
use model::NetworkStatus;

use crate::hardware::{self, is_machine};
use crate::records::StoredGuest;

/// Most bytes of console log kept for a guest.
const CONSOLE_LOG_LIMIT: u64 = 8 << 20;

/// Domain of guests' names where their network gives none.
const DOMAIN: &str = "posada";

/// What the record does not tell.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// State directory of the daemon.
    pub state_dir: &'a Path,
    /// Run directory of the daemon.
    pub run_dir: &'a Path,
    /// The network of the first card, when there is one: its status and its domain.
    pub network: Option<(&'a NetworkStatus, Option<&'a str>)>,
}

impl Surroundings<'_> {
    /// Lasting directory of a guest.
    #[must_use]
    pub fn state_of(&self, id: &model::Id) -> PathBuf {
        self.state_dir.join("guests").join(&id.0)
    }

    /// Volatile directory of a guest.
    #[must_use]
    pub fn run_of(&self, id: &model::Id) -> PathBuf {
        self.run_dir.join("guests").join(&id.0)
    }
}

/// The plan of a guest.
#[must_use]
pub fn plan(stored: &StoredGuest, around: &Surroundings<'_>) -> Plan {
    let guest = &stored.guest;
    let spec = &guest.spec;
    let state_dir = around.state_of(&guest.id);
    let hostname = spec.hostname.clone().unwrap_or_else(|| guest.name.to_string());
    let format = stored.disk_format();
    let own = hardware::disk_file(&state_dir, format);
    let machine = is_machine(spec).then(|| hardware::plan(spec, &own, format));
    let limits = match &machine {
        Some(machine) => hardware::limits(&spec.limits, machine.memory),
        None => spec.limits.clone(),
    };
    Plan {
        version: PLAN_VERSION,
        id: guest.id.clone(),
        name: guest.name.clone(),
        run_dir: around.run_of(&guest.id),
        ids: stored.ids,
        root: Root::Overlay {
            layers: stored.layers.clone(),
            upper: state_dir.join("upper"),
            work: state_dir.join("work"),
        },
        state_dir,
        mounts: spec
            .mounts
            .iter()
            .map(|mount| Mount {
                target: PathBuf::from(&mount.target),
                what: MountKind::Bind {
                    source: PathBuf::from(&mount.source),
                    idmap: stored.ids.is_some(),
                    recursive: true,
                },
                read_only: mount.read_only,
            })
            .collect(),
        files: files(stored, &hostname, around),
        init: spec.init.clone(),
        env: spec.env.clone(),
        input: spec.input,
        workdir: spec.workdir.as_ref().map(PathBuf::from),
        user: None,
        hostname,
        nics: stored.nics.clone(),
        limits,
        cgroup: Path::new("posada/guests").join(&guest.id.0),
        policies: spec.policies.clone(),
        stop_signal: spec.stop_signal.clone(),
        console_log_limit: CONSOLE_LOG_LIMIT,
        privileged: spec.privileged,
        nesting: spec.nesting,
        machine,
    }
}

/// The files that tell a guest who and where it is.
fn files(stored: &StoredGuest, hostname: &str, around: &Surroundings<'_>) -> Vec<FileEntry> {
    let entry = |path: &str, content: String, mode: u32| FileEntry {
        path: PathBuf::from(path),
        content,
        mode,
        keep_existing: false,
    };
    let domain = around.network.and_then(|(_, domain)| domain).unwrap_or(DOMAIN);
    let mut files = vec![
        entry("/etc/hostname", format!("{hostname}\n"), 0o644),
        entry("/etc/hosts", hosts(stored, hostname, domain), 0o644),
        // machine-id(5): 32 hexadecimal digits and a newline, for life.
        entry("/etc/machine-id", format!("{}\n", stored.guest.id), 0o444),
    ];
    let servers = name_servers(stored, around);
    if !servers.is_empty() {
        files.push(entry("/etc/resolv.conf", resolv_conf(&servers, domain), 0o644));
    }
    files
}

fn name_servers(stored: &StoredGuest, around: &Surroundings<'_>) -> Vec<IpAddr> {
    let given = &stored.guest.spec.nameservers;
    if !given.is_empty() {
        return given.clone();
    }
    let gateway = around.network.and_then(|(status, _)| status.gateway);
    gateway.map(IpAddr::from).into_iter().collect()
}

fn resolv_conf(servers: &[IpAddr], domain: &str) -> String {
    let mut text = String::new();
    // resolv.conf(5): at most three are asked.
    for server in servers.iter().take(3) {
        text.push_str(&format!("nameserver {server}\n"));
    }
    text.push_str(&format!("search {domain}\n"));
    text
}

fn hosts(stored: &StoredGuest, hostname: &str, domain: &str) -> String {
    let short = hostname.split('.').next().unwrap_or(hostname);
    let long = if hostname.contains('.') {
        hostname.to_owned()
    } else {
        format!("{hostname}.{domain}")
    };
    let mut text = String::from("127.0.0.1\tlocalhost\n");
    let own = stored
        .nics
        .iter()
        .flat_map(|nic| &nic.addresses)
        .find(|(ip, _)| ip.is_ipv4());
    // Debian's custom for a host without a fixed address, such as a machine, which asks for its own at every start.
    let own = own.filter(|_| !is_machine(&stored.guest.spec));
    let own = own.map_or(IpAddr::from([127, 0, 1, 1]), |(ip, _)| *ip);
    text.push_str(&format!("{own}\t{long} {short}\n\n"));
    text.push_str("::1\tlocalhost ip6-localhost ip6-loopback\n");
    text.push_str("ff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use jail::recipe::{IdRange, NicSetup};
    use serde_json::json;

    fn stored(fields: serde_json::Value) -> StoredGuest {
        let mut spec = json!({ "image": "debian/12" });
        crate::merge::merge(&mut spec, &fields);
        StoredGuest {
            guest: model::Guest {
                id: model::Id("0123456789abcdef0123456789abcdef".to_owned()),
                name: "web".parse().unwrap(),
                project: model::Name::default_project(),
                created: String::new(),
                spec: serde_json::from_value(spec).unwrap(),
                status: model::GuestStatus::default(),
                revision: 1,
            },
            ids: Some(IdRange {
                base: 0x7001_0000,
                count: 65_536,
            }),
            layers: vec![PathBuf::from("/var/lib/posada/images/x/root")],
            set_up: false,
            disk_format: None,
            nics: vec![NicSetup {
                link: "eth0".to_owned(),
                mac: "02:00:00:00:00:01".to_owned(),
                addresses: vec![([10, 77, 0, 2].into(), 24)],
                gateways: vec![[10, 77, 0, 1].into()],
                mtu: None,
            }],
            removed_ms: None,
        }
    }

    fn planned(stored: &StoredGuest) -> Plan {
        let status = NetworkStatus {
            gateway: Some([10, 77, 0, 1].into()),
            ..NetworkStatus::default()
        };
        let around = Surroundings {
            state_dir: Path::new("/var/lib/posada"),
            run_dir: Path::new("/run/posada"),
            network: Some((&status, None)),
        };
        plan(stored, &around)
    }

    fn content<'a>(plan: &'a Plan, path: &str) -> Option<&'a str> {
        let file = plan.files.iter().find(|file| file.path == Path::new(path));
        file.map(|file| file.content.as_str())
    }

    #[test]
    fn a_guest_is_told_who_and_where_it_is() {
        let plan = planned(&stored(json!({})));
        assert_eq!(content(&plan, "/etc/hostname"), Some("web\n"));
        assert_eq!(
            content(&plan, "/etc/machine-id"),
            Some("0123456789abcdef0123456789abcdef\n")
        );
        assert_eq!(
            content(&plan, "/etc/resolv.conf"),
            Some("nameserver 10.77.0.1\nsearch posada\n")
        );
        assert!(
            content(&plan, "/etc/hosts")
                .unwrap()
                .contains("10.77.0.2\tweb.posada web\n")
        );
        assert_eq!(
            plan.run_dir,
            Path::new("/run/posada/guests/0123456789abcdef0123456789abcdef")
        );
        assert_eq!(
            plan.cgroup,
            Path::new("posada/guests/0123456789abcdef0123456789abcdef")
        );
    }

    #[test]
    fn own_name_servers_and_host_names_win() {
        let plan = planned(&stored(
            json!({ "nameservers": ["9.9.9.9"], "hostname": "srv.example.org" }),
        ));
        assert_eq!(
            content(&plan, "/etc/resolv.conf"),
            Some("nameserver 9.9.9.9\nsearch posada\n")
        );
        assert!(
            content(&plan, "/etc/hosts")
                .unwrap()
                .contains("\tsrv.example.org srv\n")
        );
        assert_eq!(plan.hostname, "srv.example.org");
    }

    #[test]
    fn a_privileged_guest_has_no_ids_and_its_mounts_are_not_mapped() {
        let mut guest =
            stored(json!({ "privileged": true, "mounts": [{ "source": "/srv", "target": "/data" }] }));
        guest.ids = None;
        let plan = planned(&guest);
        assert!(plan.privileged && plan.ids.is_none());
        assert!(matches!(
            &plan.mounts[0].what,
            MountKind::Bind { idmap: false, .. }
        ));
    }

    #[test]
    fn a_guest_without_network_keeps_its_resolver_file() {
        let mut guest = stored(json!({ "no_network": true }));
        guest.nics.clear();
        let around = Surroundings {
            state_dir: Path::new("/s"),
            run_dir: Path::new("/r"),
            network: None,
        };
        let plan = plan(&guest, &around);
        assert_eq!(content(&plan, "/etc/resolv.conf"), None);
        assert!(
            content(&plan, "/etc/hosts")
                .unwrap()
                .contains("127.0.1.1\tweb.posada web")
        );
    }
}
