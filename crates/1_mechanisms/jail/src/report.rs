//! How the processes on their way into a jail tell the caller of their progress: frames on a pipe that exec closes.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use fault::{Fault, OrFault, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::codes;

/// Largest frame; a pipe takes so much at once, undivided.
const FRAME_LIMIT: usize = 4000;
const TAG_PID: u8 = b'p';
const TAG_FAULT: u8 = b'f';

/// What was told until the pipe closed.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// Process id of the process that was to execute the program.
    pub pid: Option<i32>,
    /// What went wrong.
    pub fault: Option<Fault>,
    /// The deadline passed before the pipe closed.
    pub late: bool,
}

/// Tells the process id of the process that goes on.
pub(crate) fn tell_pid(pipe: impl AsFd, pid: i32) {
    send(pipe, TAG_PID, &pid.to_ne_bytes());
}

/// Tells what went wrong.
pub(crate) fn tell_fault(pipe: impl AsFd, fault: &Fault) {
    let text = serde_json::to_vec(fault).unwrap_or_default();
    if text.len() <= FRAME_LIMIT {
        return send(pipe, TAG_FAULT, &text);
    }
    let short = Fault::new(codes::ENDED_EARLY).because_of(fault.code().to_owned());
    send(pipe, TAG_FAULT, &serde_json::to_vec(&short).unwrap_or_default());
}

fn send(pipe: impl AsFd, tag: u8, body: &[u8]) {
    let mut frame = vec![tag];
    frame.extend_from_slice(&u32::try_from(body.len()).unwrap_or(0).to_ne_bytes());
    frame.extend_from_slice(body);
    // Nobody listens any more: then nobody needs to know.
    let _ = rustix::io::write(pipe, &frame);
}

/// Reads until every writer has gone, or the deadline has passed.
pub(crate) fn listen(pipe: &OwnedFd, patience: Option<Duration>) -> Result<Told> {
    let until = patience.map(|patience| Instant::now() + patience);
    let mut bytes = Vec::new();
    let mut late = false;
    loop {
        if let Some(until) = until {
            let left = until.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).unwrap_or(Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            });
            match poll(&mut [PollFd::new(pipe, PollFlags::IN)], Some(&left)) {
                Ok(0) => {
                    late = true;
                    break;
                }
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(Fault::new(codes::ENDED_EARLY).because(error)),
            }
        }
        let mut buffer = [0u8; 4096];
        match rustix::io::read(pipe, &mut buffer) {
            Ok(0) => break,
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error).or_fault(|| Fault::new(codes::ENDED_EARLY)),
        }
    }
    Ok(Told {
        late,
        ..decode(&bytes)
    })
}

fn decode(mut bytes: &[u8]) -> Told {
    let mut told = Told::default();
    while let Some((head, rest)) = bytes.split_first_chunk::<5>() {
        let length = u32::from_ne_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let Some((body, after)) = rest.split_at_checked(length) else {
            break;
        };
        match head[0] {
            TAG_PID => told.pid = body.try_into().ok().map(i32::from_ne_bytes),
            TAG_FAULT if told.fault.is_none() => {
                let broken = || Fault::new(codes::ENDED_EARLY);
                told.fault = Some(serde_json::from_slice(body).unwrap_or_else(|_| broken()));
            }
            _ => {}
        }
        bytes = after;
    }
    told
}
