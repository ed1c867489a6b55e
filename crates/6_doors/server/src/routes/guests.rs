//! Guests: every verb.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use control::Seen;
use control::codes::UNKNOWN;
use model::api::{
    Display, ErrorBody, ExecRequest, Explanation, GuestStats, LaunchRequest, PasswdRequest, PublishRequest,
    RenameRequest, Session, SpecPatch, StopRequest,
};
use model::{Guest, Operation};
use serde::Deserialize;
use utoipa::IntoParams;

use super::schemas;
use crate::answer::{Answer, Refusal};
use crate::request::{Body, MaybeBody, Named, Params};
use crate::state::{Asker, Door};
use crate::stream;

/// How long a wait lasts when the request says nothing.
const PATIENCE: u64 = 60;

/// Every guest.
#[utoipa::path(get, path = "/v1/guests", operation_id = "list_guests",
    responses((status = 200, body = Vec<schemas::Guest>), (status = "default", body = ErrorBody)))]
pub(crate) async fn list(State(door): State<Door>) -> Answer<Vec<Guest>> {
    Ok(Json(door.ask(|control| control.guests()).await?))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct LaunchQuery {
    /// Only tell the plan that would be carried out.
    #[serde(default)]
    dry_run: bool,
}

/// Make a guest and, unless told otherwise, start it.
#[utoipa::path(post, path = "/v1/guests", operation_id = "launch_guest", params(LaunchQuery), request_body = LaunchRequest,
    responses((status = 202, body = Operation), (status = 200, body = serde_json::Value, description = "The plan, of a dry run"),
        (status = "default", body = ErrorBody)))]
pub(crate) async fn launch(
    State(door): State<Door>,
    Asker(actor): Asker,
    Params(query): Params<LaunchQuery>,
    Body(request): Body<LaunchRequest>,
) -> Result<Response, Refusal> {
    if query.dry_run {
        let plan = door.ask(move |control| control.launch_plan(&request)).await?;
        return Ok(Json(plan).into_response());
    }
    let operation = door.ask(move |control| control.launch(request, &actor)).await?;
    Ok((axum::http::StatusCode::ACCEPTED, Json(operation)).into_response())
}

/// One guest.
#[utoipa::path(get, path = "/v1/guests/{name}", operation_id = "show_guest", params(("name" = String, Path)),
    responses((status = 200, body = schemas::Guest), (status = "default", body = ErrorBody)))]
pub(crate) async fn show(State(door): State<Door>, Named(name): Named) -> Answer<Guest> {
    Ok(Json(door.ask(move |control| control.guest(&name)).await?))
}

/// Change the specification by a JSON merge patch.
#[utoipa::path(patch, path = "/v1/guests/{name}", operation_id = "set_guest", params(("name" = String, Path)),
    request_body = SpecPatch, responses((status = 200, body = Operation), (status = "default", body = ErrorBody)))]
pub(crate) async fn set(
    State(door): State<Door>,
    Asker(actor): Asker,
    Named(name): Named,
    Body(patch): Body<SpecPatch>,
) -> Answer<Operation> {
    let done = door.ask(move |control| control.set(&name, &patch, &actor));
    Ok(Json(done.await?))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct RemoveQuery {
    /// Delete it for good instead of keeping it in the trash.
    #[serde(default)]
    purge: bool,
    /// Kill it when it runs.
    #[serde(default)]
    force: bool,
}

/// Take a guest away.
#[utoipa::path(delete, path = "/v1/guests/{name}", operation_id = "remove_guest",
    params(("name" = String, Path), RemoveQuery),
    responses((status = 200, body = Operation), (status = "default", body = ErrorBody)))]
pub(crate) async fn remove(
    State(door): State<Door>,
    Asker(actor): Asker,
    Named(name): Named,
    Params(query): Params<RemoveQuery>,
) -> Answer<Operation> {
    let done = door.ask(move |control| control.remove(&name, query.purge, query.force, &actor));
    Ok(Json(done.await?))
}

/// Bring a guest up.
#[utoipa::path(post, path = "/v1/guests/{name}/start", operation_id = "start_guest", params(("name" = String, Path)),
    responses((status = 200, body = Operation), (status = "default", body = ErrorBody)))]
pub(crate) async fn start(
    State(door): State<Door>,
    Asker(actor): Asker,
    Named(name): Named,
) -> Answer<Operation> {
    let done = door.ask(move |control| control.start(&name, &actor));
    Ok(Json(done.await?))
}

/// Bring a guest down.
#[utoipa::path(post, path = "/v1/guests/{name}/stop", operation_id = "stop_guest", params(("name" = String, Path)),
    request_body = StopRequest, responses((status = 200, body = Operation), (status = "default", body = ErrorBody)))]
