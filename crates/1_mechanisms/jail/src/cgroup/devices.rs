//! The devices that a guest without a user namespace of its own may use: as rules of cgroup v1's controller and as a
//! program for cgroup v2 (Documentation/admin-guide/cgroup-v1/devices.rst, bpf_cgroup_dev_ctx in linux/bpf.h).

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

/// A kind of device file, with the number that the kernel gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Block = 1,
    Char = 2,
}

/// What may be done: BPF_DEVCG_ACC_MKNOD, _READ and _WRITE.
const MKNOD: u8 = 1;
const ALL: u8 = 7;

/// One permission.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    kind: Kind,
    major: Option<u32>,
    minor: Option<u32>,
    access: u8,
}

const fn node(major: u32, minor: Option<u32>) -> Rule {
    Rule {
        kind: Kind::Char,
        major: Some(major),
        minor,
        access: ALL,
    }
}

const fn making(kind: Kind) -> Rule {
    Rule {
        kind,
        major: None,
        minor: None,
        access: MKNOD,
    }
}

/// Nodes of any device may be made (packages do), but only these may be opened: null, zero, full, random, urandom,
/// tty, console, ptmx, the pseudo-terminals, tun and fuse.
pub(super) const RULES: [Rule; 13] = [
    making(Kind::Char),
    making(Kind::Block),
    node(1, Some(3)),
    node(1, Some(5)),
    node(1, Some(7)),
    node(1, Some(8)),
    node(1, Some(9)),
    node(5, Some(0)),
    node(5, Some(1)),
    node(5, Some(2)),
    node(136, None),
    node(10, Some(200)),
    node(10, Some(229)),
];

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |number: Option<u32>| number.map_or_else(|| "*".to_owned(), |number| number.to_string());
        let kind = if self.kind == Kind::Char { 'c' } else { 'b' };
        let access = if self.access == ALL { "rwm" } else { "m" };
        write!(f, "{kind} {}:{} {access}", number(self.major), number(self.minor))
    }
}

/// Binds the rules to a cgroup of version 2.
pub(super) fn restrict(dir: &Path) -> io::Result<()> {
    let program = hostos::bpf::load_device_program(&program(&RULES))?;
    hostos::bpf::attach_device_program(File::open(dir)?.as_fd(), program.as_fd())
}

/// The program that answers 1 to what one of the rules allows, else 0. The context tells the kind in the low half of
/// its first word and the wanted access in the high half, then the device's two numbers.
fn program(rules: &[Rule]) -> Vec<u64> {
    const LOAD_WORD: u8 = 0x61;
    const AND: u8 = 0x54;
    const SHIFT_RIGHT: u8 = 0x74;
    const COPY: u8 = 0xbc;
    const SET: u8 = 0xb7;
    const JUMP_UNLESS_EQUAL: u8 = 0x55;
    const EXIT: u8 = 0x95;
    let (result, context, kind, access, major, minor, rest) = (0, 1, 2, 3, 4, 5, 6);
    let mut all = vec![
        instruction(LOAD_WORD, kind, context, 0, 0),
        instruction(COPY, access, kind, 0, 0),
        instruction(AND, kind, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT, access, 0, 0, 16),
        instruction(LOAD_WORD, major, context, 4, 0),
        instruction(LOAD_WORD, minor, context, 8, 0),
    ];
    for rule in rules {
        let mut tests: Vec<(u8, u32)> = vec![(kind, rule.kind as u32)];
        tests.extend(rule.major.map(|number| (major, number)));
        tests.extend(rule.minor.map(|number| (minor, number)));
        let mut body = Vec::new();
        if rule.access != ALL {
            body.push(instruction(COPY, rest, access, 0, 0));
            body.push(instruction(AND, rest, 0, 0, u32::from(ALL & !rule.access)));
            tests.push((rest, 0));
        }
        // Each test skips the tests after it and the two instructions that say yes.
        let count = i16::try_from(tests.len()).unwrap_or(0);
        for (index, (register, wanted)) in (1..).zip(tests) {
            body.push(instruction(
                JUMP_UNLESS_EQUAL,
                register,
                0,
                count - index + 2,
                wanted,
            ));
        }
        body.push(instruction(SET, result, 0, 0, 1));
        body.push(instruction(EXIT, 0, 0, 0, 0));
        all.extend(body);
    }
    all.push(instruction(SET, result, 0, 0, 0));
    all.push(instruction(EXIT, 0, 0, 0, 0));
    all
}

/// `struct bpf_insn`: operation, two registers, offset, operand.
fn instruction(operation: u8, to: u8, from: u8, offset: i16, operand: u32) -> u64 {
    let [low, high] = offset.to_ne_bytes();
    let registers = if cfg!(target_endian = "little") {
        from << 4 | to
    } else {
        to << 4 | from
    };
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&[operation, registers, low, high]);
    bytes[4..].copy_from_slice(&operand.to_ne_bytes());
    u64::from_ne_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the program as the kernel would, for what it uses of the instruction set.
    fn allows(kind: u32, access: u32, major: u32, minor: u32) -> bool {
        let program = program(&RULES);
        let context = [access << 16 | kind, major, minor];
        let mut registers = [0u64; 11];
        let mut at = 0usize;
        loop {
            let [operation, both, low, high, a, b, c, d] = program[at].to_ne_bytes();
            let (to, from) = (usize::from(both & 15), usize::from(both >> 4));
            let offset = i16::from_ne_bytes([low, high]);
            let operand = u64::from(u32::from_ne_bytes([a, b, c, d]));
            at += 1;
            match operation {
                0x61 => registers[to] = context[usize::try_from(offset).expect("positive") / 4].into(),
                0x54 => registers[to] &= operand,
                0x74 => registers[to] >>= operand,
                0xbc => registers[to] = registers[from],
                0xb7 => registers[to] = operand,
                0x55 if registers[to] != operand => at += usize::try_from(offset).expect("forward"),
                0x55 => {}
                _ => return registers[0] == 1,
            }
        }
    }

    #[test]
    fn nodes_may_be_made_and_only_harmless_devices_opened() {
        let (block, character) = (1, 2);
        let (mknod, read, write) = (1, 2, 4);
        assert!(allows(character, read | write, 1, 3), "null");
        assert!(allows(character, read | write, 136, 7), "a pseudo-terminal");
        assert!(allows(character, read | write | mknod, 5, 2), "ptmx");
        assert!(allows(block, mknod, 8, 0), "a node of a disk");
        assert!(!allows(block, read, 8, 0), "a disk");
        assert!(!allows(block, read | mknod, 8, 0), "a disk");
        assert!(!allows(character, read, 10, 232), "kvm");
        assert!(!allows(character, write, 1, 1), "mem");
    }

    #[test]
    fn rules_are_spelt_as_cgroup_v1_reads_them() {
        let spelt: Vec<String> = RULES.iter().map(ToString::to_string).collect();
        assert!(spelt.contains(&"c *:* m".to_owned()) && spelt.contains(&"c 136:* rwm".to_owned()));
        assert!(spelt.contains(&"b *:* m".to_owned()) && spelt.contains(&"c 10:229 rwm".to_owned()));
    }
}
