//! When a service takes a step, and what the step stores, on a shard's real core.

use kvarter_cluster::StateMachine;

use super::*;
use crate::message::shard_request::Request;
use crate::service::Outcome;
use crate::{Catalog, Decider, DeviceNumber, Limits, ServiceFigures, ServiceMode, ShardState, StepError};

/// Counts registered devices, and greets each third one with a command.
#[derive(Debug, PartialEq)]
struct Census {
    count: u8,
    begun_at: u8,
    /// Not stored.
    mode: ServiceMode,
}

impl Service for Census {
    const NAME: &'static str = "census";

    fn begin(_: &str, mode: ServiceMode, world: World<'_>) -> Self {
        let count = u8::try_from(world.state.counters().devices).unwrap();
        Self { count, begun_at: count, mode }
    }

    fn restore(_: &str, state: &[u8], _: World<'_>) -> Result<Self, DamagedBytes> {
        match state {
            [count, begun_at] => Ok(Self { count: *count, begun_at: *begun_at, mode: ServiceMode::default() }),
            _ => Err(DamagedBytes { reason: "two bytes".to_owned() }),
        }
    }

    fn reread(&mut self, mode: ServiceMode, world: World<'_>) {
        self.mode = mode;
        self.count = u8::try_from(world.state.counters().devices).unwrap();
    }

    fn take(&mut self, index: LogIndex, facts: &message::Facts, _: World<'_>) -> Outcome {
        let mut outcome = Outcome::default();
        for fact in &facts.facts {
            if let Some(fact::Fact::DeviceRegistered(registered)) = &fact.fact {
                self.count += 1;
                outcome.is_changed = true;
                if self.count.is_multiple_of(3) {
                    outcome.commands.push(crate::ServiceCommand {
                        device: DeviceNumber(registered.device),
                        id: crate::CommandId::parse(&format!("census-{}-{}", index.0, registered.device)).unwrap(),
                        action: "set_level".to_owned(),
                        arguments: vec![message::Argument {
                            name: "level".to_owned(),
                            value: Some(crate::Value::Number(1.0).to_message()),
                        }],
                        timeout: Duration::from_secs(10),
                        priority: 3,
                    });
                }
            }
        }
        outcome
    }

    fn encode(&self) -> Bytes {
        vec![self.count, self.begun_at].into()
    }

    fn figures(_: &[u8]) -> Result<ServiceFigures, DamagedBytes> {
        Ok(ServiceFigures::default())
    }
}

struct Shard {
    state: ShardState,
    log: Vec<message::Facts>,
    catalog: Catalog,
    limits: Limits,
    now: Timestamp,
}

impl Shard {
    fn new() -> Self {
        Self {
            state: ShardState::default(),
            log: Vec::new(),
            catalog: Catalog::built_in(),
            limits: Limits::default(),
            now: Timestamp(1_700_000_000_000_000),
        }
    }

    fn world(&self) -> World<'_> {
        World { state: &self.state, catalog: &self.catalog }
    }

    fn applied(&self) -> LogIndex {
        LogIndex(self.log.len() as u64)
    }

    fn append(&mut self, facts: message::Facts) {
        self.log.push(facts);
        let applied = self.applied();
        self.state.apply(applied, self.log.last().unwrap());
    }

    fn register(&mut self, number: u32) {
        let devices = vec![message::DeviceRegistration {
            name: format!("a/lamp-{number}"),
            kind: "luminaire".to_owned(),
            ..Default::default()
        }];
        let request = Request::RegisterDevices(message::RegisterDevices { devices });
        let request = message::ShardRequest { request: Some(request), ..Default::default() };
        let mut decider = Decider::new(&self.state, &self.catalog, &self.limits, self.now);
        decider.decide(&request).unwrap();
        let facts = decider.finish();
        self.append(facts);
    }

    fn step(&mut self, step: &ServiceStep) -> Result<(), StepError> {
        let mut decider = Decider::new(&self.state, &self.catalog, &self.limits, self.now);
        decider.step_service(step)?;
        let facts = decider.finish();
        self.append(facts);
        Ok(())
    }

    fn driver(&self) -> Driver<Census> {
        Driver::new("a", self.applied(), self.world(), self.now).unwrap()
    }

    /// Shows the driver all that it has not seen, and commits what it wants.
    fn drive(&mut self, driver: &mut Driver<Census>) -> usize {
        let mut steps = 0;
        loop {
            if let Some(step) = driver.due_step(self.now) {
                self.step(&step).unwrap();
                driver.stepped(self.now);
                steps += 1;
            }
            let index = driver.position().0;
            let Some(facts) = self.log.get(usize::try_from(index).unwrap()) else { return steps };
            driver.take(LogIndex(index + 1), facts, self.world());
        }
    }
}

