//! Bodies of REST `/v1` that are not nouns themselves.

use std::collections::BTreeMap;

use fault::Fault;
use serde::{Deserialize, Serialize};

use crate::{GuestSpec, ImageRef, Name, Publish};

/// Body of every answer that is an error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ErrorBody {
    /// Code, arguments and causes; the client puts the words together in the user's language.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub fault: Fault,
    /// The sentence in English, for clients without catalogues.
    pub message: String,
    /// What to do, in English, when there is something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// `POST /v1/guests`: make a guest and, unless told otherwise, start it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct LaunchRequest {
    /// The name; a pleasant one is made up when absent.
    #[serde(default)]
    pub name: Option<Name>,
    /// What is wanted.
    pub spec: GuestSpec,
    /// Record it without starting it.
    #[serde(default)]
    pub no_start: bool,
    /// Make it ready up to the moment before its first process starts, so that a client may attach to its console
    /// before it starts it.
    #[serde(default)]
    pub hold: bool,
}

/// `POST /v1/guests/{name}/stop` and `/restart`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct StopRequest {
    /// Kill at once instead of asking.
    pub force: bool,
    /// Seconds to wait for a graceful end before killing; when absent 30 for a system, 10 for a command, 120 for a
    /// machine.
    pub timeout: Option<u32>,
}

/// `PATCH /v1/guests/{name}`: the fields to change, a JSON merge patch (RFC 7396) of the spec.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(transparent)]
pub struct SpecPatch(pub serde_json::Value);

/// `POST /v1/guests/{name}/rename`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RenameRequest {
    /// The new name.
    pub name: Name,
}

/// `POST /v1/guests/{name}/publish`: forwards to add and to take away.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct PublishRequest {
    /// Forwards to add.
    pub add: Vec<Publish>,
    /// Forwards to take away.
    pub remove: Vec<Publish>,
}

/// `POST /v1/guests/{name}/passwd`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PasswdRequest {
    /// The user inside; root when absent.
    #[serde(default)]
    pub user: Option<String>,
    /// Hash of the password, as crypt(5) writes it.
    pub password_hash: String,
}

/// `POST /v1/guests/{name}/exec`: a process beside the guest's own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct ExecRequest {
    /// Program and arguments; the user's login shell when empty.
    pub argv: Vec<String>,
    /// Variables added to a clean environment.
    pub env: BTreeMap<String, String>,
    /// Working directory; the user's home when absent.
    pub workdir: Option<String>,
    /// User name or number, and `:group`; root when absent. Read from the guest's files by our own parser.
    pub user: Option<String>,
    /// With a terminal of this size.
    pub terminal: Option<TerminalSize>,
}

/// Size of a terminal, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TerminalSize {
    /// Rows.
    pub rows: u16,
    /// Columns.
    pub cols: u16,
}

/// Where a local client takes up a session (`exec`, `console`): it connects to the shim's socket and shows the
/// ticket, and the bytes never touch the daemon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Session {
    /// Path of the shim's socket for clients.
    pub socket: String,
    /// One-time word that names the session.
    pub ticket: String,
}

/// `POST /v1/guests/{name}/vnc`: where a machine's screen is served (RFB 3.8), and by which password.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Display {
    /// Address and port on this host's loopback, as `127.0.0.1:5900`.
    pub address: String,
    /// What a viewer must prove that it knows; at most 8 characters (RFC 6143, section 7.2.2).
    pub password: String,
}

/// `GET /v1/guests/{name}/stats`: what a guest uses now; rates are for the client to compute.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct GuestStats {
    /// Processor time used, in nanoseconds.
    pub cpu_ns: u64,
    /// Memory in use, in bytes (page cache included).
    pub memory: u64,
    /// Most memory allowed, in bytes; absent when unlimited.
    pub memory_limit: Option<u64>,
    /// Processes and threads.
    pub pids: u64,
    /// Received from the network, in bytes, over all cards.
    pub rx_bytes: u64,
    /// Sent to the network, in bytes, over all cards.
    pub tx_bytes: u64,
    /// Read from block devices, in bytes.
    pub read_bytes: u64,
    /// Written to block devices, in bytes.
    pub write_bytes: u64,
    /// Times the guest ran out of its memory limit and a process was killed.
    pub oom_kills: u64,
}

/// `GET /v1/guests/{name}/explain`: the mechanism under a guest, and how to do it by hand.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Explanation {
    /// Headings (message ids) with lines of fact: process ids, namespaces, cgroup, links, rules, mounts.
    pub sections: Vec<ExplainSection>,
    /// Commands that would do the same by hand.
    pub commands: Vec<String>,
}

/// One part of an explanation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ExplainSection {
    /// Message id of the heading.
    pub title: String,
    /// Facts, one a line.
    pub lines: Vec<String>,
}

/// One finding of `doctor`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Finding {
    /// Message id of what was looked at, such as `doctor-user-namespaces`.
    pub check: String,
    /// How it is.
    pub verdict: Verdict,
    /// What was seen (a version, a path, a measured figure).
    pub seen: String,
    /// Command that mends it, when there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// How a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Works.
    Good,
    /// Works with less; `seen` tells what is missing.
    Limited,
    /// Does not work.
    Bad,
}

/// `GET /v1/version`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct VersionInfo {
    /// Version of the daemon.
    pub version: String,
    /// Version of the interface: 1.
    pub api: u32,
    /// Process id of the daemon.
    pub pid: u32,
}

/// A removed guest whose tree is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TrashEntry {
    /// The guest's identity, by which it is restored.
    pub id: crate::Id,
    /// The name it had.
    pub name: Name,
    /// When it was removed, RFC 3339.
    pub removed: String,
    /// When it will be deleted for good, RFC 3339.
    pub expires: String,
    /// The image it stands on.
    pub image: ImageRef,
}
