//! Kernels, good and bad, put into the memory of machines.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod packages;

use boot::kernel::{DirectBoot, Handover, Start, check, direct};
use boot::layout::{GIB, MIB};
use boot::{Chunk, Entry, Machine};
use fault::{Code, Fault};
use proptest::prelude::*;

fn put(file: &mut [u8], at: usize, bytes: &[u8]) {
    file[at..at + bytes.len()].copy_from_slice(bytes);
}

/// A bzImage of protocol 2.15 with 4000 bytes of kernel, as Debian's header is filled.
fn bzimage() -> Vec<u8> {
    let mut file = vec![0_u8; 3 * 512];
    file[0x1F1] = 2;
    put(&mut file, 0x1F4, &250_u32.to_le_bytes());
    put(&mut file, 0x1FE, &[0x55, 0xAA, 0xEB, 0x6A]);
    put(&mut file, 0x202, b"HdrS");
    put(&mut file, 0x206, &0x020F_u16.to_le_bytes());
    file[0x211] = 1;
    put(&mut file, 0x214, &0x10_0000_u32.to_le_bytes());
    put(&mut file, 0x22C, &0x7FFF_FFFF_u32.to_le_bytes());
    put(&mut file, 0x230, &0x20_0000_u32.to_le_bytes());
    put(&mut file, 0x234, &[1, 21, 0x7F, 0]);
    put(&mut file, 0x238, &2047_u32.to_le_bytes());
    put(&mut file, 0x258, &0x100_0000_u64.to_le_bytes());
    put(&mut file, 0x260, &0x200_0000_u32.to_le_bytes());
    file.extend((0..4000).map(|index| index as u8));
    file
}

/// A vmlinux of 64 bits with one segment at 16 MiB (1000 bytes, 5000 in memory) and a PVH note.
fn vmlinux() -> Vec<u8> {
    let mut file = vec![0_u8; 64 + 2 * 56];
    put(&mut file, 0, b"\x7FELF\x02\x01\x01");
    put(&mut file, 0x10, &[2, 0, 62, 0, 1, 0, 0, 0]);
    put(&mut file, 0x18, &0x100_0040_u64.to_le_bytes());
    put(&mut file, 0x20, &64_u64.to_le_bytes());
    put(&mut file, 0x34, &[64, 0, 56, 0, 2, 0]);
    let header = |kind: u32, offset: u64, address: u64, size: u64, memory: u64| {
        let words = [offset, address, address, size, memory, 4];
        let words = words.into_iter().flat_map(u64::to_le_bytes);
        [kind, 7]
            .into_iter()
            .flat_map(u32::to_le_bytes)
            .chain(words)
            .collect::<Vec<u8>>()
    };
    put(&mut file, 64, &header(1, 200, 0x100_0000, 1000, 5000));
    put(&mut file, 120, &header(4, 1200, 0, 20, 20));
    file.resize(200, 0);
    file.extend([0x90; 1000]);
    file.extend([4, 0, 0, 0, 4, 0, 0, 0, 18, 0, 0, 0]);
    file.extend(b"Xen\0");
    file.extend(0x100_0080_u32.to_le_bytes());
    file
}

fn request(kernel: &[u8]) -> DirectBoot<'_> {
    DirectBoot {
        kernel,
        initrd: &[],
        command_line: b"console=ttyS0",
        handover: None,
        seed: None,
    }
}

fn machine() -> Machine {
    Machine::new(256 * MIB, 2)
}

#[track_caller]
fn refused(result: Result<Start<'_>, Fault>, code: Code) {
    let fault = result.map(|start| start.entry).unwrap_err();
    assert!(fault.is(code), "{fault}");
}

