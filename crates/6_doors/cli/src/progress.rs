//! Following long work: phases with elapsed time; Ctrl-C leaves it to itself, a second Ctrl-C cancels it.

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use client::Client;
use fault::{Fault, Result};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use model::{CANCELLED, Operation, OperationState, Progress};

use crate::codes;
use crate::context::Context;

/// Within this time a second Ctrl-C cancels the work that the first one left.
const SECOND_CHANCE: Duration = Duration::from_secs(2);

enum News {
    Operation(Box<Result<Operation>>),
    Interrupt,
}

/// Waits until the operation has ended, and shows how far it is.
///
/// # Errors
/// The operation's own fault; [`CANCELLED`]; [`codes::DETACHED`] when the user left.
pub fn follow(context: &Context, operation: Operation) -> Result<Operation> {
    if let Some(ended) = ended(&operation) {
        return ended.inspect(|operation| keep_notices(context, operation));
    }
    let (sender, news) = mpsc::channel();
    watch(
        context.client()?.clone(),
        context.socket.clone(),
        &operation,
        sender.clone(),
    );
    let _interrupts = Interrupts::watch(sender);
    let mut shown = Shown::new(context);
    let outcome = attend(context, operation, &news, &mut shown);
    shown.close();
    outcome.inspect(|operation| keep_notices(context, operation))
}

/// What the daemon has to say about work that is done (message ids) is told at the end, after the verb's own words.
fn keep_notices(context: &Context, operation: &Operation) {
    if let Some(all) = operation.result.get("notices") {
        all.split([' ', ','])
            .filter(|id| !id.is_empty())
            .for_each(|id| context.notice(id));
    }
}

fn attend(
    context: &Context,
    mut operation: Operation,
    news: &Receiver<News>,
    shown: &mut Shown<'_>,
) -> Result<Operation> {
    let mut left: Option<Instant> = None;
    loop {
        if let Some(progress) = &operation.progress {
            shown.show(progress);
        }
        match news.recv_timeout(Duration::from_millis(100)) {
            Ok(News::Operation(next)) => {
                operation = (*next)?;
                if let Some(outcome) = ended(&operation) {
                    return outcome;
                }
            }
            Ok(News::Interrupt) if left.is_some() => {
                context.client()?.cancel(&operation.id.0)?;
                shown.say(&context.say("cli-cancelling", &[]));
                left = None;
            }
            Ok(News::Interrupt) => {
                shown.say(&context.say("cli-interrupted-once", &[]));
                left = Some(Instant::now());
            }
            Err(RecvTimeoutError::Timeout) => shown.tick(),
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Fault::new(client::codes::LOST).arg("request", "wait"));
            }
        }
        if left.is_some_and(|since| since.elapsed() > SECOND_CHANCE) {
            return Err(Fault::new(codes::DETACHED).arg("operation", &operation.id));
        }
    }
}

fn ended(operation: &Operation) -> Option<Result<Operation>> {
    match operation.state {
        OperationState::Queued | OperationState::Running => None,
        OperationState::Done => Some(Ok(operation.clone())),
        OperationState::Failed => {
            let unknown = || Fault::new(client::codes::BROKEN);
            Some(Err(operation.fault.clone().unwrap_or_else(unknown)))
        }
        OperationState::Cancelled => Some(Err(operation
            .fault
            .clone()
            .unwrap_or_else(|| Fault::new(CANCELLED)))),
    }
}

/// Asks for the operation again and again; survives a restart of the daemon.
fn watch(client: Client, socket: PathBuf, operation: &Operation, sender: Sender<News>) {
    let (id, mut revision) = (operation.id.0.clone(), operation.revision);
    std::thread::spawn(move || {
        let mut silent_since: Option<Instant> = None;
        loop {
            let news = client.wait_operation(&id, revision);
            match &news {
                Ok(operation) => {
                    revision = operation.revision;
                    silent_since = None;
                    // A daemon that answers at once although nothing is new must not be asked in a busy loop.
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(fault) if fault.is(client::codes::NO_DAEMON) || fault.is(client::codes::LOST) => {
                    let since = *silent_since.get_or_insert_with(Instant::now);
                    if since.elapsed() < Duration::from_secs(20) {
                        // The work goes on with the next daemon; without one this question says so.
                        let _ = crate::daemon::reach_again(&socket);
                        continue;
                    }
                }
                Err(_) => {}
            }
            let last = !matches!(&news, Ok(operation) if ended(operation).is_none());
            if sender.send(News::Operation(Box::new(news))).is_err() || last {
                return;
            }
        }
    });
}

/// Ctrl-C as news, as long as it lives.
struct Interrupts(Option<signal_hook::iterator::Handle>);

impl Interrupts {
    fn watch(sender: Sender<News>) -> Self {
        let Ok(mut signals) = signal_hook::iterator::Signals::new([signal_hook::consts::SIGINT]) else {
            return Interrupts(None);
        };
        crate::terminal::interrupts_end_us(false);
        let handle = signals.handle();
        std::thread::spawn(move || {
            for _ in signals.forever() {
                if sender.send(News::Interrupt).is_err() {
                    return;
                }
            }
        });
        Interrupts(Some(handle))
    }
}

impl Drop for Interrupts {
    fn drop(&mut self) {
        if let Some(handle) = self.0.take() {
            handle.close();
            crate::terminal::interrupts_end_us(true);
        }
    }
}

/// What is shown of the work on standard error: a line that moves on a terminal, plain lines elsewhere.
pub struct Shown<'a> {
    context: &'a Context,
    bar: Option<ProgressBar>,
    step: Option<(String, Instant, Progress)>,
}

