//! Work whose deciding panics, among work that does not: nobody else notices.

use proptest::collection::vec;

use super::*;
use crate::decide::poison;
use crate::{AttributeNumber, StreamId, ValueRef};

const LEVEL: AttributeNumber = AttributeNumber(1);
const STREAM: StreamId = StreamId(1);
const LAMPS: u32 = 3;
const NOW_US: i64 = 1_700_000_000_000_000;

/// A row of a part: device, offset, value.
type Row = (u32, i64, f64);

fn open(stream: StreamId) -> Request {
    let (client, issued_us) = ("client:test".to_owned(), NOW_US);
    Request::OpenStream(message::OpenStream {
        stream: stream.to_message(),
        client,
        node: 1,
        issued_us,
        connection: 0,
        unused: false,
    })
}

fn part(stream: StreamId, sequence: u64, rows: &[Row]) -> Request {
    let mut readings = message::Readings { base_us: NOW_US, ..Default::default() };
    for (device, offset_us, level) in rows {
        readings.push(DeviceNumber(*device), LEVEL, NOW_US + offset_us, ValueRef::Number(*level));
    }
    let (stream, previous) = (stream.to_message(), sequence - 1);
    Request::SubmitReadings(message::SubmitReadings { stream, previous, sequence, readings: Some(readings) })
}

fn step(service: &str) -> Work {
    Work::Step(Box::new(ServiceStep {
        service: service.to_owned(),
        expected: message::LogPosition::default(),
        cursor: message::LogPosition { index: 1, ordinal: 0 },
        state: None,
        commands: Vec::new(),
    }))
}

fn request(request: Request) -> Work {
    Work::Request(Box::new(message::ShardRequest { shard: 1, request: Some(request), ..Default::default() }))
}

impl Shard {
    /// Leads, with lamps 0 to 2 and an open stream.
    fn with_lamps() -> Self {
        let mut shard = Self::leading();
        for lamp in 0..LAMPS {
            shard.submit(0, register(u64::from(lamp)));
        }
        shard.submit(0, open(STREAM));
        shard.gather();
        shard.commit();
        shard.linger();
        (shard.answers, shard.effects) = (Vec::new(), Vec::new());
        shard
    }

    /// Lets what was submitted go; returns the entries it came to.
    fn run(&mut self) -> Vec<Bytes> {
        let mut entries = Vec::new();
        self.gather();
        loop {
            if let Some(entry) = self.proposed.clone() {
                entries.push(entry);
                self.commit();
            } else if std::mem::take(&mut self.is_confirming) {
                self.step(Event::Confirmed(Ok(())));
            } else if self.lingers.is_empty() {
                return entries;
            } else {
                self.linger();
            }
        }
    }

    fn answer(&self, id: u64) -> &Answer {
        &self.answers.iter().find(|(asked, _)| *asked == id).unwrap().1
    }

    fn submitted(&self, id: u64) -> &message::ReadingsSubmitted {
        match self.answer(id) {
            Answer::Reply(Reply::ReadingsSubmitted(submitted)) => submitted,
            other => panic!("{other:?}"),
        }
    }

    /// Has what no decision could bring about: a stream on which every part panics.
    fn with_poisoned_stream() -> Self {
        let mut shard = Self::with_lamps();
        let stream = StreamId(poison::STREAM).to_message();
        let opened =
            message::StreamOpened { stream, client: "client:test".to_owned(), node: 1, issued_us: 0, connection: 0 };
        let fact = message::Fact { fact: Some(message::fact::Fact::StreamOpened(opened)) };
        let facts = message::Facts { format: 1, time_us: shard.now.0, facts: vec![fact], traceparents: Vec::new() };
        shard.proposed = Some(facts.encode_to_vec().into());
        shard.apply();
        assert!(shard.state.stream(StreamId(poison::STREAM)).is_some());
        shard
    }
}

#[test]
fn a_part_that_can_not_be_packed_is_rejected_whole_and_the_stream_goes_on() {
    let mut shard = Shard::with_lamps();
    shard.submit(1, part(STREAM, 1, &[(0, 0, 10.0), (1, 0, poison::VALUE_OF_PART), (9, 0, 1.0)]));
    shard.submit(2, part(STREAM, 2, &[(0, 0, 10.0)]));
    shard.run();
    let submitted = shard.submitted(1);
    assert_eq!((&submitted.outcomes[..], &submitted.rejections[..]), (&[4, 4, 4][..], &[7, 7, 7][..]));
    assert_eq!(submitted.totals.unwrap().rejected, 3);
    assert_eq!(shard.submitted(2).outcomes, [1]);
    let [report] = &shard.reports[..] else { panic!("{:?}", shard.reports) };
    assert_eq!((&*report.panic, report.devices.len()), ("a poisoned part", 3));
}

