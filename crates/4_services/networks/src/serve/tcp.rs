//! Published TCP ports where the kernel does not hand on: connections of the host itself to its loopback addresses.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_local;
use tokio::time::timeout;

use super::{Server, breathe};
use crate::wire::{ForwardEntry, Listen};

/// Time for the guest to take the connection.
const CONNECT: Duration = Duration::from_secs(10);
/// Bytes under way in each direction of a connection.
const BUFFER: usize = 64 << 10;

/// Hands connections on until the port is taken back; those that are open go on.
pub(super) async fn serve(server: Rc<Server>, at: Listen, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((client, from)) => {
                let Some(forward) = server.view().forwards.get(&at).copied() else {
                    continue;
                };
                spawn_local(async move {
                    // Both ends see how the connection ends; there is nobody else to tell.
                    let _ = relay(client, from.ip(), forward).await;
                });
            }
            Err(_) => breathe().await,
        }
    }
}

async fn relay(mut client: TcpStream, from: IpAddr, forward: ForwardEntry) -> io::Result<()> {
    let mut guest = connect(from, forward).await?;
    let _ = client.set_nodelay(true);
    let _ = guest.set_nodelay(true);
    tokio::io::copy_bidirectional_with_sizes(&mut client, &mut guest, BUFFER, BUFFER).await?;
    Ok(())
}

/// Connects by the client's family, then by the other: the guest's program may listen on one only.
async fn connect(from: IpAddr, forward: ForwardEntry) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::ConnectionRefused);
    for ip in targets(from, &forward) {
        match timeout(CONNECT, TcpStream::connect(SocketAddr::new(ip, forward.port))).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(late) => last = late.into(),
        }
    }
    Err(last)
}

/// The guest's addresses, the one of the client's family first.
pub(super) fn targets(from: IpAddr, forward: &ForwardEntry) -> [IpAddr; 2] {
    let (v4, v6) = (IpAddr::V4(forward.to4), IpAddr::V6(forward.to6));
    if from.to_canonical().is_ipv4() {
        [v4, v6]
    } else {
        [v6, v4]
    }
}
