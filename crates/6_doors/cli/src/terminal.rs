//! The user's terminal: raw mode that is always undone, its size, signals as readable descriptors.

use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use model::api::TerminalSize;
use rustix::termios::{self, LocalModes, OptionalActions, Termios};
use signal_hook::consts::SIGINT;

/// Raw mode as long as it lives.
pub(crate) struct Raw {
    before: Termios,
    terminal: OwnedFd,
}

impl Raw {
    /// Puts standard input, a terminal, into raw mode.
    pub(crate) fn enter() -> io::Result<Self> {
        let terminal = io::stdin().as_fd().try_clone_to_owned()?;
        let before = termios::tcgetattr(&terminal)?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(&terminal, OptionalActions::Now, &raw)?;
        Ok(Raw { before, terminal })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = termios::tcsetattr(&self.terminal, OptionalActions::Drain, &self.before);
    }
}

/// A terminal that does not show what is typed, as long as it lives.
pub(crate) struct Silent {
    before: Termios,
    terminal: OwnedFd,
}

impl Silent {
    /// Switches echo off on standard input, a terminal.
    pub(crate) fn enter() -> io::Result<Self> {
        let terminal = io::stdin().as_fd().try_clone_to_owned()?;
        let before = termios::tcgetattr(&terminal)?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        silent.local_modes.insert(LocalModes::ECHONL);
        termios::tcsetattr(&terminal, OptionalActions::Drain, &silent)?;
        Ok(Silent { before, terminal })
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        let _ = termios::tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
    }
}

/// Size of the terminal that standard output or input is; 24 × 80 when none tells.
pub(crate) fn size() -> TerminalSize {
    let told = |fd: &dyn AsFdDyn| fd.size().filter(|size| size.rows > 0 && size.cols > 0);
    told(&io::stdout())
        .or_else(|| told(&io::stdin()))
        .unwrap_or(TerminalSize { rows: 24, cols: 80 })
}

trait AsFdDyn {
    fn size(&self) -> Option<TerminalSize>;
}

impl<T: AsFd> AsFdDyn for T {
    fn size(&self) -> Option<TerminalSize> {
        let size = termios::tcgetwinsize(self).ok()?;
        Some(TerminalSize {
            rows: size.ws_row,
            cols: size.ws_col,
        })
    }
}

/// Whether standard input and output are both terminals.
pub(crate) fn is_interactive() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// Whether Ctrl-C ends this program as usual. A handler once installed stays, and would make it do nothing.
pub(crate) fn interrupts_end_us(yes: bool) {
    static USUAL: OnceLock<Arc<AtomicBool>> = OnceLock::new();
    let usual = USUAL.get_or_init(|| {
        let usual = Arc::new(AtomicBool::new(yes));
        let _ = signal_hook::flag::register_conditional_default(SIGINT, Arc::clone(&usual));
        usual
    });
    usual.store(yes, Ordering::SeqCst);
}

/// Signals as readable descriptors: one byte for each that came.
pub(crate) struct Signals {
    /// Number and descriptor.
    pub(crate) pipes: Vec<(i32, UnixStream)>,
    registered: Vec<signal_hook::SigId>,
}

impl Signals {
    /// From now on these signals only make their descriptor readable.
    pub(crate) fn watch(numbers: &[i32]) -> io::Result<Self> {
        let mut signals = Signals {
            pipes: Vec::new(),
            registered: Vec::new(),
        };
        if numbers.contains(&SIGINT) {
            interrupts_end_us(false);
        }
        for number in numbers {
            let (ours, theirs) = UnixStream::pair()?;
            ours.set_nonblocking(true)?;
            signals
                .registered
                .push(signal_hook::low_level::pipe::register(*number, theirs)?);
            signals.pipes.push((*number, ours));
        }
        Ok(signals)
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for id in self.registered.drain(..) {
            signal_hook::low_level::unregister(id);
        }
        if self.pipes.iter().any(|(number, _)| *number == SIGINT) {
            interrupts_end_us(true);
        }
    }
}
