//! What lasts of a network: one file, replaced by rename.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use fault::{Fault, OrFault, Result};
use link::{Mac, Prefix6, Subnet4};
use model::{Id, Name, NetworkSpec, Publish};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::RECORD_BROKEN;

/// Version of the layout that this code writes.
pub(crate) const VERSION: u32 = 1;

/// A network as it is stored in `state_dir/networks/NAME.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Stored {
    /// [`VERSION`] of the writer.
    pub version: u32,
    /// What is wanted.
    pub spec: NetworkSpec,
    /// 64 random bits in hexadecimal: marks the bridge as this network's.
    pub token: String,
    /// The bridge.
    pub bridge: String,
    /// The bridge's hardware address.
    pub mac: Mac,
    /// IPv4 subnet.
    pub subnet: Subnet4,
    /// IPv6 prefix.
    pub prefix6: Prefix6,
    /// The address given last, so that an address given back is not given out at once again.
    pub last: Option<Ipv4Addr>,
    /// Cards of guests.
    #[serde(default)]
    pub cards: Vec<Card>,
    /// Published ports by guest.
    #[serde(default)]
    pub published: BTreeMap<Id, Vec<Publish>>,
}

/// A guest's card.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Card {
    /// The guest.
    pub guest: Id,
    /// Its name, by which others find it.
    pub name: Name,
    /// Number of the card in the guest.
    pub index: usize,
    /// Hardware address.
    pub mac: Mac,
    /// IPv4 address.
    pub ip: Ipv4Addr,
    /// IPv6 address.
    pub ip6: Ipv6Addr,
}

impl Card {
    /// Name of the card's link on the host: `pv`, ten digits of the guest's id, the card's number.
    pub(crate) fn host_link(&self) -> String {
        let id: String = self
            .guest
            .0
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .take(10)
            .collect();
        format!("pv{id}{}", self.index)
    }

    /// Name of the card's link in the guest.
    pub(crate) fn guest_link(&self) -> String {
        format!("eth{}", self.index)
    }
}

impl Stored {
    /// The domain of the guests' names.
    pub(crate) fn domain(&self) -> &str {
        self.spec.domain.as_deref().unwrap_or("posada")
    }

    /// The mark on the bridge.
    pub(crate) fn alias(&self) -> String {
        format!("posada:{}", self.token)
    }
}

/// Reads a file of ours; none when there is none.
pub(crate) fn load<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let fault = || Fault::new(RECORD_BROKEN).arg("path", path.display());
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).or_fault(fault),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(fault().because(error)),
    }
}

/// Replaces a file of ours by rename. The content of `lasting` files is on disk before they take their place.
pub(crate) fn save<T: Serialize>(path: &Path, value: &T, lasting: bool) -> Result<()> {
    let write = || -> std::io::Result<()> {
        let new = path.with_extension("new");
        let mut file = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(&serde_json::to_vec_pretty(value)?)?;
        if lasting {
            file.sync_data()?;
        }
        // The rename itself may take seconds to reach the disk. A power cut before it brings back the record as it was,
        // and what it lacks is in the daemon's store: cards are attached and ports published anew at the next start.
        fs::rename(&new, path)
    };
    write().or_fault(|| Fault::new(RECORD_BROKEN).arg("path", path.display()))
}

/// Deletes a file; one that is gone already is no error.
pub(crate) fn delete(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Fault::new(RECORD_BROKEN)
            .arg("path", path.display())
            .because(error)),
        _ => Ok(()),
    }
}
