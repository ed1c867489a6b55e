//! Router advertisements: now and then, and when asked.

use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::rc::Rc;
use std::time::Duration;

use link::ra::{Advertisement, is_solicitation};
use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep_until};

use super::{Server, breathe};

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// Seconds for which the gateway may be used without another word.
const LIFETIME: u16 = 1800;
/// Between advertisements that nobody asked for: first a few quick ones (RFC 4861 §6.2.4), then slow ones.
const QUICK: Duration = Duration::from_secs(8);
const SLOW: Duration = Duration::from_secs(300);
const QUICK_ONES: u32 = 3;

/// Advertises until the socket is replaced.
pub(super) async fn serve(server: Rc<Server>, socket: UdpSocket) {
    let mut sent = 0;
    let mut next = Instant::now();
    let mut buffer = [0; 1500];
    loop {
        tokio::select! {
            () = sleep_until(next) => {
                advertise(&server, &socket, ALL_NODES);
                sent += 1;
                next = Instant::now() + if sent < QUICK_ONES { QUICK } else { SLOW };
            }
            received = socket.recv_from(&mut buffer) => match received {
                Ok((length, SocketAddr::V6(from))) if is_solicitation(&buffer[..length]) => {
                    // Who has no address yet is answered through everybody's.
                    let to = if from.ip().is_unspecified() { ALL_NODES } else { *from.ip() };
                    advertise(&server, &socket, to);
                }
                Ok(_) => {}
                Err(_) => breathe().await,
            },
        }
    }
}

fn advertise(server: &Server, socket: &UdpSocket, to: Ipv6Addr) {
    let view = server.view();
    let Some(config) = &view.config else { return };
    let bytes = Advertisement {
        lifetime: LIFETIME,
        mac: config.mac,
        mtu: config.mtu,
        prefix: config.prefix6,
        dns: vec![config.prefix6.gateway()],
        domain: config.domain.clone(),
    }
    .to_bytes();
    // The socket is bound to the bridge: no scope is needed. A bridge without guests refuses; the next one follows.
    let _ = socket.try_send_to(&bytes, SocketAddrV6::new(to, 0, 0, 0).into());
}
