//! When a service steps: commands at once, a changed state soon, a bare cursor rarely. Pure.

use std::time::Duration;

use bytes::Bytes;
use kvarter_cluster::{DamagedBytes, LogIndex, Timestamp};

use crate::message::{self, LogPosition, fact};
use crate::service::{Service, World};
use crate::{ServiceCommand, ServiceStep, ordinals};

/// A changed state without commands is committed this long after the last step.
const STATE_INTERVAL: Duration = Duration::from_secs(2);

/// A cursor that moved without any change is committed this long after the last step.
const CURSOR_INTERVAL: Duration = Duration::from_secs(10);

/// A service and how far it is stored.
pub(crate) struct Driver<S> {
    name: String,
    service: S,
    /// What the shard has: what the next step expects.
    stored: LogPosition,
    stored_state: Bytes,
    /// The last fact that the service has seen.
    seen: LogPosition,
    stored_at: Timestamp,
    commands: Vec<ServiceCommand>,
    /// The service's state differs from what is stored.
    is_changed: bool,
    /// Facts passed by that are more than the bookkeeping of services.
    is_moved: bool,
}

impl<S: Service> Driver<S> {
    /// Goes on where the shard's state at index `applied` says, or begins there.
    pub(crate) fn new(
        district: &str,
        applied: LogIndex,
        world: World<'_>,
        now: Timestamp,
    ) -> Result<Self, DamagedBytes> {
        let name = format!("{district}/{}", S::NAME);
        let record = world.state.service(&name);
        let (stored, mode) = record.map_or_else(Default::default, |record| (record.cursor, record.mode));
        let stored_state = record.map(|record| record.state.clone()).unwrap_or_default();
        let (service, seen) = if stored_state.is_empty() {
            (S::begin(district, mode, world), LogPosition { index: applied.0, ordinal: 0 })
        } else {
            (S::restore(district, &stored_state, world)?, stored)
        };
        let is_changed = seen != stored;
        Ok(Self {
            name,
            service,
            stored,
            stored_state,
            seen,
            stored_at: now,
            commands: Vec::new(),
            is_changed,
            is_moved: false,
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Where to read on.
    pub(crate) fn position(&self) -> LogIndex {
        LogIndex(self.seen.index)
    }

    pub(crate) fn take(&mut self, index: LogIndex, facts: &message::Facts, world: World<'_>) {
        let outcome = self.service.take(index, facts, world);
        let count: u32 = facts.facts.iter().map(ordinals).sum();
        self.seen = LogPosition { index: index.0, ordinal: count.saturating_sub(1) };
        self.commands.extend(outcome.commands);
        self.is_changed |= outcome.is_changed;
        self.is_moved |= !facts.facts.iter().all(is_bookkeeping);
    }

    /// Entries behind the position are kept nowhere near: goes on at `applied` with what the twins say there.
    pub(crate) fn reread(&mut self, applied: LogIndex, world: World<'_>) {
        let mode = world.state.service(&self.name).map(|record| record.mode).unwrap_or_default();
        self.service.reread(mode, world);
        self.seen = LogPosition { index: applied.0, ordinal: 0 };
        self.is_changed = true;
    }

    /// The step that is due at `now`. It carries all that was taken in since the last one. When it is not committed, the
    /// driver must be made anew from what the shard has.
    pub(crate) fn due_step(&mut self, now: Timestamp) -> Option<ServiceStep> {
        let age = Duration::from_micros(u64::try_from(now.0.saturating_sub(self.stored_at.0)).unwrap_or(0));
        let is_due = !self.commands.is_empty()
            || (self.is_changed && (age >= STATE_INTERVAL || self.stored == LogPosition::default()))
            || (self.is_moved && age >= CURSOR_INTERVAL);
        is_due.then(|| {
            // A state behind its cursor would have lost facts, so it goes along whenever it differs at all.
            let state = self.service.encode();
            let is_other = state != self.stored_state;
            if is_other {
                self.stored_state = state.clone();
            }
            ServiceStep {
                service: self.name.clone(),
                expected: self.stored,
                cursor: self.seen,
                state: is_other.then_some(state),
                commands: std::mem::take(&mut self.commands),
            }
        })
    }

    /// The step from [`Driver::due_step`] is committed.
    pub(crate) fn stepped(&mut self, now: Timestamp) {
        self.stored = self.seen;
        self.stored_at = now;
        self.is_changed = false;
        self.is_moved = false;
    }
}

/// Facts that come of services' own steps and of leaderships: they are no reason to store a cursor.
fn is_bookkeeping(fact: &message::Fact) -> bool {
    match &fact.fact {
        Some(fact::Fact::ServiceStepped(_) | fact::Fact::LeadershipBegan(_)) => true,
        Some(fact::Fact::CommandIssued(issued)) => !issued.service.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
