//! A host of its own for every test: namespaces, an uplink, an outside world with a name server, and guests.
#![allow(clippy::unwrap_used)] // A test ends by panic.
#![allow(dead_code)] // Each test file uses a part of it.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use fault::Result;
use jail::recipe::NicSetup;
use link::dns::{self, Record, kind};
use link::{Links, Mac, Veth, netns};
use model::{Id, Name, NetworkSpec, Publish, Transport};
use networks::{AttachRequest, Networks, Settings};

pub const UPSTREAM_NAME: &str = "example.org";
pub const UPSTREAM_ANSWER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 77);
pub const OUTSIDE4: &str = "203.0.113.5";
pub const OUTSIDE6: &str = "2001:db8:5::5";
pub const NAME_SERVER: &str = "203.0.113.53";
pub const HOST4: &str = "198.51.100.2";
pub const HOST6: &str = "2001:db8:1::2";
const INSIDE: &str = "POSADA_TEST_GROUND";
const PATIENCE: Duration = Duration::from_secs(3);

/// Runs the body of a test in namespaces of its own: this test program, started again, only for that test.
pub fn alone(test: &str, body: fn(Ground)) {
    if std::env::var(INSIDE).is_ok_and(|name| name == test) {
        return body(Ground::lay());
    }
    let exe = std::env::current_exe().unwrap();
    let status = Command::new("unshare")
        .args([
            "--net",
            "--mount",
            "--uts",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ])
        .arg(exe)
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(INSIDE, test)
        .status()
        .unwrap();
    assert!(status.success(), "{test} failed in its namespaces: {status}");
}

pub fn run(command: &str) -> String {
    let output = Command::new("sh").args(["-c", command]).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// A new network namespace with its loopback up.
pub fn namespace() -> OwnedFd {
    std::thread::scope(|scope| {
        let make = || {
            // SAFETY: the thread ends right away and shares no descriptor table that would be unshared.
            unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET).unwrap() };
            let mut links = Links::open().unwrap();
            let lo = links.find("lo").unwrap().unwrap();
            links.set_up(&lo, true).unwrap();
            OwnedFd::from(File::open("/proc/thread-self/ns/net").unwrap())
        };
        scope.spawn(make).join().unwrap()
    })
}

pub fn within<T: Send>(namespace: &OwnedFd, work: impl FnOnce() -> T + Send) -> T {
    netns::inside(namespace.as_fd(), || Ok(work())).unwrap()
}

pub struct Ground {
    pub dir: tempfile::TempDir,
    pub outside: OwnedFd,
}

pub struct Guest {
    pub id: Id,
    pub name: Name,
    pub netns: OwnedFd,
    pub setup: NicSetup,
}

impl Guest {
    pub fn ip4(&self) -> IpAddr {
        self.setup.addresses[0].0
    }
    pub fn ip6(&self) -> IpAddr {
        self.setup.addresses[1].0
    }
    pub fn gateway(&self) -> IpAddr {
        self.setup.gateways[0]
    }
}

