//! One node of the cluster: its parts in the order in which they start, and in the reverse order as they end.
//!
//! Starting: telemetry, admin port, cluster, city, API. Draining: readiness off, streams told to move, leaders away, streams
//! gone, API, city, cluster, telemetry. Every stage of a drain has a bound, so that a node always ends.

mod signal;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kvarter_actors::{City, PeerDoor, ShardState};
use kvarter_cluster::{Cluster, NodeId, PortTls, Ports, StartError};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::admin::{AdminPort, Readiness};
use crate::api::{self, Lifetime, ServeError};
use crate::config::Config;
use crate::telemetry::{Telemetry, TelemetryError};
use crate::tls::TlsError;
use crate::{metrics, tls};
pub use signal::StopSignals;

/// Why a node does not start, or stops by itself.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("{key} can not listen on {address}: {reason}")]
    Listen { key: &'static str, address: SocketAddr, reason: io::Error },
    #[error("the node does not start")]
    Cluster(#[source] StartError),
    #[error("the public API stopped by itself: {reason}")]
    ApiStopped { reason: String },
    #[error(
        "{node} was removed from its cluster, and its id is never used again; to use the machine, give it a new id, an empty \
         data directory, and members to join by in `cluster.join`"
    )]
    Removed { node: NodeId },
    /// For good: as it is, no later start will end otherwise.
    #[error("{reason}")]
    Refused { reason: StartError },
}

impl From<StartError> for NodeError {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Removed { node } => Self::Removed { node },
            reason @ (StartError::Refused { .. } | StartError::TooOld { .. }) => Self::Refused { reason },
            error @ (StartError::Identity(_)
            | StartError::Disk { .. }
            | StartError::Log(_)
            | StartError::Checkpoint(_)
            | StartError::Listen { .. }
            | StartError::Tls(_)
            | StartError::Raft { .. }
            | StartError::Runtime { .. }) => Self::Cluster(error),
        }
    }
}

/// A running node.
pub struct Node {
    /// Longest time for each stage of a drain.
    drain_stage_max: Duration,
    readiness: watch::Sender<Readiness>,
    cluster: Arc<Cluster<ShardState>>,
    city: City,
    telemetry: Telemetry,
    api: JoinSet<Result<(), ServeError>>,
    api_lifetime: Lifetime,
    /// Admin port, counting, and the look at the certificates.
    background: JoinSet<()>,
    stop_background: CancellationToken,
}

impl Node {
    /// Starts all parts; returns when the node has joined its cluster and serves clients.
    ///
    /// Needs rustls' process-wide provider, and a multi-threaded tokio runtime.
    pub async fn start(config: Config) -> Result<Self, NodeError> {
        let telemetry = Telemetry::start(&config.telemetry, config.node())?;
        let identity = tls::load(&config.tls, config.node())?;
        let api_tls = Arc::new(PortTls::new(&identity).map_err(TlsError::from)?);
        let (readiness, readiness_seen) = watch::channel(Readiness::Starting);
        let mut background = JoinSet::new();
        let stop_background = CancellationToken::new();
        let admin = AdminPort::bind(config.admin.listen, readiness_seen.clone(), telemetry.page())
            .await
            .map_err(|reason| NodeError::Listen { key: "admin.listen", address: config.admin.listen, reason })?;
        background.spawn(admin.serve(stop_background.clone()));
        tracing::info!(node = %config.node(), zone = config.zone, data = %config.data_dir.display(), "starting");

        if let Some(number) = config.drill.poison() {
            tracing::error!(
                number,
                "`drill.poison_number` is set: code for every device that reports it will panic. Never run a city so"
            );
        }

        let door = PeerDoor::default();
        let cluster = Cluster::start(config.for_cluster(identity.clone()), Ports::system(), Arc::new(door.clone()));
        let cluster = cluster.await?;
        let city = City::start(Arc::clone(&cluster), door, config.for_city()).await;
        let meter = telemetry.meter();
        metrics::observe(&meter, &city, readiness_seen);
        background.spawn(metrics::count_leader_changes(meter, city.clone(), stop_background.clone()));

        // Not before the city is there: a client that finds nobody listening goes to another node at once.
        let listener = TcpListener::bind(config.api.listen).await.map_err(|reason| NodeError::Listen {
            key: "api.listen",
            address: config.api.listen,
            reason,
        })?;
        let api_lifetime = Lifetime::default();
        let mut api = JoinSet::new();
        let layer = telemetry.rpc_layer();
        api.spawn(api::serve(listener, Arc::clone(&api_tls), layer, city.clone(), api_lifetime.clone()));
        let peers = Arc::clone(&cluster);
        let renew = move |identity| {
            api_tls.renew(&identity)?;
            peers.renew_identity(identity)
        };
        background.spawn(tls::follow(config.tls.clone(), config.node(), identity, renew, stop_background.clone()));
        readiness.send_replace(Readiness::Ready);
        tracing::info!(node = %config.node(), api = config.api.address, admin = %config.admin.listen, "ready");
        let drain_stage_max = config.drain_stage_max();
        Ok(Self {
            drain_stage_max,
            readiness,
            cluster,
            city,
            telemetry,
            api,
            api_lifetime,
            background,
            stop_background,
        })
    }

