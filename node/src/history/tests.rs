//! History as bytes and as files: whatever is torn off or changed, what is read is true, and nothing is missing or twice.

use kvarter_api::v1::{
    AttributeReported, ConnectivityChanged, Fact, FeedFilter, FeedMessage, Gap, HistoryFacts, Quality, Value, fact,
    value,
};
use proptest::prelude::*;
use prost_types::Timestamp;
use tempfile::TempDir;

use super::record::{ReadError, RecordReader};
use super::*;

const SHARD: u32 = 3;

fn at(index: u64, ordinal: u32) -> Position {
    Position { shard: SHARD, index, ordinal }
}

fn time(seconds: i64) -> Timestamp {
    Timestamp { seconds, nanos: 0 }
}

fn fact_at(index: u64, ordinal: u32) -> Fact {
    Fact {
        position: Some(at(index, ordinal)),
        time: Some(time(1_700_000_000)),
        device: "districts/harbour/devices/lamp-1".to_owned(),
        fact: Some(fact::Fact::ConnectivityChanged(ConnectivityChanged { connected: ordinal.is_multiple_of(2) })),
    }
}

/// What a feed says: entries of one to four facts, split into messages anywhere, with gaps and silent moves between.
fn feed() -> impl Strategy<Value = Vec<FeedMessage>> {
    let step = (0u8..8, 1u32..5, 1u64..4, any::<bool>());
    prop::collection::vec(step, 1..40).prop_map(|steps| {
        let mut index = 0;
        let mut messages = Vec::new();
        let mut message =
            |facts, gap, next| messages.push(FeedMessage { shard: SHARD, facts, next, gap, beginnings: vec![] });
        for (what, facts, ahead, split) in steps {
            let before = index;
            index += ahead;
            match what {
                0 => message(vec![], None, Some(at(index, u32::MAX))),
                1 => {
                    let (from, to) = (Some(at(before, u32::MAX)), Some(at(index, u32::MAX)));
                    // Before all facts there is no entry to be behind.
                    let from = if before == 0 { Some(at(0, 0)) } else { from };
                    message(vec![], Some(Gap { from, to }), to);
                }
                _ => {
                    let mut facts: Vec<_> = (0..facts).map(|ordinal| fact_at(index, ordinal)).collect();
                    if split && facts.len() > 1 {
                        let rest = facts.split_off(1);
                        message(facts, None, Some(at(index, 0)));
                        facts = rest;
                    }
                    message(facts, None, Some(at(index, u32::MAX)));
                }
            }
        }
        messages
    })
}

/// The feed from behind `cursor`, as a subscriber gets it: of messages that it knows in part the rest.
fn behind(feed: &[FeedMessage], cursor: Position) -> Vec<FeedMessage> {
    let is_new = |message: &&FeedMessage| message.next.is_some_and(|next| place(next) > place(cursor));
    feed.iter().filter(is_new).cloned().collect()
}

fn archive(dir: &Path, bytes: u64) -> Archive {
    let bounds = SegmentBounds { bytes, age: std::time::Duration::from_secs(60) };
    Archive::open(dir, FeedFilter::default(), bounds, time(1_000)).expect("opened")
}

/// All facts and gaps in the files of `dir`, whose continuity is checked on the way.
fn contents(dir: &Path) -> (Vec<Fact>, Vec<Gap>) {
    let (mut facts, mut gaps, mut previous) = (Vec::new(), Vec::new(), None);
    for file in files(dir).expect("listed") {
        let reading = read::<HistoryError>(&file, previous, |record| {
            match record {
                Record::Facts(more) => facts.extend(more.facts.iter().cloned()),
                Record::Gap(gap) => gaps.push(*gap),
                Record::Header(_) | Record::Footer(_) => {}
            }
            Ok(())
        });
        previous = reading.expect("whole").map(|reading| reading.account.next()).or(previous);
    }
    (facts, gaps)
}

fn of_feed(feed: &[FeedMessage]) -> (Vec<Fact>, Vec<Gap>) {
    let facts = feed.iter().flat_map(|message| message.facts.iter().cloned()).collect();
    (facts, feed.iter().filter_map(|message| message.gap).collect())
}

