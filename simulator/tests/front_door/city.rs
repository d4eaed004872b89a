//! A cluster's outside: it registers devices, counts readings by the cluster's rules, loses connections, gives orders.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use kvarter_api::Client;
use kvarter_api::v1::command_service_server::{CommandService, CommandServiceServer};
use kvarter_api::v1::connect_request::Message as Request;
use kvarter_api::v1::connect_response::Message as Response;
use kvarter_api::v1::device_gateway_server::{DeviceGateway, DeviceGatewayServer};
use kvarter_api::v1::kind_service_server::{KindService, KindServiceServer};
use kvarter_api::v1::service_control_server::{ServiceControl, ServiceControlServer};
use kvarter_api::v1::twin_service_server::{TwinService, TwinServiceServer};
use kvarter_api::v1::{self, ReadingOutcome};
use kvarter_simulator::{Signal, wall_clock};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;
use tonic::{Request as Call, Response as Answer, Status, Streaming};

use crate::node::Nodes;

const SHARDS: u32 = 4;
const BATCH_READINGS_MAX: u32 = 100;

/// What the cluster has replicated.
#[derive(Default)]
pub(crate) struct State {
    /// By device and attribute: the value at each observation time, as bits.
    pub(crate) readings: BTreeMap<(String, u32), BTreeSet<(i64, u64)>>,
    pub(crate) acknowledgements: Vec<v1::CommandAcknowledgement>,
    /// Ids of the commands that were issued, each delivered twice to the stream that attached its device.
    pub(crate) commands: Vec<String>,
    /// By device: its connection and alias.
    attached: BTreeMap<String, (mpsc::Sender<Result<v1::ConnectResponse, Status>>, u32)>,
    /// Of the lighting service of each district, in the order in which they were set.
    pub(crate) modes: Vec<(String, v1::ServiceMode)>,
    totals: BTreeMap<(String, u32), v1::ReadingTotals>,
    newest: BTreeMap<(String, u32), i64>,
    streams: usize,
    connections: usize,
}

/// The cluster. Clones share its state.
#[derive(Clone)]
pub(crate) struct City {
    state: Arc<Mutex<State>>,
    /// The first so many connections break, each after its number of answers.
    breaks: Arc<Vec<usize>>,
    /// Delivered three times to the stream that attaches its device.
    order: Option<(String, v1::CommandDelivery)>,
    acknowledged: watch::Sender<usize>,
    tasks: Arc<Mutex<JoinSet<()>>>,
}

impl City {
    pub(crate) async fn start(
        breaks: Vec<usize>,
        order: Option<(String, v1::CommandDelivery)>,
    ) -> (Self, Nodes, Client) {
        let city = Self {
            state: Arc::default(),
            breaks: Arc::new(breaks),
            order,
            acknowledged: watch::Sender::new(0),
            tasks: Arc::default(),
        };
        let mut nodes = Nodes::new();
        for _ in 0..2 {
            let services = Routes::new(DeviceGatewayServer::new(city.clone()))
                .add_service(KindServiceServer::new(city.clone()))
                .add_service(CommandServiceServer::new(city.clone()))
                .add_service(ServiceControlServer::new(city.clone()))
                .add_service(TwinServiceServer::new(city.clone()));
            nodes.start(services).await;
        }
        let client = nodes.client().await;
        (city, nodes, client)
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panicked")
    }

    /// Waits until so many command acknowledgements have come.
    pub(crate) async fn acknowledged(&self, count: usize) {
        self.acknowledged.subscribe().wait_for(|seen| *seen >= count).await.expect("the city lives");
    }
}

