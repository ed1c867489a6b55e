//! What the guest has looked up: nodes with a parent and a name, from which paths are made.
//!
//! Nodes hold no descriptors: a guest may know a million files. A file that is gone from its place fails when it is used.

use std::collections::BTreeMap;

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// The shared directory.
pub(super) const ROOT: u64 = 1;
/// Most nodes at once.
const MOST: usize = 1 << 20;
/// Longest path.
const LONGEST: usize = 4095;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Node {
    /// None when it was removed.
    place: Option<(u64, Vec<u8>)>,
    /// How often the guest knows it.
    lookups: u64,
    /// Nodes whose parent it is.
    children: u64,
}

/// All nodes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Nodes {
    nodes: BTreeMap<u64, Node>,
    by_place: BTreeMap<(u64, Vec<u8>), u64>,
    last: u64,
}

impl Nodes {
    /// The path of a node below the shared directory.
    pub(super) fn path(&self, mut node: u64) -> Result<Vec<u8>, Errno> {
        let mut names = Vec::new();
        let mut len = 0;
        while node != ROOT {
            let known = self.nodes.get(&node).ok_or(Errno::STALE)?;
            let (parent, name) = known.place.as_ref().ok_or(Errno::STALE)?;
            len += name.len() + 1;
            if len > LONGEST {
                return Err(Errno::NAMETOOLONG);
            }
            names.push(name.as_slice());
            node = *parent;
        }
        if names.is_empty() {
            return Ok(b".".to_vec());
        }
        names.reverse();
        Ok(names.join(&b'/'))
    }

    /// The node of an entry, which the guest now knows once more.
    pub(super) fn look_up(&mut self, parent: u64, name: &[u8]) -> Result<u64, Errno> {
        let place = (parent, name.to_vec());
        if let Some(&id) = self.by_place.get(&place) {
            let node = self.nodes.get_mut(&id).ok_or(Errno::STALE)?;
            node.lookups = node.lookups.saturating_add(1);
            return Ok(id);
        }
        if !self.knows(parent) {
            return Err(Errno::STALE);
        }
        if self.nodes.len() >= MOST {
            return Err(Errno::NOMEM);
        }
        self.last = self.last.max(ROOT) + 1;
        let id = self.last;
        self.adopt(parent);
        self.by_place.insert(place.clone(), id);
        self.nodes.insert(
            id,
            Node {
                place: Some(place),
                lookups: 1,
                children: 0,
            },
        );
        Ok(id)
    }

    fn adopt(&mut self, parent: u64) {
        if let Some(node) = self.nodes.get_mut(&parent) {
            node.children += 1;
        }
    }

    fn leave(&mut self, parent: u64) {
        if let Some(node) = self.nodes.get_mut(&parent) {
            node.children = node.children.saturating_sub(1);
        }
        self.drop_unknown(parent);
    }

    /// Drops a node that nobody knows, and its parents if that was what kept them.
    fn drop_unknown(&mut self, mut id: u64) {
        while let Some(node) = self.nodes.get(&id)
            && node.lookups == 0
            && node.children == 0
        {
            let Some(Node {
                place: Some(place), ..
            }) = self.nodes.remove(&id)
            else {
                return;
            };
            id = place.0;
            self.by_place.remove(&place);
            if let Some(parent) = self.nodes.get_mut(&id) {
                parent.children = parent.children.saturating_sub(1);
            }
        }
    }

    /// The guest knows a node so often less.
    pub(super) fn forget(&mut self, id: u64, times: u64) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.lookups = node.lookups.saturating_sub(times);
            self.drop_unknown(id);
        }
    }

    /// An entry was removed.
    pub(super) fn remove(&mut self, parent: u64, name: &[u8]) {
        if let Some(id) = self.by_place.remove(&(parent, name.to_vec())) {
            if let Some(node) = self.nodes.get_mut(&id) {
                node.place = None;
            }
            self.leave(parent);
            self.drop_unknown(id);
        }
    }

    /// An entry was moved, over another one if there was one.
    pub(super) fn rename(&mut self, from: (u64, &[u8]), to: (u64, &[u8]), exchange: bool) {
        if !self.knows(to.0) || !self.knows(from.0) {
            return self.remove(from.0, from.1);
        }
        // Both parents are held while entries change places.
        self.adopt(to.0);
        self.adopt(from.0);
        let old = self.by_place.remove(&(from.0, from.1.to_vec()));
        let other = if exchange {
            self.by_place.remove(&(to.0, to.1.to_vec()))
        } else {
            self.remove(to.0, to.1);
            None
        };
        self.put(old, from.0, to);
        self.put(other, to.0, from);
        self.leave(to.0);
        self.leave(from.0);
    }

    /// Puts a node that has lost its place into another one.
    fn put(&mut self, id: Option<u64>, old_parent: u64, (parent, name): (u64, &[u8])) {
        let Some(id) = id else { return };
        let place = (parent, name.to_vec());
        self.by_place.insert(place.clone(), id);
        if let Some(node) = self.nodes.get_mut(&id) {
            node.place = Some(place);
        }
        self.adopt(parent);
        self.leave(old_parent);
    }

    fn knows(&self, id: u64) -> bool {
        id == ROOT || self.nodes.contains_key(&id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_follow_renames_and_end_with_removal() {
        let mut nodes = Nodes::default();
        let a = nodes.look_up(ROOT, b"a").unwrap();
        let b = nodes.look_up(a, b"b").unwrap();
        assert_eq!(nodes.path(b).unwrap(), b"a/b");
        nodes.rename((ROOT, b"a"), (ROOT, b"c"), false);
        assert_eq!(nodes.path(b).unwrap(), b"c/b");
        nodes.remove(a, b"b");
        assert_eq!(nodes.path(b), Err(Errno::STALE));
        nodes.forget(b, 1);
        nodes.forget(a, 1);
        assert!(nodes.nodes.is_empty() && nodes.by_place.is_empty());
    }

    proptest! {
        #[test]
        fn whatever_the_guest_forgets_and_moves_nothing_is_left_over_in_the_end(
            steps in proptest::collection::vec((0u8..5, 1u64..12, 1u64..12, 0u8..3, 0u8..3), 0..200),
        ) {
            let mut nodes = Nodes::default();
            for (kind, one, two, name, other) in steps {
                match kind {
                    0 | 1 => { let _ = nodes.look_up(one, &[name]); }
                    2 => nodes.forget(one, two),
                    3 => nodes.remove(one, &[name]),
                    _ => nodes.rename((one, &[name]), (two, &[other]), name == other),
                }
                let _ = nodes.path(one);
            }
            for (place, id) in &nodes.by_place {
                prop_assert_eq!(nodes.nodes[id].place.as_ref(), Some(place));
            }
            for id in nodes.nodes.keys() {
                let children = nodes.nodes.values().filter(|node| matches!(&node.place, Some((parent, _)) if parent == id)).count();
                prop_assert_eq!(nodes.nodes[id].children, children as u64);
            }
        }
    }
}
