//! The seam where ways to execute plug in: from a state to a later one. Block mode is the fast one, step mode the obviously right one.

use std::sync::atomic::Ordering;

use crate::block::Cache;
use crate::cpu::Cpu;
use crate::op::{BLOCK, Flow, Stop};

/// A way to execute instructions.
pub(crate) trait Execute: Send {
    /// Executes up to so many instructions and stops at a boundary between two: when the budget is used up, when something has been
    /// asked for, after an instruction that changes more than registers and memory, or (with an error) at one that did not complete.
    fn run(&mut self, cpu: &mut Cpu, cache: &mut Cache, budget: u64) -> Result<(), Stop>;
}

/// Executes decoded blocks, linked to each other.
pub(crate) struct Blocks;

impl Execute for Blocks {
    fn run(&mut self, cpu: &mut Cpu, cache: &mut Cache, budget: u64) -> Result<(), Stop> {
        let mut left = budget;
        let (mut number, _) = cache.find(cpu)?;
        loop {
            let flow = block(cpu, cache, number, &mut left)?;
            if cpu.cut || left == 0 || cpu.mailbox.requests.load(Ordering::Relaxed) != 0 {
                return Ok(());
            }
            let slot = match flow {
                Flow::Fall => 0,
                Flow::Taken => 1,
                Flow::Jump => {
                    number = cache.find(cpu)?.0;
                    continue;
                }
                Flow::Next | Flow::Cut | Flow::CutJump => return Ok(()),
            };
            number = match cache.follow(number, slot, cpu) {
                Some(next) => next,
                None => {
                    let (next, renumbered) = cache.find(cpu)?;
                    if !renumbered {
                        cache.set_link(number, slot, next, cpu);
                    }
                    next
                }
            };
        }
    }
}

/// Executes one block or, when the budget is small, its beginning; `rip` is set afterwards.
#[inline(always)]
fn block(cpu: &mut Cpu, cache: &Cache, number: u32, left: &mut u64) -> Result<Flow, Stop> {
    let block = cache.block(number);
    let count = block.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
    let ops = cache.ops(block, count);
    cpu.registers[BLOCK as usize] = cpu.rip;
    let mut next = 0;
    for (n, op) in ops.iter().enumerate() {
        cpu.at = n as u64;
        match (op.run)(cpu, op) {
            Ok(Flow::Next) => {
                next = op.next;
                if cpu.cut {
                    finish(cpu, n + 1, left);
                    cpu.rip = cpu.registers[BLOCK as usize].wrapping_add(u64::from(next)) & cpu.ip_mask();
                    return Ok(Flow::Cut);
                }
            }
            Ok(flow) => {
                finish(cpu, n + 1, left);
                if flow == Flow::Cut {
                    cpu.rip = cpu.after(op);
                }
                return Ok(flow);
            }
            Err(Stop) => {
                cpu.rip = cpu.before(op);
                finish(cpu, n, left);
                return Err(Stop);
            }
        }
    }
    finish(cpu, count, left);
    cpu.rip = cpu.registers[BLOCK as usize].wrapping_add(u64::from(next)) & cpu.ip_mask();
    Ok(Flow::Fall)
}

#[inline(always)]
fn finish(cpu: &mut Cpu, done: usize, left: &mut u64) {
    cpu.retired += done as u64;
    cpu.at = 0;
    *left -= done as u64;
}

/// Decodes each instruction anew and forgets every translation: nothing is kept from one instruction to the next.
pub(crate) struct Steps;

impl Execute for Steps {
    fn run(&mut self, cpu: &mut Cpu, cache: &mut Cache, budget: u64) -> Result<(), Stop> {
        let mut left = budget;
        while left > 0 {
            cache.clear();
            cpu.tlb.flush();
            let (number, _) = cache.find(cpu)?;
            let mut one = 1;
            let flow = block(cpu, cache, number, &mut one)?;
            left -= 1;
            if matches!(flow, Flow::Cut | Flow::CutJump)
                || cpu.cut
                || cpu.mailbox.requests.load(Ordering::Relaxed) != 0
            {
                return Ok(());
            }
        }
        Ok(())
    }
}
