//! The mechanism under a guest, and the commands that would do the same by hand.

use std::path::Path;

use fault::Result;
use jail::recipe::Root;
use model::api::{ExplainSection, Explanation};
use model::{NicStatus, Publish, Transport};

use crate::by_hand;
use crate::control::Control;
use crate::plan::plan;
use crate::records::StoredGuest;

/// Namespaces that a process is in, as /proc names them.
const NAMESPACES: &[&str] = &["user", "mnt", "pid", "net", "uts", "ipc", "cgroup"];

impl Control {
    /// Processes, namespaces, cgroup, links, rules and mounts of a guest.
    ///
    /// # Errors
    /// `GST001`.
    pub fn explain(&self, name: &str) -> Result<Explanation> {
        let house = self.house();
        let stored = house.named(name)?;
        let status = &stored.guest.status;
        let mut sections = vec![section("explain-processes", processes(&stored))];
        if let Some(pid) = status.pid {
            sections.push(section("explain-namespaces", namespaces(pid)));
            sections.push(section(
                "explain-cgroup",
                lines_of(&format!("/proc/{pid}/cgroup")),
            ));
            sections.push(section("explain-mounts", mounts(pid)));
        }
        let plan = plan(&stored, &house.around());
        if let Some(machine) = &plan.machine {
            sections.push(section("explain-machine", by_hand::facts(&stored, machine)));
        }
        sections.push(section("explain-links", status.nics.iter().map(link).collect()));
        sections.push(section("explain-rules", rules(&stored)));
        let files = vec![
            format!("state {}", house.state_of(stored.id()).display()),
            format!("run {}", house.run_of(stored.id()).display()),
        ];
        sections.push(section("explain-files", files));
        sections.retain(|section| !section.lines.is_empty());
        let bridge = match status.nics.first() {
            Some(nic) => self
                .network(nic.network.as_str())
                .map(|network| network.status.bridge)?,
            None => String::new(),
        };
        let commands = match &plan.machine {
            Some(machine) => by_hand::commands(&stored, machine, &bridge),
            None => commands(&stored, &plan.root, &bridge),
        };
        Ok(Explanation { sections, commands })
    }
}

fn section(title: &str, lines: Vec<String>) -> ExplainSection {
    ExplainSection {
        title: title.to_owned(),
        lines,
    }
}

fn lines_of(path: &str) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn processes(stored: &StoredGuest) -> Vec<String> {
    let named = |what: &str, pid: Option<u32>| {
        pid.map(|pid| {
            let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let words: Vec<String> = command
                .split(|byte| *byte == 0)
                .map(|word| String::from_utf8_lossy(word).into_owned())
                .collect();
            format!("{what} {pid} {}", words.join(" ").trim_end())
        })
    };
    let status = &stored.guest.status;
    let mut lines: Vec<String> = [named("shim", status.shim_pid), named("init", status.pid)]
        .into_iter()
        .flatten()
        .collect();
    if let Some(ids) = stored.ids {
        lines.push(format!(
            "ids 0-{} = {}-{}",
            ids.count - 1,
            ids.base,
            ids.base + (ids.count - 1)
        ));
    }
    lines
}

fn namespaces(pid: u32) -> Vec<String> {
    let link = |name: &str| std::fs::read_link(format!("/proc/{pid}/ns/{name}")).ok();
    let found = NAMESPACES.iter().filter_map(|name| link(name));
    found.map(|target| target.display().to_string()).collect()
}

/// Mounts of the guest as the kernel lists them: target, type, source, options of the file system.
fn mounts(pid: u32) -> Vec<String> {
    let one = |line: String| {
        let (left, right) = line.split_once(" - ")?;
        let target = left.split(' ').nth(4)?;
        Some(format!("{target} {right}"))
    };
    let all = lines_of(&format!("/proc/{pid}/mountinfo"));
    all.into_iter().filter_map(one).collect()
}