/// The bytes of memory at an address, from whichever chunk has them.
fn memory<'a>(chunks: &'a [Chunk<'_>], address: u64, length: usize) -> &'a [u8] {
    let chunk = chunks
        .iter()
        .find(|chunk| (chunk.address..chunk.end()).contains(&address))
        .unwrap();
    let start = (address - chunk.address) as usize;
    &chunk.bytes()[start..start + length]
}

fn number(chunks: &[Chunk<'_>], address: u64) -> u64 {
    u64::from(u32::from_le_bytes(memory(chunks, address, 4).try_into().unwrap()))
}

/// What holds for every start: nothing overlaps, all lies in memory, the entry is in the kernel.
fn sound(machine: &Machine, start: &Start<'_>) -> Result<(), TestCaseError> {
    let mut ranges: Vec<_> = start
        .chunks
        .iter()
        .map(|chunk| (chunk.address, chunk.end()))
        .collect();
    ranges.sort_unstable();
    for pair in ranges.windows(2) {
        prop_assert!(pair[0].1 <= pair[1].0, "{ranges:x?}");
    }
    prop_assert!(
        ranges
            .iter()
            .all(|(start, end)| start < end && *end <= machine.memory.min(3 * GIB))
    );
    let (first, pointer) = match start.entry {
        Entry::Long64 { rip, rsi } => (rip, rsi),
        Entry::Protected32 { eip, esi } => (eip.into(), esi.into()),
        Entry::Pvh { eip, ebx } => (eip.into(), ebx.into()),
        Entry::Reset => unreachable!("a direct boot is not a reset"),
    };
    prop_assert!(first >= MIB && first < machine.memory);
    prop_assert!(
        ranges
            .iter()
            .any(|(start, end)| (*start..*end).contains(&pointer))
    );
    Ok(())
}

#[test]
fn a_bzimage_lies_where_it_wants_to_be_and_is_told_all() {
    let kernel = bzimage();
    let machine = Machine {
        display: true,
        ..machine()
    };
    let initrd: [&[u8]; 2] = [b"12345", b"678"];
    let boot = DirectBoot {
        initrd: &initrd,
        seed: Some([9; 32]),
        ..request(&kernel)
    };
    let start = direct(&machine, &boot).unwrap();
    assert_eq!(
        start.entry,
        Entry::Long64 {
            rip: 0x100_0200,
            rsi: 0x7000
        }
    );
    let chunks = &start.chunks;
    assert_eq!(memory(chunks, 0x100_0000, 4000), &kernel[3 * 512..]);
    assert_eq!(memory(chunks, 0x7202, 4), b"HdrS");
    assert_eq!(memory(chunks, 0x7210, 1), [0xFF]);
    // Mode 3, 80 by 25, a VGA.
    assert_eq!(
        [memory(chunks, 0x7006, 2), memory(chunks, 0x700E, 2)].concat(),
        [3, 80, 25, 1]
    );
    let line = number(chunks, 0x7228);
    assert_eq!(memory(chunks, line, 14), b"console=ttyS0\0");
    let (address, size) = (number(chunks, 0x7218), number(chunks, 0x721C));
    assert_eq!((address % 4096, size), (0, 12));
    assert_eq!(address, 256 * MIB - 4096);
    assert_eq!(memory(chunks, address, 5), b"12345");
    assert_eq!(memory(chunks, address + 5, 3), [0; 3]);
    assert_eq!(memory(chunks, address + 8, 3), b"678");
    assert_eq!(memory(chunks, number(chunks, 0x7070), 8), b"RSD PTR ");
    let seed = number(chunks, 0x7250);
    assert_eq!(memory(chunks, seed + 16, 32), [9; 32]);
    assert_eq!(number(chunks, seed + 8), 9);
    let ranges = usize::from(memory(chunks, 0x71E8, 1)[0]);
    assert_eq!(ranges, boot::e820::for_kernel(&machine).len());
}

#[test]
fn a_vmlinux_is_entered_by_its_note_with_the_start_info_of_version_one() {
    let kernel = vmlinux();
    let initrd: [&[u8]; 1] = [b"12345678"];
    let boot = DirectBoot {
        initrd: &initrd,
        ..request(&kernel)
    };
    let start = direct(&machine(), &boot).unwrap();
    assert_eq!(
        start.entry,
        Entry::Pvh {
            eip: 0x100_0080,
            ebx: 0x6000
        }
    );
    let chunks = &start.chunks;
    assert_eq!([number(chunks, 0x6000), number(chunks, 0x6004)], [0x336E_C578, 1]);
    assert_eq!(number(chunks, 0x600C), 1);
    let module = number(chunks, 0x6010);
    assert_eq!(memory(chunks, number(chunks, module), 8), b"12345678");
    assert_eq!(number(chunks, module + 8), 8);
    assert_eq!(memory(chunks, number(chunks, 0x6018), 8), b"console=");
    assert_eq!(memory(chunks, number(chunks, 0x6020), 8), b"RSD PTR ");
    let map = number(chunks, 0x6028);
    assert_eq!(
        number(chunks, 0x6030),
        boot::e820::for_kernel(&machine()).len() as u64
    );
    assert_eq!(
        [number(chunks, map + 16), number(chunks, map + 24)],
        [1, 0x9_FC00]
    );
    assert!(chunks.contains(&Chunk::zeros(0x100_0000 + 1000, 4000)));
}

#[test]
fn the_way_in_can_be_chosen() {
    let kernel = vmlinux();
    let entry = |handover| {
        let boot = DirectBoot {
            handover: Some(handover),
            ..request(&kernel)
        };
        direct(&machine(), &boot).map(|start| start.entry)
    };
    assert_eq!(
        entry(Handover::Long64).unwrap(),
        Entry::Long64 {
            rip: 0x100_0040,
            rsi: 0x7000
        }
    );
    assert!(entry(Handover::Protected32).unwrap_err().is(boot::NO_SUCH_ENTRY));

    let mut old = bzimage();
    put(&mut old, 0x236, &[0, 0]);
    let start = direct(&machine(), &request(&old)).unwrap();
    assert_eq!(
        start.entry,
        Entry::Protected32 {
            eip: 0x100_0000,
            esi: 0x7000
        }
    );
    let boot = DirectBoot {
        handover: Some(Handover::Pvh),
        ..request(&old)
    };
    refused(direct(&machine(), &boot), boot::NO_SUCH_ENTRY);
}

#[test]
fn what_is_no_kernel_is_named() {
    let mut iso = vec![0; 0x9000];
    put(&mut iso, 0x8001, b"CD001");
    let mut sector = vec![0; 512];
    put(&mut sector, 510, &[0x55, 0xAA]);
    let cases: [(&[u8], &str); 7] = [
        (b"", "it is empty"),
        (b"#!/bin/sh", "neither bzImage nor ELF"),
        (b"\x1F\x8B\x08", "gzip data"),
        (b"070701", "a cpio archive"),
        (b"MZ and so on", "an EFI program"),
        (&iso, "an ISO image"),
        (&sector, "a boot sector or a disk"),
    ];
    for (file, what) in cases {
        let fault = check(file).unwrap_err();
        assert!(fault.is(boot::NOT_A_KERNEL), "{fault}");
        assert!(
            fault.args().any(|(name, value)| name == "what" && value == what),
            "{fault}"
        );
    }
}

#[test]
fn a_kernel_for_another_processor_is_named() {
    let mut image = vec![0; 64];
    put(&mut image, 0x38, b"ARM\x64");
    assert!(check(&image).unwrap_err().is(boot::WRONG_ARCHITECTURE));
    let mut elf = vmlinux();
    put(&mut elf, 0x12, &183_u16.to_le_bytes());
    let fault = check(&elf).unwrap_err();
    assert!(fault.is(boot::WRONG_ARCHITECTURE) && fault.args().any(|(_, value)| value == "arm64"));
}

#[test]
fn a_kernel_that_is_cut_short_is_told_from_one_that_is_whole() {
    let (bz, elf) = (bzimage(), vmlinux());
    // Sizes are rounded up to 16 bytes in a bzImage's header.
    check(&bz[..bz.len() - 15]).unwrap();
    for cut in [
        &bz[..bz.len() - 16],
        &bz[..0x210],
        &elf[..elf.len() - 1],
        &elf[..100],
        &elf[..0x20],
    ] {
        let fault = check(cut).unwrap_err();
        assert!(fault.is(boot::KERNEL_TRUNCATED), "{fault}");
    }
}

#[test]
fn old_kernels_are_refused_by_version() {
    let mut old = bzimage();
    put(&mut old, 0x206, &0x0205_u16.to_le_bytes());
    assert!(check(&old).unwrap_err().is(boot::KERNEL_TOO_OLD));
    let mut low = bzimage();
    low[0x211] = 0;
    assert!(check(&low).unwrap_err().is(boot::KERNEL_TOO_OLD));
}

#[test]
fn memory_initrd_and_command_line_have_their_limits() {
    let kernel = bzimage();
    // 16 MiB + 32 MiB of room.
    refused(
        direct(&Machine::new(47 * MIB, 1), &request(&kernel)),
        boot::MEMORY_TOO_SMALL,
    );
    direct(&Machine::new(48 * MIB, 1), &request(&kernel)).unwrap();

    let large = vec![1; 24 * MIB as usize];
    let initrd = [large.as_slice()];
    let boot = DirectBoot {
        initrd: &initrd,
        ..request(&kernel)
    };
    refused(direct(&Machine::new(64 * MIB, 1), &boot), boot::INITRD_TOO_LARGE);
    direct(&Machine::new(72 * MIB, 1), &boot).unwrap();
    // Below the kernel is room too.
    let small = [&large[..14 * MIB as usize]];
    let boot = DirectBoot {
        initrd: &small,
        ..request(&kernel)
    };
    let start = direct(&Machine::new(48 * MIB, 1), &boot).unwrap();
    assert_eq!(number(&start.chunks, 0x7218), 2 * MIB);
    // The header's limit counts, whatever the memory.
    let mut narrow = bzimage();
    put(&mut narrow, 0x22C, &0x37F_FFFF_u32.to_le_bytes());
    let boot = DirectBoot {
        initrd: &initrd,
        ..request(&narrow)
    };
    refused(direct(&Machine::new(GIB, 1), &boot), boot::INITRD_TOO_LARGE);

    let long = vec![b'a'; 2048];
    let boot = DirectBoot {
        command_line: &long[..2047],
        ..request(&kernel)
    };
    direct(&machine(), &boot).unwrap();
    let boot = DirectBoot {
        command_line: &long,
        ..request(&kernel)
    };
    refused(direct(&machine(), &boot), boot::COMMAND_LINE_TOO_LONG);
    let boot = DirectBoot {
        command_line: b"a\0b",
        ..request(&kernel)
    };
    refused(direct(&machine(), &boot), boot::COMMAND_LINE_HAS_NUL);
}

#[test]
fn debians_kernels_load_both_packed_and_as_elf() {
    let Some(kernel) = packages::cloud_kernel() else {
        return;
    };
    let machine = machine();
    let start = direct(&machine, &request(&kernel)).unwrap();
    sound(&machine, &start).unwrap();
    assert!(
        matches!(start.entry, Entry::Long64 { rip: 0x100_0200, .. }),
        "{:?}",
        start.entry
    );
    let cut = &kernel[..kernel.len() / 2];
    assert!(check(cut).unwrap_err().is(boot::KERNEL_TRUNCATED));
    let Some(elf) = packages::vmlinux(&kernel) else {
        return;
    };
    let start = direct(&machine, &request(&elf)).unwrap();
    sound(&machine, &start).unwrap();
    assert!(matches!(start.entry, Entry::Pvh { .. }));
    let boot = DirectBoot {
        handover: Some(Handover::Long64),
        ..request(&elf)
    };
    sound(&machine, &direct(&machine, &boot).unwrap()).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn damaged_kernels_are_refused_or_loaded_soundly(
        elf in any::<bool>(),
        changes in prop::collection::vec((any::<u16>(), prop_oneof![Just(0), Just(0xFF), any::<u8>()]), 1..6),
        cut in prop::option::of(any::<u16>()),
        mib in 2_u64..5000,
        initrd in 0_usize..10_000,
    ) {
        let mut kernel = if elf { vmlinux() } else { bzimage() };
        let header = if elf { 64..176 } else { 0x1F1..0x270 };
        let notes = kernel.len() - 20;
        for (at, value) in changes {
            // Mostly the headers, sometimes the note at the end.
            let at = usize::from(at);
            let place = if at % 8 == 0 { notes + at / 8 % 20 } else if elf && at % 8 == 1 { at / 8 % 64 } else { header.start + at / 8 % header.len() };
            kernel[place] = value;
        }
        if let Some(cut) = cut {
            kernel.truncate(usize::from(cut) % (kernel.len() + 1));
        }
        let machine = Machine::new(mib * MIB, 1);
        let initrd = vec![1; initrd];
        let archives = [initrd.as_slice()];
        let boot = DirectBoot { initrd: &archives, ..request(&kernel) };
        if let Ok(start) = direct(&machine, &boot) {
            sound(&machine, &start)?;
            let borrowed: u64 = start.chunks.iter().map(|chunk| chunk.bytes().len() as u64).sum();
            prop_assert!(borrowed < 300_000 + 128 * kernel.len() as u64);
        }
    }
}
