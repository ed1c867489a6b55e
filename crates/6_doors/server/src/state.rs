//! What every handler has: the control plane, and the news of its changes.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use control::Control;
use fault::{Fault, Result};
use tokio::net::UnixListener;
use tokio::sync::watch;

use crate::answer::Refusal;
use crate::codes::{DEFECT, METHOD_UNKNOWN, PATH_UNKNOWN};
use crate::request::BODY_LIMIT;
use crate::routes;

/// What every handler has. Cheap to clone.
#[derive(Clone)]
pub struct Door {
    control: Arc<Control>,
    /// The store's revision.
    stored: watch::Receiver<u64>,
    /// The number of the last change of an operation.
    operated: watch::Receiver<u64>,
}

impl Door {
    /// A door to a control plane. Starts the thread that waits for its changes.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn new(control: Arc<Control>) -> std::io::Result<Self> {
        let (tell_stored, stored) = watch::channel(control.store().revision());
        let (tell_operated, operated) = watch::channel(0);
        control.runner().on_change(move |revision| {
            tell_operated.send_replace(revision);
        });
        let store = Arc::clone(control.store());
        std::thread::Builder::new()
            .name("changes".to_owned())
            .spawn(move || {
                let mut revision = 0;
                while !tell_stored.is_closed() {
                    let now = store.wait_beyond(revision, Duration::from_secs(1));
                    if now != revision {
                        revision = now;
                        tell_stored.send_replace(now);
                    }
                }
            })?;
        Ok(Door {
            control,
            stored,
            operated,
        })
    }

    /// The control plane, for questions that memory answers at once.
    pub(crate) fn control(&self) -> &Control {
        &self.control
    }

    /// A receiver of the store's revision.
    pub(crate) fn stored(&self) -> watch::Receiver<u64> {
        self.stored.clone()
    }

    /// A receiver of the number of the last change of an operation.
    pub(crate) fn operated(&self) -> watch::Receiver<u64> {
        self.operated.clone()
    }

    /// Does blocking work with the control plane on a thread made for that.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Control) -> Result<T> + Send + 'static,
    ) -> Result<T, Refusal> {
        let control = Arc::clone(&self.control);
        let done = tokio::task::spawn_blocking(move || {
            std::panic::catch_unwind(AssertUnwindSafe(|| work(&control)))
        });
        match done.await {
            Ok(Ok(result)) => result.map_err(Refusal),
            _ => Err(Refusal(Fault::new(DEFECT))),
        }
    }
}

/// Who asks: the peer of the connection.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// Its user id, as the kernel knows it (SO_PEERCRED, unix(7)).
    uid: Option<u32>,
}

impl Peer {
    /// As operations record it.
    pub(crate) fn actor(&self) -> String {
        match self.uid {
            Some(uid) => format!("uid:{uid}"),
            None => "unknown".to_owned(),
        }
    }
}

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        let peer = stream.io().peer_cred().ok();
        Peer {
            uid: peer.map(|peer| peer.uid()),
        }
    }
}

/// All paths.
pub fn router(door: Door) -> Router {
    let (router, _) = routes::paths().split_for_parts();
    router
        .fallback(async || Refusal(Fault::new(PATH_UNKNOWN)))
        .method_not_allowed_fallback(async || Refusal(Fault::new(METHOD_UNKNOWN)))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(door)
}
