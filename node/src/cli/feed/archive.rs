//! `kvarter feed archive`: a subscriber that keeps what it gets in sealed files.
//!
//! One task reads the feed and one thread writes: the queue between them is bounded, so that a slow disk slows the reading.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use kvarter_api::v1::{FeedFilter, FeedMessage, SubscribeRequest};
use kvarter_api::{Client, DistrictName, Subscription};
use kvarter_cluster::Ports;
use prost_types::Timestamp;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::cursor;
use crate::cli::failure::explained;
use crate::cli::output::Output;
use crate::cli::{duration, json, target};
use crate::history::{Archive, SealedFile, SegmentBounds};
use crate::node::StopSignals;

/// Messages of the feed, some thousand facts each at most, that wait for the disk.
const MESSAGES_MAX: usize = 32;
/// How often files are looked at for their age.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvarter feed archive --dir /var/lib/kvarter/history
  kvarter feed archive --dir harbour --district harbour --segment-age 24h
  kvarter history verify /var/lib/kvarter/history       nothing missing, nothing changed
  kvarter history cat harbour --json                    the facts, as `feed watch` prints them

Begins with the first fact that is kept, and later where the files end: start it again after it was stopped or killed,
and nothing is missing or twice. Facts that the cluster no longer keeps by then are in the files as a gap. The files are
length-delimited protobuf: see kvarter/v1/history.proto.")]
pub(in crate::cli) struct ArchiveArguments {
    /// Directory of the files, made where it is missing
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Only these districts
    #[arg(long = "district", value_name = "DISTRICT", value_parser = target::district)]
    districts: Vec<DistrictName>,
    /// Only devices of these kinds
    #[arg(long = "kind", value_name = "KIND")]
    kinds: Vec<String>,
    /// Seal a file at this size ...
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 20, value_parser = clap::value_parser!(u64).range(1..=1 << 40))]
    segment_bytes: u64,
    /// ... or at this age
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = duration::parse)]
    segment_age: Duration,
}

/// What the writing thread is told.
enum Told {
    Message(Box<FeedMessage>),
    /// Time has passed.
    Tick,
}

impl ArchiveArguments {
    pub(super) async fn run(self, client: &Client, output: &Output) -> anyhow::Result<ExitCode> {
        let mut signals = StopSignals::listen(false).context("signals can not be received")?;
        let mut filter =
            FeedFilter { districts: self.districts.into_iter().map(String::from).collect(), kinds: self.kinds };
        filter.districts.sort();
        filter.kinds.sort();
        let bounds = SegmentBounds { bytes: self.segment_bytes, age: self.segment_age };
        let (dir, of_files) = (self.dir, filter.clone());
        let archive =
            tokio::task::spawn_blocking(move || Archive::open(&dir, of_files, bounds, now(&Ports::system()))).await??;
        let mut feed = subscribe(client, filter, &archive).await?;

        let (told_tx, told) = mpsc::channel(MESSAGES_MAX);
        let mut lines = Output::new(output.is_json());
        let mut writing = tokio::task::spawn_blocking(move || write(archive, told, &mut lines));
        let reading = pass_on(&mut feed, &told_tx);
        let ended = tokio::select! {
            error = reading => Err(error),
            _ = signals.next() => Ok(()),
            failed = &mut writing => return Err(failed?.err().unwrap_or_else(|| anyhow::anyhow!("the writer ended by itself"))),
        };
        // The writer seals what it has, and ends.
        drop(told_tx);
        writing.await??;
        ended.map(|()| ExitCode::SUCCESS)
    }
}

/// Subscribes to every shard that the filter can match, each from where its files end.
async fn subscribe(client: &Client, filter: FeedFilter, archive: &Archive) -> anyhow::Result<Subscription> {
    let request = SubscribeRequest { cursors: Vec::new(), filter: Some(filter), from_beginning: false };
    // The first subscription only tells which shards there are.
    let shards = client.subscribe(request.clone()).await.map_err(explained)?.cursors();
    let cursors = archive.cursors(shards.into_iter().map(|cursor| cursor.shard));
    client.subscribe(SubscribeRequest { cursors, ..request }).await.map_err(explained)
}

/// Hands on what the feed says until one of the two fails.
async fn pass_on(feed: &mut Subscription, told: &mpsc::Sender<Told>) -> anyhow::Error {
    let mut ticks = interval(LOOK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let next = tokio::select! {
            message = feed.next() => match message {
                Ok(message) => Told::Message(Box::new(message)),
                Err(error) => return explained(error),
            },
            _ = ticks.tick() => Told::Tick,
        };
        if told.send(next).await.is_err() {
            // Why the writer is gone is told by itself.
            std::future::pending::<()>().await;
        }
    }
}

/// Writes until there is nothing more to come, then seals what is open.
fn write(mut archive: Archive, mut told: mpsc::Receiver<Told>, output: &mut Output) -> anyhow::Result<()> {
    let ports = Ports::system();
    while let Some(next) = told.blocking_recv() {
        match next {
            Told::Message(message) => {
                if let Some(sealed) = archive.take(*message, now(&ports))? {
                    print(&sealed, output)?;
                }
            }
            Told::Tick => {
                for sealed in archive.seal_old(now(&ports))? {
                    print(&sealed, output)?;
                }
            }
        }
    }
    for sealed in archive.seal_all(now(&ports))? {
        print(&sealed, output)?;
    }
    Ok(())
}

fn print(sealed: &SealedFile, output: &mut Output) -> std::io::Result<()> {
    let SealedFile { file, facts, gaps, next } = sealed;
    let path = file.path.display();
    if output.is_json() {
        let next = json::position(Some(next));
        output.json(&json!({ "sealed": path.to_string(), "facts": facts, "gaps": gaps, "next": next }))
    } else {
        output.line(&format!("sealed {path}: {facts} facts, {gaps} gaps, up to {}", cursor(next)))
    }
}

fn now(ports: &Ports) -> Timestamp {
    let now_us = ports.clock.now().0;
    let nanos = i32::try_from(now_us.rem_euclid(1_000_000) * 1_000).expect("less than a second");
    Timestamp { seconds: now_us.div_euclid(1_000_000), nanos }
}
