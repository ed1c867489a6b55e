//! What outlives a daemon, what is healed, and what is left behind: nothing.
#![allow(clippy::unwrap_used)] // A test ends by panic.
#![allow(unsafe_code)] // The ground makes network namespaces.

mod ground;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use ground::*;
use link::dhcp::{Kind, Message, Options, parse};
use link::{Links, Mac};
use model::{NetworkSpec, Transport};
use networks::Networks;
use socket2::{Domain, Protocol, Socket, Type};

/// One exchange of a DHCP client on `eth0`, which has no address yet unless it renews.
fn dhcp(mac: Mac, kind: Kind, requested: Option<Ipv4Addr>, ciaddr: Ipv4Addr) -> Option<Message> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).unwrap();
    socket.bind_device(Some(b"eth0")).unwrap();
    socket.set_broadcast(true).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket
        .bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 68)).into())
        .unwrap();
    let socket = std::net::UdpSocket::from(socket);
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let message = Message {
        reply: false,
        kind,
        xid: 42,
        broadcast: true,
        ciaddr,
        yiaddr: Ipv4Addr::UNSPECIFIED,
        giaddr: Ipv4Addr::UNSPECIFIED,
        mac,
        options: Options {
            requested,
            ..Options::default()
        },
    };
    socket
        .send_to(&message.to_bytes(), (Ipv4Addr::BROADCAST, 67))
        .unwrap();
    let mut buffer = [0; 2048];
    let (length, _) = socket.recv_from(&mut buffer).ok()?;
    parse(&buffer[..length])
}

#[test]
fn without_a_daemon_a_guest_gets_its_lease_renews_it_and_resolves() {
    alone(
        "without_a_daemon_a_guest_gets_its_lease_renews_it_and_resolves",
        |ground| {
            let networks = ground.up();
            let guest = ground.plugged(&networks, "web");
            let other = ground.guest(&networks, "db");
            networks
                .publish(&other.id, &[port(8000, 80, Transport::Tcp)])
                .unwrap();
            tcp_server(&other.netns, "[::]:80");
            drop(networks);
            let mac: Mac = guest.setup.mac.parse().unwrap();
            let std::net::IpAddr::V4(ip) = guest.ip4() else {
                unreachable!()
            };
            within(&guest.netns, || {
                let offer = dhcp(mac, Kind::Discover, None, Ipv4Addr::UNSPECIFIED).unwrap();
                assert_eq!((offer.kind, offer.yiaddr), (Kind::Offer, ip));
                assert_eq!(offer.options.mtu, Some(1400));
                assert_eq!(offer.options.hostname.as_deref(), Some("web"));
                let ack = dhcp(mac, Kind::Request, Some(ip), Ipv4Addr::UNSPECIFIED).unwrap();
                assert_eq!((ack.kind, ack.yiaddr), (Kind::Ack, ip));
            });
            configure(&guest);
            within(&guest.netns, || {
                let renewed = dhcp(mac, Kind::Request, None, ip).unwrap();
                assert_eq!((renewed.kind, renewed.options.lease), (Kind::Ack, Some(3600)));
                assert_eq!(address(guest.gateway(), "db.posada"), Some(other.ip4()));
                assert_eq!(
                    address(guest.gateway(), UPSTREAM_NAME),
                    Some(UPSTREAM_ANSWER.into())
                );
                tcp(guest.gateway(), 8000).unwrap();
            });
            tcp("127.0.0.1", 8000).unwrap();
            // The next daemon finds the process and the same address.
            let pid = fs::read_to_string(pid_file(&ground)).unwrap();
            let networks = ground.up();
            assert_eq!(networks.list().unwrap()[0].2.pid, pid.trim().parse().ok());
            let (_, again) = networks.attach(&request(&guest.id, &guest.name)).unwrap();
            assert_eq!(again, guest.setup);
            tcp("127.0.0.1", 8000).unwrap();
        },
    );
}

#[test]
fn a_stock_client_gets_its_lease() {
    alone("a_stock_client_gets_its_lease", |ground| {
        let networks = ground.up();
        let guest = ground.plugged(&networks, "web");
        let said = within(&guest.netns, || {
            run("busybox udhcpc -i eth0 -n -q -f -s /bin/true 2>&1")
        });
        assert!(said.contains(&guest.ip4().to_string()), "{said}");
    });
}

#[test]
fn a_guest_that_listens_to_advertisements_gets_the_allocators_address() {
    alone(
        "a_guest_that_listens_to_advertisements_gets_the_allocators_address",
        |ground| {
            let networks = ground.up();
            let guest = ground.plugged(&networks, "web");
            let has = || {
                within(&guest.netns, || {
                    let mut links = Links::open().unwrap();
                    let address = links
                        .addresses()
                        .unwrap()
                        .iter()
                        .any(|address| address.ip == guest.ip6());
                    let route = links
                        .routes()
                        .unwrap()
                        .iter()
                        .any(|route| route.from_ra && route.prefix_len == 0);
                    address && route
                })
            };
            eventually("an address by router advertisement", has);
            within(&guest.netns, || {
                eventually("duplicate address detection", || {
                    std::net::UdpSocket::bind((guest.ip6(), 0)).is_ok()
                });
                assert_eq!(
                    resolve(guest.setup.gateways[1], "web.posada", link::dns::kind::AAAA)
                        .1
                        .len(),
                    1
                );
            });
            let _ = SocketAddrV6::new([0; 8].into(), 0, 0, 0);
        },
    );
}

