//! Judging readings: the hot path of a shard's leader.

use crate::decide::streams::{stream_id, stream_unknown};
use crate::decide::{Care, Decider, THIS_ENTRY};
use crate::kind::{Kind, ValueError};
use crate::message::{self, Failure, FailureReason, fact, shard_reply::Reply};
use crate::reading::{PART_BYTES_MAX, Reading, ReadingMark};
use crate::state::page;
use crate::state::recent::{self, Observation, RecentPage, Ring};
use crate::value::{Value, ValueRef};
use crate::{AttributeNumber, DeviceNumber, StreamId};

/// 2000-01-01 UTC; no clock of a device or a node that is right was ever earlier.
pub(super) const CLOCK_MIN_US: i64 = 946_684_800 * 1_000_000;

/// How far a device's clock may run ahead of the shard's.
const AHEAD_MAX_US: i64 = 10 * 60 * 1_000_000;

/// `ReadingsSubmitted.outcomes`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Stored = 1,
    Late = 2,
    Duplicate = 3,
    Rejected = 4,
}

/// `ReadingsSubmitted.rejections`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rejection {
    UnknownDevice = 1,
    UnknownAttribute = 2,
    WrongType = 3,
    NotANumber = 4,
    AbsurdTime = 5,
    UnknownValue = 6,
    /// Judging it panicked.
    Defect = 7,
}

impl From<ValueError> for Rejection {
    fn from(error: ValueError) -> Self {
        match error {
            ValueError::WrongType => Self::WrongType,
            ValueError::NotANumber => Self::NotANumber,
            ValueError::UnknownValue => Self::UnknownValue,
        }
    }
}

/// A device as this batch's readings leave it, over what its page holds.
#[derive(Clone)]
pub(super) struct Touched {
    ring: Ring,
    /// Of each attribute that this batch stored.
    latest: Vec<Latest>,
    stored: u64,
}

/// The latest observation of an attribute, and what its request found.
#[derive(Clone, Copy)]
pub(super) struct Latest {
    observation: Observation,
    /// Facts of the batch when the request came that brought it.
    request: usize,
    /// Of the value before that request; `None`: there was none.
    before: Option<u64>,
}

impl Latest {
    pub(super) fn is(&self, value: &Value) -> bool {
        self.observation.fingerprint == value.as_ref().fingerprint()
    }

    /// Whether the attribute was `value` before the request that came behind so many facts, and is not any more.
    pub(super) fn has_left(&self, value: &Value, request: usize) -> bool {
        self.request == request && self.before == Some(value.as_ref().fingerprint()) && !self.is(value)
    }
}

impl Touched {
    /// Readings of this batch that went into the twin; each raises its version.
    pub(super) fn stored(&self) -> u64 {
        self.stored
    }

    /// The latest observation of an attribute, if this batch stored one.
    pub(super) fn latest(&self, attribute: AttributeNumber) -> Option<&Latest> {
        self.latest.iter().find(|latest| latest.observation.attribute == attribute)
    }

    /// Tells how an observation relates to those before, and takes it in unless it is a duplicate. `request` is as in [`Latest`].
    fn observe(&mut self, page: &RecentPage, slot: usize, observation: Observation, request: usize) -> Outcome {
        let place = self.latest.iter().position(|latest| latest.observation.attribute == observation.attribute);
        let before = match place {
            Some(place) => {
                let Latest { observation, .. } = self.latest[place];
                Some((observation.observed_us, observation.fingerprint))
            }
            None => page
                .reported(slot, observation.attribute)
                .map(|reported| (reported.observed_us, reported.value.as_ref().fingerprint())),
        };
        if before == Some((observation.observed_us, observation.fingerprint)) || self.ring.contains(&observation) {
            return Outcome::Duplicate;
        }
        self.ring.push(observation);
        #[cfg(test)]
        crate::decide::poison::meet_reading(observation.fingerprint);
        if before.is_some_and(|(observed_us, _)| observation.observed_us < observed_us) {
            return Outcome::Late;
        }
        self.stored += 1;
        let before = before.map(|(_, fingerprint)| fingerprint);
        match place {
            Some(place) if self.latest[place].request == request => self.latest[place].observation = observation,
            Some(place) => self.latest[place] = Latest { observation, request, before },
            None => self.latest.push(Latest { observation, request, before }),
        }
        Outcome::Stored
    }
}

/// A reading that passed all checks.
struct Valid<'r> {
    attribute: AttributeNumber,
    value: ValueRef<'r>,
    is_in_range: bool,
}

