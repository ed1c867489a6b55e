//! Frames on a byte stream: pure, bytes in and messages out.
//!
//! A connection begins with a greeting in both directions: the host sends [`MARK`] and a random token, the agent
//! answers with the same. Then frames follow: `u32` length of the head, `u32` length of the data (little-endian), the
//! head (JSON: session and message), the data (raw bytes), and a line feed. A socket that breaks this is closed.
//!
//! A virtio-console port has no connections: whoever opens it may come into the middle of what was said before, after
//! a restored snapshot for example. There the host sends [`attention`] first, longer than any frame, which no agent
//! can take for one (its bytes are neither a length in range nor the line feed at a frame's end); the agent drops all
//! sessions and looks for the next greeting, and the host looks for its own token in what comes.

use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

/// Most bytes of a head.
pub const HEAD_LIMIT: usize = 256 << 10;
/// Most bytes of data in one frame.
pub const DATA_LIMIT: usize = 64 << 10;
/// First bytes of a greeting.
pub const MARK: [u8; 8] = *b"\x01posada\n";
/// Length of a greeting.
pub const GREETING: usize = MARK.len() + TOKEN;

const TOKEN: usize = 16;
const LENGTHS: usize = 8;
const TRAILER: u8 = b'\n';
const ATTENTION: u8 = 0xff;

/// What the host invents for a connection.
pub type Token = [u8; TOKEN];

/// The bytes are no frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

/// A head: which session, and what.
#[derive(Serialize, Deserialize)]
struct Head<M> {
    session: u32,
    message: M,
}

/// One frame, its head still JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    head: Vec<u8>,
    /// The bytes that belong to it.
    pub data: Vec<u8>,
}

impl Frame {
    /// Session and message; no message when it is one that this program does not know.
    ///
    /// # Errors
    /// When the head is not even that.
    pub fn parse<M: DeserializeOwned>(&self) -> Result<(u32, Option<M>), Broken> {
        if let Ok(head) = serde_json::from_slice::<Head<M>>(&self.head) {
            return Ok((head.session, Some(head.message)));
        }
        let head: Head<IgnoredAny> = serde_json::from_slice(&self.head).map_err(|_| Broken)?;
        Ok((head.session, None))
    }
}

/// What a [`Decoder`] finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// The beginning of a conversation.
    Greeting(Token),
    /// A frame.
    Frame(Frame),
}

/// Takes a stream of bytes apart. It never holds more than one frame and what it was last given.
#[derive(Debug)]
pub struct Decoder {
    bytes: Vec<u8>,
    /// What of them is done with.
    at: usize,
    greeted: bool,
    /// The stream may begin in the middle of anything.
    port: bool,
}

impl Decoder {
    /// For a new connection; `port`: for a stream that is never new, on which greetings are looked for.
    #[must_use]
    pub fn new(port: bool) -> Self {
        Decoder {
            bytes: Vec::new(),
            at: 0,
            greeted: false,
            port,
        }
    }

    /// Takes what was read.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.at > 0 {
            self.bytes.drain(..self.at);
            self.at = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Looks for a greeting again, in what has not been taken yet too.
    pub fn resync(&mut self) {
        self.greeted = false;
    }

    /// The next thing that is whole.
    ///
    /// # Errors
    /// When the bytes cannot be what they should; nothing sensible follows, except after [`Decoder::resync`].
    pub fn take(&mut self) -> Result<Option<Item>, Broken> {
        if self.greeted {
            Ok(self.frame()?.map(Item::Frame))
        } else {
            Ok(self.greeting()?.map(Item::Greeting))
        }
    }

