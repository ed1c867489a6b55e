//! Answers: JSON, and faults as error bodies with the right status.

use std::sync::LazyLock;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use control::codes as guests;
use fault::{Code, Fault};
use model::api::ErrorBody;

use crate::codes;

/// What a handler gives when it fails.
pub(crate) struct Refusal(pub Fault);

/// What a handler gives.
pub(crate) type Answer<T> = Result<Json<T>, Refusal>;

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Refusal(fault)
    }
}

const NOT_FOUND: &[Code] = &[
    guests::UNKNOWN,
    guests::NOT_IN_TRASH,
    guests::NETWORK_UNKNOWN,
    images::codes::UNKNOWN,
    networks::NETWORK_UNKNOWN,
    ops::UNKNOWN,
    codes::PATH_UNKNOWN,
];

const CONFLICT: &[Code] = &[
    guests::NAME_TAKEN,
    guests::NOT_RUNNING,
    guests::RUNNING,
    guests::PROTECTED,
    guests::PORT_TAKEN,
    guests::WRONG_PHASE,
    guests::IMAGE_USED,
    guests::DISK_TAKEN,
    networks::ADDRESS_TAKEN,
    networks::PORT_TAKEN,
    ops::ENDED,
    store::CONFLICT,
    shim_server::WRONG_PHASE,
];

const BAD_REQUEST: &[Code] = &[
    codes::BODY_INVALID,
    codes::QUERY_INVALID,
    guests::SPEC_INVALID,
    guests::CONDITION_UNKNOWN,
    model::NAME_INVALID,
    model::SIZE_INVALID,
    model::IMAGE_REF_INVALID,
];

const UNPROCESSABLE: &[Code] = &[
    guests::NO_INIT,
    guests::LIMIT_INVALID,
    guests::FIELD_FIXED,
    guests::MOUNT_MISSING,
    guests::KIND_ABSENT,
    guests::VALUE_INVALID,
    guests::MEMORY_BEYOND_HOST,
    guests::NOT_FOR_CONTAINERS,
    guests::NOT_FOR_MACHINES,
    guests::COMMAND_IN_MACHINE,
    guests::DISK_UNUSABLE,
    guests::NO_MACHINE,
    guests::FILE_UNUSABLE,
    guests::NOTHING_TO_BOOT,
    guests::IMAGE_NEEDED,
    guests::NEEDS_IMAGE,
    guests::NO_SCREEN,
    engine::protocol::FACET_ABSENT,
    engine_container::NO_SIGNAL,
];

/// The status of HTTP that fits a fault.
fn status_of(fault: &Fault) -> StatusCode {
    let one_of = |codes: &[Code]| codes.iter().any(|code| fault.is(*code));
    if one_of(NOT_FOUND) {
        StatusCode::NOT_FOUND
    } else if one_of(CONFLICT) {
        StatusCode::CONFLICT
    } else if one_of(BAD_REQUEST) {
        StatusCode::BAD_REQUEST
    } else if one_of(UNPROCESSABLE) {
        StatusCode::UNPROCESSABLE_ENTITY
    } else if fault.is(guests::WAIT_OVER) {
        StatusCode::REQUEST_TIMEOUT
    } else if fault.is(codes::METHOD_UNKNOWN) {
        StatusCode::METHOD_NOT_ALLOWED
    } else if fault.is(codes::BODY_LARGE) {
        StatusCode::PAYLOAD_TOO_LARGE
    } else {
        StatusCode::INTERNAL_SERVER_ERROR
    }
}

/// A fault as the body of an answer.
pub(crate) fn body_of(fault: Fault) -> ErrorBody {
    static ENGLISH: LazyLock<words::Words> = LazyLock::new(words::Words::english);
    let told = ENGLISH.fault(&fault);
    ErrorBody {
        fault,
        message: told.sentence,
        hint: told.hint,
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (status_of(&self.0), Json(body_of(self.0))).into_response()
    }
}