#[test]
fn a_new_service_begins_with_the_twins_and_stores_that() {
    let mut shard = Shard::new();
    shard.register(1);
    let mut driver = shard.driver();
    assert_eq!(shard.drive(&mut driver), 1);
    assert_eq!(shard.state.service("a/census").unwrap().state.as_ref(), [1, 1]);
}

#[test]
fn steps_without_news_are_not_taken() {
    let mut shard = Shard::new();
    let mut driver = shard.driver();
    shard.drive(&mut driver);
    for _ in 0..10 {
        shard.now.0 += 60_000_000;
        assert_eq!(shard.drive(&mut driver), 0, "its own steps are no reason for another");
    }
}

#[test]
fn a_changed_state_waits_a_little_and_commands_do_not() {
    let mut shard = Shard::new();
    shard.register(0);
    let mut driver = shard.driver();
    shard.drive(&mut driver);
    shard.register(1);
    assert_eq!(shard.drive(&mut driver), 0);
    shard.now.0 += 2_000_000;
    assert_eq!(shard.drive(&mut driver), 1);
    shard.register(2);
    assert_eq!(shard.drive(&mut driver), 1);
    assert_eq!(shard.state.counters().commands_issued, 1);
}

#[test]
fn another_actor_of_the_service_makes_a_stale_step_fail() {
    let mut shard = Shard::new();
    let mut old = shard.driver();
    shard.drive(&mut old);
    let mut new = shard.driver();
    shard.register(1);
    shard.now.0 += 2_000_000;
    shard.drive(&mut new);
    shard.register(2);
    shard.now.0 += 2_000_000;
    let index = old.position().0 + 1;
    let facts = shard.log[usize::try_from(index - 1).unwrap()].clone();
    old.take(LogIndex(index), &facts, shard.world());
    let step = old.due_step(Timestamp(shard.now.0 + 20_000_000));
    assert!(step.is_none_or(|step| matches!(shard.step(&step), Err(StepError::CursorMoved { .. }))));
}

#[test]
fn a_gap_is_stored_with_what_the_twins_say() {
    let mut shard = Shard::new();
    let mut driver = shard.driver();
    shard.drive(&mut driver);
    (1..=4).for_each(|number| shard.register(number));
    driver.reread(shard.applied(), shard.world());
    shard.now.0 += 2_000_000;
    assert_eq!(shard.drive(&mut driver), 1);
    assert_eq!(shard.state.service("a/census").unwrap().state.as_ref(), [4, 0]);
}

#[test]
fn a_mode_that_was_set_in_a_gap_is_not_lost() {
    let mut shard = Shard::new();
    shard.register(0);
    let mut driver = shard.driver();
    shard.drive(&mut driver);
    let set = message::ServiceModeSet { service: driver.name().to_owned(), mode: ServiceMode::Observe.to_message() };
    let facts = vec![message::Fact { fact: Some(fact::Fact::ServiceModeSet(set)) }];
    shard.append(message::Facts { format: 1, time_us: shard.now.0, facts, traceparents: Vec::new() });
    driver.reread(shard.applied(), shard.world());
    assert_eq!(driver.service.mode, ServiceMode::Observe);
}

proptest::proptest! {
    /// A crash at any point, and as often as it likes, comes to the same state and the same commands.
    #[test]
    fn crashes_change_nothing(turns in proptest::collection::vec((0u8..4, 0i64..3_000_000), 1..60)) {
        let (mut steady, mut crashing) = (Shard::new(), Shard::new());
        steady.register(0);
        crashing.register(0);
        let mut steady_driver = steady.driver();
        let mut crashing_driver = crashing.driver();
        steady.drive(&mut steady_driver);
        crashing.drive(&mut crashing_driver);
        for (number, (turn, us)) in (1u32..).zip(turns) {
            steady.now.0 += us;
            crashing.now.0 += us;
            if turn == 0 {
                crashing_driver = crashing.driver();
            } else {
                steady.register(number);
                crashing.register(number);
            }
            steady.drive(&mut steady_driver);
            crashing.drive(&mut crashing_driver);
        }
        for (shard, driver) in [(&mut steady, &mut steady_driver), (&mut crashing, &mut crashing_driver)] {
            shard.now.0 += 20_000_000;
            shard.drive(driver);
        }
        let state = |shard: &Shard| shard.state.service("a/census").unwrap().state.clone();
        proptest::prop_assert_eq!(state(&steady), state(&crashing));
        let issued = |shard: &Shard| shard.state.counters().commands_issued;
        proptest::prop_assert_eq!(issued(&steady), issued(&crashing));
    }
}
