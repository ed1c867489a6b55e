//! The accelerators that the suite runs on.

use std::io::Write;
use std::sync::{Arc, OnceLock};

use vcpu::Accel;
use vcpu_kvm::Kvm;
use vcpu_soft::Software;

/// An accelerator, and what is known of it.
#[derive(Clone)]
pub struct Bench {
    /// It.
    pub accel: Arc<dyn Accel>,
}

fn kvm() -> Result<Kvm, String> {
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/kvm")
        .map_err(|error| format!("/dev/kvm: {error}"))?;
    Kvm::from_fd(file.into()).map_err(|fault| fault.to_string())
}

/// Why this host's KVM is not fit for machines, when it is not.
fn unfit() -> &'static Option<String> {
    static UNFIT: OnceLock<Option<String>> = OnceLock::new();
    UNFIT.get_or_init(|| {
        let measured = kvm().and_then(|kvm| vcpu_kvm::measure(&kvm).map_err(|fault| fault.to_string()));
        measured
            .and_then(|measured| vcpu_kvm::usable(&measured).map_err(|fault| fault.to_string()))
            .err()
    })
}

/// KVM for a test, or none with a word. `marks` says what the test asks of it.
#[must_use]
pub fn hardware(test: &str, marks: &[&str]) -> Option<Bench> {
    let fit = if marks.contains(&"fit") {
        unfit().clone()
    } else {
        None
    };
    match (kvm(), fit) {
        (Ok(kvm), None) => Some(Bench { accel: Arc::new(kvm) }),
        (Err(why), _) | (_, Some(why)) => {
            skip(&format!("accel_tests {test}"), &why);
            None
        }
    }
}

/// Notes that a test skips itself, and why; `tests/skips.txt` must know it.
pub fn skip(test: &str, why: &str) {
    println!("skipped: {test}: {why}");
    if let Some(list) = std::env::var_os("POSADA_TEST_SKIPS") {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(list);
        let _ = file.and_then(|mut file| writeln!(file, "{test}: {why}"));
    }
}

/// The software CPU for a test.
#[must_use]
pub fn software(_test: &str, _marks: &[&str]) -> Option<Bench> {
    Some(Bench {
        accel: Arc::new(Software::new()),
    })
}

/// The software CPU that decodes each instruction anew.
#[must_use]
pub fn reference(_test: &str, _marks: &[&str]) -> Option<Bench> {
    Some(Bench {
        accel: Arc::new(Software::reference()),
    })
}
