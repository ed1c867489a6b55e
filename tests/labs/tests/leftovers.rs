//! After `rm --purge` nothing is left on the host: mounts, links, rules, cgroups, processes, files, sysctls.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::time::{Duration, Instant};

use labs::{Look, host, sh};

#[test]
fn nothing_is_left_after_rm_purge() {
    let (host, _turn) = host();
    // One guest's life first, so that what stays for the next guest (the image, the store, the network) is there.
    host.launch_sleeper("warm", "");
    host.purge(&["warm"]);
    let before = Look::now();
    host.launch("left", "--publish 8077:80 --memory 512M --pids 200");
    host.launch_sleeper("left2", "--publish 8078:80/udp");
    host.ok("exec left -- true");
    host.ok("restart left2 --force");
    host.ok("rm --force --purge --yes left left2");
    let mut new = Vec::new();
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(10) {
        new = Look::now().new_since(&before);
        new.retain(|line| !line.starts_with("file /var/lib/posada/store") && !line.contains("/operations/"));
        if new.is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(new, Vec::<String>::new(), "what the guests have left");
    assert_eq!(Look::now().gone_since(&before), Vec::<String>::new());
}

#[test]
fn the_host_keeps_its_forwarding_policy_resolver_and_foreign_rules() {
    let (host, _turn) = host();
    sh("nft add table inet foreign; nft add chain inet foreign input '{ type filter hook input priority 0; }'").ok();
    let foreign = || sh("nft list table inet foreign").ok();
    let (rules, resolv) = (foreign(), std::fs::read("/etc/resolv.conf").unwrap());
    host.launch_sleeper("pol", "--publish 8079:80");
    assert_eq!(foreign(), rules);
    assert_eq!(std::fs::read("/etc/resolv.conf").unwrap(), resolv);
    assert!(
        sh("cat /proc/sys/net/ipv4/conf/lo/forwarding").ok().trim() == "0",
        "forwarding is per interface"
    );
    host.purge(&["pol"]);
    sh("nft delete table inet foreign").ok();
}
