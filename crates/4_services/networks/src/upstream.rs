//! The name servers of the host, as they are now.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::SystemTime;

use link::resolv;

const RESOLV: &str = "/etc/resolv.conf";
/// Upstream servers of systemd-resolved (systemd-resolved.service(8)).
const RESOLVED: &str = "/run/systemd/resolve/resolv.conf";

/// Reads the host's name servers; those behind systemd-resolved's stub when that is all there is.
pub(crate) fn servers(index_of: &dyn Fn(&str) -> Option<u32>) -> Vec<SocketAddr> {
    let read = |path: &str| resolv::nameservers(&fs::read_to_string(path).unwrap_or_default());
    let mut servers = read(RESOLV);
    if resolv::is_stub(&servers) {
        let behind = read(RESOLVED);
        if !behind.is_empty() {
            servers = behind;
        }
    }
    let address = |(ip, scope): (std::net::IpAddr, Option<String>)| {
        let index = scope.and_then(|scope| scope.parse().ok().or_else(|| index_of(&scope)));
        resolv::socket_address(ip, index)
    };
    servers.into_iter().map(address).collect()
}

/// What tells that the files changed.
pub(crate) fn stamp() -> Vec<Option<(SystemTime, u64)>> {
    let one = |path: &str| {
        let meta = fs::metadata(Path::new(path)).ok()?;
        Some((meta.modified().ok()?, meta.len()))
    };
    vec![one(RESOLV), one(RESOLVED)]
}
