//! Holds what clients were told against what the city has, once a simulation is over. Pure.
//!
//! The feed is the judge's ground: it must be the same on every node and make the state that they have. Then every promise is
//! read off it.

use std::collections::{BTreeMap, BTreeSet};

use kvarter_actors::message::{CommandChanged, CommandIssued, DesiredChanged, fact::Fact, value};
use kvarter_actors::{CommandState, ShardState, ordinals};
use kvarter_cluster::{LogIndex, PageId, StateMachine as _};

use super::desk::LEVEL;
use super::history::{Arrival, Asked, Feed, History, Operation, SentReading, Told};
use crate::check::{ReplicaHash, Violation, Violations, check_replicas};

/// What a simulation must have seen of each kind, or its verdict is worth nothing.
const ACKNOWLEDGED_PARTS_MIN: u64 = 30;
const WRITES_MIN: u64 = 30;
const READS_MIN: u64 = 15;
const COMMANDS_MIN: u64 = 3;

/// From a node's last look at a delivery until its gateway has it.
const HANDED_OVER_MAX_US: i64 = 50_000;
/// How long after a command's end, by its shard's time, it may still be on its way: a leader's clock is wrong by 3 s at most, what
/// it sent is held up for 6 s at most, and it may send again until it knows that it is deposed.
const ON_ITS_WAY_MAX_US: i64 = 12_000_000;

const NO_FEED: &Feed = &Vec::new();

/// Encoded pages of a state, in the order of their ids.
pub(super) type Pages = Vec<(PageId, Vec<u8>)>;

pub(super) fn pages(state: &ShardState) -> Pages {
    let encoded = state.pages().into_iter().map(|page| {
        let mut bytes = Vec::new();
        page.encode(&mut bytes);
        (page.id, bytes)
    });
    encoded.collect()
}

/// What is seen of the replicas when all is quiet.
pub(super) struct Replicas {
    pub(super) hashes: Vec<ReplicaHash>,
    /// Of one replica of each shard.
    pub(super) pages: BTreeMap<u32, Pages>,
    /// The index that all replicas of a shard were seen at.
    pub(super) applied: BTreeMap<u32, u64>,
    pub(super) nodes: u64,
    pub(super) shards: u32,
}

/// Everything that is wrong.
pub(super) fn judge(history: &History, replicas: &Replicas) -> Violations {
    let mut found = Violations::default();
    history.broken.iter().for_each(|what| found.add(Violation::Broken { what: what.clone() }));
    let placed = (1..=replicas.shards).map(|shard| (shard, (1..=replicas.nodes).collect())).collect();
    found.append(check_replicas(&replicas.hashes, &placed));
    let mut told = Readings::default();
    for shard in 1..=replicas.shards {
        let feed = check_feeds(history, replicas, shard, &mut found);
        told.count(shard, feed, &mut found);
        check_registers(history, shard, feed, &mut found);
        check_commands(history, shard, feed, &mut found);
        check_arrivals(history, shard, feed, &mut found);
    }
    told.check(history, &mut found);
    let acknowledged = history.parts.values().flatten().filter(|part| part.is_acknowledged).count();
    let ended = |wanted: fn(&Told) -> bool| {
        history.operations.iter().filter(|one| one.ended.as_ref().is_some_and(|(_, told)| wanted(told))).count()
    };
    let accepted = history.commands.iter().filter(|command| command.is_accepted == Some(true)).count();
    found.require("readings", "acknowledged parts", acknowledged as u64, ACKNOWLEDGED_PARTS_MIN);
    found.require("registers", "writes", ended(|told| matches!(told, Told::Written(_))) as u64, WRITES_MIN);
    found.require("registers", "reads", ended(|told| matches!(told, Told::Read { .. })) as u64, READS_MIN);
    found.require("commands", "accepted commands", accepted as u64, COMMANDS_MIN);
    found
}