#[tonic::async_trait]
impl KindService for City {
    async fn list_kinds(&self, _: Call<v1::ListKindsRequest>) -> Result<Answer<v1::ListKindsResponse>, Status> {
        let mut kinds: BTreeMap<&str, v1::Kind> = BTreeMap::new();
        for (number, signal) in (1..).zip(Signal::ALL) {
            let kind = kinds.entry(signal.kind().name()).or_default();
            kind.name = signal.kind().name().to_owned();
            kind.attributes.push(v1::Attribute {
                number,
                name: signal.attribute().to_owned(),
                r#type: signal.shape().value_type().into(),
                ..Default::default()
            });
        }
        Ok(Answer::new(v1::ListKindsResponse { kinds: kinds.into_values().collect() }))
    }

    async fn get_kind(&self, _: Call<v1::GetKindRequest>) -> Result<Answer<v1::Kind>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn put_kind(&self, _: Call<v1::PutKindRequest>) -> Result<Answer<v1::Kind>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn delete_kind(&self, _: Call<v1::DeleteKindRequest>) -> Result<Answer<v1::DeleteKindResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }
}

#[tonic::async_trait]
impl CommandService for City {
    type IssueCommandsStream = ReceiverStream<Result<v1::IssueCommandsProgress, Status>>;
    type WatchCommandStream = ReceiverStream<Result<v1::Command, Status>>;

    async fn issue_command(&self, request: Call<v1::IssueCommandRequest>) -> Result<Answer<v1::Command>, Status> {
        let v1::IssueCommandRequest { device, action, arguments, request_id: id, .. } = request.into_inner();
        let (connection, alias) = {
            let mut state = self.state();
            state.commands.push(id.clone());
            state.attached.get(&device).cloned().ok_or_else(|| Status::not_found("nobody attached the device"))?
        };
        let deadline = Some((SystemTime::from(wall_clock()) + Duration::from_secs(30)).into());
        let delivery = v1::CommandDelivery {
            alias,
            id,
            action,
            arguments,
            deadline,
            epoch: 1,
            shard: shard(alias),
            ..Default::default()
        };
        for _ in 0..2 {
            let message = Some(Response::Command(delivery.clone()));
            connection.send(Ok(v1::ConnectResponse { message })).await.expect("the connection lives");
        }
        Ok(Answer::new(v1::Command::default()))
    }

    async fn get_command(&self, _: Call<v1::GetCommandRequest>) -> Result<Answer<v1::Command>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn issue_commands(
        &self,
        _: Call<v1::IssueCommandsRequest>,
    ) -> Result<Answer<Self::IssueCommandsStream>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn cancel_command(&self, _: Call<v1::CancelCommandRequest>) -> Result<Answer<v1::Command>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn watch_command(
        &self,
        _: Call<v1::WatchCommandRequest>,
    ) -> Result<Answer<Self::WatchCommandStream>, Status> {
        Err(Status::unimplemented("not needed"))
    }
}

/// Every district has a lighting service that never orders anything.
#[tonic::async_trait]
impl ServiceControl for City {
    async fn list_services(
        &self,
        request: Call<v1::ListServicesRequest>,
    ) -> Result<Answer<v1::ListServicesResponse>, Status> {
        let name = format!("{}/services/lighting", request.into_inner().parent);
        let figures = [("commands".to_owned(), 0.0)].into();
        let services = vec![v1::Service { name, figures, ..v1::Service::default() }];
        Ok(Answer::new(v1::ListServicesResponse { services }))
    }

    async fn set_service_mode(&self, request: Call<v1::SetServiceModeRequest>) -> Result<Answer<v1::Service>, Status> {
        let request = request.into_inner();
        self.state().modes.push((request.name.clone(), request.mode()));
        Ok(Answer::new(v1::Service { name: request.name, mode: request.mode, ..v1::Service::default() }))
    }
}

#[tonic::async_trait]
impl TwinService for City {
    async fn batch_register_devices(
        &self,
        request: Call<v1::BatchRegisterDevicesRequest>,
    ) -> Result<Answer<v1::BatchRegisterDevicesResponse>, Status> {
        let registered = request.into_inner().devices.into_iter().map(|device| v1::DeviceRegistration {
            name: device.name,
            outcome: v1::RegistrationOutcome::Registered.into(),
            error: String::new(),
        });
        Ok(Answer::new(v1::BatchRegisterDevicesResponse { registrations: registered.collect() }))
    }

