//! HTTP/1.1 over a Unix socket: one request a connection, blocking, bodies as streams (RFC 9112).

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use fault::{Fault, OrFault, Result};
use model::api::ErrorBody;

use crate::codes;

/// Most bytes of an answer's head.
const HEAD_LIMIT: usize = 64 << 10;
/// Most bytes of an answer that is read as a whole.
const BODY_LIMIT: u64 = 256 << 20;

/// What is sent with a request.
pub(crate) enum Body<'a> {
    /// Nothing.
    Empty,
    /// A JSON document.
    Json(&'a [u8]),
    /// Bytes of unknown length, until their end.
    Stream(&'a mut dyn Read),
}

/// Sends one request and reads the head of its answer. With the same `key` the daemon knows a request again that it
/// has carried out already.
pub(crate) fn send(
    socket: &Path,
    method: &str,
    target: &str,
    body: Body<'_>,
    key: Option<&str>,
) -> Result<Answer> {
    let mut stream = connect(socket)?;
    let lost = || Fault::new(codes::LOST).arg("request", format_args!("{method} {target}"));
    let sent = write_request(&mut stream, method, target, body, key);
    // A daemon that refuses a body answers before it has read all of it: the answer tells more than the broken pipe.
    let answer = read_answer(stream);
    match (sent, answer) {
        (_, Ok(answer)) if answer.status >= 400 => Err(answer.into_fault()),
        (Ok(()), Ok(answer)) => Ok(answer),
        (Ok(()), Err(error)) | (Err(error), _) => Err(lost().because(error)),
    }
}

/// A connection to the daemon.
pub(crate) fn connect(socket: &Path) -> Result<UnixStream> {
    UnixStream::connect(socket).map_err(|error| {
        let code = match error.kind() {
            io::ErrorKind::PermissionDenied => codes::FORBIDDEN,
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => codes::NO_DAEMON,
            _ => {
                return Fault::new(codes::NO_DAEMON)
                    .arg("socket", socket.display())
                    .because(error);
            }
        };
        Fault::new(code).arg("socket", socket.display())
    })
}

fn write_request(
    stream: &mut UnixStream,
    method: &str,
    target: &str,
    body: Body<'_>,
    key: Option<&str>,
) -> io::Result<()> {
    let key = key.map_or_else(String::new, |key| format!("Idempotency-Key: {key}\r\n"));
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: posada\r\nUser-Agent: posada/{}\r\nConnection: close\r\n{key}",
        env!("CARGO_PKG_VERSION")
    );
    match body {
        Body::Empty => stream.write_all(format!("{head}Content-Length: 0\r\n\r\n").as_bytes()),
        Body::Json(bytes) => {
            let mut all = format!(
                "{head}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                bytes.len()
            )
            .into_bytes();
            all.extend_from_slice(bytes);
            stream.write_all(&all)
        }
        Body::Stream(source) => {
            let head = format!("{head}Content-Type: application/x-tar\r\nTransfer-Encoding: chunked\r\n\r\n");
            stream.write_all(head.as_bytes())?;
            let mut piece = vec![0; 64 << 10];
            loop {
                let count = match source.read(&mut piece) {
                    // The connection is closed without the last chunk: the daemon sees that the body is not whole.
                    Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                    Err(_) => continue,
                    Ok(count) => count,
                };
                write!(stream, "{count:X}\r\n")?;
                stream.write_all(&piece[..count])?;
                stream.write_all(b"\r\n")?;
                if count == 0 {
                    break;
                }
            }
            stream.flush()
        }
    }
}

/// The head of an answer, and its body as a stream.
pub struct Answer {
    /// Status code.
    pub(crate) status: u16,
    body: Box<dyn Read + Send>,
}

impl Read for Answer {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.body.read(buffer)
    }
}

impl Answer {
    /// The whole body as a JSON document of this type.
    pub(crate) fn json<T: serde::de::DeserializeOwned>(mut self) -> Result<T> {
        let bytes = self.whole().or_fault(|| Fault::new(codes::BROKEN))?;
        serde_json::from_slice(&bytes).or_fault(|| Fault::new(codes::BROKEN))
    }