    fn greeting(&mut self) -> Result<Option<Token>, Broken> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        if self.port {
            let found = rest.windows(MARK.len()).position(|window| window == MARK);
            // A mark may have come in part.
            self.at += found.unwrap_or(rest.len().saturating_sub(MARK.len() - 1));
        } else {
            let known = rest.len().min(MARK.len());
            if rest[..known] != MARK[..known] {
                return Err(Broken);
            }
        }
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let Some((_, token)) = rest.split_first_chunk::<{ MARK.len() }>() else {
            return Ok(None);
        };
        let Some(token) = token.first_chunk::<TOKEN>() else {
            return Ok(None);
        };
        self.greeted = true;
        let token = *token;
        self.at += GREETING;
        Ok(Some(token))
    }

    fn frame(&mut self) -> Result<Option<Frame>, Broken> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let Some((lengths, rest)) = rest.split_first_chunk::<LENGTHS>() else {
            return Ok(None);
        };
        let length =
            |at: usize| u32::from_le_bytes([lengths[at], lengths[at + 1], lengths[at + 2], lengths[at + 3]]);
        let (head, data) = (length(0) as usize, length(4) as usize);
        if head == 0 || head > HEAD_LIMIT || data > DATA_LIMIT {
            return Err(Broken);
        }
        let Some(trailer) = rest.get(head + data) else {
            return Ok(None);
        };
        if *trailer != TRAILER {
            return Err(Broken);
        }
        let frame = Frame {
            head: rest[..head].to_vec(),
            data: rest[head..head + data].to_vec(),
        };
        self.at += LENGTHS + head + data + 1;
        Ok(Some(frame))
    }
}

/// Appends a frame.
///
/// # Errors
/// When head or data are larger than the protocol allows; nothing is appended then.
pub fn encode(out: &mut Vec<u8>, session: u32, message: &impl Serialize, data: &[u8]) -> Result<(), Broken> {
    let start = out.len();
    out.extend_from_slice(&[0; LENGTHS]);
    let written = serde_json::to_writer(&mut *out, &Head { session, message });
    let head = out.len() - start - LENGTHS;
    if written.is_err() || head > HEAD_LIMIT || data.len() > DATA_LIMIT {
        out.truncate(start);
        return Err(Broken);
    }
    let length = |bytes: usize| u32::try_from(bytes).unwrap_or(0).to_le_bytes();
    out[start..start + 4].copy_from_slice(&length(head));
    out[start + 4..start + LENGTHS].copy_from_slice(&length(data.len()));
    out.extend_from_slice(data);
    out.push(TRAILER);
    Ok(())
}

/// The first bytes of a conversation.
#[must_use]
pub fn greeting(token: Token) -> [u8; GREETING] {
    let mut bytes = [0; GREETING];
    bytes[..MARK.len()].copy_from_slice(&MARK);
    bytes[MARK.len()..].copy_from_slice(&token);
    bytes
}

