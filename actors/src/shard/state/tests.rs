//! A shard's leadership from its beginning to its loss, on the real core without Raft.

use std::collections::BTreeMap;

use kvarter_cluster::StateMachine;
use proptest::prelude::*;

use super::*;
use crate::message::{FailureReason, shard_request::Request};

mod defects;

const NODE: NodeId = NodeId(1);
const LINGER: Duration = Duration::from_millis(2);

/// A shard around the write path: its log is applied at once when a proposal is granted.
struct Shard {
    path: WritePath<u64>,
    state: ShardState,
    index: LogIndex,
    catalog: Catalog,
    limits: Limits,
    now: Timestamp,
    /// What the path waits for.
    proposed: Option<Bytes>,
    is_confirming: bool,
    answers: Vec<(u64, Answer)>,
    effects: Vec<Effect>,
    reports: Vec<Defect>,
    lingers: Vec<Duration>,
    is_gathering: bool,
    has_ended: bool,
}

impl Shard {
    fn new(payload_bytes_max: usize) -> Self {
        Self {
            path: WritePath::new(NODE, BatchBounds { linger_max: LINGER, payload_bytes_max }),
            state: ShardState::default(),
            index: LogIndex(0),
            catalog: Catalog::built_in(),
            limits: Limits::default(),
            now: Timestamp(1_700_000_000_000_000),
            proposed: None,
            is_confirming: false,
            answers: Vec::new(),
            effects: Vec::new(),
            reports: Vec::new(),
            lingers: Vec::new(),
            is_gathering: false,
            has_ended: false,
        }
    }

    fn leading() -> Self {
        let mut shard = Self::new(1 << 20);
        shard.step(Event::Begin);
        shard.commit();
        shard
    }

    fn step(&mut self, event: Event<u64>) {
        let ground = Ground { state: &self.state, catalog: &self.catalog, limits: &self.limits, now: self.now };
        for action in self.path.step(event, &ground) {
            match action {
                Action::Gather => self.is_gathering = true,
                Action::Linger(time) => self.lingers.push(time),
                Action::Propose(payload) => {
                    assert!(self.proposed.is_none() && !self.is_confirming, "one batch in flight");
                    self.proposed = Some(payload);
                }
                Action::Confirm => {
                    assert!(self.proposed.is_none() && !self.is_confirming, "one batch in flight");
                    self.is_confirming = true;
                }
                Action::Answer(id, answer) => self.answers.push((id, answer)),
                Action::Effect(effect) => self.effects.push(effect),
                Action::Report(defect) => self.reports.push(defect),
                Action::Begun(epoch) => assert!(epoch <= self.state.epoch()),
                Action::End => {
                    assert!(!std::mem::replace(&mut self.has_ended, true), "ends once");
                }
            }
        }
    }

    fn apply(&mut self) -> LogIndex {
        let payload = self.proposed.take().expect("something is proposed");
        let facts = ShardState::decode(&payload).unwrap();
        self.index = LogIndex(self.index.0 + 1);
        self.state.apply(self.index, &facts);
        self.index
    }

    fn commit(&mut self) {
        let index = self.apply();
        self.step(Event::Committed(Ok(index)));
    }

    fn gather(&mut self) {
        if std::mem::take(&mut self.is_gathering) {
            self.step(Event::GatherOver);
        }
    }

    fn linger(&mut self) {
        if self.lingers.pop().is_some() {
            self.step(Event::LingerOver);
        }
    }

    fn submit(&mut self, id: u64, request: Request) {
        let request = message::ShardRequest { shard: 1, request: Some(request), ..Default::default() };
        self.submit_work(id, Work::Request(Box::new(request)));
    }

    fn submit_work(&mut self, id: u64, work: Work) {
        let bytes = match &work {
            Work::Request(request) => 64 + request.encoded_len(),
            Work::Step(_) | Work::Delivered(_) => 64,
        };
        self.step(Event::Submitted(Submission { work, bytes, reply_to: id }));
    }

    fn reasons(&self) -> BTreeMap<u64, FailureReason> {
        let failed = self.answers.iter().filter_map(|(id, answer)| match answer {
            Answer::Reply(Reply::Failure(failure)) => Some((*id, failure.reason())),
            _ => None,
        });
        failed.collect()
    }
}

fn register(number: u64) -> Request {
    let registration = message::DeviceRegistration {
        name: format!("a/lamp-{number}"),
        kind: "luminaire".to_owned(),
        ..Default::default()
    };
    Request::RegisterDevices(message::RegisterDevices { devices: vec![registration] })
}

fn command(number: u64, id: &str) -> Request {
    let level = message::Value { kind: Some(message::value::Kind::Number(40.0)) };
    Request::IssueCommand(message::IssueCommand {
        name: format!("a/lamp-{number}"),
        id: id.to_owned(),
        action: "set_level".to_owned(),
        arguments: vec![message::Argument { name: "level".to_owned(), value: Some(level) }],
        timeout_ms: 10_000,
        priority: 2,
    })
}

