//! Codes of the faults that this room raises; sentences and hints stand in `words/{en,es}/api.ftl`.

use fault::Code;

/// The body is not what the path takes.
pub const BODY_INVALID: Code = Code("API010");
/// A query parameter or path segment is not what the path takes.
pub const QUERY_INVALID: Code = Code("API011");
/// There is no such path.
pub const PATH_UNKNOWN: Code = Code("API012");
/// The path does not take this method.
pub const METHOD_UNKNOWN: Code = Code("API013");
/// The body is larger than allowed.
pub const BODY_LARGE: Code = Code("API014");
/// The daemon could not start.
pub const START_FAILED: Code = Code("API015");
/// The socket cannot be made.
pub const SOCKET_FAILED: Code = Code("API016");
/// Another daemon listens on the socket.
pub const SOCKET_TAKEN: Code = Code("API017");
/// An argument of the daemon is wrong.
pub const ARGUMENT_WRONG: Code = Code("API018");
/// The daemon does not run as root.
pub const NOT_ROOT: Code = Code("API019");
/// A defect of ours: the request's handler panicked.
pub const DEFECT: Code = Code("API020");
