//! Daemons that are killed at any instant, and many guests at once.
#![allow(clippy::unwrap_used)] // A test ends by panic.
#![allow(unsafe_code)] // The ground makes network namespaces.

mod ground;

use std::collections::BTreeSet;
use std::os::fd::AsFd as _;
use std::process::Command;
use std::time::Duration;

use ground::*;
use model::{Id, Name, NetworkSpec, Transport};
use networks::{Networks, Settings};

const ROLE: &str = "POSADA_TEST_DAEMON";
const ROUNDS: u64 = 40;

/// What the daemon of the next test does until it is killed: everything, again and again.
#[test]
fn daemon_until_killed() {
    let Ok(dir) = std::env::var(ROLE) else { return };
    let dir = std::path::PathBuf::from(dir);
    let mut exe = std::env::current_exe().unwrap();
    exe.pop();
    exe.pop();
    let networks = Networks::open(Settings {
        state_dir: dir.join("state"),
        run_dir: dir.join("run"),
        posada_exe: exe.join("examples/net-process"),
    })
    .unwrap();
    let id = Id("c0ffee00000000000000000000000000".to_owned());
    let name: Name = "brief".parse().unwrap();
    loop {
        networks.ensure(&network(), &NetworkSpec::default()).unwrap();
        networks.attach(&request(&id, &name)).unwrap();
        let netns = namespace();
        networks.connect(&id, netns.as_fd()).unwrap();
        networks
            .publish(
                &id,
                &[port(8100, 80, Transport::Tcp), port(8100, 53, Transport::Udp)],
            )
            .unwrap();
        networks.release(&id).unwrap();
    }
}

#[test]
fn a_daemon_killed_at_any_instant_leaves_a_network_that_works() {
    alone(
        "a_daemon_killed_at_any_instant_leaves_a_network_that_works",
        |ground| {
            let networks = ground.up();
            let guest = ground.guest(&networks, "web");
            tcp_server(&guest.netns, "[::]:80");
            networks
                .publish(&guest.id, &[port(8000, 80, Transport::Tcp)])
                .unwrap();
            drop(networks);
            std::thread::sleep(Duration::from_millis(1200));
            for round in 0..ROUNDS {
                let mut daemon = Command::new(std::env::current_exe().unwrap())
                    .args(["--exact", "daemon_until_killed", "--nocapture"])
                    .env(ROLE, ground.dir.path())
                    .stdout(std::process::Stdio::null())
                    .spawn()
                    .unwrap();
                std::thread::sleep(Duration::from_millis(20 + (round * 37) % 150));
                daemon.kill().unwrap();
                daemon.wait().unwrap();
                // Without any daemon.
                within(&guest.netns, || {
                    assert_eq!(address(guest.gateway(), "web.posada"), Some(guest.ip4()))
                });
                tcp("127.0.0.1", 8000).unwrap();
            }
            let networks = ground.up();
            networks.sweep(std::slice::from_ref(&guest.id)).unwrap();
            assert_eq!(networks.list().unwrap()[0].2.leases.len(), 1);
            eventually("one cable is left", || {
                run("ip -o link show master posada0").lines().count() == 1
            });
            assert!(!run("nft list table inet posada").contains("8100"));
            std::net::TcpListener::bind("[::]:8100").unwrap();
            assert_eq!(
                run("ps -e -o stat=,comm= | grep -v ^Z | grep -c net-process").trim(),
                "1"
            );
            networks.release(&guest.id).unwrap();
            networks.remove(&network()).unwrap();
            assert!(!run("ip -o link").contains("posada"));
            assert!(!run("nft list ruleset").contains("posada"));
        },
    );
}

#[test]
fn forty_guests_at_once_get_forty_addresses() {
    alone("forty_guests_at_once_get_forty_addresses", |ground| {
        let networks = ground.up();
        let guests: Vec<Guest> = std::thread::scope(|scope| {
            let one = |number: u16| {
                let guest = ground.guest(&networks, &format!("g{number}"));
                networks
                    .publish(&guest.id, &[port(9000 + number, 80, Transport::Tcp)])
                    .unwrap();
                guest
            };
            let threads: Vec<_> = (0..40).map(|number| scope.spawn(move || one(number))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let addresses: BTreeSet<_> = guests.iter().map(Guest::ip4).collect();
        assert_eq!(addresses.len(), 40);
        for (number, guest) in (0..).zip(&guests) {
            tcp_server(&guest.netns, "[::]:80");
            tcp("127.0.0.1", 9000 + number).unwrap();
            assert_eq!(address(guest.gateway(), guest.name.as_str()), Some(guest.ip4()));
        }
    });
}
