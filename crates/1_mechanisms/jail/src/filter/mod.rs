//! System call filters: which calls are refused, compiled to BPF as a search tree over call numbers.

mod tables;

use hostos::seccomp::Instruction;

use crate::recipe::Seccomp;

const ALLOW: u32 = 0x7fff_0000;
const KILL_PROCESS: u32 = 0x8000_0000;
const ERRNO: u32 = 0x0005_0000;
/// Not carried out, and no error.
const SUCCESS: u32 = ERRNO;
const EPERM: u32 = ERRNO | libc::EPERM.cast_unsigned();
const ENOSYS: u32 = ERRNO | libc::ENOSYS.cast_unsigned();

const LOAD: u16 = 0x20;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_NOT_LESS: u16 = 0x35;
const RETURN: u16 = 0x06;

/// Offsets in `struct seccomp_data`.
const AT_NUMBER: u32 = 0;
const AT_ARCH: u32 = 4;
const AT_SECOND_ARGUMENT: u32 = 24;

/// What happens to one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Returned as it is.
    Is(u32),
    /// An ioctl: refused when it types into a terminal of others (TIOCSTI, TIOCLINUX), else as given.
    Ioctl(u32),
    /// An ioctl: only harmless questions about the descriptor.
    AskingIoctl,
}

/// The verdict from this call number on, until the next step.
type Step = (u32, Verdict);

/// The filter of a recipe; absent when it wants none. Pure.
#[must_use]
pub fn build(seccomp: Seccomp) -> Option<Vec<Instruction>> {
    let (native, foreign) = match seccomp {
        Seccomp::Off => return None,
        Seccomp::Guest | Seccomp::Build => {
            let hasty = seccomp == Seccomp::Build;
            let sync: &[u32] = if hasty { tables::NATIVE_SYNC } else { &[] };
            let native = guest(
                tables::NATIVE_REFUSED,
                sync,
                tables::NATIVE_LAST,
                tables::NATIVE_IOCTL,
            );
            (native, foreign(hasty))
        }
        Seccomp::Worker => (listed(tables::WORKER_ALLOWED, Verdict::AskingIoctl), None),
        Seccomp::Machine => (listed(tables::MACHINE_ALLOWED, Verdict::Ioctl(ALLOW)), None),
    };
    let mut program = vec![load(AT_ARCH)];
    let native = search(&native);
    branch(&mut program, tables::NATIVE_ARCH, native);
    if let Some((arch, steps)) = foreign {
        branch(&mut program, arch, search(&steps));
    }
    program.push(give(KILL_PROCESS));
    Some(program)
}

/// Everything up to the newest call known is allowed but for the refused ones; later ones do not exist.
/// Those of `done` succeed without being carried out.
fn guest(refused: &[u32], done: &[u32], last: u32, ioctl: u32) -> Vec<Step> {
    let mut single: Vec<Step> = refused
        .iter()
        .map(|number| (*number, Verdict::Is(EPERM)))
        .collect();
    single.extend(done.iter().map(|number| (*number, Verdict::Is(SUCCESS))));
    single.push((ioctl, Verdict::Ioctl(ALLOW)));
    steps(single, Verdict::Is(ALLOW), Some(last))
}

/// The tables of the 32-bit personality of this processor, where it has one. (The x32 ABI lies beyond the last call.)
fn foreign(hasty: bool) -> Option<(u32, Vec<Step>)> {
    let sync: &[u32] = if hasty { tables::FOREIGN_SYNC } else { &[] };
    tables::FOREIGN.map(|(arch, refused, last, ioctl)| (arch, guest(refused, sync, last, ioctl)))
}

/// What is listed is allowed, and nothing else.
fn listed(allowed: &[u32], ioctl: Verdict) -> Vec<Step> {
    let mut single: Vec<Step> = allowed
        .iter()
        .map(|number| (*number, Verdict::Is(ALLOW)))
        .collect();
    // Told that clone3 does not exist, the C library uses clone.
    single.push((tables::NATIVE_CLONE3, Verdict::Is(ENOSYS)));
    single.push((tables::NATIVE_IOCTL, ioctl));
    steps(single, Verdict::Is(EPERM), Some(tables::NATIVE_LAST))
}

