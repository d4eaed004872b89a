//! The rule, on moments that are made up: what is told is never younger than what was known.

use openraft::ServerState;
use openraft::metrics::SerdeInstant;
use openraft_rt_tokio::TokioInstant;
use proptest::prelude::*;

use super::*;
use crate::raft::{LeaderId, LogId, Vote};

const REPLICA: u64 = 7;

fn milliseconds(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// What a follower that took a stamp at `stamped` reads at `now` from the word of a leader that received it at `received` and
/// was confirmed at `confirmed`; all since one beginning, and nothing before it.
fn read(stamped: Duration, received: Duration, confirmed: Duration, now: Duration) -> Option<Duration> {
    let begun = Instant::now();
    let stamper = Stamper { replica: REPLICA, begun };
    let stamp = stamper.stamp(begun + stamped);
    let confirmed = Confirmed { at: begun + confirmed, committed: LogIndex(3) };
    let word = word(Some((stamp, begun + received)), Some(confirmed));
    let read = stamper.read(&word, begun + now)?;
    assert_eq!(read.committed, LogIndex(3));
    Some(read.at.saturating_duration_since(begun))
}

#[test]
fn a_word_is_as_old_as_the_stamp_and_the_quorum_make_it() {
    let at = |stamped, received, confirmed, now| {
        read(milliseconds(stamped), milliseconds(received), milliseconds(confirmed), milliseconds(now))
    };
    assert_eq!(at(100, 101, 250, 251), Some(milliseconds(100)), "a quorum confirmed it since");
    assert_eq!(at(9_000, 9_001, 2_001, 9_150), Some(milliseconds(2_000)), "the quorum is gone for seven seconds");
    assert_eq!(at(100, 101, 101, 30_000), Some(milliseconds(100)), "it lay in a socket for half a minute");
    assert_eq!(at(100, 30_000, 101, 30_001), Some(Duration::ZERO), "the leader stood still: longer ago than it can be");
}

#[test]
fn a_stamp_of_another_life_or_of_the_future_says_nothing() {
    let begun = Instant::now();
    let (before, after) = (Stamper { replica: 1, begun }, Stamper { replica: 2, begun });
    let now = begun + milliseconds(500);
    let told = |stamp| word(Some((stamp, now)), Some(Confirmed { at: now, committed: LogIndex(3) }));
    assert_eq!(after.read(&told(before.stamp(now)), now), None);
    assert_eq!(after.read(&told(after.stamp(now + milliseconds(1))), now), None);
    assert_eq!(after.read(&told(wire::Stamp { replica: 2, elapsed_us: u64::MAX }), now), None);
    assert_eq!(after.read(&wire::QuorumWord::default(), now), None);
    assert!(after.read(&told(after.stamp(now)), now).is_some());
}

#[test]
fn who_has_no_stamp_or_no_quorum_tells_nothing() {
    let now = Instant::now();
    let stamp = Stamper { replica: REPLICA, begun: now }.stamp(now);
    assert_eq!(word(None, Some(Confirmed { at: now, committed: LogIndex(3) })).stamp, None);
    assert_eq!(word(Some((stamp, now)), None).stamp, None);
}

#[test]
fn only_a_leader_that_committed_something_of_its_own_knows_what_is_committed() {
    let log_id = |term, index| LogId::new(LeaderId { term, node_id: 1 }, index);
    let mut metrics = RaftMetrics::<Types>::new_initial(1);
    metrics.vote = Vote::new_committed(4, 1);
    metrics.last_quorum_acked = Some(SerdeInstant::new(TokioInstant::now()));
    metrics.cluster_committed = Some(log_id(4, 9));
    assert_eq!(Confirmed::of(&metrics), None, "a follower");
    metrics.state = ServerState::Leader;
    assert_eq!(Confirmed::of(&metrics).map(|confirmed| confirmed.committed), Some(LogIndex(9)));
    metrics.cluster_committed = Some(log_id(3, 8));
    assert_eq!(Confirmed::of(&metrics), None, "its predecessor may have committed more");
    metrics.cluster_committed = Some(log_id(4, 9));
    metrics.last_quorum_acked = None;
    assert_eq!(Confirmed::of(&metrics), None, "nobody has answered it");
}

proptest! {
    /// A stamp is received after it was taken, and read after all else.
    #[test]
    fn what_is_told_is_never_younger_than_the_stamp_or_the_quorums_word(
        stamped in 0u64..10_000_000, way in 0u64..10_000_000, confirmed in 0u64..20_000_000, rest in 0u64..10_000_000,
    ) {
        let [stamped, received] = [stamped, stamped + way].map(Duration::from_micros);
        let confirmed = Duration::from_micros(confirmed);
        let now = received.max(confirmed) + Duration::from_micros(rest);
        if let Some(at) = read(stamped, received, confirmed, now) {
            prop_assert!(at <= stamped && at <= confirmed);
        }
    }
}
