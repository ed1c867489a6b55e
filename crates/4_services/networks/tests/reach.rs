//! Guests reach each other by name, and the outside; the outside sees the host.
#![allow(clippy::unwrap_used)] // A test ends by panic.
#![allow(unsafe_code)] // The ground makes network namespaces.

mod ground;

use ground::*;
use link::dns::{Record, kind};
use model::NetworkSpec;

#[test]
fn guests_find_each_other_by_name_and_are_reached() {
    alone("guests_find_each_other_by_name_and_are_reached", |ground| {
        let networks = ground.up();
        let (web, db) = (ground.guest(&networks, "web"), ground.guest(&networks, "db"));
        tcp_server(&db.netns, "[::]:80");
        within(&web.netns, || {
            for name in ["db", "db.posada", "DB.Posada"] {
                assert_eq!(address(web.gateway(), name), Some(db.ip4()), "{name}");
            }
            let v6 = resolve(web.setup.gateways[1], "db.posada", kind::AAAA);
            assert_eq!(v6, (0, vec![Record::Address(db.ip6())]));
            assert_eq!(
                resolve_tcp(web.gateway(), "db.posada", kind::A),
                [Record::Address(db.ip4())]
            );
            assert_eq!(tcp(db.ip4(), 80).unwrap(), web.ip4().to_string());
            assert_eq!(tcp(db.ip6(), 80).unwrap(), web.ip6().to_string());
        });
        // The host itself asks the gateway, and reaches guests.
        assert_eq!(address(web.gateway(), "db.posada"), Some(db.ip4()));
        tcp(db.ip4(), 80).unwrap();
        tcp(db.ip6(), 80).unwrap();
        networks.rename(&db.id, &"store".parse().unwrap()).unwrap();
        within(&web.netns, || {
            assert_eq!(address(web.gateway(), "store"), Some(db.ip4()));
            assert_eq!(resolve(web.gateway(), "db.posada", kind::A), (3, vec![]));
        });
        networks.release(&db.id).unwrap();
        assert_eq!(resolve(web.gateway(), "store.posada", kind::A), (3, vec![]));
    });
}

#[test]
fn the_outside_is_reached_and_sees_the_host() {
    alone("the_outside_is_reached_and_sees_the_host", |ground| {
        let networks = ground.up();
        let web = ground.guest(&networks, "web");
        tcp_server(&ground.outside, "[::]:80");
        udp_server(&ground.outside, "203.0.113.5:90");
        within(&web.netns, || {
            assert_eq!(tcp(OUTSIDE4, 80).unwrap(), HOST4);
            assert_eq!(tcp(OUTSIDE6, 80).unwrap(), HOST6);
            assert_eq!(udp(OUTSIDE4, 90).unwrap(), HOST4);
        });
        // The outside does not get at a guest that publishes nothing, even by a route to it.
        tcp_server(&web.netns, "[::]:80");
        within(&ground.outside, || {
            run(&format!("ip route add {} via {HOST4}", web.ip4()));
            assert!(tcp(web.ip4(), 80).is_err());
            assert!(std::net::UdpSocket::bind("0.0.0.0:0").is_ok());
        });
    });
}