#[test]
fn a_leadership_begins_with_an_entry_of_its_own() {
    let mut shard = Shard::new(1 << 20);
    shard.submit(1, register(1));
    shard.step(Event::Begin);
    shard.submit(2, register(2));
    shard.commit();
    assert_eq!((shard.state.epoch().0, shard.answers.len()), (1, 0));
    shard.linger();
    shard.commit();
    assert_eq!(shard.answers.len(), 2);
    assert_eq!(shard.state.counters().devices, 2);
}

#[test]
fn an_idle_shard_commits_at_once_and_a_busy_one_lingers() {
    let mut shard = Shard::leading();
    shard.submit(1, register(1));
    shard.gather();
    shard.commit();
    assert!(shard.lingers.is_empty(), "nobody else is here");
    shard.submit(2, register(2));
    shard.gather();
    shard.submit(3, register(3));
    shard.commit();
    assert_eq!(shard.lingers, [LINGER]);
    shard.submit(4, register(4));
    assert!(shard.proposed.is_none());
    shard.linger();
    shard.commit();
    assert_eq!(shard.answers.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [1, 2, 3, 4]);
}

#[test]
fn answers_and_effects_wait_for_the_commit() {
    let mut shard = Shard::leading();
    shard.submit(1, register(1));
    shard.submit(2, command(1, "c"));
    shard.gather();
    assert!(shard.answers.is_empty() && shard.effects.is_empty());
    shard.commit();
    assert_eq!(shard.effects, [Effect::Activate(DeviceNumber(0))]);
    let Some((2, Answer::Reply(Reply::CommandRead(read)))) = shard.answers.last() else {
        panic!("{:?}", shard.answers)
    };
    let position = read.command.as_ref().unwrap().position.unwrap();
    assert_eq!((position.index, position.ordinal), (shard.index.0, 1));
}

#[test]
fn an_answer_without_facts_waits_for_a_confirmation() {
    let mut shard = Shard::leading();
    shard.submit(1, command(9, "c"));
    shard.gather();
    assert!(shard.proposed.is_none() && shard.answers.is_empty());
    shard.step(Event::Confirmed(Ok(())));
    assert_eq!(shard.reasons()[&1], FailureReason::NotFound);
}

