//! FXSAVE, XSAVE and their restoring, against the processor; environments in their four formats.
#![allow(
    unsafe_code,
    reason = "the host's own save and restore instructions are the truth"
)]

use fpu::{AreaForm, EnvironmentForm, Fpu, Gp, XSAVE_BYTES, Xmm, xsave_writes};
use proptest::prelude::*;
use std::arch::asm;

/// An area as the instructions want it: aligned to 64 bytes.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
struct Area([u8; XSAVE_BYTES]);

const WIDE: AreaForm = AreaForm {
    wide: true,
    long: true,
};
const NARROW: AreaForm = AreaForm {
    wide: false,
    long: true,
};

/// Runs lines with rdi and rsi at two areas, and puts the host's state back.
macro_rules! on_host {
    ($first:expr, $second:expr, $components:expr; $($line:literal),+) => {{
        let mut mxcsr = 0_u32;
        // SAFETY: the lines restore and save vector and x87 state, all of which is declared changed; the host's control
        // words are put back.
        unsafe {
            asm!(
                "stmxcsr [{mxcsr}]",
                $($line,)+
                "fninit",
                "ldmxcsr [{mxcsr}]",
                mxcsr = in(reg) &raw mut mxcsr,
                in("rdi") $first.0.as_mut_ptr(), in("rsi") $second.0.as_mut_ptr(),
                inout("eax") $components as u32 => _, inout("edx") 0 => _,
                out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _, out("xmm5") _,
                out("xmm6") _, out("xmm7") _, out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
                out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
                out("st(0)") _, out("st(1)") _, out("st(2)") _, out("st(3)") _,
                out("st(4)") _, out("st(5)") _, out("st(6)") _, out("st(7)") _,
                out("mm0") _, out("mm1") _, out("mm2") _, out("mm3") _,
                out("mm4") _, out("mm5") _, out("mm6") _, out("mm7") _,
            )
        }
    }};
}

/// Random bytes with an acceptable MXCSR, component bits `present` and an empty rest of the header.
fn area(present: u64) -> impl Strategy<Value = Area> {
    (prop::collection::vec(any::<u8>(), 512), any::<u16>()).prop_map(move |(bytes, mxcsr)| {
        let mut area = Area([0; XSAVE_BYTES]);
        area.0[..512].copy_from_slice(&bytes);
        area.0[24..28].copy_from_slice(&u32::from(mxcsr).to_le_bytes());
        area.0[512..520].copy_from_slice(&present.to_le_bytes());
        area
    })
}

fn legacy(area: &Area) -> [u8; 512] {
    let mut bytes = [0; 512];
    bytes.copy_from_slice(&area.0[..512]);
    bytes
}

/// Without the pointers and the opcode, which some processors keep only with a pending exception, and without the mask
/// of MXCSR, which is the host's.
fn comparable(mut area: Area) -> Vec<u8> {
    area.0[6..24].fill(0);
    area.0[28..32].fill(0);
    area.0.to_vec()
}

