//! One virtual machine of the kernel's KVM.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use fault::{Fault, OrFault, Result};
use guestmem::{Block, DirtyPages, HostRange, PAGE};
use kvm_bindings as kb;
use kvm_ioctls::{Cap, VmFd};
use vcpu::{Msi, Slot, Vcpu, Vm, cpuid::Leaf, state::VmState};

use crate::gate::Gate;
use crate::processor::KvmVcpu;
use crate::routes::{self, Routes};
use crate::slots::{self, Map, Placed};
use crate::{REFUSED, refused, sys};

/// Three pages for processors that cannot run real mode by themselves, and one with an identity map, below the firmware
/// (api.rst, KVM_SET_TSS_ADDR); the addresses are QEMU's.
const IDENTITY_MAP: u64 = 0xfeff_c000;
const TASK_PAGES: usize = 0xfeff_d000;

/// What a machine and its processors have in common.
pub(crate) struct Shared {
    /// Closed before the memory below is given back.
    pub vm: VmFd,
    pub gate: Gate,
    /// The wire from the 8259 pair.
    pub external: AtomicBool,
    /// How often the paravirtual clock has been put back.
    pub clock_set: AtomicU64,
    pub xsave_size: usize,
    map: Mutex<Map>,
}

/// A virtual machine.
pub(crate) struct KvmVm {
    shared: Arc<Shared>,
    routes: Mutex<Routes>,
    doorbells: Mutex<BTreeMap<u64, OwnedFd>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no holder of this lock panics")
}

fn capability(number: u32, argument: u64) -> kb::kvm_enable_cap {
    kb::kvm_enable_cap {
        cap: number,
        args: [argument, 0, 0, 0],
        ..kb::kvm_enable_cap::default()
    }
}

impl KvmVm {
    pub(crate) fn new(kvm: &kvm_ioctls::Kvm, pins: u8) -> Result<KvmVm> {
        let vm = kvm.create_vm().or_fault(|| refused("KVM_CREATE_VM"))?;
        let enable = |number, argument, call| {
            vm.enable_cap(&capability(number, argument))
                .or_fault(|| refused(call))
        };
        vm.set_identity_map_address(IDENTITY_MAP)
            .or_fault(|| refused("KVM_SET_IDENTITY_MAP_ADDR"))?;
        vm.set_tss_address(TASK_PAGES)
            .or_fault(|| refused("KVM_SET_TSS_ADDR"))?;
        let pins_reserved = Routes::reserved(pins);
        enable(kb::KVM_CAP_SPLIT_IRQCHIP, pins_reserved, "KVM_CAP_SPLIT_IRQCHIP")?;
        let wide = kb::KVM_X2APIC_API_USE_32BIT_IDS | kb::KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK;
        enable(kb::KVM_CAP_X2APIC_API, wide.into(), "KVM_CAP_X2APIC_API")?;
        // A local APIC's LINT0 is masked after INIT, as the manual says.
        let quirk = kb::KVM_X86_QUIRK_LINT0_REENABLED;
        if vm.check_extension_raw(kb::KVM_CAP_DISABLE_QUIRKS2.into()) as u32 & quirk != 0 {
            enable(
                kb::KVM_CAP_DISABLE_QUIRKS2,
                quirk.into(),
                "KVM_CAP_DISABLE_QUIRKS2",
            )?;
        }
        let xsave_size = vm.check_extension_int(Cap::Xsave2);
        Ok(KvmVm {
            shared: Arc::new(Shared {
                vm,
                gate: Gate::default(),
                external: AtomicBool::new(false),
                clock_set: AtomicU64::new(0),
                xsave_size: usize::try_from(xsave_size).unwrap_or(0).max(sys::XSAVE_LEAST),
                map: Mutex::default(),
            }),
            routes: Mutex::new(Routes::new(pins)),
            doorbells: Mutex::default(),
        })
    }
}

impl Shared {
    fn set_slot(&self, id: u32, flags: u32, slot: &Slot, len: u64) -> Result<()> {
        let host = slot
            .block
            .host(slot.offset, slot.len)
            .or_fault(|| Fault::new(REFUSED).arg("call", "KVM_SET_USER_MEMORY_REGION"))?;
        sys::set_memory(&self.vm, id, flags, slot.start, len, host)
            .or_fault(|| refused("KVM_SET_USER_MEMORY_REGION"))
    }

    /// Takes a slot away; what its processors have written is kept with the block.
    fn remove(&self, map: &mut Map, id: u32) -> Result<()> {
        let Some(at) = map.placed.iter().position(|placed| placed.id == id) else {
            return Ok(());
        };
        if map.logging {
            let slot = &map.placed[at].slot;
            for page in self.written(map, &map.placed[at])?.iter() {
                slot.block.mark_dirty(page);
            }
        }
        let nowhere = HostRange {
            start: std::ptr::null_mut(),
            len: 0,
        };
        sys::set_memory(&self.vm, id, 0, map.placed[at].slot.start, 0, nowhere)
            .or_fault(|| refused("KVM_SET_USER_MEMORY_REGION"))?;
        map.placed.remove(at);
        Ok(())
    }

