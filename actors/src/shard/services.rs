//! The service actors of a shard: one for each district, started with the leadership, started again after a failure.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use kvarter_cluster::Timestamp;
use ractor::{ActorId, ActorRef, ActorRuntime};

use crate::backoff::Backoff;
use crate::lighting::Lighting;
use crate::service::{ServiceActor, ServiceBirth, ServiceMessage};

const RESTART_BACKOFF: Backoff = Backoff { first: Duration::from_millis(500), max: Duration::from_secs(30) };

/// An actor that ran for so long has recovered: the next failure counts as its first.
const RECOVERED_AFTER_US: i64 = 60 * 1_000_000;

struct Slot {
    /// `None`: failed, waits until `from_us`.
    actor: Option<ActorRef<ServiceMessage>>,
    from_us: i64,
    failures: u32,
}

pub(crate) struct Services {
    birth: ServiceBirth,
    by_district: BTreeMap<String, Slot>,
    by_actor: HashMap<ActorId, String>,
}

impl Services {
    /// `birth` serves as the pattern for all districts.
    pub(crate) fn new(birth: ServiceBirth) -> Self {
        Self { birth, by_district: BTreeMap::new(), by_actor: HashMap::new() }
    }

    /// Starts what is not running and should be.
    pub(crate) fn tick(&mut self) {
        let now = self.birth.ports.clock.now();
        let view = self.birth.handle.view();
        for (district, _) in view.state.districts() {
            let failures = match self.by_district.get(district) {
                Some(slot) if slot.actor.is_some() || slot.from_us > now.0 => continue,
                Some(slot) => slot.failures,
                None => 0,
            };
            let birth = ServiceBirth { district: district.to_owned(), ..self.birth.clone() };
            let supervisor = self.birth.shard.get_cell();
            // The task is owned by its link to the shard's actor, which hears of its end.
            let actor =
                ActorRuntime::spawn_linked_instant(None, ServiceActor::<Lighting>::default(), birth, supervisor);
            let actor = actor.map(|(actor, _task)| actor).ok();
            if let Some(actor) = &actor {
                self.by_actor.insert(actor.get_id(), district.to_owned());
            }
            self.by_district.insert(district.to_owned(), Slot { actor, from_us: now.0, failures });
        }
    }

    /// `false`: not a service's actor.
    pub(crate) fn ended(&mut self, actor: ActorId, reason: &str) -> bool {
        let Some(district) = self.by_actor.remove(&actor) else { return false };
        let (now, random) = (self.birth.ports.clock.now(), self.birth.ports.random.next_u64());
        if let Some(slot) = self.by_district.get_mut(&district) {
            slot.fail(now, random);
            tracing::warn!(shard = %self.birth.handle.id(), district, reason, failures = slot.failures, "a service's actor ended");
        }
        true
    }

    /// Ends all actors. What they had not stored, the next leader's actors do again.
    pub(crate) fn kill(&mut self) {
        for slot in self.by_district.values().filter_map(|slot| slot.actor.as_ref()) {
            slot.kill();
        }
        self.by_district.clear();
        self.by_actor.clear();
    }
}

impl Slot {
    fn fail(&mut self, now: Timestamp, random: u64) {
        let has_recovered = now.0.saturating_sub(self.from_us) >= RECOVERED_AFTER_US;
        self.failures = if has_recovered { 1 } else { self.failures.saturating_add(1) };
        self.actor = None;
        self.from_us = now.0.saturating_add(RESTART_BACKOFF.delay_us(self.failures, random));
    }
}