impl Ground {
    fn lay() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let outside = namespace();
        let mut links = Links::open().unwrap();
        let lo = links.find("lo").unwrap().unwrap();
        links.set_up(&lo, true).unwrap();
        // A bridge stands in for the host's end of the cable's far side: any link with an index will do as master.
        let switch = links
            .add_bridge("wire", "02:ee:00:00:00:01".parse().unwrap(), 1400, "test")
            .unwrap();
        links.set_up(&switch, true).unwrap();
        links
            .add_veth(&Veth {
                name: "up0",
                alias: "test uplink",
                master: switch.index,
                mtu: 1400,
                netns: outside.as_fd(),
                peer: "eth0",
                peer_mac: "02:ee:00:00:00:02".parse().unwrap(),
            })
            .unwrap();
        links.add_address(&switch, HOST4.parse().unwrap(), 24).unwrap();
        links.add_address(&switch, HOST6.parse().unwrap(), 64).unwrap();
        within(&outside, || {
            let mut links = Links::open().unwrap();
            let eth0 = links.find("eth0").unwrap().unwrap();
            links.set_up(&eth0, true).unwrap();
            let lo = links.find("lo").unwrap().unwrap();
            links
                .add_address(&eth0, "198.51.100.1".parse().unwrap(), 24)
                .unwrap();
            links
                .add_address(&eth0, "2001:db8:1::1".parse().unwrap(), 64)
                .unwrap();
            for (ip, len) in [(OUTSIDE4, 32), (NAME_SERVER, 32), (OUTSIDE6, 128)] {
                links.add_address(&lo, ip.parse().unwrap(), len).unwrap();
            }
        });
        let any4 = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        links
            .add_route(&switch, any4, 0, Some("198.51.100.1".parse().unwrap()))
            .unwrap();
        links
            .add_route(
                &switch,
                "::".parse().unwrap(),
                0,
                Some("2001:db8:1::1".parse().unwrap()),
            )
            .unwrap();
        let ground = Ground { dir, outside };
        ground.resolv_conf(&format!("nameserver {NAME_SERVER}\n"), true);
        ground.name_server();
        ground
    }

    pub fn resolv_conf(&self, text: &str, first: bool) {
        let path = self.dir.path().join("resolv.conf");
        fs::write(&path, text).unwrap();
        if first {
            run(&format!("mount --bind {} /etc/resolv.conf", path.display()));
        }
    }

    pub fn settings(&self) -> Settings {
        let mut exe = std::env::current_exe().unwrap();
        exe.pop();
        exe.pop();
        Settings {
            state_dir: self.dir.path().join("state"),
            run_dir: self.dir.path().join("run"),
            posada_exe: exe.join("examples/net-process"),
        }
    }

    pub fn networks(&self) -> Networks {
        Networks::open(self.settings()).unwrap()
    }

    pub fn up(&self) -> Networks {
        let networks = self.networks();
        networks.ensure(&network(), &NetworkSpec::default()).unwrap();
        networks
    }

    /// A guest whose addresses are set as the jail would set them.
    pub fn guest(&self, networks: &Networks, name: &str) -> Guest {
        let guest = self.plugged(networks, name);
        configure(&guest);
        guest
    }

    /// A guest that is plugged in and has its link up, and no address.
    pub fn plugged(&self, networks: &Networks, name: &str) -> Guest {
        let id = Id(format!(
            "{:0<32}",
            name.bytes().map(|byte| format!("{byte:02x}")).collect::<String>()
        ));
        let name: Name = name.parse().unwrap();
        let (_, setup) = networks.attach(&request(&id, &name)).unwrap();
        let netns = namespace();
        networks.connect(&id, netns.as_fd()).unwrap();
        within(&netns, || {
            let mut links = Links::open().unwrap();
            let eth0 = links.find("eth0").unwrap().unwrap();
            links.set_up(&eth0, true).unwrap();
        });
        Guest {
            id,
            name,
            netns,
            setup,
        }
    }

    /// The world's name server: answers one name, over UDP and TCP, and says how long the answer shall be.
    fn name_server(&self) {
        let (udp, tcp) = within(&self.outside, || {
            (
                UdpSocket::bind((NAME_SERVER, 53)).unwrap(),
                TcpListener::bind((NAME_SERVER, 53)).unwrap(),
            )
        });
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok((length, from)) = udp.recv_from(&mut buffer) {
                if let Some(answer) = world(&buffer[..length], false) {
                    udp.send_to(&answer, from).unwrap();
                }
            }
        });
        std::thread::spawn(move || {
            for mut stream in tcp.incoming().flatten() {
                let mut length = [0; 2];
                while stream.read_exact(&mut length).is_ok() {
                    let mut message = vec![0; u16::from_be_bytes(length).into()];
                    stream.read_exact(&mut message).unwrap();
                    if let Some(answer) = world(&message, true) {
                        stream.write_all(&(answer.len() as u16).to_be_bytes()).unwrap();
                        stream.write_all(&answer).unwrap();
                    }
                }
            }
        });
    }
}

fn world(message: &[u8], tcp: bool) -> Option<Vec<u8>> {
    let query = dns::parse_query(message)?;
    let limit = if tcp { 65535 } else { query.udp_limit() };
    let record = Record::Address(UPSTREAM_ANSWER.into());
    Some(match query.name.as_str() {
        UPSTREAM_NAME => dns::answer(&query, dns::Outcome::Good, &[record], "", 60, limit),
        "big.example.org" => dns::answer(&query, dns::Outcome::Good, &vec![record; 500], "", 60, limit),
        "silent.example.org" => return None,
        _ => dns::answer(&query, dns::Outcome::NoSuchName, &[], "example.org", 60, limit),
    })
}

pub fn network() -> Name {
    "default".parse().unwrap()
}

pub fn request(id: &Id, name: &Name) -> AttachRequest {
    AttachRequest {
        guest: id.clone(),
        guest_name: name.clone(),
        network: network(),
        ip: None,
        mac: None,
        index: 0,
    }
}

pub fn configure(guest: &Guest) {
    within(&guest.netns, || {
        let mut links = Links::open().unwrap();
        let eth0 = links.find("eth0").unwrap().unwrap();
        assert_eq!(
            eth0.mac.map(|mac: Mac| mac.to_string()),
            Some(guest.setup.mac.clone())
        );
        for (ip, len) in &guest.setup.addresses {
            links.add_address(&eth0, *ip, *len).unwrap();
        }
        for via in &guest.setup.gateways {
            let any: IpAddr = if via.is_ipv4() {
                Ipv4Addr::UNSPECIFIED.into()
            } else {
                "::".parse().unwrap()
            };
            links.add_route(&eth0, any, 0, Some(*via)).unwrap();
        }
    });
}

