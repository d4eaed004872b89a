//! Which devices of a shard have an actor: one slot each, only for those with something live. Pure.
//!
//! ```text
//!   touch ─► Activating ─► Active ─ idle ─► Passivating ─► (no slot, or Activating when it was touched meanwhile)
//!               ▲  └── failed ──┴──► Backoff ─ over ─► Activating    too many failures ─► Quarantined
//! ```
//! Nothing is buffered for an actor that is not there: it is told its whole outlook when it is, so it suffices to know
//! that the device was touched. Quarantine lasts as long as this node leads the shard.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kvarter_cluster::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::DeviceNumber;
use crate::backoff::Backoff;

/// An actor without work stays for so long: much of a device's work comes in pairs.
const IDLE_MAX_US: i64 = 5_000_000;

const RESTART_BACKOFF: Backoff = Backoff { first: Duration::from_secs(1), max: Duration::from_secs(60) };

/// So many failures within [`FAILURE_WINDOW_US`] put a device into quarantine.
const FAILURES_MAX: u32 = 5;

const FAILURE_WINDOW_US: i64 = 600 * 1_000_000;

enum Slot<A> {
    Activating {
        actor: A,
        _permit: OwnedSemaphorePermit,
    },
    Active {
        actor: A,
        permit: OwnedSemaphorePermit,
        idle_since_us: Option<i64>,
    },
    Passivating {
        _permit: OwnedSemaphorePermit,
        is_touched: bool,
    },
    /// A wake ends it.
    Backoff,
    Quarantined,
}

#[derive(Clone, Copy)]
struct Failures {
    count: u32,
    first_us: i64,
}

/// What the shard's actor is to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SlotAction<A> {
    /// Spawn an actor and say so with [`Slots::activated`].
    Activate(DeviceNumber),
    /// Tell the actor its outlook.
    Observe(DeviceNumber, A),
    /// Let the actor finish what it has and stop.
    Drain(A),
    /// The device's actor failed too often; it gets no other.
    Quarantine(DeviceNumber),
}

/// The slot map of one shard. `A` refers to an actor.
pub(crate) struct Slots<A> {
    slots: BTreeMap<DeviceNumber, Slot<A>>,
    /// Room for actors, shared by all shards of the node.
    room: Arc<Semaphore>,
    /// Permits of devices whose actor is about to be spawned.
    granted: BTreeMap<DeviceNumber, OwnedSemaphorePermit>,
    /// Devices that wait for room; at most all of the shard.
    waiting: BTreeSet<DeviceNumber>,
    wakes: BTreeSet<(i64, DeviceNumber)>,
    wake_of: BTreeMap<DeviceNumber, i64>,
    failures: BTreeMap<DeviceNumber, Failures>,
}

impl<A: Clone> Slots<A> {
    pub(crate) fn new(room: Arc<Semaphore>) -> Self {
        Self {
            slots: BTreeMap::new(),
            room,
            granted: BTreeMap::new(),
            waiting: BTreeSet::new(),
            wakes: BTreeSet::new(),
            wake_of: BTreeMap::new(),
            failures: BTreeMap::new(),
        }
    }

    /// The device has, or may have, something for its actor to do.
    pub(crate) fn touch(&mut self, device: DeviceNumber) -> Vec<SlotAction<A>> {
        match self.slots.get_mut(&device) {
            Some(Slot::Activating { actor, .. }) => vec![SlotAction::Observe(device, actor.clone())],
            Some(Slot::Active { actor, idle_since_us, .. }) => {
                *idle_since_us = None;
                vec![SlotAction::Observe(device, actor.clone())]
            }
            Some(Slot::Passivating { is_touched, .. }) => {
                *is_touched = true;
                Vec::new()
            }
            Some(Slot::Backoff | Slot::Quarantined) => Vec::new(),
            None => self.activate(device),
        }
    }

    /// Something about the device ended: of interest only to an actor that is there.
    pub(crate) fn touch_if_present(&mut self, device: DeviceNumber) -> Vec<SlotAction<A>> {
        if self.slots.contains_key(&device) { self.touch(device) } else { Vec::new() }
    }

    fn activate(&mut self, device: DeviceNumber) -> Vec<SlotAction<A>> {
        if self.granted.contains_key(&device) {
            return Vec::new();
        }
        if let Ok(permit) = Arc::clone(&self.room).try_acquire_owned() {
            self.waiting.remove(&device);
            self.granted.insert(device, permit);
            return vec![SlotAction::Activate(device)];
        }
        self.waiting.insert(device);
        self.passivate_longest_idle().into_iter().collect()
    }

    /// The actor that [`SlotAction::Activate`] asked for is spawned; it is to be told its outlook.
    pub(crate) fn activated(&mut self, device: DeviceNumber, actor: A) {
        if let Some(permit) = self.granted.remove(&device) {
            self.slots.insert(device, Slot::Activating { actor, _permit: permit });
        }
    }

    /// The actor has started.
    pub(crate) fn started(&mut self, device: DeviceNumber) {
        if let Some(Slot::Activating { actor, _permit: permit }) = self.take_activating(device) {
            self.slots.insert(device, Slot::Active { actor, permit, idle_since_us: None });
        }
    }

    fn take_activating(&mut self, device: DeviceNumber) -> Option<Slot<A>> {
        matches!(self.slots.get(&device), Some(Slot::Activating { .. })).then(|| self.slots.remove(&device)).flatten()
    }