fn records(feed: &[FeedMessage]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut sum = 0;
    for message in feed {
        let facts = HistoryFacts { facts: message.facts.clone(), next: message.next };
        sum = record::encode(Record::Facts(facts), sum, &mut bytes);
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The archiver is killed after any message and at any byte of what it wrote, as often as it likes.
    #[test]
    fn an_archive_that_is_killed_anywhere_has_everything_once(
        feed in feed(),
        bytes_max in 1u64..2_000,
        kills in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..6),
    ) {
        let dir = TempDir::new().expect("a directory");
        for (after, torn) in kills {
            let mut archive = archive(dir.path(), bytes_max);
            let cursor = archive.cursors([SHARD])[0];
            let rest = behind(&feed, cursor);
            for message in rest.iter().take(after.index(rest.len() + 1)) {
                archive.take(message.clone(), time(1_000)).expect("written");
            }
            drop(archive);
            if let Some(open) = files(dir.path()).expect("listed").into_iter().find(|file| file.is_open) {
                let length = std::fs::metadata(&open.path).expect("there").len();
                let cut = torn.index(usize::try_from(length).expect("short") + 1) as u64;
                File::options().write(true).open(&open.path).and_then(|file| file.set_len(cut)).expect("cut");
            }
        }
        let mut archive = archive(dir.path(), bytes_max);
        for message in behind(&feed, archive.cursors([SHARD])[0]) {
            archive.take(message, time(1_000)).expect("written");
        }
        archive.seal_all(time(1_000)).expect("sealed");
        prop_assert!(files(dir.path()).expect("listed").iter().all(|file| !file.is_open));
        prop_assert_eq!(contents(dir.path()), of_feed(&feed));
        let last = feed.last().and_then(|message| message.next).expect("a cursor");
        prop_assert_eq!(archive.cursors([SHARD]), [last]);
    }

    #[test]
    fn of_records_that_are_cut_off_the_whole_ones_are_read(feed in feed(), cut: prop::sample::Index) {
        let bytes = records(&feed);
        let mut reader = RecordReader::new(&bytes[..cut.index(bytes.len() + 1)]);
        let mut read = Vec::new();
        while let Ok(Some(record)) = reader.next() {
            read.push(record);
        }
        let whole = &bytes[..usize::try_from(reader.offset()).expect("short")];
        prop_assert_eq!(records(&feed[..read.len()]), whole);
    }

    #[test]
    fn a_changed_bit_is_noticed_in_its_record_or_the_next(feed in feed(), place: prop::sample::Index, bit in 0u8..8) {
        let mut bytes = records(&feed);
        let place = place.index(bytes.len());
        bytes[place] ^= 1 << bit;
        let mut reader = RecordReader::new(bytes.as_slice());
        let damage = loop {
            match reader.next() {
                Ok(Some(_)) => {}
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        prop_assert!(matches!(damage, Some(ReadError::Damaged { offset, .. }) if offset <= place as u64), "{damage:?}");
    }

    #[test]
    fn hostile_bytes_are_no_records(bytes: Vec<u8>) {
        let mut reader = RecordReader::new(bytes.as_slice());
        while let Ok(Some(_)) = reader.next() {}
        prop_assert!(reader.offset() <= bytes.len() as u64);
    }
}

/// Facts of an entry each.
fn some_facts(indexes: std::ops::RangeInclusive<u64>) -> Vec<FeedMessage> {
    let message = |index| FeedMessage {
        shard: SHARD,
        facts: vec![fact_at(index, 0)],
        next: Some(at(index, u32::MAX)),
        ..FeedMessage::default()
    };
    indexes.map(message).collect()
}

fn sealed(dir: &Path, feed: Vec<FeedMessage>) -> HistoryFile {
    let mut archive = archive(dir, 1_000_000);
    for message in feed {
        archive.take(message, time(1_000)).expect("written");
    }
    archive.seal_all(time(1_060)).expect("sealed").remove(0).file
}

#[test]
fn a_file_is_sealed_when_it_is_old_also_when_it_only_moved_on() {
    let dir = TempDir::new().expect("a directory");
    let mut archive = archive(dir.path(), 1_000_000);
    let moved = FeedMessage { shard: SHARD, next: Some(at(9, u32::MAX)), ..FeedMessage::default() };
    archive.take(moved, time(1_000)).expect("taken");
    assert!(archive.seal_old(time(1_059)).expect("looked").is_empty());
    let sealed = archive.seal_old(time(1_060)).expect("sealed");
    assert_eq!(sealed.iter().map(|sealed| (sealed.facts, sealed.next)).collect::<Vec<_>>(), [(0, at(9, u32::MAX))]);
    assert_eq!(archive.cursors([SHARD, 4]), [at(9, u32::MAX), Position { shard: 4, index: 0, ordinal: 0 }]);
}

#[test]
fn what_was_all_but_sealed_is_sealed_at_the_next_start() {
    let dir = TempDir::new().expect("a directory");
    let file = sealed(dir.path(), some_facts(1..=3));
    std::fs::rename(&file.path, file.path.with_extension(OPEN)).expect("renamed");
    let archive = archive(dir.path(), 1_000_000);
    assert_eq!(archive.cursors([SHARD]), [at(3, u32::MAX)]);
    assert_eq!(files(dir.path()).expect("listed"), [file]);
}

#[test]
fn an_archive_does_not_go_on_behind_a_damaged_file() {
    let dir = TempDir::new().expect("a directory");
    let file = sealed(dir.path(), some_facts(1..=3));
    let bytes = std::fs::read(&file.path).expect("read");
    std::fs::write(&file.path, &bytes[..bytes.len() - 1]).expect("written");
    let bounds = SegmentBounds { bytes: 1, age: std::time::Duration::from_secs(60) };
    let refused = Archive::open(dir.path(), FeedFilter::default(), bounds, time(0)).err().expect("refused").to_string();
    assert!(refused.contains("is damaged at byte"), "{refused}");
}

#[test]
fn a_missing_file_and_another_filter_and_a_second_writer_are_noticed() {
    let dir = TempDir::new().expect("a directory");
    sealed(dir.path(), some_facts(1..=3));
    let second = sealed(dir.path(), some_facts(4..=5));
    let error = read::<HistoryError>(&second, Some(at(2, u32::MAX)), |_| Ok(())).err().expect("refused").to_string();
    assert!(error.ends_with("begins at 3:3:4294967295, but the file before it ends at 3:2:4294967295"), "{error}");

    let bounds = SegmentBounds { bytes: 1, age: std::time::Duration::from_secs(60) };
    let filter = FeedFilter { districts: vec!["districts/harbour".to_owned()], kinds: vec![] };
    let refused = Archive::open(dir.path(), filter, bounds, time(0)).err().expect("refused");
    assert!(matches!(refused, HistoryError::OtherFilter { .. }), "{refused}");

    let _first = archive(dir.path(), 1);
    let refused = Archive::open(dir.path(), FeedFilter::default(), bounds, time(0)).err().expect("refused");
    assert!(matches!(refused, HistoryError::Locked { .. }), "{refused}");
}

#[test]
fn a_feed_that_goes_back_is_not_written() {
    let dir = TempDir::new().expect("a directory");
    let mut archive = archive(dir.path(), 1_000_000);
    let mut feed = some_facts(1..=2);
    archive.take(feed.remove(1), time(1_000)).expect("written");
    let refused = archive.take(feed.remove(0), time(1_000)).expect_err("refused");
    assert!(matches!(refused, HistoryError::Misplaced { reason: Misplaced::NotInOrder, .. }), "{refused}");
}

/// Bytes that an earlier build wrote. They are read as long as there is history of theirs.
#[test]
fn the_format_of_files_does_not_change_unnoticed() {
    let reported = AttributeReported {
        attribute: "level".to_owned(),
        value: Some(Value { kind: Some(value::Kind::Number(80.5)) }),
        observe_time: Some(time(1_699_999_999)),
        quality: Quality::Good.into(),
        late: true,
    };
    let reading = Fact { fact: Some(fact::Fact::AttributeReported(reported)), ..fact_at(7, 2) };
    let gap = Gap { from: Some(at(0, 0)), to: Some(at(6, u32::MAX)) };
    let feed = vec![
        FeedMessage { shard: SHARD, gap: Some(gap), next: gap.to, ..FeedMessage::default() },
        FeedMessage {
            shard: SHARD,
            facts: vec![fact_at(7, 0), reading.clone()],
            next: Some(at(7, 2)),
            ..FeedMessage::default()
        },
        FeedMessage { shard: SHARD, next: Some(at(9, u32::MAX)), ..FeedMessage::default() },
    ];
    let dir = TempDir::new().expect("a directory");
    let file = sealed(dir.path(), feed);
    let hex: String = std::fs::read(&file.path).expect("read").iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, include_str!("../../tests/fixtures/history.hex").trim());
    assert!(file.path.ends_with("shard-00003-00000000000000000000-0000000000.history"), "{}", file.path.display());
    assert_eq!(contents(dir.path()), (vec![fact_at(7, 0), reading], vec![gap]));
}
