//! The control socket: the daemon's connections, and what they ask.

use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;

use tokio::io::Interest;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::spawn_local;

use super::{Server, breathe};
use crate::PROCESS_SILENT;
use crate::wire::{Answer, Hello, Inbox, PROTOCOL, Request, frame};

/// Takes connections of the user who started the process and of root.
pub(super) async fn listen(server: Rc<Server>, listener: UnixListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let allowed = stream
                    .peer_cred()
                    .is_ok_and(|peer| peer.uid() == server.owner || peer.uid() == 0);
                if allowed {
                    spawn_local(converse(Rc::clone(&server), stream));
                }
            }
            Err(_) => breathe().await,
        }
    }
}

async fn converse(server: Rc<Server>, stream: UnixStream) {
    // An end of the connection, expected or not, changes nothing of what is served.
    let _ = answer_all(&server, &stream).await;
}

async fn answer_all(server: &Rc<Server>, stream: &UnixStream) -> io::Result<()> {
    let hello = Hello {
        protocol: PROTOCOL,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        network: server.name.clone(),
        pid: std::process::id(),
        roles: server.tasks.borrow().keys().copied().collect(),
    };
    write(stream, &frame(&hello)?).await?;
    let mut inbox = Inbox::default();
    loop {
        let request = match inbox.take::<serde_json::Value>()? {
            Some(request) => request,
            None => {
                let more = stream
                    .async_io(Interest::READABLE, || inbox.receive(stream.as_fd()))
                    .await?;
                if !more {
                    return Ok(());
                }
                continue;
            }
        };
        let answer = match serde_json::from_value(request) {
            Ok(request) => obey(server, request, &mut inbox),
            Err(error) => Answer::Fault(
                fault::Fault::new(PROCESS_SILENT)
                    .arg("network", &server.name)
                    .because(error),
            ),
        };
        write(stream, &frame(&answer)?).await?;
    }
}

fn obey(server: &Rc<Server>, request: Request, inbox: &mut Inbox) -> Answer {
    match request {
        Request::Hand { roles } => {
            let fds = inbox.take_fds(roles.len());
            for (role, fd) in roles.into_iter().zip(fds) {
                if let Err(error) = server.take(role, fd) {
                    let fault = fault::Fault::new(PROCESS_SILENT).arg("network", &server.name);
                    return Answer::Fault(fault.because(error));
                }
            }
        }
        Request::Configure { config } => server.configure(*config),
        Request::Stop => server.stop.notify_one(),
    }
    Answer::Done
}

async fn write(stream: &UnixStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
