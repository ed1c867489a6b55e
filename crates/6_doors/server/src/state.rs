//! What every handler has: the control plane, and the news of its changes.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, DefaultBodyLimit, FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::serve::IncomingStream;
use axum::{Json, Router};
use control::{Actor, Control};
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

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        let peer = stream.io().peer_cred().ok();
        Peer {
            uid: peer.map(|peer| peer.uid()),
        }
    }
}

/// Who asks, and by which key the request is known when it comes again (`Idempotency-Key`: the client's own, at most
/// 64 letters, digits, hyphens or underscores).
pub(crate) struct Asker(pub Actor);

const KEY: &str = "idempotency-key";

fn key_of(headers: &HeaderMap) -> Option<String> {
    let key = headers.get(KEY)?.to_str().ok()?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    ((1..=64).contains(&key.len()) && key.bytes().all(plain)).then(|| key.to_owned())
}

impl<S: Send + Sync> FromRequestParts<S> for Asker {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let peer = parts.extensions.get::<ConnectInfo<Peer>>();
        let name = match peer.and_then(|ConnectInfo(peer)| peer.uid) {
            Some(uid) => format!("uid:{uid}"),
            None => "unknown".to_owned(),
        };
        Ok(Asker(Actor {
            name,
            key: key_of(&parts.headers),
        }))
    }
}

/// Answers a request that has been carried out already, and whose answer was lost, with the operation it has begun.
async fn replay(State(door): State<Door>, request: Request, next: Next) -> Response {
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD);
    if let (true, Some(key)) = (changes, key_of(request.headers())) {
        let asked = door.ask(move |control| control.runner().asked_before(&key)).await;
        if let Ok(Some(operation)) = asked {
            return (StatusCode::ACCEPTED, Json(operation)).into_response();
        }
    }
    next.run(request).await
}

/// All paths.
pub fn router(door: Door) -> Router {
    let (router, _) = routes::paths().split_for_parts();
    router
        .fallback(async || Refusal(Fault::new(PATH_UNKNOWN)))
        .method_not_allowed_fallback(async || Refusal(Fault::new(METHOD_UNKNOWN)))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(middleware::from_fn_with_state(door.clone(), replay))
        .with_state(door)
}