    async fn get_twin(&self, _: Call<v1::GetTwinRequest>) -> Result<Answer<v1::GetTwinResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn batch_get_twins(
        &self,
        _: Call<v1::BatchGetTwinsRequest>,
    ) -> Result<Answer<v1::BatchGetTwinsResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn list_twins(&self, _: Call<v1::ListTwinsRequest>) -> Result<Answer<v1::ListTwinsResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn patch_desired(
        &self,
        _: Call<v1::PatchDesiredRequest>,
    ) -> Result<Answer<v1::PatchDesiredResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn retire_device(
        &self,
        _: Call<v1::RetireDeviceRequest>,
    ) -> Result<Answer<v1::RetireDeviceResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }
}

#[tonic::async_trait]
impl DeviceGateway for City {
    type ConnectStream = ReceiverStream<Result<v1::ConnectResponse, Status>>;

    async fn connect(
        &self,
        request: Call<Streaming<v1::ConnectRequest>>,
    ) -> Result<Answer<Self::ConnectStream>, Status> {
        let break_after = {
            let mut state = self.state();
            state.connections += 1;
            self.breaks.get(state.connections - 1).copied()
        };
        let (responses, received) = mpsc::channel(16);
        let connection = Connection {
            city: self.clone(),
            responses,
            break_after,
            answers: 0,
            stream: String::new(),
            devices: BTreeMap::new(),
        };
        self.tasks.lock().expect("no test panicked").spawn(connection.run(request.into_inner()));
        Ok(Answer::new(ReceiverStream::new(received)))
    }
}

struct Connection {
    city: City,
    responses: mpsc::Sender<Result<v1::ConnectResponse, Status>>,
    break_after: Option<usize>,
    answers: usize,
    stream: String,
    devices: BTreeMap<u32, String>,
}

/// The connection is gone.
struct Gone;

impl Connection {
    async fn run(mut self, mut requests: Streaming<v1::ConnectRequest>) {
        while let Ok(Some(request)) = requests.message().await {
            let taken = match request.message.expect("a request has a message") {
                Request::Open(open) => self.open(open.stream).await,
                Request::Attach(attach) => self.attach(attach).await,
                Request::Readings(batch) => self.readings(batch).await,
                Request::Acknowledgements(said) => {
                    self.city.state().acknowledgements.extend(said.acknowledgements.clone());
                    self.city.acknowledged.send_modify(|seen| *seen += said.acknowledgements.len());
                    Ok(())
                }
            };
            if let Err(Gone) = taken {
                return;
            }
        }
    }

    async fn open(&mut self, stream: String) -> Result<(), Gone> {
        self.stream = if stream.is_empty() {
            let mut state = self.city.state();
            state.streams += 1;
            format!("stream-{}", state.streams)
        } else {
            stream
        };
        let opened = v1::StreamOpened {
            stream: self.stream.clone(),
            readings_in_flight_max: 10 * BATCH_READINGS_MAX,
            batch_readings_max: BATCH_READINGS_MAX,
        };
        self.answer(Response::Opened(opened)).await
    }

    async fn attach(&mut self, attach: v1::AttachDevices) -> Result<(), Gone> {
        let mut attached = Vec::new();
        let mut ordered = None;
        for v1::Attachment { alias, device, .. } in attach.devices {
            attached.push(v1::AttachedDevice { alias, shard: shard(alias), error: String::new() });
            if let Some((_, delivery)) = self.city.order.as_ref().filter(|(name, _)| *name == device) {
                ordered = Some(v1::CommandDelivery { alias, shard: shard(alias), ..delivery.clone() });
            }
            let connection = self.responses.clone();
            self.city.state().attached.insert(device.clone(), (connection, alias));
            self.devices.insert(alias, device);
        }
        self.answer(Response::Attached(v1::DevicesAttached { devices: attached })).await?;
        for delivery in std::iter::repeat_n(ordered, 3).flatten() {
            self.answer(Response::Command(delivery)).await?;
        }
        Ok(())
    }

