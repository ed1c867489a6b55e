//! The paths of REST /v1 and the document that describes them.

mod events;
mod files;
mod guests;
mod nouns;
mod operations;
mod schemas;
mod system;

use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::state::Door;

#[derive(OpenApi)]
#[openapi(info(
    title = "Posada",
    description = "Guests, images and networks of one host. A mutating call returns an Operation; errors are ErrorBodies.",
    license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0")
))]
struct Document;

/// Every path with its handler. The document is made from the same list.
pub(crate) fn paths() -> OpenApiRouter<Door> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(system::version))
        .routes(routes!(system::doctor))
        .routes(routes!(system::openapi))
        .routes(routes!(guests::list, guests::launch))
        .routes(routes!(guests::show, guests::set, guests::remove))
        .routes(routes!(guests::start))
        .routes(routes!(guests::stop))
        .routes(routes!(guests::restart))
        .routes(routes!(guests::pause))
        .routes(routes!(guests::resume))
        .routes(routes!(guests::rename))
        .routes(routes!(guests::publish))
        .routes(routes!(guests::passwd))
        .routes(routes!(guests::exec))
        .routes(routes!(guests::console))
        .routes(routes!(guests::vnc))
        .routes(routes!(guests::screenshot))
        .routes(routes!(guests::wait))
        .routes(routes!(guests::stats))
        .routes(routes!(guests::explain))
        .routes(routes!(files::logs))
        .routes(routes!(files::read))
        .routes(routes!(files::write))
        .routes(routes!(guests::all_stats))
        .routes(routes!(nouns::trash, nouns::empty_trash))
        .routes(routes!(nouns::restore))
        .routes(routes!(nouns::images))
        .routes(routes!(nouns::prune_images))
        .routes(routes!(nouns::image, nouns::remove_image))
        .routes(routes!(nouns::networks))
        .routes(routes!(nouns::network))
        .routes(routes!(operations::list))
        .routes(routes!(operations::show, operations::cancel))
        .routes(routes!(operations::wait))
        .routes(routes!(events::events))
}

/// The OpenAPI document, as indented JSON with a newline at its end.
///
/// # Panics
/// Never: the document serializes.
#[must_use]
pub fn document() -> String {
    let (_, document) = paths().split_for_parts();
    let mut value = serde_json::to_value(document).expect("the document serializes to JSON");
    // The version of the interface, not of the program: the committed document changes with the interface only.
    value["info"]["version"] = "1".into();
    let mut text = serde_json::to_string_pretty(&value).expect("JSON serializes to text");
    text.push('\n');
    text
}