#[test]
fn what_a_deposed_leader_did_not_commit_is_handed_back() {
    let mut shard = Shard::leading();
    shard.submit(1, register(1));
    shard.gather();
    shard.submit(2, register(2));
    shard.step(Event::Committed(Err(Loss::NotLeader)));
    shard.submit(3, register(3));
    let handed_back = shard.answers.iter().filter(|(_, answer)| matches!(answer, Answer::NotLed(Work::Request(_))));
    assert_eq!(handed_back.map(|(id, _)| *id).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(shard.has_ended);
}

#[test]
fn what_is_in_flight_is_answered_after_the_leadership() {
    let mut shard = Shard::leading();
    shard.submit(1, register(1));
    shard.gather();
    shard.step(Event::Deposed);
    assert!(!shard.has_ended);
    shard.commit();
    assert!(matches!(shard.answers.as_slice(), [(1, Answer::Reply(Reply::DevicesRegistered(_)))]));
    assert!(shard.has_ended);
}

#[test]
fn after_an_unknown_outcome_nothing_is_decided_before_a_new_beginning() {
    let mut shard = Shard::leading();
    shard.submit(1, register(1));
    shard.gather();
    let lost = shard.proposed.take().unwrap();
    shard.step(Event::Committed(Err(Loss::Unknown)));
    assert!(matches!(shard.answers.as_slice(), [(1, Answer::Unknown)]));
    shard.submit(2, register(1));
    assert!(shard.proposed.is_none());
    shard.linger();
    // The entry was in the log after all, before the new beginning.
    let beginning = shard.proposed.replace(lost).unwrap();
    shard.apply();
    shard.proposed = Some(beginning);
    shard.commit();
    assert_eq!(shard.state.epoch().0, 2);
    shard.linger();
    shard.gather();
    if shard.is_confirming {
        shard.step(Event::Confirmed(Ok(())));
    }
    let Some((2, Answer::Reply(Reply::DevicesRegistered(registered)))) = shard.answers.last() else {
        panic!("{:?}", shard.answers)
    };
    assert_eq!(registered.outcomes[0].outcome, 2, "it was registered by the first request");
}

#[test]
fn a_sweep_expires_what_is_due() {
    let mut shard = Shard::leading();
    shard.submit(1, register(1));
    shard.submit(2, command(1, "c"));
    shard.gather();
    shard.commit();
    shard.linger();
    shard.now.0 += 9_000_000;
    shard.step(Event::Sweep);
    assert!(shard.proposed.is_none());
    shard.now.0 += 2_000_000;
    shard.step(Event::Sweep);
    shard.commit();
    assert!(shard.effects.contains(&Effect::CommandEnded { device: DeviceNumber(0), id: "c".to_owned() }));
}

#[test]
fn what_is_due_by_the_time_of_the_facts_is_swept_although_the_clock_is_behind() {
    let mut shard = Shard::leading();
    let right = shard.now;
    // A leader whose clock was an hour ahead.
    shard.now.0 += 3_600_000_000;
    shard.submit(1, register(1));
    shard.submit(2, command(1, "c"));
    shard.gather();
    shard.commit();
    shard.linger();
    shard.now.0 += 11_000_000;
    shard.submit(3, register(2));
    shard.gather();
    shard.commit();
    shard.linger();

    shard.now = right;
    shard.step(Event::Sweep);
    shard.commit();
    assert!(shard.effects.contains(&Effect::CommandEnded { device: DeviceNumber(0), id: "c".to_owned() }));
}

#[test]
fn a_batch_stays_below_its_bound() {
    let mut shard = Shard::new(1_000);
    shard.step(Event::Begin);
    shard.commit();
    for id in 0..100 {
        shard.submit(id, register(id));
    }
    shard.gather();
    while let Some(payload) = &shard.proposed {
        assert!(payload.len() <= 1_000, "{}", payload.len());
        shard.commit();
        shard.linger();
    }
    assert_eq!(shard.answers.len(), 100);
}

#[test]
fn what_waits_behind_an_unknown_outcome_is_handed_back() {
    let mut shard = Shard::leading();
    shard.submit(1, register(1));
    shard.gather();
    shard.submit(2, register(2));
    shard.step(Event::Committed(Err(Loss::Unknown)));
    assert!(matches!(shard.answers.as_slice(), [(1, Answer::Unknown), (2, Answer::NotLed(_))]));
    // So it is while the leadership can not be begun again.
    shard.proposed = None;
    shard.linger();
    shard.submit(3, register(3));
    shard.step(Event::Committed(Err(Loss::Unknown)));
    assert!(matches!(shard.answers.last(), Some((3, Answer::NotLed(_)))));
}

#[derive(Clone, Debug)]
enum Turn {
    Register(u64),
    Command(u64, u8),
    Gather,
    Linger,
    Commit,
    LoseOutcome { is_applied: bool },
    Sweep,
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let turn = prop_oneof![
        3 => (0u64..5).prop_map(Turn::Register),
        3 => (0u64..5, 0u8..4).prop_map(|(device, id)| Turn::Command(device, id)),
        3 => Just(Turn::Gather),
        3 => Just(Turn::Linger),
        4 => Just(Turn::Commit),
        1 => any::<bool>().prop_map(|is_applied| Turn::LoseOutcome { is_applied }),
        1 => Just(Turn::Sweep),
    ];
    prop::collection::vec(turn, 1..120)
}

proptest! {
    /// Each request is answered once, committed ones in order, and what was answered as registered is there.
    #[test]
    fn every_request_is_answered_once(turns in turns(), is_deposed_in_flight: bool) {
        let mut shard = Shard::new(600);
        shard.step(Event::Begin);
        let mut ids = 0;
        for turn in turns {
            shard.now.0 += 300_000;
            match turn {
                Turn::Register(device) => {
                    ids += 1;
                    shard.submit(ids, register(device));
                }
                Turn::Command(device, id) => {
                    ids += 1;
                    shard.submit(ids, command(device, &format!("c{id}")));
                }
                Turn::Gather => shard.gather(),
                Turn::Linger => shard.linger(),
                Turn::Commit if shard.proposed.is_some() => shard.commit(),
                Turn::Commit if std::mem::take(&mut shard.is_confirming) => shard.step(Event::Confirmed(Ok(()))),
                Turn::LoseOutcome { is_applied } if shard.proposed.is_some() => {
                    if is_applied {
                        shard.apply();
                    }
                    shard.proposed = None;
                    shard.step(Event::Committed(Err(Loss::Unknown)));
                }
                Turn::Sweep => shard.step(Event::Sweep),
                Turn::Commit | Turn::LoseOutcome { .. } => {}
            }
        }
        if !is_deposed_in_flight && shard.proposed.is_some() {
            shard.commit();
        }
        shard.step(Event::Deposed);
        if shard.proposed.take().is_some() || std::mem::take(&mut shard.is_confirming) {
            shard.step(Event::Committed(Err(Loss::NotLeader)));
        }
        prop_assert!(shard.has_ended);
        let mut answered: Vec<_> = shard.answers.iter().map(|(id, _)| *id).collect();
        let replied = shard.answers.iter().filter(|(_, answer)| matches!(answer, Answer::Reply(_))).map(|(id, _)| *id);
        prop_assert!(replied.collect::<Vec<_>>().is_sorted());
        answered.sort_unstable();
        prop_assert_eq!(answered, (1..=ids).collect::<Vec<_>>());
        for (_, answer) in &shard.answers {
            if let Answer::Reply(Reply::CommandRead(read)) = answer {
                let command = read.command.as_ref().unwrap();
                prop_assert!(command.position.unwrap().index <= shard.index.0);
            }
        }
    }
}
