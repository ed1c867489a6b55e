//! Machines that are accepted and refused, and the plans of those that are accepted.

use serde_json::json;

use super::*;
use crate::admission;
use crate::codes::LIMIT_INVALID;

fn known() -> Known {
    Known {
        host_memory: Some(8 << 30),
        ..Known::default()
    }
}

fn spec_of(fields: serde_json::Value) -> GuestSpec {
    let mut document = json!({ "kind": "machine", "image": "debian/12" });
    crate::merge::merge(&mut document, &fields);
    serde_json::from_value(document).unwrap()
}

fn planned(fields: serde_json::Value) -> MachinePlan {
    let spec = spec_of(fields);
    assert_eq!(admission::spec(&known(), &spec), Ok(()));
    plan(&spec, &disk_file(Path::new("/state"), "raw"), "raw")
}

fn names(plan: &MachinePlan) -> Vec<String> {
    let path = |disk: &DiskPlan| disk.path.as_ref().map(|path| path.display().to_string());
    let one = |disk: &DiskPlan| format!("{}={}", disk.name, path(disk).unwrap_or_default());
    plan.disks.iter().map(one).collect()
}

#[test]
fn a_machine_of_an_image_starts_the_kernel_of_the_disk_that_is_made_of_it() {
    let plan = planned(json!({}));
    assert_eq!(names(&plan), ["root=/state/disk.raw"]);
    assert_eq!((plan.cpus, plan.memory), (1, 512 << 20));
    assert_eq!(
        plan.boot,
        MachineBoot::Disk {
            append: String::new()
        }
    );
    assert_eq!(plan.keymap.as_deref(), Some("en-us"));
    assert_eq!(made_disk(&spec_of(json!({}))), Some(4 << 30));
    let odd = json!({ "machine": { "disk_size": 10_000_001 } });
    assert_eq!(made_disk(&spec_of(odd)), Some(10_002_432));
}

#[test]
fn files_of_the_host_follow_the_disk_of_the_image_and_precede_an_empty_one() {
    let files = json!([{ "source": "/a" }, { "source": "/b", "format": "qcow2", "read_only": true }]);
    let plan = planned(json!({ "machine": { "disks": files } }));
    assert_eq!(names(&plan), ["root=/state/disk.raw", "disk1=/a", "disk2=/b"]);
    assert!(plan.disks[2].read_only && plan.disks[2].format == "qcow2");
    let plan = planned(json!({ "image": "none", "machine": { "disks": files, "disk_size": 1 << 30 } }));
    assert_eq!(names(&plan), ["root=/a", "disk1=/b", "disk2=/state/disk.raw"]);
}

#[test]
fn a_cd_rom_starts_by_firmware_and_without_it_the_disk_does() {
    let fields =
        json!({ "image": "none", "machine": { "disk_size": 1 << 30, "iso": "/f.iso", "headless": true } });
    let plan = planned(fields.clone());
    assert_eq!(names(&plan), ["root=/state/disk.raw", "cdrom=/f.iso"]);
    assert_eq!((plan.boot, plan.keymap), (MachineBoot::Firmware, None));
    assert!(plan.disks[1].cdrom && plan.disks[1].read_only);
    let ejected = crate::merge::patched(&spec_of(fields), &json!({ "machine": { "iso": null } })).unwrap();
    assert_eq!(admission::spec(&known(), &ejected), Ok(()));
    let plan = super::plan(&ejected, Path::new("/state/disk.raw"), "raw");
    assert!(matches!(plan.boot, MachineBoot::Disk { .. }));
    let plan = planned(json!({ "machine": { "firmware": true } }));
    assert_eq!(plan.boot, MachineBoot::Firmware);
}

#[test]
fn a_kernel_of_the_host_gets_its_own_command_line_or_the_consoles() {
    let boot = |fields: serde_json::Value| match planned(json!({ "image": "none", "machine": fields })).boot {
        MachineBoot::Kernel { append, .. } => append,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        boot(json!({ "kernel": "/k", "append": "root=/dev/vda" })),
        "root=/dev/vda"
    );
    assert_eq!(boot(json!({ "kernel": "/k" })), "console=tty0 console=ttyS0");
    assert_eq!(boot(json!({ "kernel": "/k", "headless": true })), "console=ttyS0");
}

