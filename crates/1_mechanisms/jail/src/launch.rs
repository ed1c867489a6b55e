//! For callers with several threads: starts `posada-shim` as a child by exec, without forking their own memory.

use std::path::Path;
use std::process::Command;

use fault::Result;

use crate::recipe::Recipe;

/// A command that executes the recipe as a child (`posada-shim run`, the recipe on an inherited memory file) and
/// ends as the recipe's process ends. Standard streams are the caller's to set.
///
/// # Errors
/// When the executable is missing or no memory file can be made.
pub fn command(_shim_exe: &Path, _recipe: &Recipe) -> Result<Command> {
    todo!()
}
