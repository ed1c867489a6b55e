//! Trash, images and networks.

use axum::Json;
use axum::extract::State;
use model::api::{ErrorBody, TrashEntry};
use model::{Image, Network, Operation};

use super::schemas;
use crate::answer::Answer;
use crate::request::Named;
use crate::state::{Asker, Door};

/// Removed guests whose trees are kept.
#[utoipa::path(get, path = "/v1/trash", operation_id = "list_trash",
    responses((status = 200, body = Vec<TrashEntry>), (status = "default", body = ErrorBody)))]
pub(crate) async fn trash(State(door): State<Door>) -> Answer<Vec<TrashEntry>> {
    Ok(Json(door.ask(|control| control.trash()).await?))
}

/// Delete for good everything in the trash.
#[utoipa::path(delete, path = "/v1/trash", operation_id = "empty_trash",
    responses((status = 200, body = Operation), (status = "default", body = ErrorBody)))]
pub(crate) async fn empty_trash(State(door): State<Door>, Asker(actor): Asker) -> Answer<Operation> {
    let done = door.ask(move |control| control.empty_trash(&actor));
    Ok(Json(done.await?))
}

/// Bring a guest back from the trash.
#[utoipa::path(post, path = "/v1/trash/{id}/restore", operation_id = "restore_guest", params(("id" = String, Path)),
    responses((status = 200, body = Operation), (status = "default", body = ErrorBody)))]
pub(crate) async fn restore(
    State(door): State<Door>,
    Asker(actor): Asker,
    Named(id): Named,
) -> Answer<Operation> {
    let done = door.ask(move |control| control.restore(&id, &actor));
    Ok(Json(done.await?))
}

/// Every image.
#[utoipa::path(get, path = "/v1/images", operation_id = "list_images",
    responses((status = 200, body = Vec<schemas::Image>), (status = "default", body = ErrorBody)))]
pub(crate) async fn images(State(door): State<Door>) -> Answer<Vec<Image>> {
    Ok(Json(door.ask(|control| control.images()).await?))
}

/// Remove every image that no guest stands on.
#[utoipa::path(post, path = "/v1/images/prune", operation_id = "prune_images",
    responses((status = 200, body = Operation), (status = "default", body = ErrorBody)))]
pub(crate) async fn prune_images(State(door): State<Door>, Asker(actor): Asker) -> Answer<Operation> {
    let done = door.ask(move |control| control.prune_images(&actor));
    Ok(Json(done.await?))
}

/// One image, by digest or reference (URL-encoded).
#[utoipa::path(get, path = "/v1/images/{reference}", operation_id = "show_image", params(("reference" = String, Path)),
    responses((status = 200, body = schemas::Image), (status = "default", body = ErrorBody)))]
pub(crate) async fn image(State(door): State<Door>, Named(reference): Named) -> Answer<Image> {
    Ok(Json(door.ask(move |control| control.image(&reference)).await?))
}

/// Remove an image that no guest stands on.
#[utoipa::path(delete, path = "/v1/images/{reference}", operation_id = "remove_image", params(("reference" = String, Path)),
    responses((status = 200, body = Operation), (status = "default", body = ErrorBody)))]
pub(crate) async fn remove_image(
    State(door): State<Door>,
    Asker(actor): Asker,
    Named(reference): Named,
) -> Answer<Operation> {
    let done = door.ask(move |control| control.remove_image(&reference, &actor));
    Ok(Json(done.await?))
}

/// Every network.
#[utoipa::path(get, path = "/v1/networks", operation_id = "list_networks",
    responses((status = 200, body = Vec<schemas::Network>), (status = "default", body = ErrorBody)))]
pub(crate) async fn networks(State(door): State<Door>) -> Answer<Vec<Network>> {
    Ok(Json(door.ask(|control| control.networks()).await?))
}

/// One network.
#[utoipa::path(get, path = "/v1/networks/{name}", operation_id = "show_network", params(("name" = String, Path)),
    responses((status = 200, body = schemas::Network), (status = "default", body = ErrorBody)))]
pub(crate) async fn network(State(door): State<Door>, Named(name): Named) -> Answer<Network> {
    Ok(Json(door.ask(move |control| control.network(&name)).await?))
}
