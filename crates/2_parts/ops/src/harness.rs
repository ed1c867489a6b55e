//! The harness that proves a kind of operation: it repeats every step and fails after every step.
//!
//! Used by tests. `observe` describes the state of the world that the steps work on; the harness compares:
//! running a step twice, or half the steps again as a new daemon would, must lead to the same end as running each
//! once; undoing after any step, twice, must lead back to the beginning.

use std::fmt::Debug;

use fault::Result;
use serde_json::Value;

use crate::{Kind, Work};

/// Proves a kind. `fresh` makes a world in its beginning state with the arguments of the operation; `observe` tells
/// everything about it that the operation may change.
///
/// # Errors
/// The first fault of a step or its undo.
///
/// # Panics
/// When a step is not idempotent or an undo is not complete: the message names the step.
pub fn prove<C, O: Debug + PartialEq>(
    kind: &Kind<C>,
    mut fresh: impl FnMut() -> (C, Value),
    mut observe: impl FnMut(&C) -> O,
) -> Result<()> {
    let wanted = {
        let (world, args) = fresh();
        let mut work = Work::detached(args);
        for step in &kind.steps {
            (step.run)(&world, &mut work)?;
        }
        observe(&world)
    };
    for (index, step) in kind.steps.iter().enumerate() {
        let (world, args) = fresh();
        let mut work = Work::detached(args);
        for other in &kind.steps[..=index] {
            (other.run)(&world, &mut work)?;
        }
        for other in &kind.steps[index..] {
            (other.run)(&world, &mut work)?;
        }
        assert_eq!(observe(&world), wanted, "{}: {} run twice", kind.name, step.name);
    }
    for (index, step) in kind.steps.iter().enumerate() {
        let (world, args) = fresh();
        let beginning = observe(&world);
        let mut work = Work::detached(args);
        for other in &kind.steps[..=index] {
            (other.run)(&world, &mut work)?;
        }
        for round in 1..=2 {
            for other in kind.steps[..=index].iter().rev() {
                (other.undo)(&world, &mut work)?;
            }
            assert_eq!(
                observe(&world),
                beginning,
                "{}: undone after {}, round {round}",
                kind.name,
                step.name
            );
        }
        // Without the step's own run: its undo must bear that too.
        let (world, args) = fresh();
        let beginning = observe(&world);
        let mut work = Work::detached(args);
        for other in &kind.steps[..index] {
            (other.run)(&world, &mut work)?;
        }
        for other in kind.steps[..=index].iter().rev() {
            (other.undo)(&world, &mut work)?;
        }
        assert_eq!(
            observe(&world),
            beginning,
            "{}: undone before {}",
            kind.name,
            step.name
        );
    }
    Ok(())
}
