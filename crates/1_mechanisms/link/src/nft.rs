//! Our packet filter table `inet posada`: rendered by pure functions, applied atomically by nft(8).
//!
//! The table holds all networks. What changes with every published port lies in maps, so that such a change replaces
//! elements and no rule. No other table is ever named.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use fault::{Fault, OrFault, Result};
use netlink_sys::{Socket, SocketAddr, protocols};

use crate::{NFT_MISSING, NFT_REFUSED, Prefix6, Subnet4};

/// Name of our table, in family `inet`.
pub const TABLE: &str = "posada";

/// A network whose guests reach the outside through the host's addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NatNetwork {
    /// Its bridge.
    pub bridge: String,
    /// Its IPv4 subnet.
    pub subnet: Subnet4,
    /// Its IPv6 prefix.
    pub prefix6: Prefix6,
}

/// A port of the host that the kernel hands on to a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// UDP instead of TCP.
    pub udp: bool,
    /// Only on this address of the host.
    pub ip: Option<IpAddr>,
    /// Port on the host.
    pub host_port: u16,
    /// The guest's IPv4 address.
    pub to4: Ipv4Addr,
    /// The guest's IPv6 address.
    pub to6: Ipv6Addr,
    /// Port in the guest.
    pub guest_port: u16,
}

/// Everything that the table shall say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// The networks.
    pub networks: Vec<NatNetwork>,
    /// The published ports of all of them.
    pub forwards: Vec<Forward>,
}

/// Chains and rules: the same for any networks, because these lie in sets.
///
/// `remember` and `input`: some user-mode uplinks (Debian 12's pasta) send segments that connection tracking cannot
/// translate back; the host would answer them with a reset and a translated download would hang. So the flows that
/// left our networks are remembered as they look outside, and what is invalid of exactly these is dropped. `inside`
/// matters where br_netfilter leads bridged frames through the forward hook.
///
/// `own4`, `own6`: a guest that talks to its own published port is left to the network process, which listens there
/// too. The kernel would have to send the packet back through the port of the bridge that it came from, which a
/// bridge with br_netfilter does in hairpin mode only, and that mode returns broadcasts to their sender.
const RULES: &str = r#"
  map any4 { type inet_proto . inet_service : ipv4_addr . inet_service; }
  map one4 { type inet_proto . ipv4_addr . inet_service : ipv4_addr . inet_service; }
  map any6 { type inet_proto . inet_service : ipv6_addr . inet_service; }
  map one6 { type inet_proto . ipv6_addr . inet_service : ipv6_addr . inet_service; }
  set own4 { type inet_proto . ipv4_addr . inet_service; }
  set own6 { type inet_proto . ipv6_addr . inet_service; }
  set bridges { type ifname; }
  set inside { type ifname . ifname; }
  set gateways4 { type ipv4_addr; }
  set gateways6 { type ipv6_addr; }
  set flows4 { type ipv4_addr . inet_service . inet_service; flags dynamic, timeout; timeout 10m; size 65535; }
  set flows6 { type ipv6_addr . inet_service . inet_service; flags dynamic, timeout; timeout 10m; size 65535; }

  chain published {
    meta l4proto . ip saddr . th dport @own4 return
    meta l4proto . ip6 saddr . th dport @own6 return
    meta nfproto ipv4 dnat ip to meta l4proto . ip daddr . th dport map @one4
    meta nfproto ipv4 dnat ip to meta l4proto . th dport map @any4
    meta nfproto ipv6 dnat ip6 to meta l4proto . ip6 daddr . th dport map @one6
    meta nfproto ipv6 dnat ip6 to meta l4proto . th dport map @any6
  }
  chain prerouting {
    type nat hook prerouting priority dstnat; policy accept;
    meta l4proto { tcp, udp } fib daddr type local jump published
  }
  chain output {
    type nat hook output priority -100; policy accept;
    ip daddr 127.0.0.0/8 return
    ip6 daddr ::1 return
    meta l4proto { tcp, udp } fib daddr type local jump published
  }
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    iifname @bridges oifname @bridges ct status dnat masquerade
    iifname @bridges oifname != @bridges masquerade
  }
  chain remember {
    type filter hook postrouting priority 110; policy accept;
    iifname @bridges oifname != @bridges update @flows4 { ip daddr . tcp dport . tcp sport }
    iifname @bridges oifname != @bridges update @flows6 { ip6 daddr . tcp dport . tcp sport }
  }
  chain input {
    type filter hook input priority filter; policy accept;
    iifname @bridges accept
    iifname "lo" accept
    ct state invalid ip saddr . tcp sport . tcp dport @flows4 drop
    ct state invalid ip6 saddr . tcp sport . tcp dport @flows6 drop
    ip daddr @gateways4 drop
    ip6 daddr @gateways6 drop
  }
  chain forward {
    type filter hook forward priority filter; policy accept;
    iifname != @bridges oifname != @bridges accept
    iifname . oifname @inside accept
    ct state invalid drop
    ct state established,related accept
    ct status dnat accept
    oifname @bridges drop
  }