impl Decider<'_> {
    pub(super) fn submit_readings(&mut self, request: &message::SubmitReadings, care: Care) -> Result<Reply, Failure> {
        let id = stream_id(&request.stream)?;
        let empty = message::Readings::default();
        let readings = request.readings.as_ref().unwrap_or(&empty);
        self.check_part(id, request, readings)?;

        let begin = self.facts.len();
        let mut accepted = message::Readings { base_us: readings.base_us, ..Default::default() };
        accepted.reserve(readings.len());
        let mut marks = Vec::with_capacity(readings.len());
        let mut counts = [0u64; 5];
        let mut outcomes = Vec::with_capacity(readings.len());
        let mut rejections = Vec::new();
        for reading in readings.iter() {
            let judged = match care {
                Care::Fast => self.judge(&reading),
                Care::EachReading => self.judge_guarded(&reading),
                Care::NoReading => Err(Rejection::Defect),
            };
            let outcome = match judged {
                Ok((outcome, valid)) => {
                    if outcome != Outcome::Duplicate {
                        accepted.push(reading.device, valid.attribute, reading.observed_us, valid.value);
                        marks.push(ReadingMark::new(valid.is_in_range, outcome == Outcome::Late).0);
                    }
                    outcome
                }
                Err(rejection) => {
                    rejections.push(rejection as u32);
                    Outcome::Rejected
                }
            };
            counts[outcome as usize] += 1;
            outcomes.push(outcome as u32);
        }
        self.append_readings(accepted, marks);
        self.push(fact::Fact::ReadingsAccepted(message::ReadingsAccepted {
            stream: request.stream.clone(),
            sequence: request.sequence,
            stored: counts[Outcome::Stored as usize],
            late: counts[Outcome::Late as usize],
            duplicate: counts[Outcome::Duplicate as usize],
            rejected: counts[Outcome::Rejected as usize],
        }));
        self.activate_departed(readings, begin);
        let totals = self.scratch.stream(id).map(|stream| stream.totals);
        let submitted = message::ReadingsSubmitted { outcomes, rejections, totals, index: THIS_ENTRY.0 };
        Ok(Reply::ReadingsSubmitted(submitted))
    }

    fn check_part(
        &self,
        id: StreamId,
        request: &message::SubmitReadings,
        readings: &message::Readings,
    ) -> Result<(), Failure> {
        if !readings.is_rectangular() {
            return Err(Failure::invalid("readings", "the columns of readings differ in length"));
        }
        let bytes = readings.payload_bytes();
        if bytes > PART_BYTES_MAX {
            let text = format!("a part of {} readings takes {bytes} bytes, at most {PART_BYTES_MAX}", readings.len());
            return Err(Failure::invalid("readings", text));
        }
        let totals = self.scratch.stream(id).ok_or_else(|| stream_unknown(id))?.totals;
        let last = totals.sequence;
        if request.sequence <= last {
            let text = format!("stream {id}: sequence {} was accepted before, {last} is the last", request.sequence);
            return Err(Failure::new(FailureReason::AlreadyAccepted, text).with_totals(totals));
        }
        if request.previous != last {
            let text = format!("stream {id}: {} comes after {last} here, not {}", request.sequence, request.previous);
            return Err(Failure::new(FailureReason::SequenceGap, text).with_totals(totals));
        }
        Ok(())
    }

    /// Readings change no twin of the scratch state: `touched` has what they did.
    fn append_readings(&mut self, readings: message::Readings, mark: Vec<u32>) {
        if readings.is_empty() {
            return;
        }
        #[cfg(test)]
        crate::decide::poison::meet_part(&readings);
        self.payload_bytes += readings.payload_bytes();
        let reported = message::ReadingsReported { readings: Some(readings), mark };
        self.append(message::Fact { fact: Some(fact::Fact::ReadingsReported(reported)) });
    }

    fn judge<'r>(&mut self, reading: &Reading<'r>) -> Result<(Outcome, Valid<'r>), Rejection> {
        let (number, slot) = page::place(reading.device.0, recent::PER_PAGE);
        let index = self.scratch.recent.page(number).and_then(|page| page.kind(slot));
        let index = index.ok_or(Rejection::UnknownDevice)?;
        self.load_kind(index);
        let kind = self.kinds[usize::from(index.0)].as_deref();
        let valid = validate(kind, reading, self.now.0)?;
        let page = self.scratch.recent.page(number).ok_or(Rejection::UnknownDevice)?;
        let touched = self.touched.entry(reading.device).or_insert_with(|| Touched {
            ring: *page.ring(slot),
            latest: Vec::new(),
            stored: 0,
        });
        let fingerprint = valid.value.fingerprint();
        let observation = Observation { observed_us: reading.observed_us, fingerprint, attribute: valid.attribute };
        Ok((touched.observe(page, slot, observation, self.facts.len()), valid))
    }

    /// The same, but a panic rejects the reading and leaves nothing of it behind.
    fn judge_guarded<'r>(&mut self, reading: &Reading<'r>) -> Result<(Outcome, Valid<'r>), Rejection> {
        let (kinds, touched) = (self.kinds.len(), self.touched.get(&reading.device).cloned());
        Care::EachReading.guarded(|| self.judge(reading)).unwrap_or_else(|_panic| {
            self.kinds.truncate(kinds);
            match touched {
                Some(touched) => self.touched.insert(reading.device, touched),
                None => self.touched.remove(&reading.device),
            };
            Err(Rejection::Defect)
        })
    }
}

/// The devices whose readings were rejected because judging them panicked, in the order of the readings.
pub(crate) fn defective_devices(
    request: &message::SubmitReadings,
    submitted: &message::ReadingsSubmitted,
) -> impl Iterator<Item = DeviceNumber> {
    let devices = request.readings.iter().flat_map(|readings| &readings.device);
    let rejected = devices.zip(&submitted.outcomes).filter(|(_, outcome)| **outcome == Outcome::Rejected as u32);
    let reasons = rejected.zip(&submitted.rejections);
    reasons.filter(|(_, reason)| **reason == Rejection::Defect as u32).map(|((device, _), _)| DeviceNumber(*device))
}

fn validate<'r>(kind: Option<&Kind>, reading: &Reading<'r>, now_us: i64) -> Result<Valid<'r>, Rejection> {
    let number = AttributeNumber::from_message(reading.attribute).ok_or(Rejection::UnknownAttribute)?;
    let attribute = kind.and_then(|kind| kind.attribute(number)).ok_or(Rejection::UnknownAttribute)?;
    let value = reading.value.ok_or(Rejection::WrongType)?;
    let checked = attribute.check(value)?;
    if !(CLOCK_MIN_US..=now_us.saturating_add(AHEAD_MAX_US)).contains(&reading.observed_us) {
        return Err(Rejection::AbsurdTime);
    }
    Ok(Valid { attribute: number, value: checked.value, is_in_range: checked.is_in_range })
}
