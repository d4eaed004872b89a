//! The write path of a shard: requests gather into batches, one batch at a time is decided, proposed and answered. Pure.
//!
//! ```text
//!  Submitted ─► queue ──close──► decide ─┬─ facts ────► Propose ─► Committed ─┬─► answers, effects
//!                 ▲                      └─ no facts ─► Confirm ─► Confirmed ─┘        │
//!                 └───────── the next batch gathers meanwhile, lingers a little ◄──────┘
//! ```
//! A leadership begins with an entry of its own, `LeadershipBegan`, and so does what follows a proposal whose outcome is
//! unknown: the unknown entry stands before it in the log or nowhere, so once it is applied, deciding is safe again.
//!
//! Work whose deciding panics does not take the shard down: [`batch`] goes on as if it had never been there.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use kvarter_cluster::{LogIndex, NodeId, Timestamp};
use prost::Message;

use crate::message::{self, shard_reply::Reply};
use crate::shard::defect::Defect;
use crate::{Catalog, Decider, DeviceNumber, Effect, Epoch, Limits, ServiceStep, ShardState, StepDecision, StepError};

mod batch;

use batch::Batch;

/// Wait before a leadership is begun again whose first entry's outcome is unknown.
const BEGIN_RETRY: Duration = Duration::from_millis(200);

/// Work of one batch whose deciding may panic before the batch takes no more: each time, all before is decided again.
const DEFECTS_MAX: usize = 8;

/// What may be asked of the writer.
#[derive(Debug)]
pub(crate) enum Work {
    Request(Box<message::ShardRequest>),
    Step(Box<ServiceStep>),
    /// Commands that reached the connection of their device.
    Delivered(Vec<(DeviceNumber, String)>),
}

/// Work and where its answer goes.
#[derive(Debug)]
pub(crate) struct Submission<T> {
    pub(crate) work: Work,
    /// About how long its facts will be.
    pub(crate) bytes: usize,
    pub(crate) reply_to: T,
}

/// The one answer that each submission gets.
#[derive(Debug)]
pub(crate) enum Answer {
    Reply(Reply),
    Stepped(Result<(LogIndex, StepDecision), StepError>),
    /// The deliveries are noted.
    Noted,
    /// Certainly not applied: this node does not lead the shard (any more), or can commit nothing.
    NotLed(Work),
    /// Perhaps applied.
    Unknown,
}

/// Why a proposal or a confirmation came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    NotLeader,
    Unknown,
}

#[derive(Debug)]
pub(crate) enum Event<T> {
    Begin,
    Submitted(Submission<T>),
    /// What was in the mailbox when the batch began to gather has been taken.
    GatherOver,
    LingerOver,
    Committed(Result<LogIndex, Loss>),
    Confirmed(Result<(), Loss>),
    Sweep,
    /// Another node leads now, or this one stops.
    Deposed,
}

#[derive(Debug)]
pub(crate) enum Action<T> {
    /// Send `GatherOver` to yourself, behind what is in the mailbox.
    Gather,
    /// Send `LingerOver` after this time.
    Linger(Duration),
    /// Propose; send `Committed`.
    Propose(Bytes),
    /// Confirm leadership; send `Confirmed`.
    Confirm,
    Answer(T, Answer),
    /// Deciding panicked: tell those who run the city.
    Report(Defect),
    /// The entry is applied: this becomes live or ends.
    Effect(Effect),
    /// A leadership begins: its first entry is applied. Deliveries go out in the name of this epoch, which is above that
    /// of every leadership before and below that of every one after.
    Begun(Epoch),
    /// All is answered and nothing more will be taken.
    End,
}

/// What decisions stand on: the applied state and the time.
pub(crate) struct Ground<'a> {
    pub(crate) state: &'a ShardState,
    pub(crate) catalog: &'a Catalog,
    pub(crate) limits: &'a Limits,
    /// Shard time; that of the state, when that is later.
    pub(crate) now: Timestamp,
}

#[derive(Clone, Debug)]
pub(crate) struct BatchBounds {
    /// How long a batch waits for company while others are in use.
    pub(crate) linger_max: Duration,
    pub(crate) payload_bytes_max: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    Gathering,
    Lingering,
    InFlight,
    Ended,
}

