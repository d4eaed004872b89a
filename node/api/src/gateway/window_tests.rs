//! Properties of the window against a model of the server: whatever is lost, each reading is acknowledged and counted once.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::*;
use crate::v1::ReadingTotals;

const SHARDS: u32 = 3;

/// What is sent of a batch: the shard of each reading, `None` for devices that no shard knows.
type Readings = Vec<Option<u32>>;

#[derive(Clone, Debug)]
enum Step {
    /// The client sends a batch.
    Push(Readings),
    /// The connection carries a batch to the server.
    Carry,
    /// The server's shards accept what one of them has waiting, and acknowledge it.
    Decide(u32),
    /// The connection carries an acknowledgement to the client.
    Answer,
    /// The connection is lost with everything on its way.
    Lose,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let reading = prop_oneof![8 => (1..=SHARDS).prop_map(Some), 1 => Just(None)];
    let step = prop_oneof![
        3 => prop::collection::vec(reading, 1..100).prop_map(Step::Push),
        4 => Just(Step::Carry),
        6 => (1..=SHARDS).prop_map(Step::Decide),
        6 => Just(Step::Answer),
        1 => Just(Step::Lose),
    ];
    prop::collection::vec(step, 0..120)
}

/// Shards that decide by sequence, as the cluster's do, and the connection to them.
#[derive(Default)]
struct Server {
    totals: BTreeMap<u32, ReadingTotals>,
    /// Parts of batches that wait for their shard: (sequence, indexes).
    parts: BTreeMap<u32, VecDeque<(u64, Vec<u32>)>>,
    answers: VecDeque<ReadingsAcknowledged>,
    last_carried: u64,
}

impl Server {
    fn carry(&mut self, sequence: u64, readings: &Readings) {
        assert!(sequence > self.last_carried, "batches are sent in order");
        self.last_carried = sequence;
        let mut parts: BTreeMap<Option<u32>, Vec<u32>> = BTreeMap::new();
        for (index, shard) in (0_u32..).zip(readings) {
            parts.entry(*shard).or_default().push(index);
        }
        for (shard, indexes) in parts {
            match shard {
                Some(shard) => self.parts.entry(shard).or_default().push_back((sequence, indexes)),
                None => self.answer(sequence, None, indexes, ReadingOutcome::Rejected),
            }
        }
    }

    fn decide(&mut self, shard: u32) {
        let Some((sequence, indexes)) = self.parts.entry(shard).or_default().pop_front() else { return };
        let totals = self.totals.entry(shard).or_default();
        let outcome = if sequence <= totals.sequence {
            ReadingOutcome::AcceptedEarlier
        } else {
            totals.sequence = sequence;
            totals.stored += indexes.len() as u64;
            ReadingOutcome::Stored
        };
        self.answer(sequence, Some(shard), indexes, outcome);
    }

    fn answer(&mut self, sequence: u64, shard: Option<u32>, indexes: Vec<u32>, outcome: ReadingOutcome) {
        self.answers.push_back(ReadingsAcknowledged {
            sequence,
            shard,
            outcomes: vec![outcome.into(); indexes.len()],
            indexes,
            rejections: Vec::new(),
            totals: shard.map(|shard| self.totals[&shard]),
        });
    }

    fn lose(&mut self) {
        self.parts.clear();
        self.answers.clear();
        self.last_carried = 0;
    }
}

/// The client's half, and what it learned.
struct Client {
    window: Window<(u64, Readings)>,
    pushed: u64,
    readings: u64,
    outcomes: BTreeMap<(u64, u32), ReadingOutcome>,
    now: Instant,
}

impl Client {
    fn new() -> Self {
        Self { window: Window::new(), pushed: 0, readings: 0, outcomes: BTreeMap::new(), now: Instant::now() }
    }

    fn push(&mut self, readings: Readings) {
        self.pushed += 1;
        self.readings += readings.len() as u64;
        let count = u32::try_from(readings.len()).expect("small");
        self.window.push(BatchSequence(self.pushed), (self.pushed, readings), count, self.now);
    }

    fn carry(&mut self, server: &mut Server) -> bool {
        let Some((sequence, readings)) = self.window.next_unsent() else {
            assert!(!self.window.has_unsent(), "whoever sends while there is something to send would never rest");
            return false;
        };
        server.carry(*sequence, readings);
        true
    }