/// Turns verdicts on single calls into steps, with `other` between them and ENOSYS after the last known call.
fn steps(mut single: Vec<Step>, other: Verdict, last: Option<u32>) -> Vec<Step> {
    single.sort_unstable_by_key(|(number, _)| *number);
    single.dedup_by_key(|(number, _)| *number);
    let mut steps: Vec<Step> = vec![(0, other)];
    let mut push = |number: u32, verdict: Verdict| {
        if steps.last().is_some_and(|(start, _)| *start == number) {
            steps.pop();
        }
        if steps.last().is_none_or(|(_, before)| *before != verdict) {
            steps.push((number, verdict));
        }
    };
    for (number, verdict) in single {
        push(number, verdict);
        push(number + 1, other);
    }
    if let Some(last) = last {
        push(last + 1, Verdict::Is(ENOSYS));
    }
    steps
}

fn load(offset: u32) -> Instruction {
    Instruction {
        code: LOAD,
        jump_true: 0,
        jump_false: 0,
        operand: offset,
    }
}

fn give(verdict: u32) -> Instruction {
    Instruction {
        code: RETURN,
        jump_true: 0,
        jump_false: 0,
        operand: verdict,
    }
}

/// Appends: if the loaded word equals `arch`, run `body` (which returns), else go on.
fn branch(program: &mut Vec<Instruction>, arch: u32, body: Vec<Instruction>) {
    let length = u32::try_from(body.len() + 1).unwrap_or(u32::MAX);
    program.push(Instruction {
        code: JUMP_EQUAL,
        jump_true: 1,
        jump_false: 0,
        operand: arch,
    });
    program.push(Instruction {
        code: JUMP,
        jump_true: 0,
        jump_false: 0,
        operand: length,
    });
    program.push(load(AT_NUMBER));
    program.extend(body);
}

/// Code that finds the step of the loaded call number and returns its verdict.
fn search(steps: &[Step]) -> Vec<Instruction> {
    let half = steps.len() / 2;
    if half == 0 {
        return steps
            .first()
            .map_or_else(|| vec![give(KILL_PROCESS)], |(_, verdict)| leaf(*verdict));
    }
    let (low, high) = (search(&steps[..half]), search(&steps[half..]));
    let mut code = Vec::with_capacity(low.len() + high.len() + 2);
    let skip = u32::try_from(low.len()).unwrap_or(u32::MAX);
    let operand = steps[half].0;
    if let Ok(near) = u8::try_from(skip) {
        code.push(Instruction {
            code: JUMP_NOT_LESS,
            jump_true: near,
            jump_false: 0,
            operand,
        });
    } else {
        code.push(Instruction {
            code: JUMP_NOT_LESS,
            jump_true: 0,
            jump_false: 1,
            operand,
        });
        code.push(Instruction {
            code: JUMP,
            jump_true: 0,
            jump_false: 0,
            operand: skip,
        });
    }
    code.extend(low);
    code.extend(high);
    code
}

