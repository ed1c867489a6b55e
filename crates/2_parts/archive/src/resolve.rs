//! Chooses packages: what a release holds by priority and Essential, what was asked for, and all they depend on.
//!
//! The choice is that of apt for an empty system: everything asked for comes first, then what has no
//! alternative, then of every group of alternatives the first that can be had and excludes nothing chosen.

use std::collections::{HashMap, HashSet, VecDeque};

use fault::{Fault, Result};
use serde::{Deserialize, Serialize};

use crate::packages::Package;
use crate::relation::{Relation, groups, list};
use crate::version::compare;
use crate::{CONFLICT, NO_PACKAGE, UNSATISFIED};

/// All packages that can be had: of each name the highest version.
#[derive(Debug, Default)]
pub struct Universe<'a> {
    packages: Vec<Package<'a>>,
    by_name: HashMap<&'a str, usize>,
    providers: HashMap<&'a str, Vec<(usize, Option<&'a str>)>>,
}

/// What is wanted of a release.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Wanted {
    /// Priorities of which every package is wanted, as `required`; Essential ones are wanted always.
    pub priorities: Vec<String>,
    /// Further packages.
    pub include: Vec<String>,
    /// Packages that must not be chosen.
    pub exclude: Vec<String>,
}

impl<'a> Universe<'a> {
    /// Takes the packages of all suites; of two with the same version the one that came first.
    pub fn new(packages: impl IntoIterator<Item = Package<'a>>) -> Self {
        let mut universe = Universe::default();
        for package in packages {
            match universe.by_name.get(package.name) {
                Some(at) => {
                    if compare(package.version, universe.packages[*at].version).is_gt() {
                        universe.packages[*at] = package;
                    }
                }
                None => {
                    universe.by_name.insert(package.name, universe.packages.len());
                    universe.packages.push(package);
                }
            }
        }
        for (at, package) in universe.packages.iter().enumerate() {
            for provided in list(package.provides) {
                let version = provided.version.map(|(_, version)| version);
                universe
                    .providers
                    .entry(provided.name)
                    .or_default()
                    .push((at, version));
            }
        }
        universe
    }

    /// The package of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Package<'a>> {
        self.by_name.get(name).map(|at| &self.packages[*at])
    }

    /// Chooses packages; returned so that what a package depends on stands before it, as far as that is possible.
    ///
    /// # Errors
    /// [`NO_PACKAGE`] for a name that was asked for and does not exist, [`UNSATISFIED`], [`CONFLICT`].
    pub fn resolve(&self, wanted: &Wanted) -> Result<Vec<Package<'a>>> {
        let mut choice = Choice {
            universe: self,
            excluded: wanted.exclude.iter().map(String::as_str).collect(),
            chosen: HashSet::new(),
            to_do: VecDeque::new(),
            later: VecDeque::new(),
        };
        for (at, package) in self.packages.iter().enumerate() {
            let by_priority = wanted.priorities.iter().any(|p| p == package.priority);
            if (package.essential || by_priority) && !choice.excluded.contains(package.name) {
                choice.take(at);
            }
        }
        for name in &wanted.include {
            let at = match self.by_name.get(name.as_str()) {
                Some(at) => *at,
                // Asked for by a virtual name: apt takes it when there is one provider only.
                None => match self.providers.get(name.as_str()).map(Vec::as_slice) {
                    Some([(at, _)]) => *at,
                    _ => return Err(Fault::new(NO_PACKAGE).arg("package", name)),
                },
            };
            choice.take(at);
        }
        choice.close()?;
        choice.check_conflicts()?;
        Ok(self.in_order(&choice.chosen))
    }

    /// Depth-first over Pre-Depends and Depends, by name where nothing else decides.
    fn in_order(&self, chosen: &HashSet<usize>) -> Vec<Package<'a>> {
        let mut names: Vec<usize> = chosen.iter().copied().collect();
        names.sort_unstable_by_key(|at| self.packages[*at].name);
        let mut done = HashSet::new();
        let mut order = Vec::with_capacity(names.len());
        let mut stack: Vec<(usize, bool)> = names.into_iter().rev().map(|at| (at, false)).collect();
        while let Some((at, opened)) = stack.pop() {
            if opened {
                order.push(self.packages[at]);
                continue;
            }
            if !done.insert(at) {
                continue;
            }
            stack.push((at, true));
            let package = &self.packages[at];
            // What is pushed last comes first: Pre-Depends.
            for field in [package.depends, package.pre_depends] {
                for relation in groups(field).flatten() {
                    for next in self.satisfying(&relation) {
                        if chosen.contains(&next) && !done.contains(&next) {
                            stack.push((next, false));
                        }
                    }
                }
            }
        }
        order
    }

    /// The real package first, then those that provide the name.
    fn satisfying(&self, relation: &Relation<'_>) -> Vec<usize> {
        let real = self
            .by_name
            .get(relation.name)
            .filter(|at| relation.matches(relation.name, self.packages[**at].version));
        let mut providers: Vec<usize> = self
            .providers
            .get(relation.name)
            .into_iter()
            .flatten()
            .filter(|(_, version)| relation.matches_provided(relation.name, *version))
            .map(|(at, _)| *at)
            .collect();
        providers.sort_unstable_by_key(|at| {
            let package = &self.packages[*at];
            (!package.essential, rank(package.priority), package.name)
        });
        real.into_iter().copied().chain(providers).collect()
    }
}

