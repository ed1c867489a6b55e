//! Bodies that come bit by bit: from a descriptor, or from a task that follows a log.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::body::Bytes;
use futures_core::Stream;
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Blocks under way at most.
const BLOCKS: usize = 4;
/// Bytes of one block.
const BLOCK: usize = 64 * 1024;

pub(crate) type Block = io::Result<Bytes>;

struct Blocks(Receiver<Block>);

impl Stream for Blocks {
    type Item = Block;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Block>> {
        self.0.poll_recv(context)
    }
}

/// A body and the end that feeds it.
pub(crate) fn body() -> (Sender<Block>, Body) {
    let (sender, receiver) = channel(BLOCKS);
    (sender, Body::from_stream(Blocks(receiver)))
}

/// A body of some bytes and what can be read from a descriptor after them; `keep` is dropped when that has ended.
pub(crate) fn body_of<K: Send + 'static>(first: Vec<u8>, fd: OwnedFd, keep: K) -> Body {
    let (sender, body) = body();
    tokio::task::spawn_blocking(move || {
        if sender.blocking_send(Ok(Bytes::from(first))).is_err() {
            return;
        }
        let mut file = File::from(fd);
        let mut block = vec![0; BLOCK];
        loop {
            let read = match file.read(&mut block) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read,
            };
            let sent = match read {
                Ok(0) => break,
                Ok(length) => sender.blocking_send(Ok(Bytes::copy_from_slice(&block[..length]))),
                Err(error) => {
                    let _ = sender.blocking_send(Err(error));
                    break;
                }
            };
            if sent.is_err() {
                break;
            }
        }
        drop(keep);
    });
    body
}
