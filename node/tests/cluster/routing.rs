//! A client that learns who leads.
use std::time::Duration;

use kvarter_api::v1::{Attachment, Device};
use kvarter_api::{Client, ClientConfig, DeviceName, GatewayEvent, GatewayOptions, GatewayStream};

use crate::fleet::{Fleet, NODES};
use crate::metrics::{page, samples};

const CALLS: usize = 20;

/// Requests that the nodes which run have passed on.
async fn forwarded(fleet: &Fleet, nodes: &[u64]) -> f64 {
    let mut sum = 0.0;
    for node in nodes {
        sum += samples(&page(fleet.admin(*node)).await, "kvarter_requests_forwarded_total", "").iter().sum::<f64>();
    }
    sum
}

/// Reads the twin until no node has passed on any of a row of reads: leaderships may move for a while.
async fn reads_without_detour(fleet: &Fleet, nodes: &[u64], client: &Client, device: &DeviceName) {
    let is_direct = async || {
        let before = forwarded(fleet, nodes).await;
        for _ in 0..CALLS {
            client.twin(device, Duration::ZERO).await.ok()?;
        }
        (forwarded(fleet, nodes).await == before).then_some(())
    };
    fleet.eventually("reads go to the leader", is_direct).await;
}

/// Registers a sensor, and returns it with the node that leads its district.
async fn sensor_in_harbour(fleet: &Fleet) -> (DeviceName, u64) {
    let device = DeviceName::new("harbour", "sensor-1").unwrap();
    let registered = Device { name: device.to_string(), kind: "air_quality".to_owned(), ..Device::default() };
    fleet.client().register(vec![registered]).await.expect("registered");
    let led_by = async || {
        let status = fleet.client().cluster_status().await.ok()?;
        let district = status.districts.iter().find(|district| district.name == "districts/harbour")?;
        status.shards.iter().find(|shard| shard.shard == district.shard)?.leader
    };
    let leader = fleet.eventually("the district's shard has a leader", led_by).await;
    (device, leader)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_calls_the_leader_it_was_told_of_and_follows_it() {
    let mut fleet = Fleet::start().await;
    let (device, leader) = sensor_in_harbour(&fleet).await;
    let follower = NODES.into_iter().find(|node| *node != leader).unwrap();

    // It knows the follower alone, and hears of the leader from there.
    let endpoint = fleet.config().endpoints[usize::try_from(follower - 1).unwrap()].clone();
    let client = Client::connect(ClientConfig { endpoints: vec![endpoint], ..fleet.config() }).await.expect("a client");
    let before = forwarded(&fleet, &NODES).await;
    client.twin(&device, Duration::ZERO).await.expect("a twin");
    assert_eq!(forwarded(&fleet, &NODES).await, before + 1.0, "the first read");
    reads_without_detour(&fleet, &NODES, &client, &device).await;

    // A client that is to call one node alone does.
    let before = forwarded(&fleet, &NODES).await;
    for _ in 0..CALLS {
        fleet.only(follower).twin(&device, Duration::ZERO).await.expect("a twin");
    }
    assert!(forwarded(&fleet, &NODES).await >= before + 20.0);

    fleet.kill(leader).await;
    let left = NODES.into_iter().filter(|node| *node != leader).collect::<Vec<_>>();
    reads_without_detour(&fleet, &left, &client, &device).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_stream_moves_to_the_node_that_leads_its_devices() {
    let fleet = Fleet::start().await;
    let (device, leader) = sensor_in_harbour(&fleet).await;
    let address = &fleet.config().endpoints[usize::try_from(leader - 1).unwrap()];
    // The streams of one client begin at one node after the other, so two of them at nodes that do not lead.
    let mut moved = 0;
    let mut streams = Vec::new();
    for _ in NODES {
        let (stream, events) = GatewayStream::open(fleet.client(), GatewayOptions::default()).await.expect("opened");
        stream.attach(vec![Attachment { alias: 0, device: device.to_string(), first: false }]).await.expect("attached");
        streams.push((stream, events));
    }
    while moved < NODES.len() - 1 {
        let next = futures::future::select_all(streams.iter_mut().map(|(_, events)| Box::pin(events.next()))).await.0;
        match next.expect("the streams live") {
            GatewayEvent::Resumed { endpoint } => {
                assert_eq!(&endpoint, address);
                moved += 1;
            }
            GatewayEvent::Moving => {}
            other => panic!("{other:?}"),
        }
    }
}