    /// Starts, serves until the first of `signals`, then drains. A second one ends the process at once.
    pub async fn run(config: Config, mut signals: StopSignals) -> Result<(), NodeError> {
        let mut node = tokio::select! {
            node = Box::pin(Self::start(config)) => node?,
            name = signals.next() => {
                // It serves nobody yet, and what is on disk may be left at any moment.
                tracing::info!(signal = name, "stopped while starting");
                return Ok(());
            }
        };
        let ended = tokio::select! {
            name = signals.next() => {
                tracing::info!(signal = name, "draining");
                None
            }
            ended = node.api.join_next() => Some(api_end(ended)),
            reason = node.cluster.expelled() => {
                tracing::error!(%reason, "this node has no part in its cluster: draining");
                Some(NodeError::from(reason))
            }
        };
        let shutdown = node.shutdown();
        tokio::select! {
            () = shutdown => {}
            name = signals.next() => tracing::warn!(signal = name, "stopping at once, without the rest of the drain"),
        }
        ended.map_or(Ok(()), Err)
    }

    /// Drains and stops: leaders and streams have moved, and the stores are closed when it returns.
    pub async fn shutdown(mut self) {
        self.readiness.send_replace(Readiness::Draining);
        let Lifetime { drain, stop, tasks } = &self.api_lifetime;
        drain.cancel();
        self.cluster.transfer_leaders(self.drain_stage_max).await;
        // Clients were told to move: their streams end by themselves, and so do those that only read.
        tasks.close();
        if tokio::time::timeout(self.drain_stage_max, tasks.wait()).await.is_err() {
            tracing::warn!(streams = tasks.len(), "streams that did not move in time are cut off");
        }
        stop.cancel();
        let api_ended = async { while self.api.join_next().await.is_some() {} };
        if tokio::time::timeout(self.drain_stage_max, api_ended).await.is_err() {
            tracing::warn!("calls that did not end in time were cut off");
            self.api.shutdown().await;
        }
        if tokio::time::timeout(self.drain_stage_max, self.city.shutdown()).await.is_err() {
            tracing::warn!("the actors did not end in time");
        }
        if tokio::time::timeout(self.drain_stage_max, self.cluster.shutdown()).await.is_err() {
            // What was acknowledged is on disk: a node may be stopped at any moment.
            tracing::warn!("the stores were not closed in time");
        }
        tracing::info!("stopped");
        self.stop_background.cancel();
        while self.background.join_next().await.is_some() {}
        self.telemetry.shutdown().await;
    }
}

/// Why the API is gone though nobody stopped it.
fn api_end(ended: Option<Result<Result<(), ServeError>, tokio::task::JoinError>>) -> NodeError {
    let reason = match ended {
        Some(Ok(Err(error))) => error.to_string(),
        Some(Err(error)) => error.to_string(),
        Some(Ok(Ok(()))) | None => "its listener ended".to_owned(),
    };
    NodeError::ApiStopped { reason }
}
