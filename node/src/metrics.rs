//! What is measured of the cluster and the city, read when somebody looks: nothing is counted per reading here.
//!
//! Figures of a shard are replicated, so every replica's node shows the same ones: take the maximum over nodes, not the
//! sum. There is no label per device. Calls of the API are measured in [`crate::telemetry`].

mod leader_changes;
mod memory;
mod proposals;

use kvarter_actors::{City, Criticality, ShardCounters};
use kvarter_cluster::ShardId;
use opentelemetry::KeyValue;
use opentelemetry::metrics::{AsyncInstrument, Meter};
use tokio::sync::watch;

use crate::admin::Readiness;

pub(crate) use leader_changes::count_leader_changes;

/// Shows what `city` and its cluster are like, as long as the meter's provider lives.
pub(crate) fn observe(meter: &Meter, city: &City, readiness: watch::Receiver<Readiness>) {
    observe_node(meter, city, readiness);
    proposals::observe(meter, city);
    observe_requests(meter, city);
    observe_devices(meter, city);
    observe_shards(meter, city);
    observe_contents(meter, city);
}

fn observe_node(meter: &Meter, city: &City, readiness: watch::Receiver<Readiness>) {
    meter
        .u64_observable_gauge("kvarter.node.ready")
        .with_description("1 while the node serves clients")
        .with_callback(move |gauge| gauge.observe(u64::from(*readiness.borrow() == Readiness::Ready), &[]))
        .build();
    meter
        .u64_observable_gauge("process.memory.usage")
        .with_unit("By")
        .with_description("Physical memory of the process")
        .with_callback(|gauge| {
            if let Some(bytes) = memory::resident_bytes() {
                gauge.observe(bytes, &[]);
            }
        })
        .build();
    let disk = city.clone();
    meter
        .u64_observable_gauge("kvarter.disk.free")
        .with_unit("By")
        .with_description("What the node may still write to its disk")
        .with_callback(move |gauge| gauge.observe(disk.cluster().disk().borrow().free_bytes, &[]))
        .build();
    let fitness = city.clone();
    meter
        .u64_observable_gauge("kvarter.disk.full")
        .with_description("1 while less of the disk is free than `disk.free_min_percent`: nothing is taken in")
        .with_callback(move |gauge| gauge.observe(u64::from(fitness.cluster().disk().borrow().is_full), &[]))
        .build();
    let peers = city.clone();
    meter
        .u64_observable_gauge("kvarter.peer.reachable")
        .with_description("1 while the peer answers this node")
        .with_callback(move |gauge| {
            let cluster = peers.cluster();
            for id in cluster.meta().nodes.keys().filter(|id| **id != cluster.node()) {
                gauge.observe(u64::from(cluster.is_reachable(*id)), &[KeyValue::new("peer", id.to_string())]);
            }
        })
        .build();
    let probed = city.clone();
    meter
        .f64_observable_gauge("kvarter.peer.round_trip")
        .with_unit("s")
        .with_description("Time between the last probe of the peer and its answer")
        .with_callback(move |gauge| {
            let cluster = probed.cluster();
            for id in cluster.meta().nodes.keys().filter(|id| **id != cluster.node()) {
                if let Some(round_trip) = cluster.round_trip(*id) {
                    gauge.observe(round_trip.as_secs_f64(), &[KeyValue::new("peer", id.to_string())]);
                }
            }
        })
        .build();
}

/// What waits at the shards that this node leads, and what was refused because too much waited.
fn observe_requests(meter: &Meter, city: &City) {
    let waiting = city.clone();
    meter
        .u64_observable_gauge("kvarter.shard.requests.waiting")
        .with_description("Requests without an answer at a shard that this node leads")
        .with_callback(move |gauge| {
            let ids: Vec<_> = waiting.cluster().shards().borrow().keys().copied().collect();
            for id in ids {
                if let Some(requests) = waiting.requests_waiting(id) {
                    gauge.observe(requests as u64, &[shard(id)]);
                }
            }
        })
        .build();
    let forwarded = city.clone();
    meter
        .u64_observable_counter("kvarter.requests.forwarded")
        .with_description("Requests that this node passed on to another, mostly to a shard's leader")
        .with_callback(move |counter| counter.observe(forwarded.requests_forwarded(), &[]))
        .build();
    let refused = city.clone();
    meter
        .u64_observable_counter("kvarter.requests.refused")
        .with_description("Requests that this node refused as overloaded, by criticality")
        .with_callback(move |counter| {
            for criticality in Criticality::ALL {
                let label = [KeyValue::new("criticality", criticality.name())];
                counter.observe(refused.requests_refused(criticality), &label);
            }
        })
        .build();
    let defects = city.clone();
    meter
        .u64_observable_counter("kvarter.requests.defects")
        .with_description("Requests on which the code of a shard led here panicked: each is a defect to report")
        .with_callback(move |counter| counter.observe(defects.defects(), &[]))
        .build();
}

