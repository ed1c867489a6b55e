//! What a host offers networks, and what on it stands in their way.

use std::path::Path;

use link::Links;
use link::nft::Nft;
use link::sysctl::Sysctl;
use model::api::{Finding, Verdict};

fn finding(check: &str, verdict: Verdict, seen: impl Into<String>, remedy: Option<&str>) -> Finding {
    Finding {
        check: check.to_owned(),
        verdict,
        seen: seen.into(),
        remedy: remedy.map(str::to_owned),
    }
}

/// Looks at everything; changes nothing.
pub(crate) fn examine() -> Vec<Finding> {
    let mut findings = vec![nft(), bridges(), uplink(), addresses6()];
    findings.extend(firewalls());
    findings
}

fn nft() -> Finding {
    match Nft::find() {
        Ok(nft) => finding(
            "doctor-nft",
            Verdict::Good,
            nft.program.display().to_string(),
            None,
        ),
        Err(_) => finding(
            "doctor-nft",
            Verdict::Bad,
            "nft",
            Some("apt-get install nftables"),
        ),
    }
}

fn bridges() -> Finding {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let modules = format!("/lib/modules/{}", release.trim());
    let built_in = std::fs::read_to_string(format!("{modules}/modules.builtin")).unwrap_or_default();
    let dep = std::fs::read_to_string(format!("{modules}/modules.dep")).unwrap_or_default();
    let bridge = |text: &str| text.contains("/bridge/bridge.ko");
    let loaded = Path::new("/sys/module/bridge").exists();
    if loaded || bridge(&built_in) || bridge(&dep) {
        return finding("doctor-bridge", Verdict::Good, "bridge", None);
    }
    // Kernels without a modules directory (virtual machines, tests) have everything built in and tell nothing.
    if !Path::new(&modules).exists() {
        return finding("doctor-bridge", Verdict::Good, release.trim(), None);
    }
    finding(
        "doctor-bridge",
        Verdict::Bad,
        release.trim(),
        Some("modprobe bridge"),
    )
}

fn uplink() -> Finding {
    let routes = Links::open().and_then(|mut links| Ok((links.routes()?, links.list()?)));
    let Ok((routes, links)) = routes else {
        return finding("doctor-uplink", Verdict::Bad, "rtnetlink", None);
    };
    let default = routes
        .iter()
        .filter(|route| route.prefix_len == 0)
        .flat_map(|route| &route.links);
    let names: Vec<&str> = default
        .filter_map(|index| links.iter().find(|link| link.index == *index))
        .map(|link| link.name.as_str())
        .collect();
    match names.first() {
        Some(name) => finding("doctor-uplink", Verdict::Good, *name, None),
        None => finding(
            "doctor-uplink",
            Verdict::Limited,
            "no default route",
            Some("ip route show default"),
        ),
    }
}

fn addresses6() -> Finding {
    let sysctl = Sysctl::at(Path::new("/proc/sys"));
    match sysctl.get("net/ipv6/conf/all/disable_ipv6").as_deref() {
        Some("0") => finding("doctor-ipv6", Verdict::Good, "IPv6", None),
        Some(_) => finding(
            "doctor-ipv6",
            Verdict::Limited,
            "net.ipv6.conf.all.disable_ipv6 = 1",
            Some("sysctl net.ipv6.conf.all.disable_ipv6=0"),
        ),
        None => finding("doctor-ipv6", Verdict::Limited, "ipv6.disable=1", None),
    }
}

/// Packet filters of an administrator or of other programs that drop what we forward: named, never touched.
fn firewalls() -> Vec<Finding> {
    let Ok(nft) = Nft::find() else { return Vec::new() };
    let output = std::process::Command::new(nft.program)
        .args(["-t", "list", "chains"])
        .env_clear()
        .output();
    let Ok(output) = output else { return Vec::new() };
    judge(&String::from_utf8_lossy(&output.stdout))
}

/// Reads the listing of all base chains.
fn judge(listing: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |check: &str, seen: String, remedy: &str| {
        if !findings.iter().any(|known: &Finding| known.check == check) {
            findings.push(finding(check, Verdict::Limited, seen, Some(remedy)));
        }
    };
    let mut table = "";
    let mut chain = "";
    let docker = listing.contains("chain DOCKER-USER");
    let ufw = listing.contains("chain ufw-");
    for line in listing.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("table ") {
            table = name.trim_end_matches(" {");
        } else if let Some(name) = line.strip_prefix("chain ") {
            chain = name.trim_end_matches(" {");
        }
        if table == "inet posada" {
            continue;
        }
        let seen = || format!("{table} {chain}: {line}");
        if line.contains("hook forward") && line.contains("policy drop") {
            if ufw {
                add(
                    "doctor-ufw",
                    seen(),
                    "ufw route allow in on posada0 && ufw route allow out on posada0",
                );
            } else if docker {
                add(
                    "doctor-docker",
                    seen(),
                    "iptables -I DOCKER-USER -i posada0 -j ACCEPT && iptables -I DOCKER-USER -o posada0 -j ACCEPT",
                );
            } else {
                add(
                    "doctor-forward-drop",
                    seen(),
                    "iptables -I FORWARD -i posada0 -j ACCEPT && iptables -I FORWARD -o posada0 -j ACCEPT",
                );
            }
        }
        if line.contains("hook input") && line.contains("policy drop") {
            let remedy = if ufw {
                "ufw allow in on posada0"
            } else {
                "iptables -I INPUT -i posada0 -j ACCEPT"
            };
            add("doctor-input-drop", seen(), remedy);
        }
        if table == "inet firewalld" {
            add(
                "doctor-firewalld",
                table.to_owned(),
                "firewall-cmd --zone=trusted --add-interface=posada0",
            );
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_that_drop_are_named_with_the_command_that_opens_them() {
        let docker = "table ip filter {\n\tchain FORWARD {\n\t\ttype filter hook forward priority filter; policy drop;\n\t}\n\tchain DOCKER-USER {\n\t}\n}\n";
        let found = judge(docker);
        assert_eq!(found[0].check, "doctor-docker");
        assert!(found[0].seen.contains("FORWARD"));
        assert!(judge("table inet posada {\n\tchain forward {\n\t\ttype filter hook forward priority filter; policy drop;\n\t}\n}\n").is_empty());
        let ufw = "table ip filter {\n\tchain ufw-user-forward {\n\t}\n\tchain FORWARD {\n\t\ttype filter hook forward priority 0; policy drop;\n\t}\n}\n";
        assert_eq!(judge(ufw)[0].check, "doctor-ufw");
    }
}
