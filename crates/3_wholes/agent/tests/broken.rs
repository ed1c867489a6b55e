//! Bytes that are no protocol, and ports on which somebody else has spoken before.

mod kit;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};

use agent::codes;
use agent::host::{Agent, Way};
use agent::protocol::{Ending, Exit, FromGuest, FromHost, Request, WINDOW};
use agent::wire::{Decoder, Item, encode, greeting};
use kit::{PATIENCE, agent, runs, serve, sh, until};
use proptest::prelude::*;

/// Greets by hand and takes the greeting and the hello.
fn greet(stream: &mut UnixStream) -> Decoder {
    stream.write_all(&greeting([5; 16])).expect("sent");
    let mut decoder = Decoder::new(false);
    assert_eq!(next(stream, &mut decoder), Some(Item::Greeting([5; 16])));
    assert!(matches!(
        heard(stream, &mut decoder),
        Some((0, FromGuest::Hello(_)))
    ));
    decoder
}

fn next(stream: &mut UnixStream, decoder: &mut Decoder) -> Option<Item> {
    loop {
        if let Some(item) = decoder.take().expect("the agent sends frames") {
            return Some(item);
        }
        let mut buffer = [0; 4096];
        match stream.read(&mut buffer) {
            Ok(count @ 1..) => decoder.push(&buffer[..count]),
            _ => return None,
        }
    }
}

fn heard(stream: &mut UnixStream, decoder: &mut Decoder) -> Option<(u32, FromGuest)> {
    let Item::Frame(frame) = next(stream, decoder)? else {
        panic!("a second greeting")
    };
    let (number, message) = frame.parse().expect("the agent sends heads");
    Some((number, message.expect("known words")))
}

fn frame(number: u32, message: &impl serde::Serialize, data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(&mut bytes, number, message, data).expect("small");
    bytes
}

#[test]
fn a_request_of_the_future_is_answered_by_a_fault_and_the_connection_lives() {
    let (mut stream, _) = serve(false);
    let mut decoder = greet(&mut stream);
    let future = serde_json::json!({"open": {"migrate": {}}});
    stream.write_all(&frame(1, &future, b"")).unwrap();
    let Some((1, FromGuest::End(Ending::Fault(fault)))) = heard(&mut stream, &mut decoder) else {
        panic!("no fault")
    };
    assert!(fault.is(codes::REQUEST_UNKNOWN));
    stream
        .write_all(&frame(2, &FromHost::Open(Request::Ping), b""))
        .unwrap();
    assert_eq!(
        heard(&mut stream, &mut decoder),
        Some((2, FromGuest::End(Ending::Done)))
    );
}

#[test]
fn more_input_than_credit_ends_the_connection() {
    let (mut stream, server) = serve(false);
    let mut decoder = greet(&mut stream);
    let open = FromHost::Open(Request::Exec(sh("sleep 1000")));
    stream.write_all(&frame(1, &open, b"")).unwrap();
    for _ in 0..2 * WINDOW / (64 << 10) {
        // It may be over in between.
        let _ = stream.write_all(&frame(1, &FromHost::Input, &[0; 64 << 10]));
    }
    while heard(&mut stream, &mut decoder).is_some() {}
    drop(stream);
    server.join().unwrap();
}

#[test]
fn a_session_opened_twice_ends_the_connection() {
    let (mut stream, server) = serve(false);
    let mut decoder = greet(&mut stream);
    let open = frame(7, &FromHost::Open(Request::Exec(sh("sleep 1000"))), b"");
    stream.write_all(&open).unwrap();
    stream.write_all(&open).unwrap();
    while heard(&mut stream, &mut decoder).is_some() {}
    server.join().unwrap();
}

#[test]
fn a_host_that_never_listens_is_not_listened_to_for_ever() {
    let (mut stream, server) = serve(false);
    let _ = greet(&mut stream);
    stream
        .set_write_timeout(Some(std::time::Duration::from_millis(500)))
        .unwrap();
    let ping = frame(1, &FromHost::Open(Request::Ping), b"");
    let many = ping.repeat(1000);
    let mut sent = 0_usize;
    while stream.write_all(&many).is_ok() {
        sent += many.len();
        assert!(sent < 64 << 20, "answers pile up without end");
    }
    drop(stream);
    server.join().unwrap();
}

#[test]
fn nobody_answers_where_there_is_no_agent() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let brief = std::time::Duration::from_millis(50);
    let fault = Agent::over(ours, Way::Connection, brief).unwrap_err();
    assert!(fault.is(codes::SILENT));
    drop(theirs);
}

#[test]
fn a_newer_agent_is_not_spoken_to() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let guest = std::thread::spawn(move || {
        let mut greeting = [0; agent::wire::GREETING];
        theirs.read_exact(&mut greeting).unwrap();
        theirs.write_all(&greeting).unwrap();
        let hello = agent::protocol::Hello {
            protocol: 99,
            ..agent::protocol::Hello::default()
        };
        theirs
            .write_all(&frame(0, &FromGuest::Hello(hello), b""))
            .unwrap();
    });
    let fault = Agent::over(ours, Way::Connection, PATIENCE).unwrap_err();
    assert!(fault.is(codes::PROTOCOL_NEWER), "{fault}");
    guest.join().unwrap();
}

