//! What the daemon asks this engine without running anything.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use engine::{Engine, Plan};
use fault::{Fault, OrFault, Result};
use model::Unenforced;
use model::api::{Finding, Verdict};

use crate::{FILE, KVM_UNUSABLE, NO_MACHINE};

const DEVICE: &str = "/dev/kvm";

/// The engine `machine`.
#[derive(Clone, Copy, Debug, Default)]
pub struct MachineEngine;

impl Engine for MachineEngine {
    fn name(&self) -> &'static str {
        "machine"
    }

    fn probe(&self) -> Vec<Finding> {
        let (verdict, seen) = match usable_kvm() {
            Ok(_) => (Verdict::Good, String::new()),
            Err(fault) => (Verdict::Limited, fault.to_string()),
        };
        vec![Finding {
            check: "doctor-kvm".to_owned(),
            verdict,
            seen,
            remedy: None,
        }]
    }

    fn check(&self, plan: &Plan) -> Result<Vec<Unenforced>> {
        let Some(machine) = &plan.machine else {
            return Err(Fault::new(NO_MACHINE).arg("name", &plan.name));
        };
        if machine.engine == model::MachineEngine::Kvm {
            usable_kvm().map_err(|fault| Fault::new(KVM_UNUSABLE).because(fault))?;
        }
        Ok(Vec::new())
    }
}

/// The host's KVM, when it really works.
///
/// # Errors
/// When there is none, or a tiny guest in it is too slow.
pub fn usable_kvm() -> Result<OwnedFd> {
    let open = || File::options().read(true).write(true).open(Path::new(DEVICE));
    let device: OwnedFd = open().or_fault(|| Fault::new(FILE).arg("path", DEVICE))?.into();
    let probed = device
        .try_clone()
        .or_fault(|| Fault::new(FILE).arg("path", DEVICE))?;
    let measured = vcpu_kvm::measure(&vcpu_kvm::Kvm::from_fd(probed)?)?;
    vcpu_kvm::usable(&measured)?;
    Ok(device)
}