#[test]
fn the_process_may_take_more_than_its_guest_has() {
    let spec = spec_of(json!({ "limits": { "memory": 1 << 30, "cpus": 0.5, "cpu_pin": "0" } }));
    let limits = limits(&spec.limits, memory(&spec));
    assert!(limits.memory.unwrap().0 > 1 << 30);
    assert_eq!((limits.cpus, limits.cpu_pin.as_deref()), (Some(0.5), Some("0")));
}

#[test]
fn senseless_machines_are_refused_by_their_codes() {
    for (fields, code) in [
        (
            json!({ "init": { "type": "command", "argv": ["ls"] } }),
            COMMAND_IN_MACHINE,
        ),
        (json!({ "env": { "A": "1" } }), NOT_FOR_MACHINES),
        (json!({ "privileged": true }), NOT_FOR_MACHINES),
        (json!({ "limits": { "pids": 10 } }), NOT_FOR_MACHINES),
        (json!({ "limits": { "memory": 0 } }), LIMIT_INVALID),
        (json!({ "limits": { "memory": 9_u64 << 30 } }), MEMORY_BEYOND_HOST),
        (json!({ "machine": { "cpus": 0 } }), VALUE_INVALID),
        (json!({ "machine": { "cpus": 1000 } }), VALUE_INVALID),
        (json!({ "machine": { "disk_size": 512 } }), VALUE_INVALID),
        (json!({ "machine": { "disk_size": u64::MAX } }), VALUE_INVALID),
        (
            json!({ "machine": { "disks": [{ "source": "relative" }] } }),
            VALUE_INVALID,
        ),
        (
            json!({ "machine": { "disks": [{ "source": "/a", "format": "vmdk" }] } }),
            VALUE_INVALID,
        ),
        (
            json!({ "machine": { "disks": [{ "source": "/a" }, { "source": "/a" }] } }),
            SPEC_INVALID,
        ),
        (json!({ "machine": { "keymap": "klingon" } }), VALUE_INVALID),
        (
            json!({ "machine": { "keymap": "es", "headless": true } }),
            SPEC_INVALID,
        ),
        (json!({ "machine": { "initrd": "/i" } }), SPEC_INVALID),
        (
            json!({ "machine": { "kernel": "/k", "firmware": true } }),
            SPEC_INVALID,
        ),
        (
            json!({ "machine": { "append": "x", "firmware": true } }),
            SPEC_INVALID,
        ),
        (json!({ "machine": { "append": "a\nb" } }), VALUE_INVALID),
        (json!({ "machine": { "iso": "f.iso" } }), VALUE_INVALID),
        (json!({ "image": "none" }), NOTHING_TO_BOOT),
        (
            json!({ "image": "none", "setup": { "user": "ana" }, "machine": { "kernel": "/k" } }),
            NEEDS_IMAGE,
        ),
        (
            json!({ "image": "none", "machine": { "kernel": "/k", "firmware": true } }),
            SPEC_INVALID,
        ),
    ] {
        let refused = admission::spec(&known(), &spec_of(fields.clone()));
        let as_wanted = refused.as_ref().is_err_and(|fault| fault.is(code));
        assert!(as_wanted, "{fields}: {refused:?}");
    }
}

#[test]
fn a_new_machine_needs_more_than_an_empty_disk() {
    let empty = spec_of(json!({ "image": "none", "machine": { "disk_size": 1 << 30 } }));
    assert_eq!(admission::spec(&known(), &empty), Ok(()));
    assert!(starts(&empty).unwrap_err().is(NOTHING_TO_BOOT));
    assert_eq!(starts(&spec_of(json!({}))), Ok(()));
}

#[test]
fn a_disk_keeps_its_size_and_the_rest_changes() {
    let old = spec_of(json!({ "machine": { "disk_size": 1 << 30 } }));
    let patch = |fields| crate::merge::patched(&old, &json!({ "machine": fields }));
    assert!(
        patch(json!({ "disk_size": 2_u64 << 30 }))
            .unwrap_err()
            .is(crate::codes::FIELD_FIXED)
    );
    let new = patch(json!({ "cpus": 2, "iso": "/f.iso" })).unwrap();
    assert_eq!(changed(&old, &new), ["cpus", "iso"]);
}