    /// The pages of the block that processors have written through this slot since the last question.
    fn written(&self, map: &Map, placed: &Placed) -> Result<DirtyPages> {
        if map.flags(&placed.slot) & kb::KVM_MEM_LOG_DIRTY_PAGES == 0 {
            return Ok(DirtyPages::default());
        }
        let len = usize::try_from(placed.slot.len).expect("a block fits the address space");
        let bits = self
            .vm
            .get_dirty_log(placed.id, len)
            .or_fault(|| refused("KVM_GET_DIRTY_LOG"))?;
        Ok(DirtyPages(slots::to_block(&bits, &placed.slot)))
    }
}

impl Vm for KvmVm {
    fn map(&self, slots: &[Slot]) -> Result<()> {
        let wanted = slots::check(slots)?;
        let shared = &self.shared;
        let mut map = lock(&shared.map);
        let (gone, new) = map.difference(&wanted);
        // Between the old and the new slot there is nothing at its addresses: no processor may look.
        let _held = if gone.is_empty() {
            None
        } else {
            Some(shared.gate.hold()?)
        };
        for id in gone {
            shared.remove(&mut map, id)?;
        }
        for slot in new {
            let id = map.free_id();
            shared.set_slot(id, map.flags(&slot), &slot, slot.len)?;
            map.placed.push(Placed { id, slot });
        }
        Ok(())
    }

    fn vcpu(&self, number: u32, cpuid: &[Leaf]) -> Result<Box<dyn Vcpu>> {
        Ok(Box::new(KvmVcpu::new(&self.shared, number, cpuid)?))
    }

    fn message(&self, message: Msi) -> Result<()> {
        if !routes::deliverable(message) {
            return Ok(());
        }
        let msi = kb::kvm_msi {
            address_lo: message.address as u32,
            address_hi: (message.address >> 32) as u32,
            data: message.data,
            ..kb::kvm_msi::default()
        };
        match self.shared.vm.signal_msi(msi) {
            Ok(_) => Ok(()),
            // Nobody has this identity, or its local APIC is off: lost, as on hardware.
            Err(error) if error.errno() == libc::EPERM => Ok(()),
            Err(error) => Err(refused("KVM_SIGNAL_MSI").because(error)),
        }
    }

    fn route(&self, pin: u8, message: Option<Msi>) -> Result<()> {
        let mut routes = lock(&self.routes);
        if !routes.set(pin, message) {
            return Ok(());
        }
        let table = kb::KvmIrqRouting::from_entries(&routes.entries())
            .expect("there are fewer routes than KVM takes");
        self.shared
            .vm
            .set_gsi_routing(&table)
            .or_fault(|| refused("KVM_SET_GSI_ROUTING"))
    }

    fn external(&self, asserted: bool) -> Result<()> {
        let before = self.shared.external.swap(asserted, Ordering::SeqCst);
        if asserted
            && !before
            && let Some(door) = self.shared.gate.bootstrap()
        {
            door.poke();
        }
        Ok(())
    }

    fn doorbell(&self, address: u64, event: Option<BorrowedFd<'_>>) -> Result<()> {
        let vm = &self.shared.vm;
        let event = event
            .map(|event| event.try_clone_to_owned())
            .transpose()
            .or_fault(|| refused("KVM_IOEVENTFD"))?;
        let mut doorbells = lock(&self.doorbells);
        if let Some(old) = doorbells.remove(&address) {
            sys::doorbell(vm, address, old.as_fd(), false).or_fault(|| refused("KVM_IOEVENTFD"))?;
        }
        if let Some(new) = event {
            sys::doorbell(vm, address, new.as_fd(), true).or_fault(|| refused("KVM_IOEVENTFD"))?;
            doorbells.insert(address, new);
        }
        Ok(())
    }

    fn log_dirty(&self, on: bool) -> Result<()> {
        let mut map = lock(&self.shared.map);
        if map.logging && !on {
            for placed in &map.placed {
                for page in self.shared.written(&map, placed)?.iter() {
                    placed.slot.block.mark_dirty(page);
                }
            }
        }
        map.logging = on;
        for placed in &map.placed {
            let slot = &placed.slot;
            self.shared.set_slot(placed.id, map.flags(slot), slot, slot.len)?;
        }
        Ok(())
    }

    fn dirty(&self, block: &Block) -> Result<DirtyPages> {
        let map = lock(&self.shared.map);
        let mut pages = block.take_dirty();
        debug_assert_eq!(pages.0.len() as u64, block.len().div_ceil(PAGE).div_ceil(64));
        for placed in map.placed.iter().filter(|placed| placed.slot.block.is(block)) {
            pages.merge(&self.shared.written(&map, placed)?);
        }
        Ok(pages)
    }

    fn save(&self) -> Result<VmState> {
        let clock = self.shared.vm.get_clock().or_fault(|| refused("KVM_GET_CLOCK"))?;
        Ok(VmState { clock: clock.clock })
    }

    fn restore(&self, state: &VmState) -> Result<()> {
        let clock = kb::kvm_clock_data {
            clock: state.clock,
            ..kb::kvm_clock_data::default()
        };
        self.shared
            .vm
            .set_clock(&clock)
            .or_fault(|| refused("KVM_SET_CLOCK"))?;
        self.shared.clock_set.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}
