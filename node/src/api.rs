//! The public API of a node: package `kvarter.v1` over gRPC with mutual TLS, with health and reflection.
//!
//! Start at [`serve`]. Each service is a module; they are thin: a request is checked and converted, put to the city, and
//! its answer converted back. The exception is [`gateway`], which holds the server half of streams. Deliberately not
//! here: the rules of the city, and who may do what.

mod admin;
mod ask;
mod caller;
mod commands;
mod conversion;
mod feed;
mod gateway;
mod kinds;
mod leader_hint;
mod name;
mod outlet;
mod page_token;
mod route;
mod services;
mod silence;
mod status;
mod twins;

#[cfg(fuzzing)]
pub use gateway::fuzz::requests as fuzz_gateway;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use kvarter_actors::City;
use kvarter_api::v1::cluster_admin_server::ClusterAdminServer;
use kvarter_api::v1::command_service_server::CommandServiceServer;
use kvarter_api::v1::device_gateway_server::DeviceGatewayServer;
use kvarter_api::v1::feed_service_server::FeedServiceServer;
use kvarter_api::v1::kind_service_server::KindServiceServer;
use kvarter_api::v1::service_control_server::ServiceControlServer;
use kvarter_api::v1::twin_service_server::TwinServiceServer;
use kvarter_api::{ANSWER_BYTES_MAX, REQUEST_BYTES_MAX};
use kvarter_cluster::PortTls;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::InterceptorLayer;
use tonic::transport::Server;
use tonic::transport::server::{Router, TcpIncoming};
use tonic::{Request, Status};
use tonic_health::ServingStatus;
use tower_layer::{Identity, Stack};

use self::leader_hint::LeaderHintLayer;
use crate::telemetry::RpcLayer;

/// A peer that is silent this long is asked whether it is there ...
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(4);
/// ... and given up when it does not answer within this time.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(4);
/// Calls on one connection at the same time.
const CONNECTION_CALLS_MAX: u32 = 1_024;
/// HTTP/2 flow control: bytes that a client may send ahead on one stream and on one connection.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 2 << 20;
/// Whoever has many small messages unread is taken for an attacker and loses the connection, with all calls on it: h2 counts what
/// each lacks to 256 bytes, up to half of the connection's window. An adaptive window begins too small for that.
const _: () = assert!(CONNECTION_CALLS_MAX * 256 <= CONNECTION_WINDOW_BYTES / 2);
/// Pause after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// After `stop`, callers get this long to take their last answers.
const CLOSE_WAIT: Duration = Duration::from_secs(5);

/// How long the tasks of the API live, and where they are accounted for.
#[derive(Clone, Default)]
pub(crate) struct Lifetime {
    /// Take nothing new, tell streams to move.
    pub(crate) drain: CancellationToken,
    /// End everything.
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

/// Why the API could not be served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    #[error("the descriptors for reflection do not decode: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    #[error("serving the API failed: {0}")]
    Transport(#[from] tonic::transport::Error),
}

/// Serves the API on `listener` until `lifetime.stop`, and returns when every stream has ended and its shards know.
///
/// `layer` measures and traces each call. From `lifetime.drain` on, health says *not serving*, new streams are refused, and open
/// ones are told to move.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Arc<PortTls>,
    layer: RpcLayer,
    city: City,
    lifetime: Lifetime,
) -> Result<(), ServeError> {
    let router = router(layer, &city, &lifetime).await?;
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true)).with_keepalive(Some(KEEPALIVE_INTERVAL));
    let incoming = tls.accept_all(incoming.filter_map(accepted));
    let stopped = lifetime.stop.clone().cancelled_owned();
    let serving = router.serve_with_incoming_shutdown(incoming, stopped);
    let cut_off = async {
        lifetime.stop.cancelled().await;
        sleep(CLOSE_WAIT).await;
    };
    let served = tokio::select! {
        served = serving => served,
        () = cut_off => Ok(()),
    };
    lifetime.stop.cancel();
    lifetime.tasks.close();
    if timeout(CLOSE_WAIT, lifetime.tasks.wait()).await.is_err() {
        tracing::warn!(tasks = lifetime.tasks.len(), "tasks of the api did not end in time");
    }
    Ok(served?)
}

/// The connection, unless it could not be accepted, as when the process has no file descriptor left.
async fn accepted(connection: io::Result<TcpStream>) -> Option<TcpStream> {
    match connection {
        Ok(connection) => Some(connection),
        Err(error) => {
            tracing::warn!(%error, "a client's connection could not be accepted");
            sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

/// Callers are checked first, then their calls are measured, then told who answered.
type Layers = Stack<LeaderHintLayer, Stack<RpcLayer, Stack<CheckLayer, Identity>>>;
type CheckLayer = InterceptorLayer<fn(Request<()>) -> Result<Request<()>, Status>>;

async fn router(layer: RpcLayer, city: &City, lifetime: &Lifetime) -> Result<Router<Layers>, ServeError> {
    macro_rules! limited {
        ($server:ident, $service:expr) => {
            $server::new($service)
                .max_decoding_message_size(REQUEST_BYTES_MAX)
                .max_encoding_message_size(ANSWER_BYTES_MAX)
        };
    }
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(kvarter_api::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let (health, health_service) = tonic_health::server::health_reporter();
    // The whole server stands under the empty name; it serves until it drains.
    health.set_service_status("", ServingStatus::Serving).await;
    let (drain, stop) = (lifetime.drain.clone(), lifetime.stop.clone());
    lifetime.tasks.spawn(async move {
        tokio::select! {
            () = drain.cancelled() => {}
            () = stop.cancelled() => {}
        }
        health.set_service_status("", ServingStatus::NotServing).await;
    });
    Ok(Server::builder()
        .layer(InterceptorLayer::new(caller::authenticate as fn(_) -> _))
        .layer(layer)
        .layer(LeaderHintLayer::new(city.clone()))
        .tcp_nodelay(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .max_concurrent_streams(CONNECTION_CALLS_MAX)
        // Callers give up on a node that has too much to do: all of a connection's may at once, which is no attack.
        .http2_max_pending_accept_reset_streams(Some(CONNECTION_CALLS_MAX as usize))
        .add_service(health_service)
        .add_service(reflection)
        .add_service(limited!(DeviceGatewayServer, gateway::GatewayService::new(city.clone(), lifetime.clone())))
        .add_service(limited!(TwinServiceServer, twins::Twins::new(city.clone())))
        .add_service(limited!(CommandServiceServer, commands::Commands::new(city.clone(), lifetime.clone())))
        .add_service(limited!(FeedServiceServer, feed::Feeds::new(city.clone(), lifetime.clone())))
        .add_service(limited!(KindServiceServer, kinds::Kinds::new(city.clone())))
        .add_service(limited!(ServiceControlServer, services::Services::new(city.clone())))
        .add_service(limited!(ClusterAdminServer, admin::Admin::new(city.clone()))))
}
