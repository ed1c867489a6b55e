//! Operations: list, show, wait, cancel.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use model::api::ErrorBody;
use model::{Id, Operation};
use serde::Deserialize;
use tokio::time::Instant;
use utoipa::IntoParams;

use crate::answer::{Answer, Refusal};
use crate::request::{Named, Params};
use crate::state::Door;

/// How long a wait lasts at most.
const PATIENCE: Duration = Duration::from_secs(30);
/// Progress within this time is told in one answer; the end is told at once.
const GATHER: Duration = Duration::from_millis(80);

/// Every operation that is remembered, oldest first.
#[utoipa::path(get, path = "/v1/operations", operation_id = "list_operations",
    responses((status = 200, body = Vec<Operation>), (status = "default", body = ErrorBody)))]
pub(crate) async fn list(State(door): State<Door>) -> Answer<Vec<Operation>> {
    Ok(Json(door.ask(|control| control.runner().list()).await?))
}

/// One operation.
#[utoipa::path(get, path = "/v1/operations/{id}", operation_id = "show_operation", params(("id" = String, Path)),
    responses((status = 200, body = Operation), (status = "default", body = ErrorBody)))]
pub(crate) async fn show(State(door): State<Door>, Named(id): Named) -> Answer<Operation> {
    Ok(Json(look(&door, &id).await?))
}

/// Ask an operation to end; what it had done is undone.
#[utoipa::path(delete, path = "/v1/operations/{id}", operation_id = "cancel_operation", params(("id" = String, Path)),
    responses((status = 200, body = Operation), (status = "default", body = ErrorBody)))]
pub(crate) async fn cancel(State(door): State<Door>, Named(id): Named) -> Answer<Operation> {
    Ok(Json(
        door.ask(move |control| control.runner().cancel(&Id(id))).await?,
    ))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct WaitQuery {
    /// The revision that the caller knows.
    #[serde(default)]
    revision: u64,
}

/// The operation as soon as its revision is above the given one, it has ended, or 30 seconds are over.
#[utoipa::path(get, path = "/v1/operations/{id}/wait", operation_id = "wait_operation", params(("id" = String, Path), WaitQuery),
    responses((status = 200, body = Operation), (status = "default", body = ErrorBody)))]
pub(crate) async fn wait(
    State(door): State<Door>,
    Named(id): Named,
    Params(query): Params<WaitQuery>,
) -> Answer<Operation> {
    let mut end = Instant::now() + PATIENCE;
    let mut gathering = false;
    let mut seen = query.revision;
    let mut changes = door.operated();
    let key = Id(id.clone());
    loop {
        changes.mark_unchanged();
        let told = door.control().runner().told(&key);
        if told.is_some_and(|told| told <= seen) && Instant::now() < end {
            // It was another one.
            let _ = tokio::time::timeout_at(end, changes.changed()).await;
            continue;
        }
        let operation = look(&door, &id).await?;
        seen = seen.max(operation.revision);
        if operation.ended.is_some() || Instant::now() >= end {
            return Ok(Json(operation));
        }
        if operation.revision > query.revision && !gathering {
            gathering = true;
            end = Instant::now() + GATHER;
        }
        let _ = tokio::time::timeout_at(end, changes.changed()).await;
    }
}

async fn look(door: &Door, id: &str) -> Result<Operation, Refusal> {
    let id = Id(id.to_owned());
    door.ask(move |control| control.runner().get(&id)).await
}