/// The code for devices, as far as it runs on this node.
fn observe_devices(meter: &Meter, city: &City) {
    let active = city.clone();
    meter
        .u64_observable_gauge("kvarter.device_actors")
        .with_description("Devices of shards led here that have something to be told, and an actor for that")
        .with_callback(move |gauge| gauge.observe(active.device_actors().active, &[]))
        .build();
    let failed = city.clone();
    meter
        .u64_observable_counter("kvarter.device_actors.failed")
        .with_description("Device actors that panicked or gave up")
        .with_callback(move |counter| counter.observe(failed.device_actors().failed, &[]))
        .build();
    let quarantined = city.clone();
    meter
        .u64_observable_gauge("kvarter.devices.quarantined")
        .with_description(
            "Devices whose code keeps failing: nothing is delivered to them while this node leads their shard",
        )
        .with_callback(move |gauge| gauge.observe(quarantined.device_actors().quarantined, &[]))
        .build();
}

/// Replication, by shard; the meta group has what can be known of it from outside.
fn observe_shards(meter: &Meter, city: &City) {
    let leaders = city.clone();
    meter
        .u64_observable_gauge("kvarter.shard.has_leader")
        .with_description("1 while this node knows the shard's leader")
        .with_callback(move |gauge| {
            let cluster = leaders.cluster();
            let all = std::iter::once(ShardId::META).chain(cluster.meta().shards.keys().copied().collect::<Vec<_>>());
            for id in all {
                gauge.observe(u64::from(cluster.leader(id).is_some()), &[shard(id)]);
            }
        })
        .build();
    let led = city.clone();
    meter
        .u64_observable_gauge("kvarter.shard.is_leader")
        .with_description("1 while this node leads the shard and serves its writes")
        .with_callback(move |gauge| {
            for (id, replica) in &*led.cluster().shards().borrow() {
                gauge.observe(u64::from(replica.leadership().borrow().is_ready), &[shard(*id)]);
            }
        })
        .build();
    let applied = city.clone();
    meter
        .u64_observable_counter("kvarter.shard.entries.applied")
        .with_description("Index of the last log entry applied here")
        .with_callback(move |counter| {
            for (id, replica) in &*applied.cluster().shards().borrow() {
                counter.observe(replica.view().applied.0, &[shard(*id)]);
            }
        })
        .build();
    let kept = city.clone();
    meter
        .u64_observable_gauge("kvarter.shard.feed.first_index")
        .with_description("First log index that the feed can be read from here")
        .with_callback(move |gauge| {
            for (id, replica) in &*kept.cluster().shards().borrow() {
                gauge.observe(replica.first_index().0, &[shard(*id)]);
            }
        })
        .build();
    let stale = city.clone();
    meter
        .f64_observable_gauge("kvarter.shard.staleness")
        .with_unit("s")
        .with_description("Time since this replica last knew that it was up to date with its leader")
        .with_callback(move |gauge| {
            for (id, replica) in &*stale.cluster().shards().borrow() {
                if let Some(staleness) = replica.staleness() {
                    gauge.observe(staleness.as_secs_f64(), &[shard(*id)]);
                }
            }
        })
        .build();
}

/// What the city holds, by shard, from the replicated counters.
fn observe_contents(meter: &Meter, city: &City) {
    let devices = city.clone();
    meter
        .u64_observable_gauge("kvarter.shard.devices")
        .with_description("Registered devices")
        .with_callback(move |gauge| {
            each_counters(&devices, |id, counters| gauge.observe(counters.devices, &[shard(id)]))
        })
        .build();
    let readings = city.clone();
    meter
        .u64_observable_counter("kvarter.shard.readings")
        .with_description("Readings by outcome, each counted once however often it was sent")
        .with_callback(move |counter| {
            each_counters(&readings, |id, counters| {
                let outcomes = [
                    ("stored", counters.readings_stored),
                    ("late", counters.readings_late),
                    ("duplicate", counters.readings_duplicate),
                    ("rejected", counters.readings_rejected),
                ];
                observe_labelled(counter, id, "outcome", outcomes);
            });
        })
        .build();
    let commands = city.clone();
    meter
        .u64_observable_counter("kvarter.shard.commands")
        .with_description("Commands by what became of them")
        .with_callback(move |counter| {
            each_counters(&commands, |id, counters| {
                let states = [("issued", counters.commands_issued), ("succeeded", counters.commands_succeeded)];
                observe_labelled(counter, id, "state", states);
            });
        })
        .build();
    let open = city.clone();
    meter
        .u64_observable_gauge("kvarter.shard.commands.open")
        .with_description("Commands that have not ended")
        .with_callback(move |gauge| {
            each_counters(&open, |id, counters| gauge.observe(counters.commands_open, &[shard(id)]));
        })
        .build();
}

fn each_counters(city: &City, mut observe: impl FnMut(ShardId, ShardCounters)) {
    let ids: Vec<_> = city.cluster().shards().borrow().keys().copied().collect();
    for id in ids {
        if let Some(counters) = city.counters(id) {
            observe(id, counters);
        }
    }
}

fn observe_labelled<const N: usize>(
    counter: &dyn AsyncInstrument<u64>,
    id: ShardId,
    label: &'static str,
    values: [(&'static str, u64); N],
) {
    for (name, value) in values {
        counter.observe(value, &[shard(id), KeyValue::new(label, name)]);
    }
}

fn shard(id: ShardId) -> KeyValue {
    KeyValue::new("shard", i64::from(id.0))
}