/// What a hypervisor is for a port: bytes of the guest go to whoever is connected, or nowhere.
struct Port {
    guest: UnixStream,
    host: Arc<Mutex<Option<UnixStream>>>,
}

impl Port {
    fn new(guest: UnixStream) -> Self {
        let host = Arc::<Mutex<Option<UnixStream>>>::default();
        let (mut from, to) = (guest.try_clone().expect("it works"), Arc::clone(&host));
        std::thread::spawn(move || {
            let mut buffer = [0; 8192];
            while let Ok(count @ 1..) = from.read(&mut buffer) {
                if let Some(host) = &mut *to.lock().expect("it works") {
                    let _ = host.write_all(&buffer[..count]);
                }
            }
        });
        Port { guest, host }
    }

    /// Somebody else connects, in the middle of whatever is being said.
    fn connect(&self) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().expect("it works");
        if let Some(old) = self
            .host
            .lock()
            .expect("it works")
            .replace(theirs.try_clone().expect("it works"))
        {
            let _ = old.shutdown(std::net::Shutdown::Both);
        }
        let (mut from, mut to) = (theirs, self.guest.try_clone().expect("it works"));
        std::thread::spawn(move || std::io::copy(&mut from, &mut to));
        ours
    }
}

/// A port outlives the host's programs: the next one comes into the middle of what the last one said.
#[test]
fn the_next_host_on_a_port_gets_a_fresh_conversation() {
    let (stream, _server) = serve(true);
    let port = Port::new(stream);
    let first = Agent::over(port.connect(), Way::Port, PATIENCE).unwrap();
    let mut session = first.exec(&sh("echo $$; exec yes")).unwrap();
    let mut pid = String::new();
    while !pid.ends_with('\n') {
        let mut byte = [0];
        session.stdout.read_exact(&mut byte).unwrap();
        pid.push(byte[0] as char);
    }
    let half = frame(9, &FromHost::Input, &[b'x'; 50_000]);
    (&port.guest).write_all(&half[..30_000]).unwrap();
    let second = Agent::over(port.connect(), Way::Port, PATIENCE).unwrap();
    let mut fresh = second.exec(&sh("echo fresh; exit 4")).unwrap();
    let mut text = String::new();
    fresh.stdout.read_to_string(&mut text).unwrap();
    assert_eq!(text, "fresh\n");
    assert_eq!(fresh.control.wait_exit().unwrap(), Exit::Code(4));
    until("what ran for the first has ended", || {
        !runs(pid.trim().parse().unwrap())
    });
    assert!(first.exec(&sh("true")).is_err());
}

#[test]
fn an_agent_that_breaks_the_protocol_is_left() {
    let (agent, _) = agent();
    drop(agent);
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let guest = std::thread::spawn(move || {
        let mut greeting = [0; agent::wire::GREETING];
        theirs.read_exact(&mut greeting).unwrap();
        theirs.write_all(&greeting).unwrap();
        let hello = FromGuest::Hello(agent::protocol::Hello::default());
        theirs.write_all(&frame(0, &hello, b"")).unwrap();
        theirs.write_all(&[0xff; 100]).unwrap();
        let _ = theirs.read_to_end(&mut Vec::new());
    });
    let agent = Agent::over(ours, Way::Connection, PATIENCE).unwrap();
    let fault = agent.exec(&sh("true")).unwrap_err();
    assert!(fault.is(codes::MESSAGE_BROKEN), "{fault}");
    guest.join().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Whatever comes, the server ends that connection or goes on, and is there for the end.
    #[test]
    fn no_bytes_end_more_than_their_connection(
        greeted in any::<bool>(), port in any::<bool>(),
        pieces in proptest::collection::vec(
            prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..200),
                Just(frame(1, &FromHost::Open(Request::Ping), b"x")),
                Just(frame(2, &FromHost::Open(Request::Exec(agent::protocol::Exec { argv: vec!["cat".into()], ..Default::default() })), b"")),
                Just(frame(2, &FromHost::Input, b"text")),
                Just(frame(2, &FromHost::Resize { rows: 0, cols: 65535 }, b"")),
                any::<i32>().prop_map(|signal| frame(2, &FromHost::Signal { signal }, b"")),
                any::<u32>().prop_map(|bytes| frame(2, &FromHost::Credit { stream: agent::protocol::Stream::Stderr, bytes }, b"")),
                Just(frame(2, &FromHost::Close, b"")),
                Just(frame(0, &FromHost::InputEnd, b"")),
                Just(frame(0, &serde_json::json!("what"), b"")),
            ], 0..12),
    ) {
        let (mut stream, server) = serve(port);
        if greeted {
            stream.write_all(&greeting([5; 16])).unwrap();
        }
        for piece in pieces {
            let _ = stream.write_all(&piece);
        }
        if port {
            // A port never ends: the next host finds it at work.
            let agent = Agent::over(stream, Way::Port, PATIENCE).unwrap();
            agent.ping(PATIENCE).unwrap();
        } else {
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = stream.read_to_end(&mut Vec::new());
            server.join().unwrap();
        }
    }
}