fn rank(priority: &str) -> u8 {
    match priority {
        "required" => 0,
        "important" => 1,
        "standard" => 2,
        "optional" => 3,
        _ => 4,
    }
}

struct Choice<'u, 'a> {
    universe: &'u Universe<'a>,
    excluded: HashSet<&'u str>,
    chosen: HashSet<usize>,
    /// Chosen, dependencies not yet looked at.
    to_do: VecDeque<usize>,
    /// Groups with a real choice, with the package that asks.
    later: VecDeque<(usize, Vec<Relation<'a>>)>,
}

impl<'a> Choice<'_, 'a> {
    fn take(&mut self, at: usize) {
        if self.chosen.insert(at) {
            self.to_do.push_back(at);
        }
    }

    fn close(&mut self) -> Result<()> {
        loop {
            if let Some(at) = self.to_do.pop_front() {
                let package = self.universe.packages[at];
                for group in groups(package.pre_depends).chain(groups(package.depends)) {
                    match self.candidates(&group).as_slice() {
                        [only] => self.take(*only),
                        _ => self.later.push_back((at, group)),
                    }
                }
            } else if let Some((at, group)) = self.later.pop_front() {
                let candidates = self.candidates(&group);
                if candidates.iter().any(|c| self.chosen.contains(c)) {
                    continue;
                }
                let free = candidates.iter().find(|c| self.conflict_of(**c).is_none());
                match free.or(candidates.first()) {
                    Some(next) => self.take(*next),
                    None => {
                        let words: Vec<&str> = group.iter().map(|r| r.name).collect();
                        return Err(Fault::new(UNSATISFIED)
                            .arg("package", self.universe.packages[at].name)
                            .arg("needs", words.join(" | ")));
                    }
                }
            } else {
                return Ok(());
            }
        }
    }