    async fn readings(&mut self, batch: v1::ReadingBatch) -> Result<(), Gone> {
        let mut parts: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for (index, reading) in (0..).zip(&batch.readings) {
            parts.entry(shard(reading.alias)).or_default().push(index);
        }
        for (shard, indexes) in parts {
            let acknowledged = self.decide(shard, &batch, indexes);
            self.answer(Response::Acknowledged(acknowledged)).await?;
        }
        Ok(())
    }

    fn decide(&self, shard: u32, batch: &v1::ReadingBatch, indexes: Vec<u32>) -> v1::ReadingsAcknowledged {
        let mut state = self.city.state();
        let mut totals = state.totals.get(&(self.stream.clone(), shard)).copied().unwrap_or_default();
        let mut outcomes = vec![ReadingOutcome::AcceptedEarlier; indexes.len()];
        if batch.sequence > totals.sequence {
            totals.sequence = batch.sequence;
            for (outcome, index) in outcomes.iter_mut().zip(&indexes) {
                let reading = &batch.readings[*index as usize];
                *outcome = store(&mut state, &self.devices[&reading.alias], reading);
                match outcome {
                    ReadingOutcome::Duplicate => totals.duplicate += 1,
                    ReadingOutcome::Late => totals.late += 1,
                    _ => totals.stored += 1,
                }
            }
            state.totals.insert((self.stream.clone(), shard), totals);
        }
        v1::ReadingsAcknowledged {
            sequence: batch.sequence,
            shard: Some(shard),
            indexes,
            outcomes: outcomes.into_iter().map(Into::into).collect(),
            rejections: Vec::new(),
            totals: Some(totals),
        }
    }

    /// Answers, unless the connection is to break.
    async fn answer(&mut self, message: Response) -> Result<(), Gone> {
        let breaks = self.break_after.is_some_and(|answers| self.answers >= answers);
        self.answers += 1;
        let said = if breaks { Err(Status::unknown("the connection broke")) } else { Ok(Some(message)) };
        let said = said.map(|message| v1::ConnectResponse { message });
        self.responses.send(said).await.map_err(|_closed| Gone)?;
        if breaks { Err(Gone) } else { Ok(()) }
    }
}

fn store(state: &mut State, device: &str, reading: &v1::Reading) -> ReadingOutcome {
    let bits = bits(reading.value.as_ref().expect("a reading has a value"));
    let key = (device.to_owned(), reading.attribute);
    let observations = state.readings.entry(key.clone()).or_default();
    if !observations.insert((reading.observed_us, bits)) {
        return ReadingOutcome::Duplicate;
    }
    let newest = state.newest.entry(key).or_insert(reading.observed_us);
    if reading.observed_us < *newest {
        return ReadingOutcome::Late;
    }
    *newest = reading.observed_us;
    ReadingOutcome::Stored
}

/// Numbers as they are; of other values what tells them apart.
fn bits(value: &v1::reading::Value) -> u64 {
    match value {
        v1::reading::Value::Number(number) => number.to_bits(),
        v1::reading::Value::Integer(integer) => integer.cast_unsigned(),
        v1::reading::Value::Boolean(boolean) => u64::from(*boolean),
        v1::reading::Value::Text(text) => text.bytes().fold(7, |bits, byte| bits * 31 % (1 << 40) + u64::from(byte)),
        v1::reading::Value::Point(point) => point.latitude.to_bits() ^ point.longitude.to_bits().rotate_left(7),
    }
}

fn shard(alias: u32) -> u32 {
    alias % SHARDS + 1
}
