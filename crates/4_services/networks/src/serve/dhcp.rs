//! DHCPv4: the allocator's lease by hardware address, to whoever asks for it.

use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;

use link::dhcp::{CLIENT_PORT, Kind, Message, Options, parse};
use tokio::net::UdpSocket;

use super::view::View;
use super::{Server, breathe};

/// Seconds of a lease. It is renewed at half of it, and is the guest's for good anyway.
const LEASE: u32 = 3600;

/// Answers until the socket is replaced.
pub(super) async fn serve(server: Rc<Server>, socket: UdpSocket) {
    let mut buffer = [0; 2048];
    loop {
        let Ok((length, _)) = socket.recv_from(&mut buffer).await else {
            breathe().await;
            continue;
        };
        let Some(message) = parse(&buffer[..length]) else {
            continue;
        };
        let Some(reply) = answer(&server.view(), &message) else {
            continue;
        };
        // A client that has its address and asks from it can be answered there; others take broadcasts.
        let direct = reply.kind == Kind::Ack && !message.ciaddr.is_unspecified();
        let to = if direct {
            message.ciaddr
        } else {
            Ipv4Addr::BROADCAST
        };
        if let Err(error) = socket
            .send_to(&reply.to_bytes(), SocketAddr::from((to, CLIENT_PORT)))
            .await
        {
            server
                .log
                .line(format_args!("dhcp: {} {}: {error}", message.mac, to));
        }
    }
}

/// What a client is told; nothing when it is not ours or means another server.
fn answer(view: &View, message: &Message) -> Option<Message> {
    let config = view.config.as_ref()?;
    let gateway = config.subnet.gateway();
    if message.reply || !message.giaddr.is_unspecified() {
        return None;
    }
    let (name, ip) = view.macs.get(&message.mac)?;
    let other_server = message.options.server.is_some_and(|server| server != gateway);
    let kind = match message.kind {
        Kind::Discover => Kind::Offer,
        Kind::Inform => Kind::Ack,
        Kind::Request if other_server => return None,
        Kind::Request => {
            let wanted = message.options.requested.unwrap_or(message.ciaddr);
            if wanted == *ip { Kind::Ack } else { Kind::Nak }
        }
        _ => return None,
    };
    let mut options = Options {
        server: Some(gateway),
        client_id: message.options.client_id.clone(),
        ..Options::default()
    };
    if kind != Kind::Nak {
        options.mask = Some(config.subnet.mask());
        options.broadcast = Some(config.subnet.broadcast());
        options.routers = vec![gateway];
        options.dns = vec![gateway];
        options.hostname = Some(name.clone());
        options.domain = Some(config.domain.clone());
        options.mtu = u16::try_from(config.mtu).ok();
    }
    let leased = kind != Kind::Nak && message.kind != Kind::Inform;
    if leased {
        options.lease = Some(LEASE);
        options.renew = Some(LEASE / 2);
        options.rebind = Some(LEASE / 8 * 7);
    }
    Some(Message {
        reply: true,
        kind,
        xid: message.xid,
        broadcast: message.broadcast || kind == Kind::Nak,
        ciaddr: if leased {
            Ipv4Addr::UNSPECIFIED
        } else {
            message.ciaddr
        },
        yiaddr: if leased { *ip } else { Ipv4Addr::UNSPECIFIED },
        giaddr: Ipv4Addr::UNSPECIFIED,
        mac: message.mac,
        options,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Config, GuestEntry};
    use link::Mac;

    fn view() -> View {
        View::new(Config {
            domain: "posada".to_owned(),
            mac: Mac([2, 0, 0, 0, 0, 9]),
            mtu: 1400,
            subnet: "10.1.2.0/24".parse().unwrap(),
            prefix6: "fd00::/64".parse().unwrap(),
            upstreams: Vec::new(),
            guests: vec![GuestEntry {
                name: "web".to_owned(),
                mac: Mac([2, 0, 0, 0, 0, 1]),
                ip: Ipv4Addr::new(10, 1, 2, 7),
                ip6: "fd00::7".parse().unwrap(),
            }],
            forwards: Vec::new(),
        })
    }

    fn ask(kind: Kind, requested: Option<Ipv4Addr>) -> Message {
        Message {
            reply: false,
            kind,
            xid: 9,
            broadcast: false,
            ciaddr: Ipv4Addr::UNSPECIFIED,
            yiaddr: Ipv4Addr::UNSPECIFIED,
            giaddr: Ipv4Addr::UNSPECIFIED,
            mac: Mac([2, 0, 0, 0, 0, 1]),
            options: Options {
                requested,
                ..Options::default()
            },
        }
    }

    #[test]
    fn a_known_card_is_offered_and_granted_its_own_address() {
        let ip = Ipv4Addr::new(10, 1, 2, 7);
        let offer = answer(&view(), &ask(Kind::Discover, None)).unwrap();
        assert_eq!(
            (offer.kind, offer.yiaddr, offer.options.mtu),
            (Kind::Offer, ip, Some(1400))
        );
        let ack = answer(&view(), &ask(Kind::Request, Some(ip))).unwrap();
        assert_eq!((ack.kind, ack.yiaddr), (Kind::Ack, ip));
        let nak = answer(&view(), &ask(Kind::Request, Some(Ipv4Addr::new(10, 9, 9, 9)))).unwrap();
        assert_eq!(nak.kind, Kind::Nak);
        let mut renewing = ask(Kind::Request, None);
        renewing.ciaddr = ip;
        assert_eq!(answer(&view(), &renewing).unwrap().kind, Kind::Ack);
    }

    #[test]
    fn strangers_and_requests_to_others_are_not_answered() {
        let mut stranger = ask(Kind::Discover, None);
        stranger.mac = Mac([2, 0, 0, 0, 0, 2]);
        assert_eq!(answer(&view(), &stranger), None);
        let mut elsewhere = ask(Kind::Request, None);
        elsewhere.options.server = Some(Ipv4Addr::new(10, 1, 2, 99));
        assert_eq!(answer(&view(), &elsewhere), None);
        assert_eq!(answer(&View::default(), &ask(Kind::Discover, None)), None);
    }
}
