//! One suite of behaviours for every accelerator: tiny guests under KVM and under the software CPU.
//!
//! A test is a function of a [`Bench`]; the macro [`suite!`] makes a test for each accelerator of it. What this host's KVM cannot
//! do is skipped with a word: all of it where there is no /dev/kvm, and what is marked so where KVM is not fit for machines
//! (`vcpu_kvm::usable`).

mod bench;
pub mod clock;
mod guest;
mod recorder;
pub mod states;

pub use bench::{Bench, hardware, reference, skip, software};
pub use guest::{Guest, assemble};
pub use recorder::{Event, Recorder, STOP};

/// Makes a test of each function for each accelerator. A function marked `fit` runs under KVM only where that is fit for machines.
#[macro_export]
macro_rules! suite {
    ($($name:ident $($fit:ident)?),* $(,)?) => {
        $crate::suite!(@ kvm hardware $($name [$($fit)?])*);
        $crate::suite!(@ software software $($name [$($fit)?])*);
        $crate::suite!(@ reference reference $($name [$($fit)?])*);
    };
    (@ $module:ident $accel:ident $($name:ident [$($fit:ident)?])*) => {
        mod $module {
            $(#[test]
            fn $name() {
                let test = concat!(stringify!($module), "::", stringify!($name));
                if let Some(bench) = $crate::$accel(test, &[$(stringify!($fit))?]) {
                    super::$name(&bench);
                }
            })*
        }
    };
}

/// Makes tests of functions that take two accelerators: saved under the first, restored under the second. Each with itself, and
/// each with the other. Marks are those of [`suite!`].
#[macro_export]
macro_rules! moves {
    ($($name:ident $($fit:ident)?),* $(,)?) => {
        $crate::moves!(@ kvm_to_kvm hardware hardware $($name [$($fit)?])*);
        $crate::moves!(@ software_to_software software software $($name [$($fit)?])*);
        $crate::moves!(@ kvm_to_software hardware software $($name [$($fit)?])*);
        $crate::moves!(@ software_to_kvm software hardware $($name [$($fit)?])*);
    };
    (@ $way:ident $from:ident $to:ident $($name:ident [$($fit:ident)?])*) => {
        mod $way {
            $(#[test]
            fn $name() {
                let test = concat!(stringify!($way), "::", stringify!($name));
                let marks: &[&str] = &[$(stringify!($fit))?];
                if let (Some(from), Some(to)) = ($crate::$from(test, marks), $crate::$to(test, marks)) {
                    super::$name(&from, &to);
                }
            })*
        }
    };
}