"#;

/// The whole table, replacing one that is there.
#[must_use]
pub fn render(filter: &Filter) -> String {
    let mut script =
        format!("table inet {TABLE}\ndelete table inet {TABLE}\ntable inet {TABLE} {{{RULES}}}\n");
    write_elements(&mut script, filter);
    script
}

/// Only what lies in sets and maps, replacing what is in them; the table must be there.
#[must_use]
pub fn render_elements(filter: &Filter) -> String {
    let mut script = String::new();
    for (what, name) in [
        ("set", "bridges"),
        ("set", "inside"),
        ("set", "own4"),
        ("set", "own6"),
        ("set", "gateways4"),
        ("set", "gateways6"),
        ("map", "any4"),
        ("map", "one4"),
        ("map", "any6"),
        ("map", "one6"),
    ] {
        let _ = writeln!(script, "flush {what} inet {TABLE} {name}");
    }
    write_elements(&mut script, filter);
    script
}

/// The deletion of our table, whether it is there or not.
#[must_use]
pub fn render_removal() -> String {
    format!("table inet {TABLE}\ndelete table inet {TABLE}\n")
}

fn write_elements(script: &mut String, filter: &Filter) {
    let mut add = |name: &str, elements: Vec<String>| {
        if !elements.is_empty() {
            let _ = writeln!(
                script,
                "add element inet {TABLE} {name} {{ {} }}",
                elements.join(", ")
            );
        }
    };
    let networks = &filter.networks;
    add(
        "bridges",
        networks
            .iter()
            .map(|network| format!("\"{}\"", network.bridge))
            .collect(),
    );
    let inside = |network: &NatNetwork| format!("\"{0}\" . \"{0}\"", network.bridge);
    add("inside", networks.iter().map(inside).collect());
    add(
        "gateways4",
        networks
            .iter()
            .map(|network| network.subnet.gateway().to_string())
            .collect(),
    );
    add(
        "gateways6",
        networks
            .iter()
            .map(|network| network.prefix6.gateway().to_string())
            .collect(),
    );
    let (mut any4, mut one4, mut any6, mut one6) = (vec![], vec![], vec![], vec![]);
    for forward in &filter.forwards {
        let Forward {
            host_port,
            to4,
            to6,
            guest_port,
            ..
        } = forward;
        let transport = if forward.udp { "udp" } else { "tcp" };
        match forward.ip {
            None => {
                any4.push(format!("{transport} . {host_port} : {to4} . {guest_port}"));
                any6.push(format!("{transport} . {host_port} : {to6} . {guest_port}"));
            }
            // Loopback never passes here: that is the network process's.
            Some(ip) if ip.is_loopback() => {}
            Some(IpAddr::V4(ip)) => {
                one4.push(format!("{transport} . {ip} . {host_port} : {to4} . {guest_port}"))
            }
            Some(IpAddr::V6(ip)) => {
                one6.push(format!("{transport} . {ip} . {host_port} : {to6} . {guest_port}"))
            }
        }
    }
    let transport = |forward: &Forward| if forward.udp { "udp" } else { "tcp" };
    let own4 = |one: &Forward| format!("{} . {} . {}", transport(one), one.to4, one.host_port);
    let own6 = |one: &Forward| format!("{} . {} . {}", transport(one), one.to6, one.host_port);
    add("own4", filter.forwards.iter().map(own4).collect());
    add("own6", filter.forwards.iter().map(own6).collect());
    add("any4", any4);
    add("one4", one4);
    add("any6", any6);
    add("one6", one6);
}

/// The nft program of a host.
#[derive(Clone, Debug)]
pub struct Nft {
    /// Its path; a bare name is looked up by the system.
    pub program: PathBuf,
}

impl Nft {
    /// Looks in the usual directories of system programs.
    ///
    /// # Errors
    /// `NET002` when it is not installed.
    pub fn find() -> Result<Self> {
        [
            "/usr/sbin/nft",
            "/sbin/nft",
            "/usr/bin/nft",
            "/usr/local/sbin/nft",
        ]
        .iter()
        .map(Path::new)
        .find(|path| path.exists())
        .map(|path| Nft {
            program: path.to_owned(),
        })
        .ok_or_else(|| Fault::new(NFT_MISSING))
    }

