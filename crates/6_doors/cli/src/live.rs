//! Names that exist now, for the completion of a command line being typed. Silent: without a daemon there are none.

use std::path::PathBuf;

use clap_complete::CompletionCandidate;
use client::Client;

use crate::context::DEFAULT_SOCKET;

fn ask() -> Option<Client> {
    let socket =
        std::env::var_os("POSADA_SOCKET").map_or_else(|| PathBuf::from(DEFAULT_SOCKET), PathBuf::from);
    Client::connect(socket).ok()
}

fn candidates<T>(items: Option<Vec<T>>, text: impl Fn(&T) -> (String, String)) -> Vec<CompletionCandidate> {
    let candidate = |item: &T| {
        let (value, help) = text(item);
        CompletionCandidate::new(value).help(Some(help.into()))
    };
    items.unwrap_or_default().iter().map(candidate).collect()
}

/// Guests.
#[must_use]
pub fn guests() -> Vec<CompletionCandidate> {
    candidates(ask().and_then(|client| client.guests().ok()), |guest| {
        (
            guest.name.to_string(),
            format!("{:?} · {}", guest.status.phase, guest.spec.image).to_lowercase(),
        )
    })
}

/// Images, by reference, and what can be made from an archive.
#[must_use]
pub fn images() -> Vec<CompletionCandidate> {
    let mut names: Vec<String> = crate::verbs::launch::RELEASES
        .iter()
        .map(|name| (*name).to_owned())
        .collect();
    for image in ask().and_then(|client| client.images().ok()).unwrap_or_default() {
        names.extend(image.spec.references.iter().map(ToString::to_string));
    }
    names.sort();
    names.dedup();
    names.into_iter().map(CompletionCandidate::new).collect()
}

/// Stored images only, by reference and digest.
#[must_use]
pub fn stored_images() -> Vec<CompletionCandidate> {
    candidates(ask().and_then(|client| client.images().ok()), |image| {
        let reference = image.spec.references.first().map(ToString::to_string);
        (
            reference.unwrap_or_else(|| image.spec.digest.clone()),
            image.spec.architecture.clone(),
        )
    })
}

/// Networks.
#[must_use]
pub fn networks() -> Vec<CompletionCandidate> {
    candidates(ask().and_then(|client| client.networks().ok()), |network| {
        (network.name.to_string(), network.status.bridge.clone())
    })
}

/// Operations.
#[must_use]
pub fn operations() -> Vec<CompletionCandidate> {
    candidates(ask().and_then(|client| client.operations().ok()), |operation| {
        (
            operation.id.to_string(),
            format!("{} {}", operation.kind, operation.target),
        )
    })
}

/// Entries of the trash.
#[must_use]
pub fn trash() -> Vec<CompletionCandidate> {
    candidates(ask().and_then(|client| client.trash().ok()), |entry| {
        (entry.name.to_string(), entry.removed.clone())
    })
}
