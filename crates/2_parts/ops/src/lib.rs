//! Long work as stored operations: idempotent steps with undo, progress and cancelling.