/// The feed of `shard`, which all nodes must have alike, the subscriber must have been given whole, and which must make the
/// state of the replicas.
fn check_feeds<'h>(history: &'h History, replicas: &Replicas, shard: u32, found: &mut Violations) -> &'h Feed {
    let missing = |what: String| Violation::Broken { what };
    let subscribed = history.subscribed.get(&shard);
    let begin = |node: u64| history.begins.get(&(node, shard)).copied().unwrap_or(0);
    // Where the first node has dropped the beginning of its log, the subscriber alone was given it.
    let whole = if begin(1) == 0 { history.feeds.get(&(1, shard)) } else { subscribed };
    let Some(feed) = whole else {
        found.add(missing(format!("the feed of shard {shard} was not read")));
        return NO_FEED;
    };
    let others =
        (1..=replicas.nodes).map(|node| (format!("node {node}"), history.feeds.get(&(node, shard)), begin(node)));
    for (reader, other, begin) in others.chain([("the subscriber".to_owned(), subscribed, 0)]) {
        let Some(other) = other else {
            found.add(missing(format!("{reader} has no feed of shard {shard}")));
            continue;
        };
        let feed = &feed[feed.partition_point(|(index, _)| *index < begin)..];
        let differs = feed.iter().zip(other).position(|(one, other)| one != other);
        let is_shorter = (feed.len() != other.len()).then(|| feed.len().min(other.len()));
        if let Some(place) = differs.or(is_shorter) {
            let at = |feed: &[(u64, _)]| feed.get(place).map(|(index, _)| *index);
            found.add(Violation::FeedsDiffer { shard, reader, index: at(feed), other_index: at(other) });
        }
    }
    if let Some(place) = feed.windows(2).position(|pair| pair[0].0 >= pair[1].0) {
        found.add(missing(format!("the feed of shard {shard} goes back behind index {}", feed[place].0)));
    }
    let mut state = ShardState::default();
    feed.iter().for_each(|(index, facts)| state.apply(LogIndex(*index), facts));
    if replicas.pages.get(&shard) != Some(&pages(&state)) {
        found.add(missing(format!("the feed of shard {shard} does not make the state that its replicas have")));
    }
    feed
}

/// How often each reading is in the feeds, by shard.
#[derive(Default)]
struct Readings(BTreeMap<(u32, SentReading), u32>);

