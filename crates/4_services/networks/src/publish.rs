//! Published ports: who may have which, and the change from one set to another.

use std::collections::HashSet;
use std::os::fd::OwnedFd;

use fault::{Fault, Result};
use model::{Id, Name, Publish};

use crate::manage::{Inner, State, forwards, listen};
use crate::sockets::Holder;
use crate::wire::{Listen, Role};
use crate::{GUEST_UNKNOWN, sockets};

impl Inner {
    /// [`crate::Networks::publish`].
    pub(crate) fn publish(&self, state: &mut State, guest: &Id, ports: &[Publish]) -> Result<()> {
        let Some(network) = home(state, guest) else {
            return match ports {
                [] => Ok(()),
                _ => Err(Fault::new(GUEST_UNKNOWN).arg("guest", guest)),
            };
        };
        check(state, guest, ports)?;
        let active = state.get(&network)?;
        let mut stored = active.stored.clone();
        if ports.is_empty() {
            stored.published.remove(guest);
        } else {
            stored.published.insert(guest.clone(), ports.to_vec());
        }
        if stored.published == active.stored.published {
            return Ok(());
        }
        // Binding tells whether anybody else has a port, before anything is changed.
        let held: HashSet<Listen> = match &active.process {
            Some(process) => process
                .roles
                .iter()
                .filter_map(|role| forward_of(*role))
                .collect(),
            None => HashSet::new(),
        };
        let mut new: Vec<(Role, OwnedFd)> = Vec::new();
        for forward in forwards(&stored) {
            if !held.contains(&forward.at) {
                new.push((
                    Role::Forward { at: forward.at },
                    sockets::bind_forward(forward.at)?,
                ));
            }
        }
        self.store(&network, &stored)?;
        active.stored = stored;
        if let Some(process) = &mut active.process
            && process.hand(&new).is_err()
        {
            // It died just now: what binds the ports again is the restart.
            drop(new);
            self.ensure(state, &network, None)?;
        }
        let filter = state.filter();
        state.table.bring(filter)?;
        self.tell(state, &network)
    }
}

/// The network of a guest's first card.
fn home(state: &State, guest: &Id) -> Option<Name> {
    let cards = state.networks.iter().flat_map(|(name, active)| {
        active
            .stored
            .cards
            .iter()
            .filter(|card| card.guest == *guest)
            .map(move |card| (card.index, name))
    });
    cards.min().map(|(_, name)| name.clone())
}

fn forward_of(role: Role) -> Option<Listen> {
    match role {
        Role::Forward { at } => Some(at),
        _ => None,
    }
}

/// Refuses a port that another guest has, or that is asked for twice.
fn check(state: &State, guest: &Id, ports: &[Publish]) -> Result<()> {
    for (number, port) in ports.iter().enumerate() {
        let at = listen(port);
        if ports[..number].iter().any(|other| collide(listen(other), at)) {
            let own = state.networks.values().flat_map(|active| &active.stored.cards);
            let name = own
                .filter(|card| card.guest == *guest)
                .map(|card| card.name.to_string())
                .next();
            return Err(sockets::taken(at, Holder::Guest(name.unwrap_or_default())));
        }
        for active in state.networks.values() {
            let stored = &active.stored;
            for (other, theirs) in stored.published.iter().filter(|(other, _)| *other != guest) {
                if theirs.iter().any(|port| collide(listen(port), at)) {
                    let card = stored.cards.iter().find(|card| card.guest == *other);
                    let name = card.map_or_else(|| other.to_string(), |card| card.name.to_string());
                    return Err(sockets::taken(at, Holder::Guest(name)));
                }
            }
        }
    }
    Ok(())
}

/// Whether two sockets cannot both be had: a port on every address excludes the same port on any.
fn collide(one: Listen, other: Listen) -> bool {
    one.port == other.port
        && one.transport == other.transport
        && (one.ip.is_none() || other.ip.is_none() || one.ip == other.ip)
}
