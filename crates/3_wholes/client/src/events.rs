//! Events as they happen, over a websocket (RFC 6455).

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;

use fault::{Fault, OrFault, Result};
use model::Event;
use tungstenite::{Error, Message, WebSocket};

use crate::{codes, http};

/// A stream of events; its iterator ends when the daemon does.
pub struct Events {
    socket: WebSocket<UnixStream>,
}

impl Events {
    pub(crate) fn open(socket: &Path, since: u64) -> Result<Self> {
        let stream = http::connect(socket)?;
        let target = format!("ws://posada/v1/events?since={since}");
        match tungstenite::client(target.as_str(), stream) {
            Ok((socket, _)) => Ok(Events { socket }),
            Err(tungstenite::HandshakeError::Failure(error)) => Err(Fault::new(codes::LOST)
                .arg("request", "GET /v1/events")
                .because(error)),
            Err(tungstenite::HandshakeError::Interrupted(_)) => {
                Err(Fault::new(codes::LOST).arg("request", "GET /v1/events"))
            }
        }
    }

    fn read(&mut self) -> Result<Option<Event>> {
        loop {
            match self.socket.read() {
                Ok(Message::Text(text)) => {
                    return serde_json::from_str(&text)
                        .map(Some)
                        .or_fault(|| Fault::new(codes::BROKEN));
                }
                Ok(Message::Close(_)) | Err(Error::ConnectionClosed | Error::AlreadyClosed) => {
                    return Ok(None);
                }
                Ok(_) => {}
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(Error::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake)) => {
                    return Ok(None);
                }
                Err(error) => {
                    return Err(Fault::new(codes::LOST)
                        .arg("request", "GET /v1/events")
                        .because(error));
                }
            }
        }
    }
}

impl Iterator for Events {
    type Item = Result<Event>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}