impl<'a> Shown<'a> {
    /// Nothing is shown yet.
    #[must_use]
    pub fn new(context: &'a Context) -> Self {
        let live = !context.quiet && io::stderr().is_terminal();
        let bar = live.then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
            if let Ok(style) = ProgressStyle::with_template("  {spinner} {wide_msg}") {
                bar.set_style(style.tick_strings(&["-", "\\", "|", "/", " "]));
            }
            bar
        });
        Shown {
            context,
            bar,
            step: None,
        }
    }

    /// Shows where the work is.
    pub fn show(&mut self, progress: &Progress) {
        let new = self.step.as_ref().is_none_or(|(step, ..)| *step != progress.step);
        if new {
            self.finish_step();
            self.step = Some((progress.step.clone(), Instant::now(), progress.clone()));
        } else if let Some((_, _, last)) = &mut self.step {
            *last = progress.clone();
        }
        self.tick();
    }

    /// Moves the spinner and the clock.
    pub fn tick(&self) {
        if let (Some(bar), Some((_, since, progress))) = (&self.bar, &self.step) {
            bar.set_message(line(self.context, progress, since.elapsed()));
            bar.tick();
        }
    }

    /// A line above the moving one.
    pub fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| self.context.tell(text)),
            None => self.context.tell(text),
        }
    }

    /// Ends the step that is shown, and the moving line.
    pub fn close(&mut self) {
        self.finish_step();
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn finish_step(&mut self) {
        let Some((step, since, progress)) = self.step.take() else {
            return;
        };
        // A step that nobody could have read is not worth a line.
        let brief = since.elapsed() < Duration::from_millis(300) && progress.total == 0;
        if self.context.quiet || brief || step.is_empty() {
            return;
        }
        // The last news before the next step seldom tell the very end of this one.
        let summary = Progress {
            detail: String::new(),
            done: progress.done.max(progress.total),
            total: 0,
            ..progress
        };
        self.say(&format!("  {}", line(self.context, &summary, since.elapsed())));
    }
}

/// `Fetching packages  12M of 40M  30%  4.2 s  nginx`.
fn line(context: &Context, progress: &Progress, elapsed: Duration) -> String {
    let mut text = context.words.find(&progress.step, &[]).unwrap_or_else(|| {
        // A step of a newer daemon: its id is better than nothing.
        progress.step.trim_start_matches("step-").replace('-', " ")
    });
    let amount = |n: u64| {
        if progress.unit == "bytes" {
            crate::output::size(Some(n))
        } else {
            n.to_string()
        }
    };
    if progress.total > 0 {
        let of = context.say(
            "cli-progress-of",
            &[
                ("done", amount(progress.done).into()),
                ("total", amount(progress.total).into()),
            ],
        );
        let percent = progress.done.min(progress.total).saturating_mul(100) / progress.total;
        text.push_str(&format!("  {of}  {percent} %"));
    } else if progress.done > 0 {
        text.push_str(&format!("  {}", amount(progress.done)));
    }
    text.push_str(&format!("  {:.1} s", elapsed.as_secs_f64()));
    let left = remaining(progress, elapsed);
    if let Some(seconds) = left {
        text.push_str(&format!(
            "  {}",
            context.say("cli-progress-left", &[("seconds", seconds.into())])
        ));
    }
    if !progress.detail.is_empty() {
        text.push_str(&format!("  {}", crate::output::fit(&progress.detail, 60)));
    }
    text
}

/// Seconds that a step of bytes will still take at the pace so far.
fn remaining(progress: &Progress, elapsed: Duration) -> Option<u64> {
    let known = progress.unit == "bytes" && progress.done > 0 && progress.done < progress.total;
    if !known || elapsed < Duration::from_secs(2) {
        return None;
    }
    let millis = u64::try_from(elapsed.as_millis()).ok()?;
    let left = u128::from(progress.total - progress.done) * u128::from(millis) / u128::from(progress.done);
    u64::try_from(left / 1000).ok().filter(|seconds| *seconds > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_amounts_in_their_unit() {
        let context = Context::new(words::Words::english(), "/nowhere".into());
        let progress = Progress {
            step: "step-unheard-of".to_owned(),
            done: 10 << 20,
            total: 40 << 20,
            unit: "bytes".to_owned(),
            detail: "nginx\x1b".to_owned(),
        };
        let text = line(&context, &progress, Duration::from_secs(5));
        assert_eq!(text, "unheard of  10M of 40M  25 %  5.0 s  15 s left  nginx?");
    }
}