pub(crate) struct WritePath<T> {
    node: NodeId,
    bounds: BatchBounds,
    phase: Phase,
    queue: VecDeque<Submission<T>>,
    queue_bytes: usize,
    in_flight: Option<Batch<T>>,
    /// The next entry is `LeadershipBegan`, alone.
    must_begin: bool,
    is_sweep_due: bool,
    /// The last sweep panicked.
    has_sweep_failed: bool,
    is_deposed: bool,
}

impl<T> WritePath<T> {
    /// A write path that takes nothing into the log before `Begin`.
    pub(crate) fn new(node: NodeId, bounds: BatchBounds) -> Self {
        Self {
            node,
            bounds,
            phase: Phase::Idle,
            queue: VecDeque::new(),
            queue_bytes: 0,
            in_flight: None,
            must_begin: true,
            is_sweep_due: false,
            has_sweep_failed: false,
            is_deposed: false,
        }
    }

    pub(crate) fn step(&mut self, event: Event<T>, ground: &Ground<'_>) -> Vec<Action<T>> {
        let mut actions = Vec::new();
        match event {
            Event::Begin => self.close(ground, &mut actions),
            Event::Submitted(submission) => self.submit(submission, ground, &mut actions),
            Event::GatherOver if self.phase == Phase::Gathering => self.close(ground, &mut actions),
            Event::LingerOver if self.phase == Phase::Lingering => self.close(ground, &mut actions),
            Event::GatherOver | Event::LingerOver => {}
            Event::Committed(outcome) => self.finish(outcome, ground, &mut actions),
            Event::Confirmed(outcome) => {
                // Without facts there is nothing that might have been applied.
                let outcome = outcome.map(|()| LogIndex::default()).map_err(|_lost| Loss::NotLeader);
                self.finish(outcome, ground, &mut actions);
            }
            Event::Sweep => self.sweep(ground, &mut actions),
            Event::Deposed => {
                self.is_deposed = true;
                self.end(&mut actions);
            }
        }
        actions
    }

    fn submit(&mut self, submission: Submission<T>, ground: &Ground<'_>, actions: &mut Vec<Action<T>>) {
        if self.is_deposed {
            actions.push(Action::Answer(submission.reply_to, Answer::NotLed(submission.work)));
            return;
        }
        self.queue_bytes += submission.bytes;
        self.queue.push_back(submission);
        match self.phase {
            Phase::Idle if !self.must_begin => {
                self.phase = Phase::Gathering;
                actions.push(Action::Gather);
            }
            Phase::Lingering if self.is_batch_full() && !self.must_begin => self.close(ground, actions),
            _ => {}
        }
    }

    fn sweep(&mut self, ground: &Ground<'_>, actions: &mut Vec<Action<T>>) {
        let now = ground.time();
        let is_command_due = ground.state.commands_due_us().is_some_and(|due_us| due_us <= now.0);
        let mut streams = ground.state.streams_to_expire(now, ground.limits.stream_age_max);
        self.is_sweep_due = is_command_due || streams.next().is_some();
        if self.is_sweep_due && self.phase == Phase::Idle && !self.must_begin {
            self.close(ground, actions);
        }
    }

    /// Decides what waits, up to the bound of an entry, and lets it go.
    fn close(&mut self, ground: &Ground<'_>, actions: &mut Vec<Action<T>>) {
        if self.is_deposed {
            return;
        }
        let mut decider = ground.decider();
        let mut batch = Batch::default();
        if self.must_begin {
            batch.begins = Some(Epoch(ground.state.epoch().0 + 1));
            decider.begin_leadership(self.node);
        } else {
            if std::mem::take(&mut self.is_sweep_due) {
                self.has_sweep_failed = !batch.sweep(&mut decider, ground, self.has_sweep_failed, actions);
            }
            self.decide_queue(&mut decider, &mut batch, ground, actions);
        }
        if !decider.is_empty() {
            actions.push(Action::Propose(decider.finish().encode_to_vec().into()));
        } else if batch.decided.is_empty() {
            self.phase = Phase::Idle;
            return;
        } else {
            actions.push(Action::Confirm);
        }
        self.in_flight = Some(batch);
        self.phase = Phase::InFlight;
    }

