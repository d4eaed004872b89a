//! Which node is called next: pure, told what time it is.

use std::time::Duration;

use tokio::time::Instant;

use super::EndpointId;

/// A node that failed is left alone for so long while others are there.
const REST: Duration = Duration::from_secs(2);

/// Before a learned node that could not be reached is tried again.
const PROBE_PAUSE: Duration = Duration::from_secs(60);

/// Which node is next: one stays preferred as long as it works; those that failed rest.
#[derive(Debug)]
pub(super) struct Choice {
    configured: usize,
    preferred: usize,
    next_turn: usize,
    /// Of all nodes.
    resting_until: Vec<Option<Instant>>,
    /// Of those that were learned.
    reach: Vec<Reach>,
}

/// Whether a node can be reached from here whose address another node has told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    Probing,
    Reached,
    /// Addresses inside a cluster often mean nothing outside.
    Unreached {
        until: Instant,
    },
}

impl Choice {
    pub(super) fn new(nodes: usize, first: usize) -> Self {
        Self {
            configured: nodes,
            preferred: first,
            next_turn: first,
            resting_until: vec![None; nodes],
            reach: Vec::new(),
        }
    }

    pub(super) fn pick(&mut self, now: Instant) -> EndpointId {
        self.preferred = self.rested_from(self.preferred, now);
        EndpointId(self.preferred)
    }

    pub(super) fn take_turn(&mut self, now: Instant) -> EndpointId {
        let turn = self.rested_from(self.next_turn, now);
        self.next_turn = (turn + 1) % self.configured;
        EndpointId(turn)
    }

    pub(super) fn fail(&mut self, id: EndpointId, now: Instant) {
        self.resting_until[id.0] = Some(now + REST);
    }

    pub(super) fn succeed(&mut self, id: EndpointId) {
        self.resting_until[id.0] = None;
    }

    /// A node was learned, which comes behind all others, and is being probed.
    pub(super) fn add_learned(&mut self) {
        self.resting_until.push(None);
        self.reach.push(Reach::Probing);
    }

    /// Whether a node that was learned is to be probed now, by the caller.
    pub(super) fn begin_probe(&mut self, id: EndpointId, now: Instant) -> bool {
        let Some(reach) = self.reach_of(id) else { return false };
        let is_due = matches!(reach, Reach::Unreached { until } if *until <= now);
        if is_due {
            *reach = Reach::Probing;
        }
        is_due
    }

    pub(super) fn end_probe(&mut self, id: EndpointId, is_reached: bool, now: Instant) {
        if let Some(reach) = self.reach_of(id) {
            *reach = if is_reached { Reach::Reached } else { Reach::Unreached { until: now + PROBE_PAUSE } };
        }
    }

    pub(super) fn is_fit(&mut self, id: EndpointId, now: Instant) -> bool {
        let is_reached = self.reach_of(id).is_none_or(|reach| *reach == Reach::Reached);
        is_reached && self.resting_until[id.0].is_none_or(|until| until <= now)
    }

    fn reach_of(&mut self, id: EndpointId) -> Option<&mut Reach> {
        self.reach.get_mut(id.0.checked_sub(self.configured)?)
    }

    /// The first node from `start` on that does not rest; when all do, the one that has rested longest.
    fn rested_from(&self, start: usize, now: Instant) -> usize {
        let count = self.configured;
        let in_turn = (0..count).map(|step| (start + step) % count);
        in_turn
            .min_by_key(|node| self.resting_until[*node].filter(|until| *until > now))
            .expect("there is at least one endpoint")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_node_that_failed_rests_and_the_next_one_stays() {
        let mut choice = Choice::new(3, 1);
        assert_eq!(choice.pick(Instant::now()), EndpointId(1));
        choice.fail(EndpointId(1), Instant::now());
        assert_eq!(choice.pick(Instant::now()), EndpointId(2));
        tokio::time::advance(REST * 2).await;
        assert_eq!(choice.pick(Instant::now()), EndpointId(2), "a node that works stays preferred");
    }

    #[tokio::test(start_paused = true)]
    async fn when_all_failed_the_longest_rested_is_tried() {
        let mut choice = Choice::new(3, 0);
        for node in [2, 0, 1] {
            choice.fail(EndpointId(node), Instant::now());
            tokio::time::advance(REST / 8).await;
        }
        assert_eq!(choice.pick(Instant::now()), EndpointId(2));
    }

    #[tokio::test(start_paused = true)]
    async fn streams_are_spread_over_the_nodes_that_work() {
        let mut choice = Choice::new(3, 2);
        choice.fail(EndpointId(0), Instant::now());
        let turns: Vec<_> = (0..4).map(|_| choice.take_turn(Instant::now()).0).collect();
        assert_eq!(turns, [2, 1, 2, 1]);
    }
    #[tokio::test(start_paused = true)]
    async fn a_learned_node_is_called_once_it_was_reached_and_never_in_turn() {
        let mut choice = Choice::new(1, 0);
        let learned = EndpointId(1);
        choice.add_learned();
        assert!(!choice.is_fit(learned, Instant::now()), "it is being probed");
        choice.end_probe(learned, false, Instant::now());
        assert!(!choice.begin_probe(learned, Instant::now()), "it was probed a moment ago");
        tokio::time::advance(PROBE_PAUSE).await;
        assert!(choice.begin_probe(learned, Instant::now()));
        assert!(!choice.begin_probe(learned, Instant::now()), "one probe at a time");
        choice.end_probe(learned, true, Instant::now());
        assert!(choice.is_fit(learned, Instant::now()));
        choice.fail(learned, Instant::now());
        assert!(!choice.is_fit(learned, Instant::now()), "it rests");
        assert_eq!([choice.pick(Instant::now()), choice.take_turn(Instant::now())], [EndpointId(0); 2]);
    }
}