#[test]
fn other_names_are_asked_of_the_hosts_name_servers() {
    alone("other_names_are_asked_of_the_hosts_name_servers", |ground| {
        // The first server does not answer.
        ground.resolv_conf(
            &format!("nameserver 203.0.113.99\nnameserver {NAME_SERVER}\n"),
            false,
        );
        let networks = ground.up();
        let web = ground.guest(&networks, "web");
        within(&web.netns, || {
            assert_eq!(
                address(web.gateway(), UPSTREAM_NAME),
                Some(UPSTREAM_ANSWER.into())
            );
            assert_eq!(resolve(web.gateway(), "nobody.example.org", kind::A), (3, vec![]));
        });
        // Changes are followed without being told.
        ground.resolv_conf("nameserver 203.0.113.98\nnameserver 203.0.113.99\n", false);
        std::thread::sleep(std::time::Duration::from_millis(1500));
        within(&web.netns, || {
            assert_eq!(resolve(web.gateway(), UPSTREAM_NAME, kind::A).0, 2)
        });
        ground.resolv_conf(&format!("nameserver {NAME_SERVER}\n"), false);
        networks.ensure(&network(), &NetworkSpec::default()).unwrap();
        within(&web.netns, || {
            let over_udp = resolve(web.gateway(), "big.example.org", kind::A).1;
            assert!((10..200).contains(&over_udp.len()), "{}", over_udp.len());
            assert_eq!(resolve_tcp(web.gateway(), "big.example.org", kind::A).len(), 500);
            assert_eq!(resolve(web.gateway(), "silent.example.org", kind::A).0, 2);
        });
        // Nobody outside is served.
        within(&ground.outside, || {
            run(&format!("ip route add {} via {HOST4}", web.gateway()));
            let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
            socket
                .set_read_timeout(Some(std::time::Duration::from_millis(300)))
                .unwrap();
            socket
                .send_to(&link::dns::query(1, "web.posada", 1), (web.gateway(), 53))
                .unwrap();
            assert!(socket.recv(&mut [0; 512]).is_err());
        });
    });
}

/// A TCP segment without a connection: acknowledgement only, far outside of any window.
fn stray(from: std::net::SocketAddrV4, to: std::net::SocketAddrV4) -> Vec<u8> {
    let mut segment = Vec::new();
    segment.extend(from.port().to_be_bytes());
    segment.extend(to.port().to_be_bytes());
    segment.extend(0x7777_7777_u32.to_be_bytes());
    segment.extend(0x1234_5678_u32.to_be_bytes());
    segment.extend([0x50, 0x10, 0xff, 0xff, 0, 0, 0, 0]);
    let pseudo = [
        &from.ip().octets()[..],
        &to.ip().octets()[..],
        &[0, 6, 0, 20][..],
        &segment[..],
    ]
    .concat();
    let mut sum: u32 = pseudo
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    segment[16..18].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    segment
}

#[test]
fn a_segment_that_cannot_be_translated_back_is_not_answered_by_a_reset() {
    alone(
        "a_segment_that_cannot_be_translated_back_is_not_answered_by_a_reset",
        |ground| {
            let networks = ground.up();
            let web = ground.guest(&networks, "web");
            let server: std::net::SocketAddrV4 = format!("{OUTSIDE4}:80").parse().unwrap();
            let listener = within(&ground.outside, || std::net::TcpListener::bind(server).unwrap());
            let _client = within(&web.netns, || std::net::TcpStream::connect(server).unwrap());
            let std::net::SocketAddr::V4(seen) = listener.accept().unwrap().1 else {
                unreachable!()
            };
            let resets = |port: u16, client: std::net::SocketAddrV4| {
                within(&ground.outside, || {
                    let raw = socket2::Socket::new(
                        socket2::Domain::IPV4,
                        socket2::Type::RAW,
                        Some(socket2::Protocol::TCP),
                    )
                    .unwrap();
                    raw.bind(&std::net::SocketAddr::from((*server.ip(), 0)).into())
                        .unwrap();
                    let raw = std::net::UdpSocket::from(raw);
                    raw.set_read_timeout(Some(std::time::Duration::from_millis(300)))
                        .unwrap();
                    let from = std::net::SocketAddrV4::new(*server.ip(), port);
                    raw.send_to(&stray(from, client), (*client.ip(), 0)).unwrap();
                    let mut buffer = [0; 2048];
                    let mut count = 0;
                    while let Ok(length) = raw.recv(&mut buffer) {
                        let segment = &buffer[20..length];
                        let reset = segment[13] & 4 != 0;
                        count += usize::from(reset && segment[2..4] == port.to_be_bytes());
                    }
                    count
                })
            };
            assert_eq!(resets(80, seen), 0, "a flow of ours");
            assert_eq!(resets(81, seen), 1, "what never was ours is answered as before");
        },
    );
}
