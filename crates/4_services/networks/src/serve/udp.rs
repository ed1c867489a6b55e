//! Published UDP ports where the kernel does not hand on: datagrams of the host itself to its loopback addresses.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::spawn_local;
use tokio::time::timeout;

use super::tcp::targets;
use super::{Server, breathe, pktinfo};
use crate::wire::Listen;

/// A client that is silent for so long is forgotten.
const SILENCE: Duration = Duration::from_secs(120);
/// Most clients of one port.
const CLIENTS: usize = 1024;
/// Most datagrams of one client that wait; more are dropped, as the wire would.
const WAITING: usize = 64;

/// A client, and the address of ours that it speaks to and expects answers from.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Client {
    from: SocketAddr,
    at_ip: Option<Ipv6Addr>,
}

type Clients = Rc<RefCell<HashMap<Client, mpsc::Sender<Vec<u8>>>>>;

/// Hands datagrams on until the port is taken back.
pub(super) async fn serve(server: Rc<Server>, at: Listen, socket: UdpSocket) {
    let socket = Rc::new(socket);
    let clients: Clients = Rc::default();
    pktinfo::enable(&socket);
    let mut buffer = vec![0; 65535];
    loop {
        // An error here is an echo of a reply that could not be delivered.
        let Ok((length, from, at_ip)) = pktinfo::receive(&socket, &mut buffer).await else {
            breathe().await;
            continue;
        };
        let Some(forward) = server.view().forwards.get(&at).copied() else {
            continue;
        };
        let client = Client { from, at_ip };
        let known = clients.borrow().get(&client).cloned();
        let sender = match known {
            Some(sender) => sender,
            None if clients.borrow().len() >= CLIENTS => continue,
            None => {
                let (sender, receiver) = mpsc::channel(WAITING);
                clients.borrow_mut().insert(client, sender.clone());
                let (socket, clients) = (Rc::clone(&socket), Rc::clone(&clients));
                let to = targets(from.ip(), &forward).map(|ip| SocketAddr::new(ip, forward.port));
                spawn_local(async move {
                    let _ = converse(&socket, client, to, receiver).await;
                    clients.borrow_mut().remove(&client);
                });
                sender
            }
        };
        let _ = sender.try_send(buffer[..length].to_vec());
    }
}

/// One client's datagrams to the guest and back, by the client's family; by the other when the guest refuses.
async fn converse(
    socket: &UdpSocket,
    client: Client,
    to: [SocketAddr; 2],
    mut from_client: mpsc::Receiver<Vec<u8>>,
) -> io::Result<()> {
    let [first, second] = to;
    let mut guest = open(first).await?;
    let mut may_switch = true;
    let mut last = Vec::new();
    let mut buffer = vec![0; 65535];
    loop {
        tokio::select! {
            datagram = timeout(SILENCE, from_client.recv()) => {
                let Ok(Some(datagram)) = datagram else { return Ok(()) };
                let _ = guest.send(&datagram).await;
                if may_switch {
                    last = datagram;
                }
            }
            received = guest.recv(&mut buffer) => match received {
                Ok(length) => {
                    may_switch = false;
                    // A full socket drops the datagram, as the wire would.
                    let _ = pktinfo::send(socket, &buffer[..length], client.from, client.at_ip);
                }
                Err(error) if may_switch && error.kind() == io::ErrorKind::ConnectionRefused => {
                    may_switch = false;
                    guest = open(second).await?;
                    let _ = guest.send(&last).await;
                }
                // The guest's program is not there now; it may come.
                Err(_) => {}
            },
        }
    }
}

async fn open(to: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = if to.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(to).await?;
    Ok(socket)
}