/// A TCP server in a namespace that tells every client the address that it sees of it, and then echoes.
pub fn tcp_server(namespace: &OwnedFd, at: &str) {
    let listener = within(namespace, || TcpListener::bind(at).unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            std::thread::spawn(move || {
                let from = stream.peer_addr().unwrap().ip().to_canonical();
                stream.write_all(format!("{from}\n").as_bytes()).unwrap();
                let mut buffer = vec![0; 65536];
                while let Ok(length) = stream.read(&mut buffer) {
                    if length == 0 || stream.write_all(&buffer[..length]).is_err() {
                        break;
                    }
                }
            });
        }
    });
}

/// A UDP server in a namespace that answers every datagram with the sender's address.
pub fn udp_server(namespace: &OwnedFd, at: &str) {
    let socket = within(namespace, || UdpSocket::bind(at).unwrap());
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((_, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(from.ip().to_canonical().to_string().as_bytes(), from);
        }
    });
}

/// Connects, and returns the client's address as the server saw it; checks that bytes come back.
pub fn tcp(ip: impl ToString, port: u16) -> std::io::Result<String> {
    let ip: IpAddr = ip.to_string().parse().unwrap();
    let mut stream = TcpStream::connect_timeout(&SocketAddr::new(ip, port), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut line = Vec::new();
    let mut byte = [0];
    while byte[0] != b'\n' {
        stream.read_exact(&mut byte)?;
        line.push(byte[0]);
    }
    let payload = vec![b'x'; 300_000];
    let mut writer = stream.try_clone()?;
    let sent = payload.clone();
    let thread = std::thread::spawn(move || {
        writer.write_all(&sent)?;
        writer.shutdown(std::net::Shutdown::Write)
    });
    let mut back = Vec::new();
    stream.read_to_end(&mut back)?;
    thread.join().unwrap()?;
    assert_eq!(back, payload);
    Ok(String::from_utf8(line).unwrap().trim().to_owned())
}

pub fn udp(ip: impl ToString, port: u16) -> std::io::Result<String> {
    let ip: IpAddr = ip.to_string().parse().unwrap();
    let socket = UdpSocket::bind(if ip.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    socket.connect((ip, port))?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    let mut buffer = [0; 2048];
    let mut last = Err(std::io::ErrorKind::TimedOut.into());
    for _ in 0..3 {
        socket.send(b"hello")?;
        match socket.recv(&mut buffer) {
            Ok(length) => return Ok(String::from_utf8_lossy(&buffer[..length]).into_owned()),
            Err(error) => last = Err(error),
        }
    }
    last
}

/// Asks a name server over UDP; outcome and records.
pub fn resolve(server: IpAddr, name: &str, kind: u16) -> (u8, Vec<Record>) {
    let socket = UdpSocket::bind(if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).unwrap();
    socket.connect((server, 53)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket.send(&dns::query(77, name, kind)).unwrap();
    let mut buffer = [0; 65535];
    let length = socket
        .recv(&mut buffer)
        .unwrap_or_else(|error| panic!("{name} at {server}: {error}"));
    (
        dns::outcome(&buffer[..length]).unwrap(),
        dns::parse_answer(&buffer[..length]).unwrap(),
    )
}

pub fn resolve_tcp(server: IpAddr, name: &str, kind: u16) -> Vec<Record> {
    let mut stream = TcpStream::connect((server, 53)).unwrap();
    let query = dns::query(78, name, kind);
    stream.write_all(&(query.len() as u16).to_be_bytes()).unwrap();
    stream.write_all(&query).unwrap();
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut message = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut message).unwrap();
    dns::parse_answer(&message).unwrap()
}

pub fn address(server: IpAddr, name: &str) -> Option<IpAddr> {
    match resolve(server, name, kind::A).1.first() {
        Some(Record::Address(ip)) => Some(*ip),
        _ => None,
    }
}

pub fn port(host_port: u16, guest_port: u16, transport: Transport) -> Publish {
    Publish {
        ip: None,
        host_port,
        guest_port,
        transport,
    }
}

/// Waits until something is so.
pub fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !so() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

pub fn result<T>(outcome: Result<T>) -> String {
    match outcome {
        Ok(_) => "done".to_owned(),
        Err(fault) => fault.to_string(),
    }
}

pub fn pid_file(ground: &Ground) -> PathBuf {
    ground.dir.path().join("run/networks/default/net.pid")
}