impl Readings {
    fn count(&mut self, shard: u32, feed: &Feed, found: &mut Violations) {
        let mut sequences: BTreeMap<&[u8], u64> = BTreeMap::new();
        for (index, facts) in feed {
            for fact in &facts.facts {
                match &fact.fact {
                    Some(Fact::ReadingsReported(reported)) => {
                        for reading in reported.readings.iter().flat_map(|readings| readings.iter()) {
                            let (device, attribute) = (reading.device.0, reading.attribute);
                            let sent = SentReading { device, attribute, observed_us: reading.observed_us };
                            *self.0.entry((shard, sent)).or_default() += 1;
                        }
                    }
                    Some(Fact::ReadingsAccepted(accepted)) => {
                        let last = sequences.insert(&accepted.stream, accepted.sequence).unwrap_or(0);
                        if accepted.sequence != last + 1 {
                            let what =
                                format!("shard {shard}, index {index}: part {} follows {last}", accepted.sequence);
                            found.add(Violation::Broken { what });
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    fn check(mut self, history: &History, found: &mut Violations) {
        for part in history.parts.values().flatten() {
            for reading in &part.readings {
                let device =
                    format!("shard {}, device {}, attribute {}", part.shard, reading.device, reading.attribute);
                let observed_us = reading.observed_us;
                match self.0.remove(&(part.shard, *reading)) {
                    None if part.is_acknowledged => found.add(Violation::ReadingLost { device, observed_us }),
                    None | Some(1) => {}
                    Some(_) => found.add(Violation::ReadingRepeated { device, observed_us }),
                }
            }
        }
        for (shard, reading) in self.0.into_keys() {
            let device = format!("shard {shard}, device {}, attribute {}", reading.device, reading.attribute);
            found.add(Violation::ReadingInvented { device, observed_us: reading.observed_us });
        }
    }
}

/// A place in the feed of a shard: index and ordinal.
type Place = (u64, u32);

/// The writes that the feed has of each device's level, in order.
fn written(feed: &Feed) -> BTreeMap<String, Vec<(Place, f64)>> {
    let mut names = BTreeMap::new();
    let mut written: BTreeMap<String, Vec<(Place, f64)>> = BTreeMap::new();
    for (index, facts) in feed {
        let mut ordinal = 0;
        for fact in &facts.facts {
            match &fact.fact {
                Some(Fact::DeviceRegistered(registered)) => {
                    drop(names.insert(registered.device, registered.name.clone()))
                }
                Some(Fact::DesiredChanged(DesiredChanged { device, set, .. })) => {
                    let level = set.iter().find(|desired| desired.attribute == LEVEL);
                    let level = level.and_then(|level| level.value.as_ref()?.kind.as_ref());
                    if let (Some(value::Kind::Number(level)), Some(name)) = (level, names.get(device)) {
                        written.entry(name.clone()).or_default().push(((*index, ordinal), *level));
                    }
                }
                _ => {}
            }
            ordinal += ordinals(fact);
        }
    }
    written
}

/// Each device's level is a linearizable register: writes took effect in the order of the feed, each between its call and its
/// answer, and a read shows the last one before it.
fn check_registers(history: &History, shard: u32, feed: &Feed, found: &mut Violations) {
    let written = written(feed);
    let mut by_device: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
    for operation in history.operations.iter().filter(|operation| operation.shard == shard) {
        by_device.entry(&operation.device).or_default().push(operation);
    }
    for (device, operations) in by_device {
        let writes = written.get(device).map_or(&[][..], Vec::as_slice);
        let mut placed: Vec<Placed> = Vec::new();
        for operation in operations {
            match place(operation, writes) {
                Ok(place) => placed.extend(place),
                Err(what) => found.add(Violation::RegisterBroken { device: device.to_owned(), what }),
            }
        }
        check_order(device, placed, found);
    }
}

/// An operation whose effect has a place: at the write of this place, or behind it and before the next.
#[derive(Clone, Copy, Debug)]
struct Placed {
    begun_us: i64,
    /// `None`: nobody was told, so it may have taken effect at any time after it began.
    ended_us: Option<i64>,
    place: Place,
    is_write: bool,
}

/// Where `operation` took effect, given all writes; `None`: nowhere.
fn place(operation: &Operation, writes: &[(Place, f64)]) -> Result<Option<Placed>, String> {
    let Operation { begun_us, ended, asked, .. } = operation;
    let told = ended.as_ref().map(|(_, told)| *told);
    let at = |place, is_write, ended_us| Some(Placed { begun_us: *begun_us, ended_us, place, is_write });
    let known_us = ended.as_ref().filter(|(_, told)| *told != Told::Unknown).map(|(us, _)| *us);
    match (asked, told) {
        (Asked::Write(value), told) => {
            let mut places = writes.iter().filter(|(_, written)| written == value).map(|(place, _)| *place);
            let first = places.next();
            if places.next().is_some() {
                return Err(format!("the write of {value} took effect twice"));
            }
            match (told, first) {
                (Some(Told::Written(position)), Some(place)) if place == (position.index, position.ordinal) => {
                    Ok(at(place, true, known_us))
                }
                (Some(Told::Written(position)), place) => {
                    Err(format!("the write of {value} was acknowledged at {position:?} and is at {place:?}"))
                }
                (Some(Told::NotApplied), Some(place)) => {
                    Err(format!("the write of {value} was said not to be applied and is at {place:?}"))
                }
                (Some(Told::Read { .. }), _) => Err(format!("the write of {value} was answered as a read")),
                (Some(Told::Unknown) | None, Some(place)) => Ok(at(place, true, None)),
                (Some(Told::NotApplied | Told::Unknown) | None, None) => Ok(None),
            }
        }
        (Asked::Read, Some(Told::Read { index, value })) => {
            let last = writes.iter().rev().find(|(place, _)| place.0 <= index);
            if last.map(|(_, written)| *written) != value {
                return Err(format!("a read at index {index} showed {value:?}, the feed has {last:?}"));
            }
            Ok(at(last.map_or((0, 0), |(place, _)| *place), false, known_us))
        }
        (Asked::Read, _) => Ok(None),
    }
}

/// What ended before something else began took effect before it.
fn check_order(device: &str, mut placed: Vec<Placed>, found: &mut Violations) {
    placed.sort_by_key(|operation| operation.begun_us);
    let mut ends: Vec<Placed> = placed.iter().filter(|operation| operation.ended_us.is_some()).copied().collect();
    ends.sort_by_key(|operation| operation.ended_us);
    let mut ends = ends.into_iter().peekable();
    let mut latest: Option<Placed> = None;
    for operation in placed {
        while let Some(ended) = ends.next_if(|ended| ended.ended_us < Some(operation.begun_us)) {
            if latest.is_none_or(|latest| ended.place > latest.place) {
                latest = Some(ended);
            }
        }
        let Some(latest) = latest else { continue };
        let is_behind =
            if operation.is_write { operation.place <= latest.place } else { operation.place < latest.place };
        if is_behind {
            let what = format!("{operation:?} took effect before {latest:?}, which had ended");
            found.add(Violation::RegisterBroken { device: device.to_owned(), what });
        }
    }
}

/// Accepted commands are in the log once, refused ones are not, all of them end, and what is said to have succeeded was done.
fn check_commands(history: &History, shard: u32, feed: &Feed, found: &mut Violations) {
    let mut issued: BTreeMap<&str, u32> = BTreeMap::new();
    let mut states: BTreeMap<&str, u32> = BTreeMap::new();
    for fact in feed.iter().flat_map(|(_, facts)| &facts.facts) {
        match &fact.fact {
            Some(Fact::CommandIssued(CommandIssued { id, service, .. })) if service.is_empty() => {
                *issued.entry(id).or_default() += 1;
            }
            Some(Fact::CommandChanged(CommandChanged { id, state, .. })) => drop(states.insert(id, *state)),
            _ => {}
        }
    }
    let mut broken = |id: &str, what: &str| {
        found.add(Violation::CommandBroken { id: id.to_owned(), what: what.to_owned() });
    };
    let mut known = BTreeSet::new();
    for command in history.commands.iter().filter(|command| command.shard == shard) {
        let id = command.id.as_str();
        known.insert(id);
        match (command.is_accepted, issued.get(id)) {
            (Some(true), Some(1)) | (None, Some(1)) | (Some(false) | None, None) => {}
            (Some(true), None) => broken(id, "it was accepted and is not in the log"),
            (Some(false), Some(_)) => broken(id, "it was said not to be accepted and is in the log"),
            (_, Some(_)) => broken(id, "it is in the log more than once"),
        }
        if issued.contains_key(id) {
            let state = states.get(id).and_then(|state| CommandState::from_message(*state));
            if !state.is_some_and(CommandState::is_ended) {
                broken(id, "it has no end");
            }
            if state == Some(CommandState::Succeeded) && !history.executed.contains(id) {
                broken(id, "it is said to have succeeded and was never executed");
            }
        } else if history.executed.contains(id) {
            broken(id, "it was executed and never issued");
        }
    }
    for id in issued.into_keys().filter(|id| !known.contains(id)) {
        broken(id, "nobody issued it");
    }
}

/// What comes to a gateway comes for the latest leader that its node knows, before its deadline by its node's clock, and not long
/// after its end: devices that check nothing for themselves rely on it.
fn check_arrivals(history: &History, shard: u32, feed: &Feed, found: &mut Violations) {
    let mut ended_us: BTreeMap<&str, i64> = BTreeMap::new();
    for (_, facts) in feed {
        for fact in &facts.facts {
            if let Some(Fact::CommandChanged(CommandChanged { id, state, .. })) = &fact.fact
                && CommandState::from_message(*state).is_some_and(CommandState::is_ended)
            {
                ended_us.entry(id).or_insert(facts.time_us);
            }
        }
    }
    let mut highest: BTreeMap<(u128, u64), u64> = BTreeMap::new();
    for arrival in history.arrivals.iter().filter(|arrival| arrival.shard == shard) {
        let Arrival { epoch, stream, connection, arrived_us, node_us, command, .. } = arrival;
        let named = || command.as_ref().map_or_else(|| "a desired state".to_owned(), |command| command.id.clone());
        let highest = highest.entry((*stream, *connection)).or_default();
        if epoch < highest {
            let (epoch, highest) = (*epoch, *highest);
            found.add(Violation::DeliveredStale { command: named(), shard, epoch, highest });
        }
        *highest = (*highest).max(*epoch);
        let Some(command) = command else { continue };
        let late_us = node_us - command.deadline_us;
        if late_us > HANDED_OVER_MAX_US {
            found.add(Violation::DeliveredLate { command: named(), late_us });
        }
        let late_us = ended_us.get(command.id.as_str()).map_or(0, |ended_us| arrived_us - ended_us);
        if late_us > ON_ITS_WAY_MAX_US {
            found.add(Violation::DeliveredAfterEnd { command: named(), late_us });
        }
    }
}

#[cfg(test)]
mod tests;
