//! How long it takes from proposing an entry to its commit, what becomes of entries, and how long the log's syncs take on the way:
//! of a node, all its shards together.

use kvarter_actors::{City, ProposalOutcome};
use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;

/// Seconds: from a sync on a good disk up to the time after which an outcome is unknown.
const BOUNDARIES: [f64; 14] =
    [0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.0, 2.0, 4.0];

pub(super) fn observe(meter: &Meter, city: &City) {
    let pending = city.clone();
    meter
        .u64_observable_gauge("kvarter.proposals.pending")
        .with_description("Entries that this node proposed and whose outcome is open")
        .with_callback(move |gauge| gauge.observe(pending.proposals_pending() as u64, &[]))
        .build();
    let duration = meter
        .f64_histogram("kvarter.proposal.duration")
        .with_unit("s")
        .with_description("Time from handing an entry to the log until it is on a quorum and applied here, or is not")
        .with_boundaries(BOUNDARIES.to_vec())
        .build();
    let synced = meter
        .f64_histogram("kvarter.log.sync.duration")
        .with_unit("s")
        .with_description("Time in which the log writes and syncs what waits for all groups of the node")
        .with_boundaries(BOUNDARIES.to_vec())
        .build();
    city.cluster().observe_syncs(move |took| synced.record(took.as_secs_f64(), &[]));
    city.observe_proposals(move |end| {
        duration.record(end.took.as_secs_f64(), &[KeyValue::new("outcome", name(end.outcome))]);
    });
}

fn name(outcome: ProposalOutcome) -> &'static str {
    match outcome {
        ProposalOutcome::Committed => "committed",
        ProposalOutcome::NotLeader => "not_leader",
        ProposalOutcome::Unknown => "unknown",
    }
}
