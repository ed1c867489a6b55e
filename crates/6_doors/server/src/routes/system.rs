//! Version, doctor and the document of the interface itself.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use model::api::{ErrorBody, Finding, VersionInfo};

use crate::answer::Answer;
use crate::state::Door;

/// Version of the daemon and of the interface.
#[utoipa::path(get, path = "/v1/version", responses((status = 200, body = VersionInfo)))]
pub(crate) async fn version() -> Json<VersionInfo> {
    Json(VersionInfo {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        api: 1,
        pid: std::process::id(),
    })
}

/// What this host can and cannot do.
#[utoipa::path(get, path = "/v1/doctor",
    responses((status = 200, body = Vec<Finding>), (status = "default", body = ErrorBody)))]
pub(crate) async fn doctor(State(door): State<Door>) -> Answer<Vec<Finding>> {
    Ok(Json(door.ask(|control| Ok(control.doctor())).await?))
}

/// This document.
#[utoipa::path(get, path = "/v1/openapi.json", responses((status = 200, body = serde_json::Value)))]
pub(crate) async fn openapi() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], super::document())
}
