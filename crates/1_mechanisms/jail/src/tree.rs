//! The recipe of `posada jail DIR`: a program in a root tree, as simple as chroot and with nothing left behind.

use std::collections::BTreeMap;
use std::path::PathBuf;

use fault::Result;

use crate::recipe::Recipe;

/// What the user of `posada jail` asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// The root tree, absolute.
    pub dir: PathBuf,
    /// Program and arguments; the user's login shell when empty.
    pub argv: Vec<String>,
    /// Variables of the caller's environment; only TERM, COLORTERM, LANG, LC_* and TZ go in.
    pub host_env: BTreeMap<String, String>,
    /// Variables set inside.
    pub env: BTreeMap<String, String>,
    /// Namespaces shared with the host: `net`, `pid`, `uts`, `ipc`, `cgroup`.
    pub share: Vec<String>,
    /// Mounts as `src:dst[:ro]`.
    pub mounts: Vec<String>,
    /// Content of the host's resolv.conf, shown inside while the jail lives.
    pub resolv_conf: Option<String>,
    /// User inside.
    pub user: Option<String>,
    /// Whether standard input is a terminal that the program shall control.
    pub terminal: bool,
}

/// The recipe of a wish. Pure.
///
/// # Errors
/// When a namespace in `share` is unknown or a mount is malformed.
pub fn recipe_for_tree(_wish: &Wish) -> Result<Recipe> {
    todo!()
}
