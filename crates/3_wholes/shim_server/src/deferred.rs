//! Answers that wait for something to happen.

use engine::protocol::Reply;

use super::loops::Server;

/// What an answer waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaited {
    /// The end that this call asked for.
    Stop,
    /// The next start.
    Restart,
    /// The end, whoever causes it.
    End,
    /// That no passing jail uses the root any more; then the guest starts.
    Start,
}

/// A call without an answer yet.
#[derive(Clone, Copy, Debug)]
pub struct Deferred {
    /// Who called.
    pub client: u32,
    /// The number of the call.
    pub call: u64,
    /// What it waits for.
    pub awaited: Awaited,
}

impl Server {
    /// Whether somebody waits for this.
    pub fn awaits(&self, awaited: &Awaited) -> bool {
        self.deferred.iter().any(|deferred| deferred.awaited == *awaited)
    }

    /// Puts an answer off.
    pub fn defer(&mut self, client: u32, call: u64, awaited: Awaited) {
        self.deferred.push(Deferred {
            client,
            call,
            awaited,
        });
    }

    /// Answers everybody who waited for this.
    pub fn answer_all(&mut self, awaited: &Awaited, mut reply: impl FnMut() -> Reply) {
        let (due, rest) = std::mem::take(&mut self.deferred)
            .into_iter()
            .partition(|deferred: &Deferred| deferred.awaited == *awaited);
        self.deferred = rest;
        let due: Vec<Deferred> = due;
        for deferred in due {
            self.answer(deferred.client, deferred.call, reply(), Vec::new());
        }
    }
}
