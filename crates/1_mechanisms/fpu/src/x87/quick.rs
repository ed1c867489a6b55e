//! The frequent x87 instructions without saving and restoring the whole state, where nothing unusual is in sight.

use super::Run;
use iced_x86::Code;

/// A faster function than the general one for `code`.
pub(super) fn choose(_code: Code) -> Option<Run> {
    None
}
