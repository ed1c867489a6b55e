//! The frame that every stored noun has.

use serde::{Deserialize, Serialize};

use crate::Name;

/// A permanent identity: 128 random bits in lower-case hexadecimal, never reused.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(transparent)]
pub struct Id(pub String);

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A stored noun: what is wanted of it and what is observed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Record<Spec, Status> {
    /// Permanent identity; the name may change, this never does.
    pub id: Id,
    /// What people call it; unique in its project.
    pub name: Name,
    /// The name space it belongs to; `default` exists.
    pub project: Name,
    /// When it was made, RFC 3339 in UTC.
    pub created: String,
    /// What is wanted.
    pub spec: Spec,
    /// What is observed.
    pub status: Status,
    /// The store's revision of the last change.
    pub revision: u64,
}
