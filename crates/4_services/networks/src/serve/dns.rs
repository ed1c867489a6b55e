//! DNS: names of guests from the allocator's record, everything else from the host's name servers.

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use link::dns::{self, Outcome, Query, Record, kind};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::spawn_local;
use tokio::time::timeout;

use super::view::View;
use super::{Server, breathe};

/// Seconds for which clients may remember an answer about a guest.
const TTL: u32 = 5;
/// Time for one upstream server to answer, before the next is asked.
const UPSTREAM: Duration = Duration::from_secs(2);
/// Every upstream server is asked this often.
const ROUNDS: usize = 2;
/// Most queries under way to upstream servers.
const UNDER_WAY: u32 = 1024;
/// Most TCP clients, and how long a silent one is kept.
const CLIENTS: u32 = 256;
const SILENCE: Duration = Duration::from_secs(15);

/// What is to be done with a query.
enum Verdict {
    /// This is the answer.
    Answer(Vec<u8>),
    /// The upstream servers know.
    Upstream,
}

/// Answers over UDP until the socket is replaced.
pub(super) async fn serve_udp(server: Rc<Server>, socket: UdpSocket) {
    let socket = Rc::new(socket);
    let under_way = Rc::new(Cell::new(0));
    let mut buffer = vec![0; 65535];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
            breathe().await;
            continue;
        };
        let view = server.view();
        if !view.is_inside(from.ip()) {
            continue;
        }
        let Some(query) = dns::parse_query(&buffer[..length]) else {
            continue;
        };
        match judge(&view, &query, query.udp_limit()) {
            Verdict::Answer(bytes) => {
                let _ = socket.try_send_to(&bytes, from);
            }
            Verdict::Upstream if under_way.get() >= UNDER_WAY => {
                let _ = socket.try_send_to(&dns::failure(&query, Outcome::ServerFailed), from);
            }
            Verdict::Upstream => {
                under_way.set(under_way.get() + 1);
                let (socket, under_way) = (Rc::clone(&socket), Rc::clone(&under_way));
                let message = buffer[..length].to_vec();
                spawn_local(async move {
                    let mut answer = ask_udp(&view, &query, message).await;
                    if answer.len() > query.udp_limit() {
                        answer = dns::truncated(&query);
                    }
                    let _ = socket.send_to(&answer, from).await;
                    under_way.set(under_way.get() - 1);
                });
            }
        }
    }
}

/// Answers over TCP until the socket is replaced.
pub(super) async fn serve_tcp(server: Rc<Server>, listener: TcpListener) {
    let clients = Rc::new(Cell::new(0));
    loop {
        match listener.accept().await {
            Ok((stream, from)) if server.view().is_inside(from.ip()) && clients.get() < CLIENTS => {
                clients.set(clients.get() + 1);
                let (server, clients) = (Rc::clone(&server), Rc::clone(&clients));
                spawn_local(async move {
                    // The client went away or said nothing for long: both are ordinary ends.
                    let _ = converse(&server, stream).await;
                    clients.set(clients.get() - 1);
                });
            }
            Ok(_) => {}
            Err(_) => breathe().await,
        }
    }
}

async fn converse(server: &Server, mut stream: TcpStream) -> io::Result<()> {
    loop {
        let message = timeout(SILENCE, read_message(&mut stream)).await??;
        let view = server.view();
        let Some(query) = dns::parse_query(&message) else {
            return Ok(());
        };
        let answer = match judge(&view, &query, usize::from(u16::MAX)) {
            Verdict::Answer(bytes) => bytes,
            Verdict::Upstream => ask_tcp(&view, &query, &message).await,
        };
        timeout(SILENCE, write_message(&mut stream, &answer)).await??;
    }
}

