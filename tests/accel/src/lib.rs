//! One suite of behaviours for every accelerator: tiny guests under KVM and under the software CPU.
//!
//! A test is a function of a [`Bench`]; the macro [`suite!`] makes a test for each accelerator of it. What this host's KVM cannot
//! do is skipped with a word: all of it where there is no /dev/kvm, and what is marked so where KVM is not fit for machines
//! (`vcpu_kvm::usable`).

mod bench;
mod guest;
mod recorder;
pub mod states;

pub use bench::{Bench, hardware, skip, software};
pub use guest::{Guest, assemble};
pub use recorder::{Event, Recorder, STOP};

/// Makes a test of each function for each accelerator. A function marked `fit` runs under KVM only where that is fit for machines.
#[macro_export]
macro_rules! suite {
    ($($name:ident $($fit:ident)?),* $(,)?) => {
        mod kvm {
            $(#[test]
            fn $name() {
                if let Some(bench) = $crate::hardware(stringify!($name), &[$(stringify!($fit))?]) {
                    super::$name(&bench);
                }
            })*
        }
        mod software {
            $(#[test]
            fn $name() {
                if let Some(bench) = $crate::software(stringify!($name)) {
                    super::$name(&bench);
                }
            })*
        }
    };
}
