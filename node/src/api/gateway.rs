//! DeviceGateway: the streams on which gateways speak for their devices.
//!
//! The rules of a stream are in [`stream`], a state machine without IO; [`connection`] runs it on sockets and shards.

mod aliases;
mod attach;
mod connection;
#[cfg(fuzzing)]
pub(crate) mod fuzz;
mod in_time;
mod lane;
mod outbox;
mod part;
mod registry;
mod stream;
mod ticket;

#[cfg(test)]
mod model;
#[cfg(test)]
mod part_tests;
#[cfg(test)]
mod stream_tests;

use std::sync::Arc;
use std::time::Duration;

use kvarter_actors::{City, ConnectionNumber, Criticality};
use kvarter_api::v1::device_gateway_server::DeviceGateway;
use kvarter_api::v1::{self, ConnectRequest, ConnectResponse, OpenStream, connect_request};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::{Request, Response, Status, Streaming};

use self::connection::Connection;
use self::in_time::InTime;
use self::registry::{ClaimError, StreamRegistry};
use self::stream::StreamIdentity;
use self::ticket::StreamTicket;
use crate::api::outlet::{OutletStream, outlet};
use crate::api::{Lifetime, caller, status};

/// A client that has connected opens its stream within this time.
const OPEN_WAIT: Duration = Duration::from_secs(10);
/// Answers on their way to a client; beyond it they wait in the stream's own backlog.
const RESPONSES_MAX: usize = 256;

/// The service.
pub(crate) struct GatewayService {
    city: City,
    lifetime: Lifetime,
    registry: StreamRegistry,
}

impl GatewayService {
    pub(crate) fn new(city: City, lifetime: Lifetime) -> Self {
        Self { city, lifetime, registry: StreamRegistry::default() }
    }
}

#[tonic::async_trait]
impl DeviceGateway for GatewayService {
    type ConnectStream = InTime<OutletStream<ConnectResponse>>;

    async fn connect(
        &self,
        request: Request<Streaming<ConnectRequest>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        if self.lifetime.drain.is_cancelled() {
            return Err(status::draining());
        }
        let client = caller::identity(&request)?;
        let (responses, ending, stream) = outlet(RESPONSES_MAX);
        let (city, registry, lifetime) = (self.city.clone(), self.registry.clone(), self.lifetime.clone());
        let clock = Arc::clone(&city.cluster().ports().clock);
        let requests = request.into_inner();
        self.lifetime.tasks.spawn(async move {
            if let Some(status) = serve(city, &registry, &lifetime, client, requests, responses).await {
                ending.with(status);
            }
        });
        Ok(Response::new(InTime::new(stream, clock)))
    }
}

/// Serves one connection to its end; the status is for the client.
async fn serve(
    city: City,
    registry: &StreamRegistry,
    lifetime: &Lifetime,
    client: String,
    mut requests: Streaming<ConnectRequest>,
    responses: mpsc::Sender<ConnectResponse>,
) -> Option<Status> {
    let open = tokio::select! {
        () = lifetime.stop.cancelled() => return Some(status::stopping()),
        open = timeout(OPEN_WAIT, first_request(&mut requests)) => match open {
            Ok(Ok(open)) => open?,
            Ok(Err(refused)) => return Some(refused),
            Err(_) => return Some(status::invalid("open", "nothing came within 10 s")),
        },
    };
    let criticality = match open.criticality() {
        v1::Criticality::Unspecified => None,
        v1::Criticality::Low => Some(Criticality::Low),
        v1::Criticality::Normal => Some(Criticality::Normal),
        v1::Criticality::High => Some(Criticality::High),
    };
    let is_resumed = !open.stream.is_empty();
    let ticket = if is_resumed {
        match StreamTicket::parse(&open.stream) {
            Some(ticket) => ticket,
            None => return Some(status::invalid("open.stream", "no id that a node gave out")),
        }
    } else {
        StreamTicket::draw(city.cluster().ports())
    };
    let connection = city.counted(ConnectionNumber(open.connection));
    let claim = match registry.claim(ticket.id, &client, connection).await {
        Ok(claim) => claim,
        Err(ClaimError::Superseded { .. }) => return Some(status::superseded()),
        Err(error @ ClaimError::Forbidden { .. }) => return Some(status::forbidden(error.to_string())),
    };
    tracing::debug!(stream = %ticket.id, client, is_resumed, "stream opened");
    let identity = StreamIdentity::new(ticket, client, city.cluster().node(), connection);
    let connection = Connection::new(city, ticket, identity, is_resumed, criticality, requests, responses);
    let status = connection.run(&claim, &lifetime.drain, &lifetime.stop).await;
    tracing::debug!(stream = %ticket.id, status = status.as_ref().map(Status::message), "stream ended");
    status
}

/// The `OpenStream` that begins a stream; `None` when the client left without it.
async fn first_request(requests: &mut Streaming<ConnectRequest>) -> Result<Option<OpenStream>, Status> {
    match requests.message().await? {
        None => Ok(None),
        Some(ConnectRequest { message: Some(connect_request::Message::Open(open)) }) => Ok(Some(open)),
        Some(_) => Err(status::invalid("open", "the first request must open the stream")),
    }
}
