//! Runs services on loopback ports, until it is dropped.

use std::net::SocketAddr;

use kvarter_api::{Client, ClientConfig, ERROR_DOMAIN, TlsIdentity};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::certificates::Certificates;

/// Nodes of one cluster that share their certificates.
pub(crate) struct Nodes {
    certificates: Certificates,
    addresses: Vec<SocketAddr>,
    tasks: JoinSet<()>,
}

impl Nodes {
    pub(crate) fn new() -> Self {
        Self { certificates: Certificates::new(), addresses: Vec::new(), tasks: JoinSet::new() }
    }

    /// Starts a node with these services.
    pub(crate) async fn start(&mut self, services: Routes) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        self.addresses.push(listener.local_addr().expect("a bound address"));
        let mut server = Server::builder().tls_config(self.certificates.node()).expect("a valid identity");
        let serving = server.add_routes(services).serve_with_incoming(TcpListenerStream::new(listener));
        self.tasks.spawn(async move { serving.await.expect("the server runs") });
    }

    /// Adds the address of a node that is down.
    pub(crate) async fn add_dead(&mut self) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        self.addresses.push(listener.local_addr().expect("a bound address"));
    }

    pub(crate) fn tls(&self) -> TlsIdentity {
        self.certificates.client()
    }

    pub(crate) fn renewed_tls(&self) -> TlsIdentity {
        self.certificates.renewed()
    }

    pub(crate) fn config(&self) -> ClientConfig {
        let endpoints = self.addresses.iter().map(ToString::to_string).collect();
        ClientConfig { seed: Some(1), ..ClientConfig::new(endpoints, self.tls()) }
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.config()).await.expect("a node is up")
    }
}

/// A refusal as nodes give it.
pub(crate) fn refusal(code: Code, reason: &str) -> Status {
    let details = ErrorDetails::with_error_info(reason, ERROR_DOMAIN, std::collections::HashMap::new());
    Status::with_error_details(code, format!("refused with {reason}"), details)
}