#[test]
fn a_network_process_that_dies_is_replaced_with_all_that_it_served() {
    alone(
        "a_network_process_that_dies_is_replaced_with_all_that_it_served",
        |ground| {
            let networks = ground.up();
            let guest = ground.guest(&networks, "web");
            tcp_server(&guest.netns, "[::]:80");
            networks
                .publish(&guest.id, &[port(8000, 80, Transport::Tcp)])
                .unwrap();
            for round in 0..5 {
                let pid = networks.list().unwrap()[0].2.pid.unwrap();
                run(&format!("kill -9 {pid}"));
                if round % 2 == 0 {
                    networks.ensure(&network(), &NetworkSpec::default()).unwrap();
                } else {
                    eventually("a new process", || {
                        networks.list().unwrap()[0].2.pid.is_some_and(|new| new != pid)
                    });
                }
                eventually("the forward", || tcp("127.0.0.1", 8000).is_ok());
                within(&guest.netns, || {
                    assert_eq!(address(guest.gateway(), "web"), Some(guest.ip4()))
                });
            }
            // Killed while there is no daemon: the next one starts it.
            let pid = networks.list().unwrap()[0].2.pid.unwrap();
            drop(networks);
            std::thread::sleep(Duration::from_millis(1200));
            run(&format!("kill -9 {pid}"));
            let _networks = ground.up();
            tcp("127.0.0.1", 8000).unwrap();
        },
    );
}

#[test]
fn the_network_process_has_no_privileges() {
    alone("the_network_process_has_no_privileges", |ground| {
        let networks = ground.up();
        let pid = networks.list().unwrap()[0].2.pid.unwrap();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line[name.len() + 1..].trim().to_owned()
        };
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(field(set), "0000000000000000", "{set}");
        }
        assert_eq!(
            (field("NoNewPrivs"), field("Seccomp"), field("Threads")),
            ("1".into(), "2".into(), "1".into())
        );
        assert!(
            field("Uid").split_whitespace().all(|uid| uid == "65534"),
            "{}",
            field("Uid")
        );
        assert_eq!(field("Groups"), "");
        assert_eq!(fs::read_dir(format!("/proc/{pid}/root")).unwrap().count(), 0);
        let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
        assert_eq!(mounts.lines().count(), 1, "{mounts}");
        for fd in fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten() {
            let target = fs::read_link(fd.path()).unwrap().display().to_string();
            let known = ["socket:", "anon_inode:", "/dev/null"]
                .iter()
                .any(|kind| target.starts_with(kind));
            assert!(known || target.ends_with("net.log"), "{target}");
        }
    });
}

/// Everything of the host that a network could leave something in.
fn picture() -> String {
    // Not what counts by itself, nor what the kernel adds to for its own ends.
    let settings = "find /proc/sys/net -type f -readable | sort | grep -vE 'nf_conntrack_count|stable_secret|/neigh/|random|tcp_mem|udp_mem|netdev_rss_key|route/flush' | xargs grep -H . 2>/dev/null | grep -v base_reachable";
    [
        run("ip -o link | sed 's/ state [A-Z]*//; s/<[^>]*>//'"),
        // Link-local addresses come by themselves, a second or two after their links.
        run("ip -o address | grep -v fe80: | sed 's/ *valid_lft.*//'"),
        run("ip route show table all | grep -vE 'fe80:|ff00:'"),
        run("nft list ruleset"),
        run(settings),
        // Dead children of this very process, which plays two daemons, do not count.
        run("ps -e -o stat=,comm= | grep -v ^Z | awk '{print $2}' | grep -vE '^(sh|ps|awk|grep|sort)$' | sort"),
    ]
    .join("\n---\n")
}

#[test]
fn after_removal_nothing_is_left_on_the_host() {
    alone("after_removal_nothing_is_left_on_the_host", |ground| {
        run(
            "nft add table inet other; nft add chain inet other forward '{ type filter hook forward priority 0; policy accept; }'",
        );
        let before = picture();
        let networks = ground.up();
        let guest = ground.guest(&networks, "web");
        networks
            .publish(&guest.id, &[port(8000, 80, Transport::Tcp)])
            .unwrap();
        assert!(result(networks.remove(&network())).starts_with("NET023"));
        networks.release(&guest.id).unwrap();
        networks.remove(&network()).unwrap();
        eventually("everything gone", || picture() == before);
        for dir in ["state/networks", "run/networks"] {
            assert_eq!(
                fs::read_dir(ground.dir.path().join(dir)).unwrap().count(),
                0,
                "{dir}"
            );
        }
        // Removed by a daemon that did not make it: the same.
        drop(ground.up());
        let networks = ground.networks();
        networks.remove(&network()).unwrap();
        eventually("everything gone again", || picture() == before);
    });
}

