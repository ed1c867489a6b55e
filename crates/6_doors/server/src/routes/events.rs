//! Events: the stored ones as a list, or all from a revision on over a websocket.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::{IntoResponse, Response};
use model::Event;
use model::api::ErrorBody;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::answer::Refusal;
use crate::request::Params;
use crate::state::Door;

/// Events read from the store at once.
const BATCH: usize = 500;
/// A peer that is gone without a word is noticed by a ping after this time.
const PING: Duration = Duration::from_secs(30);

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct EventsQuery {
    /// Only events of later revisions.
    #[serde(default)]
    since: u64,
}

/// Events after a revision; over a websocket also those to come, one JSON text message each.
#[utoipa::path(get, path = "/v1/events", operation_id = "events", params(EventsQuery),
    responses((status = 200, body = Vec<Event>), (status = 101, description = "A websocket of Events"),
        (status = "default", body = ErrorBody)))]
pub(crate) async fn events(
    State(door): State<Door>,
    Params(query): Params<EventsQuery>,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Result<Response, Refusal> {
    if let Ok(upgrade) = upgrade {
        return Ok(upgrade.on_upgrade(move |socket| follow(door, socket, query.since)));
    }
    let limit = usize::try_from(store::EVENTS_KEPT).unwrap_or(usize::MAX);
    let all = door
        .ask(move |control| control.events(query.since, limit))
        .await?;
    Ok(Json(all).into_response())
}

async fn follow(door: Door, mut socket: WebSocket, mut since: u64) {
    let mut stored = door.stored();
    loop {
        stored.mark_unchanged();
        let Ok(batch) = door.ask(move |control| control.events(since, BATCH)).await else {
            return;
        };
        // A revision has several events at most a few; a batch is cut between revisions only.
        let full = batch.len() == BATCH;
        let last = batch.last().map_or(since, |event| event.revision);
        for event in batch {
            if full && event.revision == last {
                break;
            }
            since = event.revision;
            let text = serde_json::to_string(&event).unwrap_or_default();
            if socket.send(Message::Text(text.into())).await.is_err() {
                return;
            }
        }
        if full {
            continue;
        }
        tokio::select! {
            changed = stored.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(PING) => {
                if socket.send(Message::Ping(axum::body::Bytes::new())).await.is_err() {
                    return;
                }
            }
            message = socket.recv() => match message {
                None | Some(Err(_) | Ok(Message::Close(_))) => return,
                Some(Ok(_)) => {}
            }
        }
    }
}
