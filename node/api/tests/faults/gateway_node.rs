//! A gateway whose shards decide by sequence, as the cluster's do, on nodes that lose connections after some answers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use kvarter_api::v1::connect_request::Message as Request;
use kvarter_api::v1::connect_response::Message as Response;
use kvarter_api::v1::device_gateway_server::{DeviceGateway, DeviceGatewayServer};
use kvarter_api::v1::{
    AttachDevices, AttachedDevice, CommandAcknowledgement, ConnectRequest, ConnectResponse, DevicesAttached,
    LeaderElsewhere, OpenStream, ReadingBatch, ReadingOutcome, ReadingTotals, ReadingsAcknowledged, StreamMoving,
    StreamOpened,
};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;
use tonic::{Code, Status, Streaming};

use crate::node::{Nodes, refusal};

pub(crate) const BATCH_READINGS_MAX: u32 = 100;
pub(crate) const SHARDS: u32 = 4;

/// How the connections of a gateway end, in their order; the last one does not.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fate {
    /// Lost with the answers behind the first so many.
    LostAfter(usize),
    /// Told to move after so many answers; ended when the client leaves.
    MovedAfter(usize),
    /// Told after so many answers that a node leads which does not exist, and then that each of these nodes does.
    LedElsewhereAfter(usize),
    /// Open, and never a word after so many answers.
    SilentAfter(usize),
    /// Acknowledges a batch that was never sent.
    Broken,
    /// Refused when it is opened.
    Expired,
}

/// What outlives connections and nodes: the replicated state.
#[derive(Default)]
pub(crate) struct Shards {
    pub(crate) totals: BTreeMap<u32, ReadingTotals>,
    pub(crate) acknowledgements: Vec<CommandAcknowledgement>,
    pub(crate) connections: usize,
    /// The client's number of each connection, and the certificate that it was made with, DER.
    pub(crate) openings: Vec<(u64, Vec<u8>)>,
    /// Aliases that were asked for, and those that were so for the first time, as the client says.
    asked: BTreeSet<u32>,
    pub(crate) asked_first: BTreeSet<u32>,
    fates: Vec<Fate>,
    /// Of its nodes, and before them of one that does not exist.
    endpoints: Vec<String>,
}

/// A gateway on several nodes.
#[derive(Clone)]
pub(crate) struct Gateway {
    shards: Arc<Mutex<Shards>>,
    readings_in_flight_max: u32,
    /// While false, shards decide nothing.
    is_deciding: watch::Sender<bool>,
    tasks: Arc<Mutex<JoinSet<()>>>,
}

impl Gateway {
    /// Starts a gateway on two nodes.
    pub(crate) async fn start(fates: Vec<Fate>, readings_in_flight_max: u32) -> (Self, Nodes) {
        let shards = Arc::new(Mutex::new(Shards { fates, ..Shards::default() }));
        let gateway =
            Self { shards, readings_in_flight_max, is_deciding: watch::Sender::new(true), tasks: Arc::default() };
        let mut nodes = Nodes::new();
        for _ in 0..2 {
            nodes.start(Routes::new(DeviceGatewayServer::new(gateway.clone()))).await;
        }
        let nowhere = "127.0.0.1:1".to_owned();
        gateway.shards().endpoints = std::iter::once(nowhere).chain(nodes.config().endpoints).collect();
        (gateway, nodes)
    }

    pub(crate) fn shards(&self) -> MutexGuard<'_, Shards> {
        self.shards.lock().expect("no test panicked")
    }

    /// Fails when a client broke a rule on one of the connections that are over.
    pub(crate) fn check(&self) {
        while let Some(ended) = self.tasks.lock().expect("no test panicked").try_join_next() {
            ended.expect("a connection goes by the rules");
        }
    }

    pub(crate) fn decide(&self, is_deciding: bool) {
        self.is_deciding.send_replace(is_deciding);
    }
}

#[tonic::async_trait]
impl DeviceGateway for Gateway {
    type ConnectStream = ReceiverStream<Result<ConnectResponse, Status>>;

    async fn connect(
        &self,
        request: tonic::Request<Streaming<ConnectRequest>>,
    ) -> Result<tonic::Response<Self::ConnectStream>, Status> {
        let fate = {
            let mut shards = self.shards();
            shards.connections += 1;
            shards.fates.get(shards.connections - 1).copied()
        };
        let (responses, received) = mpsc::channel(16);
        let connection = Connection {
            gateway: self.clone(),
            responses,
            fate,
            aliases: BTreeSet::new(),
            answers: 0,
            is_moving: false,
            certificate: certificate(&request),
        };
        self.tasks.lock().expect("no test panicked").spawn(connection.run(request.into_inner()));
        Ok(tonic::Response::new(ReceiverStream::new(received)))
    }
}

struct Connection {
    gateway: Gateway,
    responses: mpsc::Sender<Result<ConnectResponse, Status>>,
    fate: Option<Fate>,
    aliases: BTreeSet<u32>,
    answers: usize,
    is_moving: bool,
    certificate: Vec<u8>,
}