pub(crate) async fn stop(
    State(door): State<Door>,
    Asker(actor): Asker,
    Named(name): Named,
    MaybeBody(request): MaybeBody<StopRequest>,
) -> Answer<Operation> {
    let done = door.ask(move |control| control.stop(&name, request, &actor));
    Ok(Json(done.await?))
}

/// Bring a guest down and up again.
#[utoipa::path(post, path = "/v1/guests/{name}/restart", operation_id = "restart_guest", params(("name" = String, Path)),
    request_body = StopRequest, responses((status = 200, body = Operation), (status = "default", body = ErrorBody)))]
pub(crate) async fn restart(
    State(door): State<Door>,
    Asker(actor): Asker,
    Named(name): Named,
    MaybeBody(request): MaybeBody<StopRequest>,
) -> Answer<Operation> {
    let done = door.ask(move |control| control.restart(&name, request, &actor));
    Ok(Json(done.await?))
}

/// Freeze a guest.
#[utoipa::path(post, path = "/v1/guests/{name}/pause", operation_id = "pause_guest", params(("name" = String, Path)),
    responses((status = 200, body = Operation), (status = "default", body = ErrorBody)))]
pub(crate) async fn pause(
    State(door): State<Door>,
    Asker(actor): Asker,
    Named(name): Named,
) -> Answer<Operation> {
    let done = door.ask(move |control| control.pause(&name, &actor));
    Ok(Json(done.await?))
}

/// Thaw a guest.
#[utoipa::path(post, path = "/v1/guests/{name}/resume", operation_id = "resume_guest", params(("name" = String, Path)),
    responses((status = 200, body = Operation), (status = "default", body = ErrorBody)))]
pub(crate) async fn resume(
    State(door): State<Door>,
    Asker(actor): Asker,
    Named(name): Named,
) -> Answer<Operation> {
    let done = door.ask(move |control| control.resume(&name, &actor));
    Ok(Json(done.await?))
}

/// Give a guest another name.
#[utoipa::path(post, path = "/v1/guests/{name}/rename", operation_id = "rename_guest", params(("name" = String, Path)),
    request_body = RenameRequest, responses((status = 200, body = Operation), (status = "default", body = ErrorBody)))]
pub(crate) async fn rename(
    State(door): State<Door>,
    Asker(actor): Asker,
    Named(name): Named,
    Body(request): Body<RenameRequest>,
) -> Answer<Operation> {
    let done = door.ask(move |control| control.rename(&name, request, &actor));
    Ok(Json(done.await?))
}

/// Publish ports, and take some back.
#[utoipa::path(post, path = "/v1/guests/{name}/publish", operation_id = "publish_guest", params(("name" = String, Path)),
    request_body = PublishRequest, responses((status = 200, body = Operation), (status = "default", body = ErrorBody)))]
pub(crate) async fn publish(
    State(door): State<Door>,
    Asker(actor): Asker,
    Named(name): Named,
    Body(request): Body<PublishRequest>,
) -> Answer<Operation> {
    let done = door.ask(move |control| control.publish(&name, &request, &actor));
    Ok(Json(done.await?))
}

/// Set a password inside.
#[utoipa::path(post, path = "/v1/guests/{name}/passwd", operation_id = "passwd_guest", params(("name" = String, Path)),
    request_body = PasswdRequest, responses((status = 200, body = Operation), (status = "default", body = ErrorBody)))]
pub(crate) async fn passwd(
    State(door): State<Door>,
    Asker(actor): Asker,
    Named(name): Named,
    Body(request): Body<PasswdRequest>,
) -> Answer<Operation> {
    let done = door.ask(move |control| control.passwd(&name, request, &actor));
    Ok(Json(done.await?))
}

/// A ticket for a process beside the guest's own.
#[utoipa::path(post, path = "/v1/guests/{name}/exec", operation_id = "exec_guest", params(("name" = String, Path)),
    request_body = ExecRequest, responses((status = 200, body = Session), (status = "default", body = ErrorBody)))]
pub(crate) async fn exec(
    State(door): State<Door>,
    Named(name): Named,
    Body(request): Body<ExecRequest>,
) -> Answer<Session> {
    Ok(Json(door.ask(move |control| control.exec(&name, request)).await?))
}

/// A ticket for the guest's console.
#[utoipa::path(post, path = "/v1/guests/{name}/console", operation_id = "console_guest", params(("name" = String, Path)),
    responses((status = 200, body = Session), (status = "default", body = ErrorBody)))]
pub(crate) async fn console(State(door): State<Door>, Named(name): Named) -> Answer<Session> {
    Ok(Json(door.ask(move |control| control.console(&name)).await?))
}

/// Serve the screen of a machine, and tell where.
#[utoipa::path(post, path = "/v1/guests/{name}/vnc", operation_id = "vnc_guest", params(("name" = String, Path)),
    responses((status = 200, body = Display), (status = "default", body = ErrorBody)))]