    fn whole(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.body.by_ref().take(BODY_LIMIT).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn into_fault(mut self) -> Fault {
        let bytes = self.whole().unwrap_or_default();
        match serde_json::from_slice::<ErrorBody>(&bytes) {
            Ok(body) => body.fault,
            Err(_) => {
                let text: String = String::from_utf8_lossy(&bytes).trim().chars().take(300).collect();
                Fault::new(codes::REFUSED)
                    .arg("status", self.status)
                    .because_of(text)
            }
        }
    }
}

fn read_answer(stream: UnixStream) -> io::Result<Answer> {
    let mut reader = BufReader::with_capacity(64 << 10, stream);
    let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let mut head = Vec::new();
    loop {
        let before = head.len();
        let limit = (HEAD_LIMIT + 1 - before) as u64;
        reader.by_ref().take(limit).read_until(b'\n', &mut head)?;
        if head.len() > HEAD_LIMIT {
            return Err(bad("the head of the answer is too long"));
        }
        if !head.ends_with(b"\n") {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the connection was closed",
            ));
        }
        if head.ends_with(b"\r\n\r\n") || head.ends_with(b"\n\n") {
            // Interim answers (100 Continue) come before the real one.
            if head.starts_with(b"HTTP/1.1 1") && !head.starts_with(b"HTTP/1.1 101") {
                head.clear();
                continue;
            }
            break;
        }
    }
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    response.parse(&head).map_err(|error| bad(&error.to_string()))?;
    let status = response.code.ok_or_else(|| bad("the answer has no status"))?;
    let header = |name: &str| {
        let found = response
            .headers
            .iter()
            .find(|header| header.name.eq_ignore_ascii_case(name));
        found
            .and_then(|header| std::str::from_utf8(header.value).ok())
            .map(str::trim)
    };
    let body: Box<dyn Read + Send> =
        if header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
            Box::new(chunked_transfer::Decoder::new(reader))
        } else if let Some(length) = header("content-length") {
            let length: u64 = length
                .parse()
                .map_err(|_| bad("the answer's length is no number"))?;
            Box::new(Whole {
                inner: reader,
                left: length,
            })
        } else {
            Box::new(reader)
        };
    Ok(Answer { status, body })
}

/// A body of known length: an early end is an error, not a shorter body.
struct Whole<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Whole<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 || buffer.is_empty() {
            return Ok(0);
        }
        let most = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let got = self.inner.read(&mut buffer[..most])?;
        if got == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= got as u64;
        Ok(got)
    }
}

/// A path segment or query value with everything but unreserved characters percent-encoded (RFC 3986).
pub(crate) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    fn answered_with(bytes: &'static [u8]) -> Result<Vec<u8>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).unwrap();
            let _ = stream.write_all(bytes);
        });
        let mut answer = send(&path, "GET", "/v1/x", Body::Empty, None)?;
        server.join().unwrap();
        answer.whole().or_fault(|| Fault::new(codes::BROKEN))
    }

    #[test]
    fn bodies_come_by_length_in_chunks_or_to_the_end() {
        let by_length = answered_with(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhixx").unwrap();
        assert_eq!(by_length, b"hi");
        let chunked = answered_with(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n1\r\n!\r\n0\r\n\r\n",
        );
        assert_eq!(chunked.unwrap(), b"hi!");
        assert_eq!(answered_with(b"HTTP/1.1 200 OK\r\n\r\nall").unwrap(), b"all");
    }

    #[test]
    fn a_body_that_ends_too_early_is_a_fault() {
        assert!(answered_with(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi").is_err());
        assert!(
            answered_with(b"HTTP/1.1 200 OK\r\nContent-Le")
                .unwrap_err()
                .is(codes::LOST)
        );
    }

    #[test]
    fn an_error_body_becomes_its_fault() {
        let fault = answered_with(
            b"HTTP/1.1 404 Not Found\r\n\r\n{\"fault\":{\"code\":\"GST001\",\"args\":{\"name\":\"web\"}},\"message\":\"no\"}",
        )
        .unwrap_err();
        assert_eq!(fault.code(), "GST001");
        let strange = answered_with(b"HTTP/1.1 500 Oh\r\nContent-Length: 4\r\n\r\nwhat").unwrap_err();
        assert!(strange.is(codes::REFUSED));
    }

    #[test]
    fn a_stream_is_sent_in_chunks_to_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream);
            let mut line = String::new();
            while line != "\r\n" {
                line.clear();
                reader.read_line(&mut line).unwrap();
            }
            let mut body = Vec::new();
            chunked_transfer::Decoder::new(&mut reader)
                .read_to_end(&mut body)
                .unwrap();
            reader
                .get_mut()
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                .unwrap();
            body
        });
        let sent = vec![7_u8; 200_000];
        send(&path, "PUT", "/v1/x", Body::Stream(&mut &sent[..]), None).unwrap();
        assert_eq!(server.join().unwrap(), sent);
    }

    #[test]
    fn whatever_stands_in_a_path_is_encoded() {
        assert_eq!(encode("debian/12 ñ?&"), "debian%2F12%20%C3%B1%3F%26");
    }
}
