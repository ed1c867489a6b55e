//! Operation and Event: long work, and facts.

use std::collections::BTreeMap;

use fault::Fault;
use serde::{Deserialize, Serialize};

use crate::Id;

/// Where long work stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum OperationState {
    /// Accepted, waiting for its target.
    #[default]
    Queued,
    /// Under way.
    Running,
    /// Done.
    Done,
    /// Ended with a fault; what it had done is undone.
    Failed,
    /// Cancelled; what it had done is undone.
    Cancelled,
}

/// Long work on one target. Survives a restart of the daemon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Operation {
    /// Permanent identity.
    pub id: Id,
    /// What is done: `launch`, `start`, `stop`…
    pub kind: String,
    /// What it is done to, as `guests/web`.
    pub target: String,
    /// Where it stands.
    pub state: OperationState,
    /// The step under way, a message id such as `step-fetch`, with its progress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// When it was accepted, RFC 3339.
    pub created: String,
    /// When it ended, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub fault: Option<Fault>,
    /// What it yielded, by kind (the guest's name and id, an exit status…).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub result: BTreeMap<String, String>,
    /// Who asked: `uid:1000`.
    pub actor: String,
    /// Grows with every change; `…/wait?revision=N` answers as soon as it is above N, or after 30 seconds.
    #[serde(default)]
    pub revision: u64,
}

/// How far a step is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Progress {
    /// The step, a message id.
    pub step: String,
    /// Done so far, in `unit`.
    pub done: u64,
    /// To do in all; 0 when unknown.
    pub total: u64,
    /// `bytes`, `packages` or empty.
    pub unit: String,
    /// What is worked on now (a package, a path); may be empty.
    pub detail: String,
}

/// An immutable fact, numbered by the store's revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Event {
    /// The store's revision that made it a fact.
    pub revision: u64,
    /// When, RFC 3339.
    pub time: String,
    /// What happened: `guest.started`, `guest.exited`, `image.created`…
    pub kind: String,
    /// To what, as `guests/web`.
    pub target: String,
    /// Details by kind.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub details: BTreeMap<String, String>,
}

/// Whoever watches long work: is told how far it is, and can ask it to end.
pub trait Watcher: Send + Sync {
    /// Takes note of progress; called often, must be cheap.
    fn progress(&self, progress: Progress);
    /// Whether the work shall end with the fault [`CANCELLED`] at its next safe point.
    fn is_cancelled(&self) -> bool;
}

/// The work was cancelled.
pub const CANCELLED: fault::Code = fault::Code("OPS001");

/// Nobody watches, nobody cancels.
pub struct Unwatched;

impl Watcher for Unwatched {
    fn progress(&self, _: Progress) {}
    fn is_cancelled(&self) -> bool {
        false
    }
}