    /// The actor, if it may be spoken to.
    pub(crate) fn actor(&self, device: DeviceNumber) -> Option<&A> {
        match self.slots.get(&device)? {
            Slot::Activating { actor, .. } | Slot::Active { actor, .. } => Some(actor),
            Slot::Passivating { .. } | Slot::Backoff | Slot::Quarantined => None,
        }
    }

    /// The actor said when it wants to be woken, and whether it has work.
    pub(crate) fn reported(&mut self, device: DeviceNumber, wake_at: Option<Timestamp>, is_idle: bool, now: Timestamp) {
        match self.slots.get_mut(&device) {
            Some(Slot::Activating { .. }) => {}
            Some(Slot::Active { idle_since_us, .. }) => {
                *idle_since_us = is_idle.then(|| idle_since_us.unwrap_or(now.0));
            }
            // The last words of an actor that is on its way out.
            Some(Slot::Passivating { .. } | Slot::Backoff | Slot::Quarantined) | None => return,
        }
        self.set_wake(device, wake_at.map(|wake_at| wake_at.0));
    }

    fn set_wake(&mut self, device: DeviceNumber, wake_us: Option<i64>) {
        if let Some(before_us) = self.wake_of.remove(&device) {
            self.wakes.remove(&(before_us, device));
        }
        if let Some(wake_us) = wake_us {
            self.wake_of.insert(device, wake_us);
            self.wakes.insert((wake_us, device));
        }
    }

    /// The actor is gone as it was asked to.
    pub(crate) fn stopped(&mut self, device: DeviceNumber) -> Vec<SlotAction<A>> {
        self.set_wake(device, None);
        match self.slots.remove(&device) {
            Some(Slot::Passivating { is_touched: true, .. } | Slot::Activating { .. } | Slot::Active { .. }) => {
                self.activate(device)
            }
            Some(kept @ (Slot::Backoff | Slot::Quarantined)) => {
                self.slots.insert(device, kept);
                Vec::new()
            }
            Some(Slot::Passivating { .. }) | None => Vec::new(),
        }
    }

    /// The actor panicked or gave up.
    pub(crate) fn failed(&mut self, device: DeviceNumber, now: Timestamp, random: u64) -> Vec<SlotAction<A>> {
        self.set_wake(device, None);
        self.granted.remove(&device);
        let before = self.failures.get(&device).filter(|failures| now.0 - failures.first_us < FAILURE_WINDOW_US);
        let mut failures = before.copied().unwrap_or(Failures { count: 0, first_us: now.0 });
        failures.count += 1;
        self.failures.insert(device, failures);
        if failures.count >= FAILURES_MAX {
            self.slots.insert(device, Slot::Quarantined);
            return vec![SlotAction::Quarantine(device)];
        }
        let until_us = now.0.saturating_add(RESTART_BACKOFF.delay_us(failures.count, random));
        self.slots.insert(device, Slot::Backoff);
        self.wakes.insert((until_us, device));
        self.wake_of.insert(device, until_us);
        Vec::new()
    }

    /// What time does: wakes, passivation, the end of backoffs, room for those who wait.
    pub(crate) fn tick(&mut self, now: Timestamp) -> Vec<SlotAction<A>> {
        let mut actions = Vec::new();
        while let Some((wake_us, device)) = self.wakes.first().copied().filter(|(wake_us, _)| *wake_us <= now.0) {
            self.wakes.remove(&(wake_us, device));
            self.wake_of.remove(&device);
            if let Some(Slot::Backoff) = self.slots.get(&device) {
                self.slots.remove(&device);
            }
            actions.extend(self.touch(device));
        }
        actions.extend(self.passivate_idle(now));
        while let Some(device) = self.waiting.first().copied().filter(|_| self.room.available_permits() > 0) {
            self.waiting.remove(&device);
            actions.extend(self.activate(device));
        }
        actions
    }

    fn passivate_idle(&mut self, now: Timestamp) -> Vec<SlotAction<A>> {
        let is_over = |slot: &Slot<A>| match slot {
            Slot::Active { idle_since_us: Some(since_us), .. } => now.0 - since_us >= IDLE_MAX_US,
            _ => false,
        };
        let idle: Vec<_> = self.slots.iter().filter(|(_, slot)| is_over(slot)).map(|(device, _)| *device).collect();
        idle.into_iter().filter_map(|device| self.passivate(device)).collect()
    }

    fn passivate_longest_idle(&mut self) -> Option<SlotAction<A>> {
        let idle = self.slots.iter().filter_map(|(device, slot)| match slot {
            Slot::Active { idle_since_us: Some(since_us), .. } => Some((*since_us, *device)),
            _ => None,
        });
        let (_, device) = idle.min()?;
        self.passivate(device)
    }

    fn passivate(&mut self, device: DeviceNumber) -> Option<SlotAction<A>> {
        match self.slots.remove(&device)? {
            Slot::Active { actor, permit, .. } => {
                self.set_wake(device, None);
                self.slots.insert(device, Slot::Passivating { _permit: permit, is_touched: false });
                Some(SlotAction::Drain(actor))
            }
            other => {
                self.slots.insert(device, other);
                None
            }
        }
    }

    /// Actors that are there, and devices in quarantine.
    #[cfg(test)]
    fn count(&self) -> (usize, usize) {
        let quarantined = self.slots.values().filter(|slot| matches!(slot, Slot::Quarantined)).count();
        let resting = self.slots.values().filter(|slot| matches!(slot, Slot::Backoff)).count();
        (self.slots.len() - quarantined - resting, quarantined)
    }
}

#[cfg(test)]
mod tests;
