//! What the store holds of guests, and under which keys.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use jail::recipe::{IdRange, NicSetup};
use model::{Guest, Id, Name};
use serde::{Deserialize, Serialize};

/// Version of the layout of the records; see `store::Store::open`.
pub const FORMAT: u64 = 1;

/// A guest as it is stored: what the API shows, and what only the daemon needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredGuest {
    /// What the API shows.
    pub guest: Guest,
    /// Its permanent range of ids; absent for privileged guests.
    #[serde(default)]
    pub ids: Option<IdRange>,
    /// Root trees of its image, topmost first.
    #[serde(default)]
    pub layers: Vec<PathBuf>,
    /// Whether the set-up before the first boot is done.
    #[serde(default)]
    pub set_up: bool,
    /// Format of the disk that is made for a machine; raw when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_format: Option<String>,
    /// Its network cards as the guest is told to set them up.
    #[serde(default)]
    pub nics: Vec<NicSetup>,
    /// When it was put into the trash, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed_ms: Option<u64>,
}

impl StoredGuest {
    /// Identity.
    #[must_use]
    pub fn id(&self) -> &Id {
        &self.guest.id
    }

    /// Format of the disk that is made for a machine.
    #[must_use]
    pub fn disk_format(&self) -> &str {
        self.disk_format.as_deref().unwrap_or("raw")
    }

    /// The guest as events and operations name it, `guests/web`.
    #[must_use]
    pub fn target(&self) -> String {
        target(&self.guest.name)
    }
}

/// A guest as events and operations name it.
#[must_use]
pub fn target(name: &Name) -> String {
    format!("guests/{name}")
}

/// Key of a guest's record.
#[must_use]
pub fn guest_key(id: &Id) -> String {
    format!("guests/{id}")
}

/// Key under which a name leads to an identity.
#[must_use]
pub fn name_key(name: &Name) -> String {
    format!("names/{name}")
}

/// Key under which a range of ids leads to its owner.
#[must_use]
pub fn range_key(base: u32) -> String {
    format!("ranges/{base:010}")
}

/// Key of a removed guest's record.
#[must_use]
pub fn trash_key(id: &Id) -> String {
    format!("trash/{id}")
}

/// Key of a network's record.
#[must_use]
pub fn network_key(name: &Name) -> String {
    format!("networks/{name}")
}

/// Milliseconds since 1970.
#[must_use]
pub fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(now.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}