#[test]
fn foreign_rules_stay_and_a_foreign_flush_is_healed() {
    alone("foreign_rules_stay_and_a_foreign_flush_is_healed", |ground| {
        run(
            "nft add table ip filter; nft add chain ip filter FORWARD '{ type filter hook forward priority 0; policy accept; }'; nft add rule ip filter FORWARD counter",
        );
        let foreign = || run("nft -s list table ip filter");
        let before = foreign();
        let networks = ground.up();
        let guest = ground.guest(&networks, "web");
        tcp_server(&ground.outside, "[::]:80");
        tcp_server(&guest.netns, "[::]:80");
        networks
            .publish(&guest.id, &[port(8000, 80, Transport::Tcp)])
            .unwrap();
        within(&guest.netns, || tcp(OUTSIDE4, 80)).unwrap();
        assert_eq!(foreign(), before);
        run("nft flush ruleset");
        networks.ensure(&network(), &NetworkSpec::default()).unwrap();
        within(&guest.netns, || tcp(OUTSIDE4, 80)).unwrap();
        within(&ground.outside, || tcp(HOST4, 8000)).unwrap();
        run("ip link del posada0");
        networks.ensure(&network(), &NetworkSpec::default()).unwrap();
        networks
            .connect(&guest.id, std::os::fd::AsFd::as_fd(&guest.netns))
            .unwrap();
        within(&guest.netns, || tcp(OUTSIDE4, 80)).unwrap();
    });
}

#[test]
fn a_link_of_somebody_else_keeps_its_name() {
    alone("a_link_of_somebody_else_keeps_its_name", |ground| {
        run("ip link add posada0 type bridge; ip address add 10.99.0.1/24 dev posada0");
        let networks = ground.networks();
        let status = networks.ensure(&network(), &NetworkSpec::default()).unwrap();
        assert_eq!(status.bridge, "posada1");
        networks.remove(&network()).unwrap();
        run("ip link show posada0");
    });
}

#[test]
fn the_subnet_collides_with_no_route_address_or_name_server() {
    alone(
        "the_subnet_collides_with_no_route_address_or_name_server",
        |ground| {
            // All of 10/8 is routed but for three subnets; one has an address, one a name server.
            for subnet in [
                "10.0.0.0/9",
                "10.128.0.0/10",
                "10.192.0.0/13",
                "10.224.0.0/11",
                "10.208.0.0/12",
                "10.202.0.0/15",
                "10.204.0.0/14",
                "10.201.0.0/16",
            ] {
                run(&format!("ip route add {subnet} dev wire table 77"));
            }
            for third in 3..256 {
                run(&format!("ip route add 10.200.{third}.0/24 dev wire"));
            }
            run("ip address add 10.200.0.1/32 dev lo");
            ground.resolv_conf("nameserver 10.200.1.53\n", false);
            let networks = ground.networks();
            let status = networks.ensure(&network(), &NetworkSpec::default()).unwrap();
            assert_eq!(status.gateway, Some(Ipv4Addr::new(10, 200, 2, 1)));
            let wanted = NetworkSpec {
                subnet: Some("10.200.1.0/24".to_owned()),
                ..NetworkSpec::default()
            };
            assert!(result(networks.ensure(&"lan".parse().unwrap(), &wanted)).starts_with("NET017"));
            drop(networks);
            // The choice is remembered.
            let status = ground
                .networks()
                .ensure(&network(), &NetworkSpec::default())
                .unwrap();
            assert_eq!(status.gateway, Some(Ipv4Addr::new(10, 200, 2, 1)));
        },
    );
}

#[test]
fn a_sweep_takes_back_what_belongs_to_nobody_alive() {
    alone("a_sweep_takes_back_what_belongs_to_nobody_alive", |ground| {
        let networks = ground.up();
        let (web, db) = (ground.guest(&networks, "web"), ground.guest(&networks, "db"));
        networks
            .publish(&db.id, &[port(8000, 80, Transport::Tcp)])
            .unwrap();
        networks.sweep(std::slice::from_ref(&web.id)).unwrap();
        let leases = networks.list().unwrap()[0].2.leases.clone();
        assert_eq!(leases.len(), 1);
        assert_eq!(leases[0].guest, "web");
        assert_eq!(run("ip -o link show master posada0").lines().count(), 1);
        eventually("the port is free", || {
            std::net::TcpListener::bind("[::]:8000").is_ok()
        });
        let again: &Networks = &networks;
        again
            .connect(&web.id, std::os::fd::AsFd::as_fd(&web.netns))
            .unwrap();
        assert_eq!(run("ip -o link show master posada0").lines().count(), 1);
    });
}