    /// Everything that satisfies a group, in order of preference, without what is excluded.
    fn candidates(&self, group: &[Relation<'a>]) -> Vec<usize> {
        let mut found = Vec::new();
        for at in group
            .iter()
            .flat_map(|relation| self.universe.satisfying(relation))
        {
            if !found.contains(&at) && !self.excluded.contains(self.universe.packages[at].name) {
                found.push(at);
            }
        }
        found
    }

    /// A chosen package that this one excludes, or that excludes it.
    fn conflict_of(&self, at: usize) -> Option<usize> {
        let mine = &self.universe.packages[at];
        self.chosen.iter().copied().find(|other| {
            let theirs = &self.universe.packages[*other];
            *other != at && (excludes(mine, theirs) || excludes(theirs, mine))
        })
    }

    fn check_conflicts(&self) -> Result<()> {
        let mut chosen: Vec<usize> = self.chosen.iter().copied().collect();
        chosen.sort_unstable();
        for at in chosen {
            if let Some(other) = self.conflict_of(at) {
                return Err(Fault::new(CONFLICT)
                    .arg("one", self.universe.packages[at].name)
                    .arg("other", self.universe.packages[other].name));
            }
        }
        Ok(())
    }
}

/// Whether `a` conflicts with or breaks `b`, by its name or by something that it provides.
fn excludes(a: &Package<'_>, b: &Package<'_>) -> bool {
    list(a.conflicts).chain(list(a.breaks)).any(|relation| {
        relation.matches(b.name, b.version)
            || list(b.provides)
                .any(|p| relation.matches_provided(p.name, p.version.map(|(_, version)| version)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package<'a>(name: &'a str, priority: &'a str, depends: &'a str) -> Package<'a> {
        Package {
            name,
            version: "1",
            priority,
            depends,
            ..Package::default()
        }
    }

    fn names(universe: &Universe<'_>, include: &[&str], exclude: &[&str]) -> Result<Vec<String>> {
        let own = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
        let wanted = Wanted {
            priorities: vec!["required".to_owned()],
            include: own(include),
            exclude: own(exclude),
        };
        Ok(universe
            .resolve(&wanted)?
            .iter()
            .map(|p| p.name.to_owned())
            .collect())
    }

    #[test]
    fn the_first_alternative_is_taken_unless_another_is_there_already() {
        let universe = Universe::new([
            package("a", "required", "x | y"),
            package("x", "optional", ""),
            package("y", "optional", ""),
        ]);
        assert_eq!(names(&universe, &[], &[]).unwrap(), ["x", "a"]);
        assert_eq!(names(&universe, &["y"], &[]).unwrap(), ["y", "a"]);
        assert_eq!(names(&universe, &[], &["x"]).unwrap(), ["y", "a"]);
    }

    #[test]
    fn what_is_needed_without_choice_is_seen_before_a_choice_is_made() {
        let universe = Universe::new([
            package("a", "required", "x | y"),
            package("b", "required", "c"),
            package("c", "optional", "y"),
            package("x", "optional", ""),
            package("y", "optional", ""),
        ]);
        assert!(!names(&universe, &[], &[]).unwrap().contains(&"x".to_owned()));
    }

    #[test]
    fn virtual_packages_are_found_by_priority_and_version() {
        let mut gawk = package("gawk", "optional", "");
        gawk.provides = "awk (= 5)";
        let mut mawk = package("mawk", "required", "");
        mawk.provides = "awk";
        let universe = Universe::new([
            package("a", "required", "awk"),
            package("v", "optional", "awk (>= 5)"),
            gawk,
            mawk,
        ]);
        assert_eq!(names(&universe, &[], &[]).unwrap(), ["mawk", "a"]);
        assert!(
            names(&universe, &["v"], &[])
                .unwrap()
                .contains(&"gawk".to_owned())
        );
    }

    #[test]
    fn the_highest_version_of_all_suites_wins() {
        let mut newer = package("a", "required", "n");
        newer.version = "1.1";
        let universe = Universe::new([package("a", "required", "o"), newer, package("n", "optional", "")]);
        assert_eq!(names(&universe, &[], &[]).unwrap(), ["n", "a"]);
    }

    #[test]
    fn conflicts_steer_a_choice_and_are_refused_without_one() {
        let mut x = package("x", "optional", "");
        x.conflicts = "b";
        let universe = Universe::new([
            package("a", "required", "x | y"),
            package("b", "required", ""),
            x,
            package("y", "optional", ""),
        ]);
        assert_eq!(names(&universe, &[], &[]).unwrap(), ["y", "a", "b"]);
        assert!(names(&universe, &["x"], &[]).unwrap_err().is(CONFLICT));
    }

    #[test]
    fn what_cannot_be_had_is_told() {
        let universe = Universe::new([package("a", "required", "missing | gone")]);
        let fault = names(&universe, &[], &[]).unwrap_err();
        assert!(
            fault.is(UNSATISFIED) && fault.to_string().contains("missing | gone"),
            "{fault}"
        );
        assert!(names(&universe, &["nothing"], &[]).unwrap_err().is(NO_PACKAGE));
    }

    #[test]
    fn circles_end() {
        let universe = Universe::new([package("a", "required", "b"), package("b", "optional", "a")]);
        assert_eq!(names(&universe, &[], &[]).unwrap().len(), 2);
    }
}
