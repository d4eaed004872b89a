//! Ten thousand gateway streams at once, each with a device and a reading, all open until the last one has its acknowledgement.
use std::time::Duration;

use bytes::Bytes;
use kvarter_api::v1::{ConnectResponse, Device, OpenStream, ReadingOutcome, connect_request, connect_response};
use kvarter_simulator::{LoadPlan, register};
use prost::Message;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use super::{attach, batch, channels, frame, precise};
use crate::check::Violation;
use crate::drill::DrillError;
use crate::drill::strike::wire::{self, CONNECT};
use crate::drill::strike::{Aftermath, Scene};

const STREAMS: u32 = 10_000;
/// Calls that a node allows on one connection are 1,024.
const STREAMS_PER_CONNECTION: usize = 900;
/// Streams that are being opened at a time.
const OPENING_MAX: usize = 200;
const PATIENCE: Duration = Duration::from_secs(120);

/// An open stream: both halves keep it so.
struct Member {
    _requests: mpsc::Sender<Bytes>,
    _responses: Streaming<Bytes>,
}

pub(super) async fn gather(scene: Scene<'_>, api: &[Channel]) -> Result<Aftermath, DrillError> {
    let device = |number: u32| Device {
        name: format!("districts/drill-{}/devices/crowd-{number}", number % LoadPlan::DISTRICTS),
        kind: LoadPlan::KIND.to_owned(),
        ..Device::default()
    };
    register(scene.client, (0..STREAMS).map(device).collect()).await?;
    let mut connections = Vec::new();
    while connections.len() * STREAMS_PER_CONNECTION < STREAMS as usize + api.len() * STREAMS_PER_CONNECTION {
        connections.extend(channels(scene).await?);
    }
    let begin = Instant::now();
    let (mut opening, mut members, mut failures) = (JoinSet::new(), Vec::new(), Vec::new());
    for number in 0..STREAMS {
        if opening.len() >= OPENING_MAX {
            settle(opening.join_next().await, &mut members, &mut failures);
        }
        let connection = connections[number as usize % connections.len()].clone();
        let name = device(number).name;
        opening.spawn(async move {
            let joining = timeout(PATIENCE, join(&connection, name)).await;
            joining.unwrap_or_else(|_elapsed| Err(Status::deadline_exceeded("no acknowledgement")))
        });
    }
    while let Some(ended) = opening.join_next().await {
        settle(Some(ended), &mut members, &mut failures);
    }
    let mut aftermath = Aftermath { acts: u64::from(STREAMS), ..Aftermath::default() };
    aftermath.figures.insert("streams at once", precise(members.len() as u64));
    aftermath.figures.insert("s until all were served", begin.elapsed().as_secs_f64());
    if let Some(first) = failures.first() {
        let (served, streams) = (members.len() as u64, u64::from(STREAMS));
        aftermath.violations.add(Violation::StreamsNotServed { served, streams, first: first.to_string() });
    }
    Ok(aftermath)
}

fn settle(
    ended: Option<Result<Result<Member, Status>, tokio::task::JoinError>>,
    members: &mut Vec<Member>,
    failures: &mut Vec<Status>,
) {
    match ended.map(|ended| ended.expect("a stream does not panic and is not aborted")) {
        Some(Ok(member)) => members.push(member),
        Some(Err(status)) => failures.push(status),
        None => {}
    }
}

/// Opens a stream, attaches `device`, sends a reading, and returns when it is acknowledged as stored: now, or by a try of the node
/// whose outcome it did not know.
async fn join(connection: &Channel, device: String) -> Result<Member, Status> {
    let (requests, frames) = mpsc::channel(3);
    let opening = connect_request::Message::Open(OpenStream::default());
    for message in [opening, attach(0, device), batch(1)] {
        requests.try_send(frame(message)).map_err(|error| Status::internal(error.to_string()))?;
    }
    let mut responses = wire::open(connection, CONNECT, ReceiverStream::new(frames)).await?;
    loop {
        let response = responses.message().await?.ok_or_else(|| Status::unknown("the stream ended"))?;
        let response = ConnectResponse::decode(response).map_err(|error| Status::internal(error.to_string()))?;
        if let Some(connect_response::Message::Acknowledged(acknowledged)) = response.message {
            return match acknowledged.outcomes.first().copied().map(ReadingOutcome::try_from) {
                Some(Ok(ReadingOutcome::Stored | ReadingOutcome::AcceptedEarlier)) => {
                    Ok(Member { _requests: requests, _responses: responses })
                }
                outcome => Err(Status::unknown(format!("the reading was {outcome:?}"))),
            };
        }
    }
}