    /// Applies a script as one transaction.
    ///
    /// # Errors
    /// `NET002` when the program cannot be run, `NET003` with its words when it refuses.
    pub fn apply(&self, script: &str) -> Result<()> {
        let mut child = Command::new(&self.program)
            .args(["-f", "-"])
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .or_fault(|| Fault::new(NFT_MISSING))?;
        if let Some(mut stdin) = child.stdin.take() {
            // A program that dies early breaks the pipe; its own words tell why.
            let _ = stdin.write_all(script.as_bytes());
        }
        let output = child.wait_with_output().or_fault(|| Fault::new(NFT_REFUSED))?;
        if output.status.success() {
            return Ok(());
        }
        let words = String::from_utf8_lossy(&output.stderr);
        Err(Fault::new(NFT_REFUSED).because_of(words.lines().take(4).collect::<Vec<_>>().join(" / ")))
    }

    /// The number of the rule set's last change by anybody, in the calling thread's network namespace; none when the
    /// kernel does not tell.
    #[must_use]
    pub fn generation() -> Option<u32> {
        ask_generation().ok().flatten()
    }

    /// Our table as the kernel has it, without the elements of its sets; none when there is no such table.
    ///
    /// # Errors
    /// `NET002`.
    pub fn table(&self) -> Result<Option<String>> {
        let output = Command::new(&self.program)
            .args(["-t", "list", "table", "inet", TABLE])
            .env_clear()
            .stdin(Stdio::null())
            .output()
            .or_fault(|| Fault::new(NFT_MISSING))?;
        Ok(output
            .status
            .success()
            .then(|| String::from_utf8_lossy(&output.stdout).into_owned()))
    }
}

/// Asks nf_tables for its generation (NFT_MSG_GETGEN of linux/netfilter/nf_tables.h).
fn ask_generation() -> io::Result<Option<u32>> {
    const GET: u16 = 10 << 8 | 16;
    const NEW: u16 = 10 << 8 | 15;
    const GENERATION: u16 = 1;
    let mut socket = Socket::new(protocols::NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut ask = Vec::new();
    ask.extend(20_u32.to_ne_bytes());
    ask.extend(GET.to_ne_bytes());
    // NLM_F_REQUEST; sequence number, port, and the header of netfilter: any family, version 0.
    ask.extend(1_u16.to_ne_bytes());
    ask.extend([0; 12]);
    socket.send(&ask, 0)?;
    let (answer, _) = socket.recv_from_full()?;
    if answer.get(4..6) != Some(&NEW.to_ne_bytes()) {
        return Ok(None);
    }
    let mut rest = answer.get(20..).unwrap_or_default();
    while let Some((head, body)) = rest.split_at_checked(4) {
        let length = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let kind = u16::from_ne_bytes([head[2], head[3]]);
        if let (GENERATION, Some(value)) = (kind, body.first_chunk()) {
            return Ok(Some(u32::from_be_bytes(*value)));
        }
        rest = rest.get(length.max(4).next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter() -> Filter {
        let forward = |udp, ip: Option<&str>| Forward {
            udp,
            ip: ip.map(|ip| ip.parse().unwrap()),
            host_port: 8000,
            to4: Ipv4Addr::new(10, 1, 2, 3),
            to6: "fd00::3".parse().unwrap(),
            guest_port: 80,
        };
        Filter {
            networks: vec![NatNetwork {
                bridge: "posada0".to_owned(),
                subnet: "10.1.2.0/24".parse().unwrap(),
                prefix6: "fd00::/64".parse().unwrap(),
            }],
            forwards: vec![
                forward(false, None),
                forward(true, Some("192.0.2.1")),
                forward(true, Some("2001:db8::1")),
                forward(true, Some("127.0.0.1")),
            ],
        }
    }

    #[test]
    fn published_ports_are_elements_of_maps() {
        let script = render_elements(&filter());
        assert!(script.contains("any4 { tcp . 8000 : 10.1.2.3 . 80 }"), "{script}");
        assert!(
            script.contains("one4 { udp . 192.0.2.1 . 8000 : 10.1.2.3 . 80 }"),
            "{script}"
        );
        assert!(
            script.contains("one6 { udp . 2001:db8::1 . 8000 : fd00::3 . 80 }"),
            "{script}"
        );
        assert!(!script.contains("127.0.0.1"), "{script}");
    }

    #[test]
    fn no_script_names_another_table() {
        for script in [render(&filter()), render_elements(&filter()), render_removal()] {
            for line in script.lines().filter(|line| line.contains("inet ")) {
                assert!(line.contains("inet posada"), "{line}");
            }
            assert!(!script.contains("flush ruleset"));
        }
    }
}
