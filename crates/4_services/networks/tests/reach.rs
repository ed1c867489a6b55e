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