    fn decide_queue<'g>(
        &mut self,
        decider: &mut Decider<'g>,
        batch: &mut Batch<T>,
        ground: &Ground<'g>,
        actions: &mut Vec<Action<T>>,
    ) {
        let (mut bytes, mut defects) = (0, 0);
        while let Some(next) = self.queue.front() {
            let estimate = bytes.max(decider.payload_bytes()) + next.bytes;
            let is_full = estimate > self.bounds.payload_bytes_max || defects == DEFECTS_MAX;
            if !batch.decided.is_empty() && is_full {
                break;
            }
            let Some(Submission { work, bytes: taken, reply_to }) = self.queue.pop_front() else { break };
            self.queue_bytes -= taken;
            bytes += taken;
            defects += usize::from(batch.decide(decider, ground, (reply_to, work), actions));
        }
    }

    fn finish(&mut self, outcome: Result<LogIndex, Loss>, ground: &Ground<'_>, actions: &mut Vec<Action<T>>) {
        let Some(batch) = self.in_flight.take() else { return };
        self.phase = Phase::Idle;
        let had_company = batch.decided.len() > 1 || !self.queue.is_empty();
        match outcome {
            Ok(index) => {
                if let Some(epoch) = batch.begins {
                    self.must_begin = false;
                    actions.push(Action::Begun(epoch));
                }
                batch.release(index, actions);
            }
            Err(loss) => {
                batch.refuse(loss, actions);
                match loss {
                    Loss::NotLeader => self.is_deposed = true,
                    Loss::Unknown => {
                        self.must_begin = true;
                        self.hand_back_requests(actions);
                        if !self.is_deposed {
                            self.phase = Phase::Lingering;
                            actions.push(Action::Linger(BEGIN_RETRY));
                        }
                    }
                }
            }
        }
        if self.is_deposed {
            self.end(actions);
        } else if self.phase == Phase::Idle {
            self.begin_next(had_company, ground, actions);
        }
    }

    /// A leader that does not hear from a quorum may lead on for long. Callers need not wait for it to be deposed, who else
    /// would have to take for unknown what was never decided.
    fn hand_back_requests(&mut self, actions: &mut Vec<Action<T>>) {
        let (requests, own): (Vec<_>, Vec<_>) =
            self.queue.drain(..).partition(|submission| matches!(submission.work, Work::Request(_)));
        self.queue = own.into();
        self.queue_bytes = self.queue.iter().map(|submission| submission.bytes).sum();
        let answers =
            requests.into_iter().map(|request| Action::Answer(request.reply_to, Answer::NotLed(request.work)));
        actions.extend(answers);
    }

    /// After a commit: those who were answered may be about to ask again.
    fn begin_next(&mut self, had_company: bool, ground: &Ground<'_>, actions: &mut Vec<Action<T>>) {
        if self.is_batch_full() || (!self.queue.is_empty() && (!had_company || self.bounds.linger_max.is_zero())) {
            self.close(ground, actions);
        } else if had_company && !self.bounds.linger_max.is_zero() {
            self.phase = Phase::Lingering;
            actions.push(Action::Linger(self.bounds.linger_max));
        }
    }

    fn is_batch_full(&self) -> bool {
        self.queue_bytes >= self.bounds.payload_bytes_max
    }

    /// Hands back what was not decided; what is in flight is still answered.
    fn end(&mut self, actions: &mut Vec<Action<T>>) {
        self.queue_bytes = 0;
        for submission in self.queue.drain(..) {
            actions.push(Action::Answer(submission.reply_to, Answer::NotLed(submission.work)));
        }
        if self.in_flight.is_none() && self.phase != Phase::Ended {
            self.phase = Phase::Ended;
            actions.push(Action::End);
        }
    }
}

impl<'a> Ground<'a> {
    /// What is due, and what is decided, go by the same time.
    fn time(&self) -> Timestamp {
        self.now.max(self.state.time())
    }

    fn decider(&self) -> Decider<'a> {
        Decider::new(self.state, self.catalog, self.limits, self.time())
    }
}

#[cfg(test)]
mod tests;