fn leaf(verdict: Verdict) -> Vec<Instruction> {
    let (requests, met, unmet): (&[u32], u32, u32) = match verdict {
        Verdict::Is(verdict) => return vec![give(verdict)],
        Verdict::Ioctl(other) => (&[0x5412, 0x541c], EPERM, other),
        // TCGETS, TIOCGWINSZ, FIONREAD, FIOCLEX, FIONBIO, FICLONE.
        Verdict::AskingIoctl => (
            &[0x5401, 0x5413, 0x541b, 0x5451, 0x5421, 0x4004_9409],
            ALLOW,
            EPERM,
        ),
    };
    let mut code = vec![load(AT_SECOND_ARGUMENT)];
    for (index, request) in requests.iter().enumerate() {
        let to_met = u8::try_from(requests.len() - index).unwrap_or(0);
        code.push(Instruction {
            code: JUMP_EQUAL,
            jump_true: to_met,
            jump_false: 0,
            operand: *request,
        });
    }
    code.push(give(unmet));
    code.push(give(met));
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a filter as the kernel does.
    fn verdict(program: &[Instruction], arch: u32, number: u32, second_argument: u32) -> u32 {
        let (mut at, mut word) = (0, 0);
        loop {
            let step = program[at];
            at += 1;
            match step.code {
                LOAD => {
                    word = match step.operand {
                        AT_NUMBER => number,
                        AT_ARCH => arch,
                        AT_SECOND_ARGUMENT => second_argument,
                        other => panic!("loads {other}"),
                    }
                }
                JUMP => at += step.operand as usize,
                JUMP_EQUAL if word == step.operand => at += usize::from(step.jump_true),
                JUMP_NOT_LESS if word >= step.operand => at += usize::from(step.jump_true),
                JUMP_EQUAL | JUMP_NOT_LESS => at += usize::from(step.jump_false),
                RETURN => return step.operand,
                other => panic!("unknown instruction {other}"),
            }
        }
    }

    #[test]
    fn the_guest_filter_refuses_what_its_table_says_and_nothing_else() {
        let program = build(Seccomp::Guest).expect("a filter");
        for number in 0..=tables::NATIVE_LAST {
            let expected = if tables::NATIVE_REFUSED.contains(&number) {
                EPERM
            } else {
                ALLOW
            };
            assert_eq!(
                verdict(&program, tables::NATIVE_ARCH, number, 0),
                expected,
                "call {number}"
            );
        }
        if let Some((arch, refused, last, _)) = tables::FOREIGN {
            for number in 0..=last {
                let expected = if refused.contains(&number) { EPERM } else { ALLOW };
                assert_eq!(
                    verdict(&program, arch, number, 0),
                    expected,
                    "call {number} of {arch:x}"
                );
            }
        }
    }

    #[test]
    fn a_guest_cannot_type_into_the_terminal_of_others() {
        let program = build(Seccomp::Guest).expect("a filter");
        let ioctl = |request| verdict(&program, tables::NATIVE_ARCH, tables::NATIVE_IOCTL, request);
        assert_eq!(
            (ioctl(0x5412), ioctl(0x541c), ioctl(0x5401)),
            (EPERM, EPERM, ALLOW)
        );
    }

    #[test]
    fn calls_of_unknown_architectures_kill_and_unknown_calls_do_not_exist() {
        let program = build(Seccomp::Guest).expect("a filter");
        assert_eq!(verdict(&program, 0xdead_beef, 0, 0), KILL_PROCESS);
        assert_eq!(verdict(&program, tables::NATIVE_ARCH, 0x4000_0000, 0), ENOSYS);
        assert_eq!(verdict(&program, tables::NATIVE_ARCH, u32::MAX, 0), ENOSYS);
        let worker = build(Seccomp::Worker).expect("a filter");
        if let Some((arch, ..)) = tables::FOREIGN {
            assert_eq!(verdict(&worker, arch, 4, 0), KILL_PROCESS);
        }
    }

    #[test]
    fn the_worker_filter_allows_its_table_only() {
        let program = build(Seccomp::Worker).expect("a filter");
        for number in 0..=tables::NATIVE_LAST {
            if [tables::NATIVE_CLONE3, tables::NATIVE_IOCTL].contains(&number) {
                continue;
            }
            let expected = if tables::WORKER_ALLOWED.contains(&number) {
                ALLOW
            } else {
                EPERM
            };
            assert_eq!(
                verdict(&program, tables::NATIVE_ARCH, number, 0),
                expected,
                "call {number}"
            );
        }
    }

    #[test]
    fn a_build_does_not_wait_for_the_disk() {
        let program = build(Seccomp::Build).expect("a filter");
        let fsync = u32::try_from(libc::SYS_fsync).expect("a number");
        assert_eq!(verdict(&program, tables::NATIVE_ARCH, fsync, 0), SUCCESS);
        let guest = build(Seccomp::Guest).expect("a filter");
        assert_eq!(verdict(&guest, tables::NATIVE_ARCH, fsync, 0), ALLOW);
    }

    #[test]
    fn filters_fit_into_the_kernels_limit() {
        for seccomp in [Seccomp::Guest, Seccomp::Build, Seccomp::Worker, Seccomp::Machine] {
            assert!(build(seccomp).expect("a filter").len() < 4096);
        }
    }
}