#[test]
fn a_part_that_can_not_even_be_rejected_is_answered_as_not_applied() {
    let mut shard = Shard::with_poisoned_stream();
    shard.submit(1, part(StreamId(poison::STREAM), 1, &[(0, 0, 10.0)]));
    shard.submit(2, part(STREAM, 1, &[(0, 0, 10.0)]));
    shard.run();
    assert_eq!(shard.reasons(), BTreeMap::from([(1, FailureReason::Defect)]));
    assert_eq!(shard.submitted(2).outcomes, [1]);
    assert_eq!(shard.reports.len(), 1);
}

#[test]
fn a_sweep_that_panics_holds_up_nobody() {
    let mut shard = Shard::with_poisoned_stream();
    shard.now.0 += 2 * 24 * 3_600 * 1_000_000;
    shard.step(Event::Sweep);
    shard.submit(1, register(9));
    shard.run();
    assert!(matches!(shard.answer(1), Answer::Reply(Reply::DevicesRegistered(_))));
    let is_of_sweep = |report: &Defect| report.recurs && report.to_string().contains("sweep");
    assert!(!shard.reports.is_empty() && shard.reports.iter().all(is_of_sweep));
}

#[test]
fn a_step_that_panics_ends_its_service_alone() {
    let mut shard = Shard::with_lamps();
    shard.submit_work(1, step("a/poison"));
    shard.submit_work(2, step("a/lighting"));
    shard.run();
    assert!(matches!(shard.answer(1), Answer::Stepped(Err(StepError::Defect { service })) if service == "a/poison"));
    assert!(matches!(shard.answer(2), Answer::Stepped(Ok(_))));
}

#[test]
fn however_much_panics_all_else_is_answered() {
    let mut shard = Shard::with_lamps();
    for id in 0..20 * DEFECTS_MAX as u64 {
        let name = if id % 2 == 0 { poison::WORD.to_owned() } else { format!("c{}", id % 5) };
        shard.submit(id, command(id % u64::from(LAMPS), &name));
    }
    shard.run();
    assert_eq!(shard.answers.len(), 20 * DEFECTS_MAX);
    assert_eq!(shard.reasons().len(), 10 * DEFECTS_MAX);
    assert!(shard.reasons().iter().all(|(id, reason)| id % 2 == 0 && *reason == FailureReason::Defect));
    assert_eq!(shard.reports.len(), 10 * DEFECTS_MAX, "each is told once");
}

/// Work that does not panic.
#[derive(Clone, Debug)]
enum Sound {
    Register(u64),
    Command(u64, u8),
    Part(Vec<Row>),
    Step,
    Delivered(u32, u8),
}

fn sound() -> impl Strategy<Value = Sound> {
    prop_oneof![
        (0u64..6).prop_map(Sound::Register),
        (0u64..6, 0u8..4).prop_map(|(device, id)| Sound::Command(device, id)),
        vec(row(), 0..12).prop_map(Sound::Part),
        Just(Sound::Step),
        (0u32..4, 0u8..4).prop_map(|(device, id)| Sound::Delivered(device, id)),
    ]
}

/// A reading that is often repeated, and at times of no device.
fn row() -> impl Strategy<Value = Row> {
    (0u32..LAMPS + 1, 0i64..12, (1u8..3).prop_map(f64::from))
}

impl Sound {
    fn work(&self, next_sequence: &mut u64) -> Work {
        match self {
            Self::Register(device) => request(register(*device)),
            Self::Command(device, id) => request(command(*device, &format!("c{id}"))),
            Self::Part(rows) => {
                *next_sequence += 1;
                request(part(STREAM, *next_sequence - 1, rows))
            }
            Self::Step => step("a/lighting"),
            Self::Delivered(device, id) => Work::Delivered(vec![(DeviceNumber(*device), format!("c{id}"))]),
        }
    }
}

