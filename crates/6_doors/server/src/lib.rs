//! The HTTP door: REST /v1 and its OpenAPI document on a Unix socket.