fn link(nic: &NicStatus) -> String {
    let (host, guest) = (&nic.host_link, &nic.guest_link);
    format!("{host} ⇄ {guest} {} {}", nic.mac, nic.addresses.join(" "))
}

/// Addresses of the guest without their prefix lengths.
pub(crate) fn addresses(stored: &StoredGuest) -> Vec<&str> {
    let nics = &stored.guest.status.nics;
    let all = nics.iter().flat_map(|nic| &nic.addresses);
    all.map(|address| address.split('/').next().unwrap_or(address))
        .collect()
}

/// Rules of the packet filter that name the guest's addresses or links.
fn rules(stored: &StoredGuest) -> Vec<String> {
    let output = std::process::Command::new("nft")
        .args(["list", "ruleset"])
        .output();
    let Ok(output) = output else {
        return Vec::new();
    };
    let mut wanted = addresses(stored);
    wanted.extend(stored.guest.status.nics.iter().map(|nic| nic.host_link.as_str()));
    let text = String::from_utf8_lossy(&output.stdout);
    let names = |line: &str| {
        let words = || line.split(|c: char| c.is_whitespace() || "{},\"[]".contains(c));
        words().any(|word| wanted.contains(&word))
    };
    let found = text.lines().filter(|line| names(line));
    found.map(|line| line.trim().to_owned()).take(200).collect()
}

fn commands(stored: &StoredGuest, root: &Root, bridge: &str) -> Vec<String> {
    let mut commands = Vec::new();
    if let Root::Overlay { layers, upper, work } = root {
        let show = |path: &Path| path.display().to_string();
        let lower: Vec<String> = layers.iter().map(|layer| show(layer)).collect();
        let map = stored.ids.map(|ids| format!("b:0:{}:{}", ids.base, ids.count));
        if let (Some(map), Some(layer)) = (map, lower.first()) {
            commands.push(format!("mount --bind -o X-mount.idmap={map} {layer} /mnt/layer"));
        }
        let lower = if stored.ids.is_some() {
            "/mnt/layer".to_owned()
        } else {
            lower.join(":")
        };
        commands.push(format!(
            "mount -t overlay -o lowerdir={lower},upperdir={},workdir={} overlay /mnt/root",
            show(upper),
            show(work)
        ));
    }
    let user = match stored.ids {
        Some(ids) => format!(
            "--user --map-users=0:{0}:{1} --map-groups=0:{0}:{1} ",
            ids.base, ids.count
        ),
        None => String::new(),
    };
    commands.push(format!(
        "unshare {user}--mount --uts --ipc --net --cgroup --pid --fork chroot /mnt/root /sbin/init"
    ));
    let pid = stored
        .guest
        .status
        .pid
        .map_or_else(|| "PID".to_owned(), |pid| pid.to_string());
    for nic in &stored.guest.status.nics {
        let (host, guest) = (&nic.host_link, &nic.guest_link);
        commands.push(format!(
            "ip link add {host} type veth peer name {guest} netns {pid}"
        ));
        commands.push(format!("ip link set {host} master {bridge} up"));
        for address in &nic.addresses {
            commands.push(format!(
                "nsenter -t {pid} -n ip address add {address} dev {guest}"
            ));
        }
        commands.push(format!("nsenter -t {pid} -n ip link set {guest} up"));
    }
    let address = addresses(stored)
        .into_iter()
        .find(|address| address.contains('.'));
    for one in &stored.guest.spec.publish {
        commands.extend(address.map(|address| forward(one, address)));
    }
    if stored.guest.status.pid.is_some() {
        commands.push(format!("nsenter -t {pid} --all"));
    }
    commands
}

pub(crate) fn forward(publish: &Publish, address: &str) -> String {
    let transport = match publish.transport {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
    };
    let to = publish
        .ip
        .map_or_else(String::new, |ip| format!("ip daddr {ip} "));
    format!(
        "nft add rule ip nat prerouting {to}{transport} dport {} dnat to {address}:{}",
        publish.host_port, publish.guest_port
    )
}
