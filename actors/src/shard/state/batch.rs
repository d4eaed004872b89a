//! A batch: work that is decided together. Work whose deciding panics leaves nothing behind in it. Pure.

use kvarter_cluster::LogIndex;

use super::{Action, Answer, Ground, Loss, Work};
use crate::decide::{Care, defective_devices, guarded};
use crate::message::{self, FailureReason, shard_reply::Reply, shard_request::Request};
use crate::shard::defect::Defect;
use crate::{Decider, Decision, DeviceNumber, Effect, Epoch, StepDecision, StepError};

/// Facts that one sweep may come to: keeps a batch of expiries short.
const SWEEP_FACTS_MAX: usize = 1_000;

/// What work came to.
pub(super) enum Verdict {
    Request(Option<Decision>),
    Step(Result<StepDecision, StepError>),
    Delivered,
}

/// Work with what it came to, and how much care that took.
pub(super) struct Decided {
    work: Work,
    care: Care,
    verdict: Verdict,
}

/// What is decided together, and becomes one entry.
pub(super) struct Batch<T> {
    pub(super) decided: Vec<(T, Decided)>,
    sweeps: bool,
    swept: Vec<Effect>,
    pub(super) begins: Option<Epoch>,
}

impl Work {
    /// Readings must have one outcome each, so they are decided with more care rather than refused.
    fn is_readings(&self) -> bool {
        matches!(self, Self::Request(request) if matches!(request.request, Some(Request::SubmitReadings(_))))
    }

    fn decide(&self, decider: &mut Decider<'_>, care: Care) -> Verdict {
        match self {
            Self::Request(request) => Verdict::Request(decider.decide_with(care, request)),
            Self::Step(step) => Verdict::Step(decider.step_service(step)),
            Self::Delivered(commands) => {
                decider.mark_delivered(commands.iter().map(|(device, id)| (*device, id.as_str())));
                Verdict::Delivered
            }
        }
    }

    /// The answer to work whose deciding panicked. It changed nothing, whoever leads, so it need not wait for the batch.
    fn failed(&self, defect: &Defect) -> Answer {
        match self {
            Self::Request(_) => Answer::Reply(Reply::Failure(message::Failure::new(
                FailureReason::Defect,
                format!("{defect}: the code that decides it panicked, and nothing was changed"),
            ))),
            Self::Step(step) => Answer::Stepped(Err(StepError::Defect { service: step.service.clone() })),
            // The receipt says so later, when the device acknowledges it.
            Self::Delivered(_) => Answer::Noted,
        }
    }
}

/// The devices whose readings were rejected because judging them panicked.
fn defective(work: &Work, verdict: &Verdict) -> impl Iterator<Item = DeviceNumber> {
    let asked = match work {
        Work::Request(request) => request.request.as_ref(),
        Work::Step(_) | Work::Delivered(_) => None,
    };
    let parts = match (asked, verdict) {
        (Some(Request::SubmitReadings(submit)), Verdict::Request(Some(decision))) => match decision.reply() {
            Reply::ReadingsSubmitted(submitted) => Some((submit, submitted)),
            _ => None,
        },
        _ => None,
    };
    parts.into_iter().flat_map(|(submit, submitted)| defective_devices(submit, submitted))
}

impl<T> Default for Batch<T> {
    fn default() -> Self {
        Self { decided: Vec::new(), sweeps: false, swept: Vec::new(), begins: None }
    }
}

impl<T> Batch<T> {
    /// `false`: the sweep panicked, and is left out. `is_told`: so did the last one, and panic hooks have told of it.
    pub(super) fn sweep<'g>(
        &mut self,
        decider: &mut Decider<'g>,
        ground: &Ground<'g>,
        is_told: bool,
        actions: &mut Vec<Action<T>>,
    ) -> bool {
        self.sweeps = true;
        match guarded(is_told, || decider.sweep(SWEEP_FACTS_MAX)) {
            Ok(swept) => self.swept = swept,
            Err(panic) => {
                self.sweeps = false;
                *decider = self.decide_again(ground);
                actions.push(Action::Report(Defect::of_sweep(panic)));
            }
        }
        self.sweeps
    }

    /// Decides `work` behind what the batch has. When that panics, with more care where there is some to take, and in the end
    /// not at all: then it is answered at once, and the batch is as if it had never been there. Returns whether it panicked, which
    /// is reported once.
    pub(super) fn decide<'g>(
        &mut self,
        decider: &mut Decider<'g>,
        ground: &Ground<'g>,
        (reply_to, work): (T, Work),
        actions: &mut Vec<Action<T>>,
    ) -> bool {
        let (mut care, mut defect) = (Care::Fast, None);
        loop {
            match care.guarded(|| work.decide(decider, care)) {
                Ok(verdict) => {
                    let is_defect = defect.is_some();
                    if let Some(defect) = defect {
                        let devices = defective(&work, &verdict);
                        actions.push(Action::Report(Defect::with_devices(defect, devices)));
                    }
                    self.decided.push((reply_to, Decided { work, care, verdict }));
                    return is_defect;
                }
                Err(panic) => {
                    *decider = self.decide_again(ground);
                    let told = defect.take().unwrap_or_else(|| Defect::of_work(&work, panic));
                    if let Some(next) = care.next().filter(|_| work.is_readings()) {
                        (care, defect) = (next, Some(told));
                    } else {
                        actions.push(Action::Answer(reply_to, work.failed(&told)));
                        actions.push(Action::Report(told));
                        return true;
                    }
                }
            }
        }
    }

    /// A new decider, with what the batch has decided again: the old one's state is half changed. Deciding is pure, so what did
    /// not panic before comes to the same.
    fn decide_again<'g>(&mut self, ground: &Ground<'g>) -> Decider<'g> {
        let mut decider = ground.decider();
        if self.sweeps {
            self.swept = decider.sweep(SWEEP_FACTS_MAX);
        }
        for (_, decided) in &mut self.decided {
            decided.verdict = decided.work.decide(&mut decider, decided.care);
        }
        decider
    }

    pub(super) fn release(self, index: LogIndex, actions: &mut Vec<Action<T>>) {
        actions.extend(self.swept.into_iter().map(Action::Effect));
        let mut effects = Vec::new();
        for (reply_to, decided) in self.decided {
            let answer = match decided.verdict {
                Verdict::Request(Some(mut decision)) => {
                    effects.append(&mut decision.effects);
                    Answer::Reply(decision.reply_at(index))
                }
                Verdict::Request(None) => {
                    Answer::Reply(Reply::Failure(message::Failure::invalid("request", "the request asks for nothing")))
                }
                Verdict::Step(decision) => Answer::Stepped(decision.map(|mut decision| {
                    effects.append(&mut decision.effects);
                    (index, decision)
                })),
                Verdict::Delivered => Answer::Noted,
            };
            actions.push(Action::Answer(reply_to, answer));
        }
        actions.extend(effects.into_iter().map(Action::Effect));
    }

    pub(super) fn refuse(self, loss: Loss, actions: &mut Vec<Action<T>>) {
        for (reply_to, decided) in self.decided {
            let answer = match loss {
                Loss::Unknown => Answer::Unknown,
                Loss::NotLeader => Answer::NotLed(decided.work),
            };
            actions.push(Action::Answer(reply_to, answer));
        }
    }
}