async fn read_message(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut message = vec![0; stream.read_u16().await?.into()];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

async fn write_message(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend(message);
    stream.write_all(&bytes).await
}

/// Answers what is ours to answer.
fn judge(view: &View, query: &Query, limit: usize) -> Verdict {
    let Some(config) = &view.config else {
        return Verdict::Answer(dns::failure(query, Outcome::ServerFailed));
    };
    if !query.ordinary {
        return Verdict::Answer(dns::failure(query, Outcome::NotDone));
    }
    if query.class != 1 {
        return Verdict::Upstream;
    }
    let say = |outcome, records: &[Record], zone: &str| {
        Verdict::Answer(dns::answer(query, outcome, records, zone, TTL, limit))
    };
    let zone = config.domain.as_str();
    if let Some(ip) = dns::reverse(&query.name) {
        let ours = view.is_inside(ip) && !matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
        return match view.reverse.get(&ip) {
            Some(name) if matches!(query.kind, kind::PTR | kind::ANY) => {
                say(Outcome::Good, &[Record::Pointer(format!("{name}.{zone}"))], zone)
            }
            Some(_) => say(Outcome::Good, &[], zone),
            None if ours => say(Outcome::NoSuchName, &[], zone),
            None => Verdict::Upstream,
        };
    }
    let in_zone = query
        .name
        .strip_suffix(zone)
        .and_then(|rest| rest.strip_suffix('.'));
    let name = match in_zone {
        _ if query.name == zone => return say(Outcome::Good, &[], zone),
        Some(name) => name,
        None if !query.name.contains('.') && view.names.contains_key(&query.name) => &query.name,
        None => return Verdict::Upstream,
    };
    match view.names.get(name) {
        Some(cards) => {
            let mut records = Vec::new();
            for (ip, ip6) in cards {
                if matches!(query.kind, kind::A | kind::ANY) {
                    records.push(Record::Address((*ip).into()));
                }
                if matches!(query.kind, kind::AAAA | kind::ANY) {
                    records.push(Record::Address((*ip6).into()));
                }
            }
            say(Outcome::Good, &records, zone)
        }
        None => say(Outcome::NoSuchName, &[], zone),
    }
}

/// Asks the upstream servers in turn; the query goes as it came, but for its number.
async fn ask_udp(view: &View, query: &Query, mut message: Vec<u8>) -> Vec<u8> {
    let servers = view.config.as_ref().map_or(&[][..], |config| &config.upstreams);
    let mut refused = None;
    for server in servers.iter().cycle().take(servers.len() * ROUNDS) {
        let id = random_id();
        dns::set_id(&mut message, id);
        let Ok(Ok(mut answer)) = timeout(UPSTREAM, ask_one_udp(*server, id, query, &message)).await else {
            continue;
        };
        dns::set_id(&mut answer, query.id);
        match dns::outcome(&answer) {
            // Another server may know better.
            Some(2 | 5) => refused = Some(answer),
            _ => return answer,
        }
    }
    refused.unwrap_or_else(|| dns::failure(query, Outcome::ServerFailed))
}

async fn ask_one_udp(server: SocketAddr, id: u16, query: &Query, message: &[u8]) -> io::Result<Vec<u8>> {
    // A socket for each query: its random port is half of what keeps forged answers out (RFC 5452).
    let any: IpAddr = if server.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(message).await?;
    let mut buffer = vec![0; 65535];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if dns::is_answer_to(&buffer[..length], id, &query.question) {
            buffer.truncate(length);
            return Ok(buffer);
        }
    }
}

async fn ask_tcp(view: &View, query: &Query, message: &[u8]) -> Vec<u8> {
    let servers = view.config.as_ref().map_or(&[][..], |config| &config.upstreams);
    for server in servers {
        let exchange = async {
            let mut stream = TcpStream::connect(server).await?;
            write_message(&mut stream, message).await?;
            read_message(&mut stream).await
        };
        if let Ok(Ok(answer)) = timeout(UPSTREAM * 2, exchange).await
            && dns::is_answer_to(&answer, query.id, &query.question)
        {
            return answer;
        }
    }
    dns::failure(query, Outcome::ServerFailed)
}

fn random_id() -> u16 {
    let mut bytes = [0; 2];
    while rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).is_err() {}
    u16::from_le_bytes(bytes)
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

    fn ask(name: &str, kind: u16) -> Option<(u8, Vec<Record>)> {
        let query = dns::parse_query(&dns::query(1, name, kind)).unwrap();
        match judge(&view(), &query, 1232) {
            Verdict::Answer(bytes) => {
                Some((dns::outcome(&bytes).unwrap(), dns::parse_answer(&bytes).unwrap()))
            }
            Verdict::Upstream => None,
        }
    }

    #[test]
    fn a_guest_is_found_by_its_name_and_by_its_address() {
        let v4 = Record::Address(Ipv4Addr::new(10, 1, 2, 7).into());
        let v6 = Record::Address("fd00::7".parse().unwrap());
        assert_eq!(ask("web.posada", kind::A), Some((0, vec![v4.clone()])));
        assert_eq!(ask("WEB", kind::AAAA), Some((0, vec![v6])));
        assert_eq!(ask("web.posada", 16), Some((0, vec![])));
        let name = Record::Pointer("web.posada".to_owned());
        assert_eq!(ask("7.2.1.10.in-addr.arpa", kind::PTR), Some((0, vec![name])));
    }

    #[test]
    fn the_own_domain_and_the_own_addresses_never_go_upstream() {
        assert_eq!(ask("db.posada", kind::A), Some((3, vec![])));
        assert_eq!(ask("posada", kind::A), Some((0, vec![])));
        assert_eq!(ask("9.2.1.10.in-addr.arpa", kind::PTR), Some((3, vec![])));
        assert_eq!(ask("example.org", kind::A), None);
        assert_eq!(ask("xposada", kind::A), None);
        assert_eq!(ask("8.8.8.8.in-addr.arpa", kind::PTR), None);
    }
}
