//! Name servers out of the text of resolv.conf(5).

use std::net::{IpAddr, SocketAddr, SocketAddrV6};

/// The name servers in order, with the scope of link-local ones as an interface name or number.
#[must_use]
pub fn nameservers(text: &str) -> Vec<(IpAddr, Option<String>)> {
    let mut servers = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if words.next() != Some("nameserver") {
            continue;
        }
        let Some(word) = words.next() else { continue };
        let (address, scope) = match word.split_once('%') {
            Some((address, scope)) => (address, Some(scope.to_owned())),
            None => (word, None),
        };
        if let Ok(ip) = address.parse::<IpAddr>()
            && !servers.iter().any(|(known, _)| *known == ip)
        {
            servers.push((ip, scope));
        }
    }
    servers
}

/// Whether all of them are systemd-resolved's stub; its own upstream servers then stand in
/// `/run/systemd/resolve/resolv.conf`.
#[must_use]
pub fn is_stub(servers: &[(IpAddr, Option<String>)]) -> bool {
    let stub = |ip: &IpAddr| matches!(ip, IpAddr::V4(v4) if v4.octets() == [127, 0, 0, 53] || v4.octets() == [127, 0, 0, 54]);
    !servers.is_empty() && servers.iter().all(|(ip, _)| stub(ip))
}

/// The socket address of a name server; a scope is turned into its number by the caller's function.
#[must_use]
pub fn socket_address(ip: IpAddr, scope: Option<u32>) -> SocketAddr {
    match ip {
        IpAddr::V4(_) => SocketAddr::new(ip, 53),
        IpAddr::V6(v6) => SocketAddr::V6(SocketAddrV6::new(v6, 53, 0, scope.unwrap_or(0))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read_in_order_and_once() {
        let text = "# x\nsearch a b\nnameserver 10.255.255.53\nnameserver fe80::1%eth0\nnameserver 10.255.255.53\nnameserver bad\nnameserver\n";
        let servers = nameservers(text);
        assert_eq!(servers.len(), 2);
        assert_eq!(servers[1].1.as_deref(), Some("eth0"));
        assert!(!is_stub(&servers));
        assert!(is_stub(&nameservers("nameserver 127.0.0.53\noptions edns0")));
        assert!(!is_stub(&nameservers("")));
    }
}
