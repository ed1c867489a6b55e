//! Published ports: who reaches them, and who is told that they are taken.
#![allow(clippy::unwrap_used)] // A test ends by panic.
#![allow(unsafe_code)] // The ground makes network namespaces.

mod ground;

use std::net::{TcpListener, UdpSocket};

use ground::*;
use model::{Publish, Transport};

#[test]
fn a_published_port_is_reached_from_everywhere() {
    alone("a_published_port_is_reached_from_everywhere", |ground| {
        let networks = ground.up();
        let (web, db) = (ground.guest(&networks, "web"), ground.guest(&networks, "db"));
        tcp_server(&web.netns, "[::]:80");
        udp_server(&web.netns, &format!("{}:53", web.ip4()));
        udp_server(&web.netns, &format!("[{}]:53", web.ip6()));
        let ports = [port(8000, 80, Transport::Tcp), port(5353, 53, Transport::Udp)];
        networks.publish(&web.id, &ports).unwrap();
        let here = ["127.0.0.1", "127.0.0.7", "::1", HOST4, HOST6];
        let gateways = [web.gateway().to_string(), web.setup.gateways[1].to_string()];
        let from_host: Vec<&str> = here
            .into_iter()
            .chain(gateways.iter().map(String::as_str))
            .collect();
        for ip in &from_host {
            tcp(ip, 8000).unwrap_or_else(|error| panic!("host by {ip}: {error}"));
            udp(ip, 5353).unwrap_or_else(|error| panic!("host by {ip}, UDP: {error}"));
        }
        let from_guests = [&gateways[0], &gateways[1], &HOST4.to_owned(), &HOST6.to_owned()];
        for guest in [&db, &web] {
            within(&guest.netns, || {
                for ip in from_guests {
                    let who = &guest.name;
                    tcp(ip, 8000).unwrap_or_else(|error| panic!("{who} by {ip}: {error}"));
                    udp(ip, 5353).unwrap_or_else(|error| panic!("{who} by {ip}, UDP: {error}"));
                }
            });
        }
        within(&ground.outside, || {
            // The guest sees who it talks to.
            assert_eq!(tcp(HOST4, 8000).unwrap(), "198.51.100.1");
            assert_eq!(tcp(HOST6, 8000).unwrap(), "2001:db8:1::1");
            assert_eq!(udp(HOST4, 5353).unwrap(), "198.51.100.1");
            assert_eq!(udp(HOST6, 5353).unwrap(), "2001:db8:1::1");
            assert!(tcp(HOST4, 8001).is_err());
        });
        networks.publish(&web.id, &[]).unwrap();
        assert!(tcp("127.0.0.1", 8000).is_err());
        within(&ground.outside, || assert!(tcp(HOST4, 8000).is_err()));
        TcpListener::bind("[::]:8000").unwrap();
    });
}

#[test]
fn a_port_on_one_address_is_reached_there_only() {
    alone("a_port_on_one_address_is_reached_there_only", |ground| {
        let networks = ground.up();
        let web = ground.guest(&networks, "web");
        tcp_server(&web.netns, "0.0.0.0:80");
        let on = |ip: &str, host_port| Publish {
            ip: Some(ip.parse().unwrap()),
            ..port(host_port, 80, Transport::Tcp)
        };
        networks
            .publish(
                &web.id,
                &[on("127.0.0.1", 8000), on(HOST4, 8001), on("::1", 8002)],
            )
            .unwrap();
        tcp("127.0.0.1", 8000).unwrap();
        tcp(HOST4, 8001).unwrap();
        // The guest's program has no IPv6: the other family is tried.
        tcp("::1", 8002).unwrap();
        assert!(tcp(HOST4, 8000).is_err());
        within(&ground.outside, || {
            tcp(HOST4, 8001).unwrap();
            assert!(tcp(HOST4, 8000).is_err());
        });
        let elsewhere = networks.publish(&web.id, &[on("192.0.2.1", 8003)]);
        assert!(result(elsewhere).starts_with("NET015"), "an address of nobody");
        tcp("127.0.0.1", 8000).unwrap();
    });
}

#[test]
fn who_has_a_port_is_named() {
    alone("who_has_a_port_is_named", |ground| {
        let networks = ground.up();
        let (web, db) = (ground.guest(&networks, "web"), ground.guest(&networks, "db"));
        networks
            .publish(&db.id, &[port(8000, 80, Transport::Tcp)])
            .unwrap();
        let taken = result(networks.publish(&web.id, &[port(8000, 80, Transport::Tcp)]));
        assert!(
            taken.contains("NET014") && taken.contains("kind=guest") && taken.contains("holder=db"),
            "{taken}"
        );
        networks
            .publish(&web.id, &[port(8000, 80, Transport::Udp)])
            .unwrap();
        let _other = TcpListener::bind("127.0.0.1:9000").unwrap();
        let _socket = UdpSocket::bind("0.0.0.0:9001").unwrap();
        for (number, transport) in [(9000, Transport::Tcp), (9001, Transport::Udp)] {
            let taken = result(networks.publish(&web.id, &[port(number, 80, transport)]));
            assert!(
                taken.contains("NET014") && taken.contains("kind=process"),
                "{taken}"
            );
            assert!(taken.contains(&format!("({})", std::process::id())), "{taken}");
        }
        let twice = [port(7000, 80, Transport::Tcp), port(7000, 81, Transport::Tcp)];
        assert!(result(networks.publish(&web.id, &twice)).contains("NET014"));
        // A released guest's port is free again.
        networks.release(&db.id).unwrap();
        networks
            .publish(&web.id, &[port(8000, 80, Transport::Tcp)])
            .unwrap();
    });
}