proptest! {
    #[test]
    fn fxrstor_and_fxsave_are_the_processors(image in area(0), background in any::<u8>()) {
        let (mut input, mut theirs) = (image.clone(), Area([background; XSAVE_BYTES]));
        on_host!(input, theirs, 0; "fxrstor64 [rdi]", "fxsave64 [rsi]");
        let (mut fpu, mut ours) = (Fpu::default(), [background; 512]);
        fpu.fxrstor(&legacy(&image), WIDE).expect("no reserved bit");
        fpu.fxsave(&mut ours, WIDE);
        let mut area = Area([background; XSAVE_BYTES]);
        area.0[..512].copy_from_slice(&ours);
        prop_assert_eq!(comparable(area), comparable(theirs));
    }

    #[test]
    fn xsave_is_the_processors(image in area(3), header in any::<u8>(), requested in 0..4_u64) {
        let (mut input, mut theirs) = (image.clone(), Area([0x5a; XSAVE_BYTES]));
        theirs.0[512] = header;
        let mut ours = theirs.clone();
        on_host!(input, theirs, requested; "fxrstor64 [rdi]", "xsave64 [rsi]");
        let mut fpu = Fpu::default();
        fpu.fxrstor(&legacy(&image), WIDE).expect("no reserved bit");
        fpu.xsave(&mut ours.0, requested, WIDE);
        prop_assert_eq!(comparable(ours), comparable(theirs));
    }

    #[test]
    fn xrstor_is_the_processors(before in area(3), image in area(0), present in 0..4_u64, requested in 0..4_u64) {
        let mut image = image;
        image.0[512..520].copy_from_slice(&present.to_le_bytes());
        let (mut input, mut theirs) = (image.clone(), before.clone());
        on_host!(input, theirs, requested; "fxrstor64 [rsi]", "xrstor64 [rdi]", "fxsave64 [rsi]");
        let (mut fpu, mut ours) = (Fpu::default(), before.clone());
        fpu.fxrstor(&legacy(&before), WIDE).expect("no reserved bit");
        fpu.xrstor(&image.0, requested, 3, WIDE).expect("a good header");
        let mut saved = legacy(&before);
        fpu.fxsave(&mut saved, WIDE);
        ours.0[..512].copy_from_slice(&saved);
        prop_assert_eq!(comparable(ours), comparable(theirs));
    }

    #[test]
    fn an_area_survives_restoring_and_saving(image in area(3), wide in any::<bool>()) {
        let form = if wide { WIDE } else { NARROW };
        let mut fpu = Fpu::default();
        fpu.fxrstor(&legacy(&image), form).expect("no reserved bit");
        let mut saved = [0; 512];
        fpu.fxsave(&mut saved, form);
        let mut again = Fpu::default();
        again.fxrstor(&saved, form).expect("no reserved bit");
        prop_assert_eq!(fpu, again);
    }

    #[test]
    fn xsave_touches_only_what_it_says(image in area(3), requested in 0..4_u64, long in any::<bool>()) {
        let form = AreaForm { wide: false, long };
        let mut fpu = Fpu::default();
        fpu.fxrstor(&legacy(&image), WIDE).expect("no reserved bit");
        let (mut one, mut other) = ([0; XSAVE_BYTES], [0xff; XSAVE_BYTES]);
        fpu.xsave(&mut one, requested, form);
        fpu.xsave(&mut other, requested, form);
        let mut written = [false; XSAVE_BYTES];
        xsave_writes(requested, form).for_each(|range| written[range].fill(true));
        for i in (0..512).chain(520..XSAVE_BYTES) {
            prop_assert_eq!(one[i] == other[i], written[i], "byte {}", i);
        }
    }

    #[test]
    fn an_environment_survives_storing_and_loading(image in area(3), wide in any::<bool>(), protected in any::<bool>()) {
        let form = EnvironmentForm { wide, protected };
        let mut fpu = Fpu::default();
        fpu.fxrstor(&legacy(&image), NARROW).expect("no reserved bit");
        fpu.fnsave(&mut [0; 112], form);
        fpu.fxrstor(&legacy(&image), NARROW).expect("no reserved bit");
        let mut state = [0; 112];
        fpu.clone().fnsave(&mut state, form);
        let mut restored = fpu.clone();
        restored.initialise();
        restored.frstor(&state, form);
        // What the format has no room for.
        let mut expected = fpu.clone();
        let width = if !protected && !wide { 0xf_ffff } else if wide { u64::MAX } else { 0xffff };
        (expected.last.ip, expected.last.dp) = (expected.last.ip & width, expected.last.dp & width);
        if !protected {
            (expected.last.cs, expected.last.ds) = (0, 0);
        } else if !wide {
            expected.last.opcode = 0;
        }
        prop_assert_eq!(restored, expected);
    }
}

#[test]
fn reserved_bits_of_mxcsr_fault_and_load_nothing() {
    let mut fpu = Fpu::default();
    fpu.set_xmm(3, Xmm([7; 16]));
    let before = fpu.clone();
    let mut image = [0xff; XSAVE_BYTES];
    image[512..].fill(0);
    assert_eq!(fpu.set_mxcsr(0x1_0000), Err(Gp));
    assert_eq!(fpu.xrstor(&image, 3, 3, WIDE), Err(Gp));
    let mut legacy = [0; 512];
    legacy.copy_from_slice(&image[..512]);
    assert_eq!(fpu.fxrstor(&legacy, WIDE), Err(Gp));
    assert_eq!(fpu, before);
    // Without the SSE component MXCSR does not matter.
    assert_eq!(fpu.xrstor(&image, 1, 3, WIDE), Ok(()));
}

#[test]
fn a_header_of_another_format_faults() {
    let mut image = [0; XSAVE_BYTES];
    image[512] = 4;
    assert_eq!(Fpu::default().xrstor(&image, 3, 3, WIDE), Err(Gp));
    for at in 520..536 {
        let mut image = [0; XSAVE_BYTES];
        image[at] = 0x80;
        assert_eq!(Fpu::default().xrstor(&image, 3, 3, WIDE), Err(Gp), "byte {at}");
    }
}

#[test]
fn environments_have_the_manuals_layout() {
    let mut fpu = Fpu::default();
    fpu.initialise();
    fpu.last = fpu::LastInstruction {
        opcode: 0x5a5,
        ip: 0x89ab_cdef,
        cs: 0x33,
        dp: 0x7654_3210,
        ds: 0x2b,
    };
    let mut field = |wide, protected, n: usize| {
        let form = EnvironmentForm { wide, protected };
        let mut image = [0; 28];
        fpu.fnstenv(&mut image, form);
        let size = if wide { 4 } else { 2 };
        image[size * n..size * (n + 1)]
            .iter()
            .rev()
            .fold(0_u32, |value, &byte| value << 8 | u32::from(byte))
    };
    assert_eq!(
        [3, 4, 5].map(|n| field(true, true, n)),
        [0x89ab_cdef, 0x05a5_0033, 0x7654_3210]
    );
    assert_eq!(field(true, true, 6) & 0xffff, 0x2b);
    assert_eq!([3, 5].map(|n| field(true, false, n) & 0xffff), [0xcdef, 0x3210]);
    assert_eq!([4, 6].map(|n| field(true, false, n)), [0x089a_b5a5, 0x0765_4000]);
    assert_eq!(
        [3, 4, 5, 6].map(|n| field(false, true, n)),
        [0xcdef, 0x33, 0x3210, 0x2b]
    );
    assert_eq!(
        [3, 4, 5, 6].map(|n| field(false, false, n)),
        [0xcdef, 0xb5a5, 0x3210, 0x4000]
    );
}
