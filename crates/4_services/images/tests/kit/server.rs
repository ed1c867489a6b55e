//! An HTTP server of a few lines with the faults that real ones have.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What goes wrong with a file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Trouble {
    /// Keeps silent after so many bytes, for ever.
    Stall(usize),
    /// Closes the connection after so many bytes, whenever it is asked for more than that.
    Die(usize),
    /// Closes the connection after so many bytes, once.
    DieOnce(usize),
    /// Changes one byte.
    Lie,
    /// Says that the file is that short.
    Truncate(usize),
}

#[derive(Default)]
struct State {
    files: BTreeMap<String, Vec<u8>>,
    trouble: BTreeMap<String, Trouble>,
    /// Request lines with the value of Range.
    requests: Vec<(String, Option<String>)>,
    /// Login that is demanded, as `user:password` in base 64.
    login: Option<String>,
    /// Answer every request as a proxy that wants a login.
    demand_proxy_login: bool,
}

/// A running server; it ends when the test does.
#[derive(Clone)]
pub struct Server {
    pub address: String,
    state: Arc<Mutex<State>>,
}

impl Server {
    pub fn start(files: BTreeMap<String, Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State {
            files,
            ..State::default()
        }));
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = shared.clone();
                std::thread::spawn(move || serve(&stream, &shared));
            }
        });
        Server { address, state }
    }

    pub fn trouble(&self, path: &str, trouble: Trouble) {
        self.state
            .lock()
            .unwrap()
            .trouble
            .insert(path.to_owned(), trouble);
    }

    pub fn heal(&self) {
        self.state.lock().unwrap().trouble.clear();
    }

    pub fn replace(&self, files: BTreeMap<String, Vec<u8>>) {
        self.state.lock().unwrap().files = files;
    }

    pub fn demand_login(&self, base64: &str) {
        self.state.lock().unwrap().login = Some(base64.to_owned());
    }

    pub fn demand_proxy_login(&self) {
        self.state.lock().unwrap().demand_proxy_login = true;
    }

    pub fn requests(&self) -> Vec<(String, Option<String>)> {
        self.state.lock().unwrap().requests.clone()
    }
}

fn serve(stream: &TcpStream, state: &Mutex<State>) {
    let mut reader = BufReader::new(stream);
    while answer(&mut reader, stream, state).is_some() {}
}

/// Serves one request; none when the connection is at its end.
fn answer(reader: &mut BufReader<&TcpStream>, mut stream: &TcpStream, state: &Mutex<State>) -> Option<()> {
    let mut line = String::new();
    if reader.read_line(&mut line).ok()? == 0 {
        return None;
    }
    let target = line.split(' ').nth(1)?.to_owned();
    let mut headers = BTreeMap::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        match header.trim_end().split_once(": ") {
            Some((name, value)) => headers.insert(name.to_ascii_lowercase(), value.to_owned()),
            None => break,
        };
    }
    // In absolute form when we are the proxy.
    let path = match target.split_once("://") {
        Some((_, rest)) => rest.split_once('/')?.1.to_owned(),
        None => target.trim_start_matches('/').to_owned(),
    };
    let (file, trouble, refusal) = {
        let mut state = state.lock().unwrap();
        state.requests.push((target, headers.get("range").cloned()));
        let refusal = if state.demand_proxy_login {
            Some("407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"x\"")
        } else {
            let wanted = state.login.as_ref().map(|login| format!("Basic {login}"));
            let refused = wanted.is_some() && headers.get("authorization") != wanted.as_ref();
            refused.then_some("401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"")
        };
        let trouble = state.trouble.get(&path).copied();
        if let Some(Trouble::DieOnce(_)) = trouble {
            state.trouble.remove(&path);
        }
        (state.files.get(&path).cloned(), trouble, refusal)
    };
    if let Some(refusal) = refusal {
        write!(stream, "HTTP/1.1 {refusal}\r\nContent-Length: 0\r\n\r\n").ok()?;
        return Some(());
    }
    let Some(mut body) = file else {
        write!(stream, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").ok()?;
        return Some(());
    };
    match trouble {
        Some(Trouble::Lie) => {
            let middle = body.len() / 2;
            body[middle] ^= 0x55;
        }
        Some(Trouble::Truncate(length)) => body.truncate(length),
        _ => {}
    }
    let from: usize = headers
        .get("range")
        .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok())
        .unwrap_or(0);
    let total = body.len();
    let body = &body[from.min(total)..];
    let status = match from {
        0 => "200 OK".to_owned(),
        _ => format!(
            "206 Partial Content\r\nContent-Range: bytes {from}-{}/{total}",
            total.max(1) - 1
        ),
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .ok()?;
    match trouble {
        Some(Trouble::Stall(after)) if from + body.len() > after => {
            stream.write_all(&body[..after.saturating_sub(from)]).ok()?;
            stream.flush().ok()?;
            std::thread::sleep(Duration::from_secs(3600));
            None
        }
        Some(Trouble::Die(after) | Trouble::DieOnce(after)) if from + body.len() > after => {
            stream.write_all(&body[..after.saturating_sub(from)]).ok()?;
            let _ = stream.shutdown(std::net::Shutdown::Both);
            None
        }
        _ => stream.write_all(body).ok(),
    }
}