pub(crate) async fn vnc(State(door): State<Door>, Named(name): Named) -> Answer<Display> {
    Ok(Json(door.ask(move |control| control.display(&name)).await?))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct ScreenshotQuery {
    /// As text instead of a picture.
    #[serde(default)]
    text: bool,
}

/// What the screen of a machine shows, as a PNG picture or as text.
#[utoipa::path(get, path = "/v1/guests/{name}/screenshot", operation_id = "screenshot_guest",
    params(("name" = String, Path), ScreenshotQuery),
    responses((status = 200, body = Vec<u8>, content_type = "image/png"), (status = "default", body = ErrorBody)))]
pub(crate) async fn screenshot(
    State(door): State<Door>,
    Named(name): Named,
    Params(query): Params<ScreenshotQuery>,
) -> Result<Response, Refusal> {
    let taken = door.ask(move |control| control.screenshot(&name, query.text));
    let body = stream::body_of(Vec::new(), taken.await?, ());
    let kind = match query.text {
        true => "text/plain; charset=utf-8",
        false => "image/png",
    };
    Ok(([(header::CONTENT_TYPE, kind)], body).into_response())
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct WaitQuery {
    /// Conditions of which one is enough, joined by commas: `running`, `stopped`, `paused`, `failed`, `ip`,
    /// `removed`.
    #[serde(default, rename = "for")]
    condition: Option<String>,
    /// Seconds until it is given up; 60 when absent.
    #[serde(default)]
    timeout: Option<u64>,
}

/// The guest, as soon as it is as wanted; one that is removed as it was last seen.
#[utoipa::path(get, path = "/v1/guests/{name}/wait", operation_id = "wait_guest", params(("name" = String, Path), WaitQuery),
    responses((status = 200, body = schemas::Guest), (status = "default", body = ErrorBody)))]
pub(crate) async fn wait(
    State(door): State<Door>,
    Named(name): Named,
    Params(query): Params<WaitQuery>,
) -> Answer<Guest> {
    let condition = query.condition.unwrap_or_else(|| "running".to_owned());
    let removal = condition.split(',').any(|word| word == "removed");
    let patience = Duration::from_secs(query.timeout.unwrap_or(PATIENCE).min(365 * 86_400));
    let end = Instant::now() + patience;
    let mut stored = door.stored();
    let mut known: Option<Box<Guest>> = None;
    loop {
        stored.mark_unchanged();
        let (name, condition) = (name.clone(), condition.clone());
        let looked = door.ask(move |control| control.look(&name, &condition.split(',').collect::<Vec<_>>()));
        let (guest, revision, fault) = match (looked.await, known.take()) {
            (Err(Refusal(fault)), Some(gone)) if removal && fault.is(UNKNOWN) => return Ok(Json(*gone)),
            (Err(refusal), _) => return Err(refusal),
            (Ok(Seen::Fulfilled(guest)), _) => return Ok(Json(*guest)),
            // Another of the same name is not the one that was asked for.
            (Ok(Seen::NotYet { guest, .. }), Some(gone)) if removal && guest.id != gone.id => {
                return Ok(Json(*gone));
            }
            (
                Ok(Seen::NotYet {
                    guest,
                    revision,
                    fault,
                }),
                _,
            ) => (guest, revision, fault),
        };
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Refusal(fault));
        }
        // A second is enough for what happens without a change of the store.
        let nap = tokio::time::Instant::now() + left.min(Duration::from_secs(1));
        while let Ok(Ok(())) = tokio::time::timeout_at(nap, stored.changed()).await {
            if door.control().worth_a_look(&guest, revision) {
                break;
            }
        }
        known = Some(guest);
    }
}

/// What a guest uses now.
#[utoipa::path(get, path = "/v1/guests/{name}/stats", operation_id = "stats_guest", params(("name" = String, Path)),
    responses((status = 200, body = GuestStats), (status = "default", body = ErrorBody)))]
pub(crate) async fn stats(State(door): State<Door>, Named(name): Named) -> Answer<GuestStats> {
    Ok(Json(door.ask(move |control| control.stats(&name)).await?))
}

/// What every running guest uses now, by name.
#[utoipa::path(get, path = "/v1/stats", operation_id = "stats",
    responses((status = 200, body = BTreeMap<String, GuestStats>), (status = "default", body = ErrorBody)))]
pub(crate) async fn all_stats(State(door): State<Door>) -> Answer<BTreeMap<String, GuestStats>> {
    Ok(Json(door.ask(|control| control.all_stats()).await?))
}

/// The mechanism under a guest.
#[utoipa::path(get, path = "/v1/guests/{name}/explain", operation_id = "explain_guest", params(("name" = String, Path)),
    responses((status = 200, body = Explanation), (status = "default", body = ErrorBody)))]
pub(crate) async fn explain(State(door): State<Door>, Named(name): Named) -> Answer<Explanation> {
    Ok(Json(door.ask(move |control| control.explain(&name)).await?))
}