/// Work that panics halfway: something of it was taken into the scratch state before.
fn poisoned(which: u8) -> Work {
    match which {
        0 => request(command(0, poison::WORD)),
        1 => step("a/poison"),
        _ => {
            let named = |name: &str| message::DeviceRegistration {
                name: name.to_owned(),
                kind: "luminaire".to_owned(),
                ..Default::default()
            };
            let devices = vec![named("a/lamp-5"), named("a/poison")];
            request(Request::RegisterDevices(message::RegisterDevices { devices }))
        }
    }
}

proptest! {
    /// With work that panics in it, a batch comes to the same entry, answers and effects as without.
    #[test]
    fn work_that_panics_leaves_nothing_behind(
        sound in vec(sound(), 1..16),
        poison in vec((0usize..16, 0u8..3), 1..DEFECTS_MAX),
    ) {
        let (mut with, mut without) = (Shard::with_lamps(), Shard::with_lamps());
        let mut sequences = [1, 1];
        for (place, sound) in sound.iter().enumerate() {
            for (number, (_, which)) in poison.iter().enumerate().filter(|(_, (at, _))| *at == place) {
                with.submit_work(1_000 + number as u64, poisoned(*which));
            }
            with.submit_work(place as u64, sound.work(&mut sequences[0]));
            without.submit_work(place as u64, sound.work(&mut sequences[1]));
        }
        prop_assert_eq!(with.run(), without.run());
        let (failed, sound): (Vec<_>, Vec<_>) = with.answers.iter().partition(|(id, _)| *id >= 1_000);
        let unharmed: Vec<_> = without.answers.iter().collect();
        prop_assert_eq!(format!("{sound:?}"), format!("{unharmed:?}"));
        prop_assert_eq!(with.effects, without.effects);
        prop_assert_eq!(failed.len(), with.reports.len());
        for (_, answer) in failed {
            let is_defect = match answer {
                Answer::Reply(Reply::Failure(failure)) => failure.reason() == FailureReason::Defect,
                Answer::Stepped(Err(error)) => matches!(error, StepError::Defect { .. }),
                _ => false,
            };
            prop_assert!(is_defect, "{:?}", answer);
        }
    }

    /// A part with readings that panic comes to what it would without them, and rejects each of those.
    #[test]
    fn readings_that_panic_are_rejected_alone(parts in vec(vec((row(), any::<bool>()), 0..10), 1..5)) {
        let (mut with, mut without) = (Shard::with_lamps(), Shard::with_lamps());
        for (sequence, rows) in (1..).zip(&parts) {
            let spoil = |((device, offset_us, level), is_poison): &(Row, bool)| {
                (*device, *offset_us, if *is_poison { poison::VALUE } else { *level })
            };
            let spoilt: Vec<_> = rows.iter().map(spoil).collect();
            let sound: Vec<_> = rows.iter().filter(|(_, is_poison)| !is_poison).map(|(row, _)| *row).collect();
            with.submit(sequence, part(STREAM, sequence, &spoilt));
            without.submit(sequence, part(STREAM, sequence, &sound));
        }
        with.run();
        without.run();
        let mut defects = 0;
        for (sequence, rows) in (1..).zip(&parts) {
            let (spoilt, sound) = (with.submitted(sequence), without.submitted(sequence));
            let (mut outcomes, mut rejections) = (sound.outcomes.iter().copied(), sound.rejections.iter().copied());
            let mut expected = (Vec::new(), Vec::new());
            for ((device, ..), is_poison) in rows.iter().map(|(row, is_poison)| (*row, *is_poison)) {
                // The device is looked up before its code runs.
                let is_defect = is_poison && device < LAMPS;
                let outcome = if is_poison { 4 } else { outcomes.next().unwrap() };
                expected.0.push(outcome);
                if is_poison {
                    expected.1.push(if is_defect { 7 } else { 1 });
                } else if outcome == 4 {
                    expected.1.push(rejections.next().unwrap());
                }
                defects += u64::from(is_poison);
            }
            prop_assert_eq!((&spoilt.outcomes, &spoilt.rejections), (&expected.0, &expected.1));
        }
        let (with, without) = (with.state, without.state);
        let rejected = |state: &ShardState| state.stream(STREAM).unwrap().totals.rejected;
        prop_assert_eq!(rejected(&with), rejected(&without) + defects);
        for lamp in (0..LAMPS).map(DeviceNumber) {
            let twins = [&with, &without].map(|state| state.device(lamp).unwrap());
            let [with, without] = twins.map(|twin| (format!("{:?}", twin.reported_attribute(LEVEL)), twin.version()));
            prop_assert_eq!(with, without);
        }
    }
}