/// What comes before the greeting on a port: ends every frame that the other side may be in the middle of.
#[must_use]
pub fn attention() -> Vec<u8> {
    vec![ATTENTION; 2 * LENGTHS + HEAD_LIMIT + DATA_LIMIT + 1]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Exec, FromHost, Request, Stream};
    use proptest::prelude::*;

    fn decode(decoder: &mut Decoder) -> Vec<(u32, FromHost, Vec<u8>)> {
        let mut found = Vec::new();
        while let Ok(Some(item)) = decoder.take() {
            if let Item::Frame(frame) = item {
                let (session, message) = frame.parse().expect("our own");
                found.push((session, message.expect("known"), frame.data));
            }
        }
        found
    }

    fn message() -> impl Strategy<Value = FromHost> {
        let exec = (
            proptest::collection::vec(".{0,9}", 0..4),
            any::<Option<(u16, u16)>>(),
        );
        prop_oneof![
            exec.prop_map(|(argv, terminal)| FromHost::Open(Request::Exec(Exec {
                argv,
                terminal,
                ..Exec::default()
            }))),
            ".{0,20}".prop_map(|path| FromHost::Open(Request::ReadFiles { path })),
            Just(FromHost::Open(Request::Facts)),
            Just(FromHost::Input),
            any::<u32>().prop_map(|bytes| FromHost::Credit {
                stream: Stream::Stderr,
                bytes
            }),
            any::<i32>().prop_map(|signal| FromHost::Signal { signal }),
            Just(FromHost::Close),
        ]
    }

    #[test]
    fn an_unknown_message_still_tells_its_session() {
        let mut bytes = greeting([7; 16]).to_vec();
        let future = serde_json::json!({"open": {"teleport": {"to": 3}}});
        encode(&mut bytes, 9, &future, b"").unwrap();
        let mut decoder = Decoder::new(false);
        decoder.push(&bytes);
        assert_eq!(decoder.take(), Ok(Some(Item::Greeting([7; 16]))));
        let Ok(Some(Item::Frame(frame))) = decoder.take() else {
            panic!("no frame")
        };
        assert_eq!(frame.parse::<FromHost>(), Ok((9, None)));
    }

    #[test]
    fn a_field_of_the_future_is_ignored() {
        let mut bytes = greeting([0; 16]).to_vec();
        let future = serde_json::json!({"open": {"exec": {"argv": ["a"], "nice": 5}}});
        encode(&mut bytes, 1, &future, b"").unwrap();
        let mut decoder = Decoder::new(false);
        decoder.push(&bytes);
        let expected = Exec {
            argv: vec!["a".into()],
            ..Exec::default()
        };
        assert_eq!(
            decode(&mut decoder),
            [(1, FromHost::Open(Request::Exec(expected)), vec![])]
        );
    }

    #[test]
    fn a_socket_that_does_not_greet_is_refused_at_its_first_byte() {
        let mut decoder = Decoder::new(false);
        decoder.push(b"G");
        assert_eq!(decoder.take(), Err(Broken));
    }

    #[test]
    fn lengths_out_of_range_are_refused_before_their_bytes_come() {
        for (head, data) in [
            (0, 0),
            (HEAD_LIMIT + 1, 0),
            (1, DATA_LIMIT + 1),
            (u32::MAX as usize, 0),
        ] {
            let mut decoder = Decoder::new(false);
            decoder.push(&greeting([0; 16]));
            decoder.push(&u32::try_from(head).unwrap().to_le_bytes());
            decoder.push(&u32::try_from(data).unwrap().to_le_bytes());
            assert!(matches!(decoder.take(), Ok(Some(Item::Greeting(_)))));
            assert_eq!(decoder.take(), Err(Broken), "{head} {data}");
        }
    }

    proptest! {
        #[test]
        fn frames_survive_the_wire_in_any_pieces(
            frames in proptest::collection::vec((any::<u32>(), message(), proptest::collection::vec(any::<u8>(), 0..300)), 0..8),
            pieces in proptest::collection::vec(1_usize..400, 1..30),
        ) {
            let mut bytes = greeting([1; 16]).to_vec();
            for (session, message, data) in &frames {
                encode(&mut bytes, *session, message, data).unwrap();
            }
            let mut decoder = Decoder::new(false);
            let (mut found, mut rest) = (Vec::new(), &bytes[..]);
            for piece in pieces.iter().cycle() {
                let (now, later) = rest.split_at((*piece).min(rest.len()));
                decoder.push(now);
                found.extend(decode(&mut decoder));
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(found, frames);
        }

        /// The agent may have been left in the middle of any frame, before or after anything.
        #[test]
        fn a_port_finds_the_next_greeting_wherever_it_was_left(
            junk in proptest::collection::vec(any::<u8>(), 0..200),
            left in (any::<u32>(), message(), proptest::collection::vec(any::<u8>(), 0..300)),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut decoder = Decoder::new(true);
            let mut bytes = junk;
            bytes.extend(greeting([1; 16]));
            let before = bytes.len();
            encode(&mut bytes, left.0, &left.1, &left.2).unwrap();
            bytes.truncate(before + cut.index(bytes.len() - before));
            bytes.extend(attention());
            bytes.extend(greeting([2; 16]));
            encode(&mut bytes, 5, &FromHost::Close, b"").unwrap();
            decoder.push(&bytes);
            let mut greetings = Vec::new();
            let mut last = Vec::new();
            loop {
                match decoder.take() {
                    Err(Broken) => decoder.resync(),
                    Ok(None) => break,
                    Ok(Some(Item::Greeting(token))) => greetings.push(token),
                    Ok(Some(Item::Frame(frame))) => last.push(frame.parse::<FromHost>().unwrap()),
                }
            }
            prop_assert_eq!(greetings.last(), Some(&[2; 16]));
            prop_assert_eq!(last, [(5, Some(FromHost::Close))]);
        }

        #[test]
        fn no_bytes_make_the_decoder_panic_or_keep_much(
            port in any::<bool>(), greeted in any::<bool>(), bytes in proptest::collection::vec(any::<u8>(), 0..3000),
        ) {
            let mut decoder = Decoder::new(port);
            if greeted {
                decoder.push(&greeting([3; 16]));
            }
            decoder.push(&bytes);
            let mut turns = 0;
            loop {
                match decoder.take() {
                    Ok(Some(Item::Frame(frame))) => drop(frame.parse::<FromHost>()),
                    Ok(Some(Item::Greeting(_))) => {}
                    Ok(None) => break,
                    Err(Broken) if port => decoder.resync(),
                    Err(Broken) => break,
                }
                turns += 1;
                prop_assert!(turns < 4000);
            }
        }
    }
}
