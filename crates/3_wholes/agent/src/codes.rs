//! The faults of this room.

use fault::Code;

/// The agent does not answer.
pub const SILENT: Code = Code("AGT001");
/// The agent does not know the request.
pub const REQUEST_UNKNOWN: Code = Code("AGT002");
/// A message breaks the protocol.
pub const MESSAGE_BROKEN: Code = Code("AGT003");
/// There are as many sessions as one connection may have.
pub const SESSIONS_EXHAUSTED: Code = Code("AGT004");
/// The connection ended while the session ran.
pub const CONNECTION_LOST: Code = Code("AGT005");
/// The agent speaks a newer protocol.
pub const PROTOCOL_NEWER: Code = Code("AGT006");
/// The agent could not set something up inside.
pub const SET_UP_FAILED: Code = Code("AGT007");
/// A job inside ended without a result, or took too long.
pub const JOB_FAILED: Code = Code("AGT008");
/// A value that the request carries is impossible.
pub const VALUE_REFUSED: Code = Code("AGT009");
/// A program inside that does the job failed.
pub const PROGRAM_FAILED: Code = Code("AGT010");
/// The session was closed by the host before its end.
pub const SESSION_CLOSED: Code = Code("AGT011");
