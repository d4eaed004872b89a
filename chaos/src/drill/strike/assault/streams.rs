//! Streams that lose their connections, streams by the thousand, and readers who do not read.
//!
//! `crowd` opens ten thousand gateway streams, `idlers` are the streams and feeds that nobody reads; what is small is here. Not here:
//! a stream that has expired, which takes longer than a drill.
mod crowd;
mod idlers;

use std::time::Duration;

use bytes::Bytes;
use futures::future::try_join_all;
use kvarter_api::v1::{AttachDevices, Attachment, ConnectRequest, Reading, ReadingBatch, connect_request, reading};
use kvarter_api::{Client, ClientConfig};
use kvarter_simulator::{Load, LoadOutcome, LoadPlan, wall_clock};
use prost::Message;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::transport::Channel;

use super::proxy::Proxy;
use super::{Aftermath, DISTRICTS, Scene, failed, precise};
use crate::check::Violation;
use crate::drill::strike::wire::{self, Papers};
use crate::drill::{DrillError, RECOVERY_MAX};
use crate::fault::Victims;

/// How long gateways send over wires that are cut again and again.
const CUTTING: Duration = Duration::from_secs(12);
const CUT_INTERVAL: Duration = Duration::from_millis(700);
/// When the busiest leader dies meanwhile, so that some of the shards have none.
const DEATH: Duration = Duration::from_secs(3);
const DRAIN_MAX: Duration = Duration::from_secs(60);
const DEVICES: u32 = 600;
const READINGS_PER_S: f64 = 3_000.0;
const LANES: u32 = 4;

pub(super) async fn misbehave(scene: Scene<'_>) -> Result<Aftermath, DrillError> {
    let mut aftermath = Aftermath::default();
    lose_connections(scene, &mut aftermath).await?;
    scene.health.wait_until_whole(RECOVERY_MAX).await?;
    let api = channels(scene).await?;
    // One after the other: what an idler costs its node could not be told apart from what the crowd costs.
    let crowd = crowd::gather(scene, &api).await?;
    let idlers = idlers::idle(scene, &api).await?;
    for part in [crowd, idlers] {
        aftermath.acts += part.acts;
        aftermath.figures.extend(part.figures);
        aftermath.violations.append(part.violations);
    }
    Ok(aftermath)
}

/// A connection to each node.
async fn channels(scene: Scene<'_>) -> Result<Vec<Channel>, DrillError> {
    let tls = &scene.client.config().tls;
    let papers = Papers::of(tls);
    let nodes = scene.client.cluster_status().await?.nodes;
    nodes.iter().map(|node| wire::channel(&node.api_address, tls, &papers).map_err(failed)).collect()
}

/// Gateways send over wires that are cut together, and go on at other nodes with what is not acknowledged; one node dies
/// meanwhile. What their devices remember is judged with the feed.
async fn lose_connections(scene: Scene<'_>, aftermath: &mut Aftermath) -> Result<(), DrillError> {
    let config = scene.client.config();
    let proxies = try_join_all(config.endpoints.iter().map(|address| Proxy::open(address.clone()))).await;
    let proxies = proxies.map_err(failed)?;
    let endpoints = proxies.iter().map(|proxy| proxy.address().to_owned()).collect();
    let gateway = Client::connect(ClientConfig { endpoints, ..config.clone() }).await?;
    let plan = LoadPlan {
        devices: DEVICES,
        districts: DISTRICTS,
        readings_per_s: READINGS_PER_S,
        duration: CUTTING,
        lanes: LANES,
        linger: Duration::from_millis(5),
        district_prefix: "cut".to_owned(),
    };
    let load = Load::prepare(&gateway, plan).await?;
    scene.subscriber.follow(load.turns()).await;
    let leaders = scene.health.leaders().await?;
    let nodes: Vec<u64> = scene.fleet.nodes()?.iter().map(|node| node.id).collect();
    let victim = Victims::BusiestLeader.choose(0, &nodes, &leaders);
    let cutting = async {
        let begin = Instant::now();
        let (mut cuts, mut is_dead) = (0_u64, false);
        while begin.elapsed() < CUTTING {
            sleep(CUT_INTERVAL).await;
            proxies.iter().for_each(Proxy::cut);
            cuts += 1;
            if !is_dead && begin.elapsed() >= DEATH {
                is_dead = true;
                for node in &victim {
                    scene.fleet.kill(*node)?;
                }
            }
        }
        Ok::<_, DrillError>(cuts)
    };
    let stop = CancellationToken::new();
    let (outcome, cuts) = tokio::join!(load.run(&stop, DRAIN_MAX, |_progress| {}), cutting);
    let LoadOutcome { report, ledgers, .. } = outcome;
    aftermath.acts += cuts?;
    aftermath.ledgers.extend(ledgers);
    aftermath.figures.insert("resumes", precise(report.disconnects));
    if report.errors > 0 || report.unanswered > 0 || report.disconnects == 0 {
        let (unanswered, failures, resumes) = (report.unanswered, report.errors, report.disconnects);
        aftermath.violations.add(Violation::ResumeFailed { resumes, unanswered, failures });
    }
    Ok(())
}

fn attach(alias: u32, device: String) -> connect_request::Message {
    connect_request::Message::Attach(AttachDevices { devices: vec![Attachment { alias, device, first: false }] })
}

/// One reading of the device under alias 0.
fn batch(sequence: u64) -> connect_request::Message {
    let (observed_us, value) = (wall_clock().as_microsecond(), Some(reading::Value::Number(1.0)));
    let readings = vec![Reading { alias: 0, attribute: 1, observed_us, value }];
    connect_request::Message::Readings(ReadingBatch { sequence, readings })
}

fn frame(message: connect_request::Message) -> Bytes {
    Bytes::from(ConnectRequest { message: Some(message) }.encode_to_vec())
}

fn words(told: &Result<(), Status>) -> String {
    match told {
        Ok(()) => "no error".to_owned(),
        Err(status) => format!("{:?}: {}", status.code(), status.message()),
    }
}