/// The certificate that the client of a request showed, DER.
pub(crate) fn certificate<T>(request: &tonic::Request<T>) -> Vec<u8> {
    let certificates = request.peer_certs().expect("the client shows its certificate");
    certificates.first().expect("a certificate").to_vec()
}

/// The connection is gone.
struct Gone;

impl Connection {
    async fn run(mut self, mut requests: Streaming<ConnectRequest>) {
        while let Ok(Some(request)) = requests.message().await {
            let taken = match request.message.expect("a request has a message") {
                Request::Open(open) => self.open(&open).await,
                Request::Attach(attach) => self.attach(attach).await,
                Request::Readings(batch) => self.readings(batch).await,
                Request::Acknowledgements(said) => {
                    self.gateway.shards().acknowledgements.extend(said.acknowledgements);
                    Ok(())
                }
            };
            if let Err(Gone) = taken {
                return;
            }
        }
    }

    async fn open(&mut self, open: &OpenStream) -> Result<(), Gone> {
        let is_first = self.gateway.shards().connections == 1;
        assert_eq!(open.stream.is_empty(), is_first, "a stream is resumed by its id");
        self.gateway.shards().openings.push((open.connection, self.certificate.clone()));
        if matches!(self.fate, Some(Fate::Expired)) {
            return self.say(Err(refusal(Code::FailedPrecondition, "STREAM_EXPIRED"))).await;
        }
        self.answer(Response::Opened(StreamOpened {
            stream: "stream-1".to_owned(),
            readings_in_flight_max: self.gateway.readings_in_flight_max,
            batch_readings_max: BATCH_READINGS_MAX,
        }))
        .await
    }

    async fn attach(&mut self, attach: AttachDevices) -> Result<(), Gone> {
        let devices = attach.devices.into_iter().map(|device| {
            self.aliases.insert(device.alias);
            let mut shards = self.gateway.shards();
            let is_new = shards.asked.insert(device.alias);
            if device.first {
                assert!(is_new, "a device is asked for the first time once");
                shards.asked_first.insert(device.alias);
            }
            AttachedDevice { alias: device.alias, shard: shard(device.alias), error: String::new() }
        });
        let devices = devices.collect();
        self.answer(Response::Attached(DevicesAttached { devices })).await
    }

    async fn readings(&mut self, batch: ReadingBatch) -> Result<(), Gone> {
        let mut is_deciding = self.gateway.is_deciding.subscribe();
        is_deciding.wait_for(|is_deciding| *is_deciding).await.map_err(|_closed| Gone)?;
        let mut parts: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for (index, reading) in (0..).zip(&batch.readings) {
            assert!(self.aliases.contains(&reading.alias), "devices are attached before their readings come");
            parts.entry(shard(reading.alias)).or_default().push(index);
        }
        for (shard, indexes) in parts {
            let (outcome, totals) = self.decide(shard, batch.sequence, indexes.len());
            let acknowledged = ReadingsAcknowledged {
                sequence: batch.sequence,
                shard: Some(shard),
                outcomes: vec![outcome.into(); indexes.len()],
                indexes,
                rejections: Vec::new(),
                totals: Some(totals),
            };
            self.answer(Response::Acknowledged(acknowledged)).await?;
        }
        Ok(())
    }

    fn decide(&self, shard: u32, sequence: u64, readings: usize) -> (ReadingOutcome, ReadingTotals) {
        let mut shards = self.gateway.shards();
        let totals = shards.totals.entry(shard).or_default();
        if sequence <= totals.sequence {
            return (ReadingOutcome::AcceptedEarlier, *totals);
        }
        totals.sequence = sequence;
        totals.stored += readings as u64;
        (ReadingOutcome::Stored, *totals)
    }

    /// Answers, unless the connection's fate has come.
    async fn answer(&mut self, message: Response) -> Result<(), Gone> {
        match self.fate {
            Some(Fate::LostAfter(answers)) if self.answers >= answers => {
                self.say(Err(Status::unknown("the connection broke"))).await?;
                return Err(Gone);
            }
            Some(Fate::Broken) if self.answers > 0 => {
                let acknowledged = ReadingsAcknowledged { sequence: 99, ..ReadingsAcknowledged::default() };
                return self.say(Ok(Response::Acknowledged(acknowledged))).await;
            }
            Some(Fate::SilentAfter(answers)) if self.answers >= answers => std::future::pending().await,
            Some(Fate::MovedAfter(answers)) if self.answers >= answers && !self.is_moving => {
                self.is_moving = true;
                self.say(Ok(Response::Moving(StreamMoving {}))).await?;
            }
            Some(Fate::LedElsewhereAfter(answers)) if self.answers == answers => {
                let endpoints = self.gateway.shards().endpoints.clone();
                for endpoint in endpoints {
                    self.say(Ok(Response::LeaderElsewhere(LeaderElsewhere { endpoint }))).await?;
                }
            }
            _ => {}
        }
        self.answers += 1;
        self.say(Ok(message)).await
    }

    async fn say(&self, said: Result<Response, Status>) -> Result<(), Gone> {
        let said = said.map(|message| ConnectResponse { message: Some(message) });
        self.responses.send(said).await.map_err(|_closed| Gone)
    }
}

fn shard(alias: u32) -> u32 {
    alias % SHARDS + 1
}
