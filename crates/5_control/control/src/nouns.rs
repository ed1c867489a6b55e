//! Images, networks and operations as the API shows them.

use std::collections::BTreeMap;

use fault::{Fault, Result};
use images::StoredImage;
use model::{Id, Image, ImageRef, ImageStatus, Name, Network, NetworkSpec, Operation, Size};
use ops::{Actor, Kind, Step, nothing};
use serde_json::json;
use store::Txn;

use crate::codes::{IMAGE_USED, NETWORK_UNKNOWN};
use crate::control::Control;
use crate::house::House;
use crate::records::network_key;
use crate::remove;

impl Control {
    /// Every image on this host.
    ///
    /// # Errors
    /// Faults of the images.
    pub fn images(&self) -> Result<Vec<Image>> {
        let users = users(self.house())?;
        let all = self.house().images.list()?;
        Ok(all.into_iter().map(|image| shown(image, &users)).collect())
    }

    /// One image by digest (a unique beginning is enough) or reference.
    ///
    /// # Errors
    /// `IMG001`, `IMG002`.
    pub fn image(&self, which: &str) -> Result<Image> {
        let found = find(self.house(), which)?;
        Ok(shown(found, &users(self.house())?))
    }

    /// Removes an image that no guest stands on.
    ///
    /// # Errors
    /// `IMG002`, `GST021`.
    pub fn remove_image(&self, which: &str, actor: &Actor) -> Result<Operation> {
        let image = find(self.house(), which)?;
        let digest = image.spec.digest;
        refuse_used(self.house(), &digest)?;
        let args = json!({ "digest": digest });
        self.submit_on(
            "rm-image",
            format!("images/{digest}"),
            "images".to_owned(),
            &args,
            actor,
            Txn::new(),
        )
    }

    /// Removes every image that no guest stands on.
    ///
    /// # Errors
    /// Faults of the store.
    pub fn prune_images(&self, actor: &Actor) -> Result<Operation> {
        self.submit_on(
            "prune-images",
            "images".to_owned(),
            "images".to_owned(),
            &json!({}),
            actor,
            Txn::new(),
        )
    }

    /// Every network.
    ///
    /// # Errors
    /// Faults of the networks.
    pub fn networks(&self) -> Result<Vec<Network>> {
        let mut seen: BTreeMap<Name, (NetworkSpec, model::NetworkStatus)> = self
            .house()
            .networks
            .list()?
            .into_iter()
            .map(|(name, spec, status)| (name, (spec, status)))
            .collect();
        let mut all = Vec::new();
        for (key, entry) in self.house().store.list::<NetworkSpec>("networks/")? {
            let Some(Ok(name)) = key.strip_prefix("networks/").map(str::parse::<Name>) else {
                continue;
            };
            let (spec, status) = seen
                .remove(&name)
                .unwrap_or((entry.value, model::NetworkStatus::default()));
            all.push(Network {
                id: id_of_network(&name),
                name,
                project: Name::default_project(),
                created: String::new(),
                spec,
                status,
                revision: entry.revision,
            });
        }
        Ok(all)
    }

    /// One network.
    ///
    /// # Errors
    /// `GST022`.
    pub fn network(&self, name: &str) -> Result<Network> {
        let all = self.networks()?;
        let found = all.into_iter().find(|network| network.name.as_str() == name);
        found.ok_or_else(|| Fault::new(NETWORK_UNKNOWN).arg("name", name))
    }
}

/// A network's identity is made from its name, which it keeps for life.
fn id_of_network(name: &Name) -> Id {
    let mut hex: String = network_key(name)
        .bytes()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    while hex.len() < 32 {
        hex.push('0');
    }
    hex.truncate(32);
    Id(hex)
}

fn find(house: &House, which: &str) -> Result<StoredImage> {
    let unknown = || Fault::new(images::codes::UNKNOWN).arg("image", which);
    let bare = which.len() >= 6 && which.bytes().all(|byte| byte.is_ascii_hexdigit());
    let reference: ImageRef = if bare {
        format!("sha256:{which}")
    } else {
        which.to_owned()
    }
    .parse()?;
    if let ImageRef::Digest(hex) = &reference {
        let wanted = format!("sha256:{hex}");
        let all = house.images.list()?;
        let mut fitting = all
            .into_iter()
            .filter(|image| image.spec.digest.starts_with(&wanted));
        return match (fitting.next(), fitting.next()) {
            (Some(image), None) => Ok(image),
            _ => Err(unknown()),
        };
    }
    if matches!(reference, ImageRef::Path(_)) {
        // Which image was made of a path is on record; the host's files are not read for a question.
        let mut all = house.images.list()?.into_iter();
        let made = all.find(|image| image.spec.references.contains(&reference));
        return made.ok_or_else(unknown);
    }
    house.images.find(&reference, &[])?.ok_or_else(unknown)
}

/// Names of the guests (those in the trash too) by the digest of the image that they stand on.
fn users(house: &House) -> Result<BTreeMap<String, Vec<String>>> {
    let mut users: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for stored in house.guests()?.into_iter().chain(remove::trash(house)?) {
        if let Some(digest) = stored.guest.spec.image_digest {
            users
                .entry(digest)
                .or_default()
                .push(stored.guest.name.to_string());
        }
    }
    Ok(users)
}

fn refuse_used(house: &House, digest: &str) -> Result<()> {
    match users(house)?.get(digest) {
        Some(guests) => Err(Fault::new(IMAGE_USED)
            .arg("image", digest)
            .arg("guests", guests.join(", "))),
        None => Ok(()),
    }
}

fn shown(image: StoredImage, users: &BTreeMap<String, Vec<String>>) -> Image {
    let hex = image.spec.digest.trim_start_matches("sha256:").to_owned();
    let release = image
        .spec
        .references
        .iter()
        .find(|reference| matches!(reference, ImageRef::Release { .. }))
        .map(ToString::to_string)
        .unwrap_or_default();
    let spoken: String = release
        .chars()
        .map(|c| {
            if c.is_ascii_lowercase() || c.is_ascii_digit() {
                c
            } else {
                '-'
            }
        })
        .collect();
    let numbered = || format!("image-{}", hex.get(..12).unwrap_or("0"));
    let name = spoken.parse().or_else(|_| numbered().parse());
    Image {
        id: Id(hex.chars().take(32).collect()),
        name: name.unwrap_or_else(|_| Name::default_project()),
        project: Name::default_project(),
        created: image.created,
        status: ImageStatus {
            size: Some(Size(image.size)),
            used_by: users.get(&image.spec.digest).cloned().unwrap_or_default(),
        },
        spec: image.spec,
        revision: 0,
    }
}

/// The kinds of operations of this module.
pub(crate) fn kinds() -> Vec<Kind<House>> {
    let one = |name, run| Kind {
        name,
        steps: vec![Step {
            name: "step-remove",
            run,
            undo: nothing,
        }],
        abandoned: |_, _, _| Ok(()),
    };
    vec![
        one("rm-image", |house: &House, work| {
            let args: serde_json::Value = work.args()?;
            let digest = args["digest"].as_str().unwrap_or_default();
            refuse_used(house, digest)?;
            match house.images.remove(digest) {
                // Done by an earlier run of this step.
                Err(fault) if fault.is(images::codes::UNKNOWN) => Ok(()),
                done => done,
            }
        }),
        one("prune-images", |house: &House, work| {
            let users = users(house)?;
            let removed = house.images.prune(&|digest| users.contains_key(digest))?;
            work.yields("removed", removed.len().to_string());
            work.yields("digests", removed.join(" "));
            Ok(())
        }),
    ]
}