    fn answer(&mut self, server: &mut Server) -> bool {
        let Some(answer) = server.answers.pop_front() else { return false };
        let news = self.window.acknowledge(&answer, self.now).expect("the server keeps the protocol");
        for reading in news.readings {
            let before = self.outcomes.insert((answer.sequence, reading.index), reading.outcome);
            assert_eq!(before, None, "reading {} of batch {} twice", reading.index, answer.sequence);
        }
        true
    }
}

proptest! {
    #[test]
    fn every_reading_is_acknowledged_and_counted_once(steps in steps()) {
        let (mut client, mut server) = (Client::new(), Server::default());
        for step in steps {
            match step {
                Step::Push(readings) => client.push(readings),
                Step::Carry => drop(client.carry(&mut server)),
                Step::Decide(shard) => server.decide(shard),
                Step::Answer => drop(client.answer(&mut server)),
                Step::Lose => {
                    server.lose();
                    client.window.rewind();
                }
            }
            prop_assert_eq!(client.window.totals().acknowledged, client.outcomes.len() as u64);
        }
        // Nothing is lost any more: everything comes to its end.
        while client.carry(&mut server) {}
        for shard in 1..=SHARDS {
            while server.parts.get(&shard).is_some_and(|parts| !parts.is_empty()) {
                server.decide(shard);
            }
        }
        while client.answer(&mut server) {}

        let totals = client.window.totals();
        prop_assert_eq!((totals.sent, totals.acknowledged), (client.readings, client.readings));
        prop_assert_eq!(client.outcomes.len() as u64, client.readings);
        prop_assert_eq!(totals.stored, server.totals.values().map(|totals| totals.stored).sum::<u64>());
        prop_assert_eq!(totals.stored + totals.rejected, client.readings);
        prop_assert!(!client.window.has_waiting() && !client.window.has_unsent());
    }
}

fn acknowledged(sequence: u64, indexes: Vec<u32>, outcomes: Vec<i32>) -> ReadingsAcknowledged {
    ReadingsAcknowledged { sequence, shard: Some(1), indexes, outcomes, ..ReadingsAcknowledged::default() }
}

#[test]
fn only_unacknowledged_batches_are_sent_again() {
    let now = Instant::now();
    let mut window = Window::new();
    for sequence in 1..=4 {
        window.push(BatchSequence(sequence), sequence, 2, now);
        assert!(window.next_unsent().is_some());
    }
    let stored = ReadingOutcome::Stored.into();
    for (sequence, indexes) in [(1, vec![0, 1]), (2, vec![1]), (3, vec![1, 0])] {
        let outcomes = vec![stored; indexes.len()];
        window.acknowledge(&acknowledged(sequence, indexes, outcomes), now).expect("a valid acknowledgement");
    }
    window.rewind();
    let again: Vec<_> = std::iter::from_fn(|| window.next_unsent().copied()).collect();
    assert_eq!(again, [2, 4]);
}

#[test]
fn there_is_nothing_to_send_behind_the_last_batch_that_is_not_acknowledged() {
    let now = Instant::now();
    let mut window = Window::new();
    for sequence in 1..=2 {
        window.push(BatchSequence(sequence), sequence, 1, now);
    }
    window.acknowledge(&acknowledged(2, vec![0], vec![ReadingOutcome::Stored.into()]), now).expect("valid");
    window.rewind();
    assert_eq!(window.next_unsent(), Some(&1));
    assert_eq!(window.next_unsent(), None);
    assert!(!window.has_unsent() && window.has_waiting());
}

#[test]
fn impossible_acknowledgements_are_refused() {
    let now = Instant::now();
    let mut window = Window::new();
    window.push(BatchSequence(1), (), 2, now);
    let stored: i32 = ReadingOutcome::Stored.into();
    for sequence in [0, 2] {
        let refused = window.acknowledge(&acknowledged(sequence, vec![0], vec![stored]), now).map(drop);
        assert_eq!(refused, Err(InvalidAcknowledgement::UnknownBatch { sequence }));
    }
    let refused = window.acknowledge(&acknowledged(1, vec![2], vec![stored]), now).map(drop);
    assert_eq!(refused, Err(InvalidAcknowledgement::UnknownReading { sequence: 1, readings: 2, index: 2 }));
    let refused = window.acknowledge(&acknowledged(1, vec![0, 1], vec![stored]), now).map(drop);
    assert_eq!(refused, Err(InvalidAcknowledgement::Uneven { sequence: 1, indexes: 2, outcomes: 1 }));
    let refused = window.acknowledge(&acknowledged(1, vec![0], vec![77]), now).map(drop);
    assert_eq!(refused, Err(InvalidAcknowledgement::UnknownOutcome { sequence: 1, outcome: 77 }));
}
