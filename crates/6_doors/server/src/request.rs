//! What handlers take: bodies, queries and path segments, each refused with a fault when it is not right.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::IntoResponse;
use fault::Fault;
use serde::de::DeserializeOwned;

use crate::answer::Refusal;
use crate::codes::{BODY_INVALID, BODY_LARGE, QUERY_INVALID};

/// Largest body of JSON, in bytes.
pub(crate) const BODY_LIMIT: usize = 1 << 20;

/// A body of JSON.
pub(crate) struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let bytes = bytes(request, state).await?;
        let parsed = serde_json::from_slice(&bytes);
        parsed
            .map(Body)
            .map_err(|error| Refusal(Fault::new(BODY_INVALID).because(error)))
    }
}

/// A body of JSON, or none for the default.
pub(crate) struct MaybeBody<T>(pub T);

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for MaybeBody<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let bytes = bytes(request, state).await?;
        if bytes.is_empty() {
            return Ok(MaybeBody(T::default()));
        }
        let parsed = serde_json::from_slice(&bytes);
        parsed
            .map(MaybeBody)
            .map_err(|error| Refusal(Fault::new(BODY_INVALID).because(error)))
    }
}

async fn bytes<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, Refusal> {
    Bytes::from_request(request, state)
        .await
        .map_err(|rejection: BytesRejection| {
            let large = rejection.into_response().status() == StatusCode::PAYLOAD_TOO_LARGE;
            let code = if large { BODY_LARGE } else { BODY_INVALID };
            Refusal(Fault::new(code).arg("limit", BODY_LIMIT))
        })
}

/// The query of the address.
pub(crate) struct Params<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        Query::<T>::try_from_uri(&parts.uri)
            .map(|Query(value)| Params(value))
            .map_err(|rejection| Refusal(Fault::new(QUERY_INVALID).because_of(rejection.body_text())))
    }
}

/// The one variable segment of the path: a name, an identity or a reference.
pub(crate) struct Named(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        Path::<String>::from_request_parts(parts, state)
            .await
            .map(|Path(name)| Named(name))
            .map_err(|rejection| Refusal(Fault::new(QUERY_INVALID).because_of(rejection.body_text())))
    }
}
