//! A client whose certificate is renewed while it runs.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use kvarter_api::v1::kind_service_server::{KindService, KindServiceServer};
use kvarter_api::v1::{
    Attachment, DeleteKindRequest, DeleteKindResponse, GetKindRequest, Kind, ListKindsRequest, ListKindsResponse,
    PutKindRequest,
};
use kvarter_api::{ConnectError, GatewayEvent, GatewayOptions, GatewayStream, TlsIdentity};
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use crate::gateway_node::{Fate, Gateway, certificate};
use crate::node::Nodes;

/// Notes the certificates of its callers.
#[derive(Clone, Default)]
struct Callers {
    certificates: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Callers {
    fn take(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut *self.certificates.lock().expect("no test panicked"))
    }
}

#[tonic::async_trait]
impl KindService for Callers {
    async fn get_kind(&self, _request: Request<GetKindRequest>) -> Result<Response<Kind>, Status> {
        Err(Status::unimplemented("not in this script"))
    }

    async fn list_kinds(&self, request: Request<ListKindsRequest>) -> Result<Response<ListKindsResponse>, Status> {
        self.certificates.lock().expect("no test panicked").push(certificate(&request));
        Ok(Response::new(ListKindsResponse::default()))
    }

    async fn put_kind(&self, _request: Request<PutKindRequest>) -> Result<Response<Kind>, Status> {
        Err(Status::unimplemented("not in this script"))
    }

    async fn delete_kind(&self, _: Request<DeleteKindRequest>) -> Result<Response<DeleteKindResponse>, Status> {
        Err(Status::unimplemented("not in this script"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_go_by_the_renewed_certificate_and_one_that_is_no_good_changes_nothing() {
    let (callers, mut nodes) = (Callers::default(), Nodes::new());
    nodes.start(Routes::new(KindServiceServer::new(callers.clone()))).await;
    let client = nodes.client().await;
    client.kinds().await.expect("the node answers");
    let first = callers.take();
    let garbage = TlsIdentity { certificate_pem: b"garbage".to_vec(), ..nodes.renewed_tls() };
    let of_another = TlsIdentity { key_pem: nodes.tls().key_pem, ..nodes.renewed_tls() };
    for refused in [garbage, of_another] {
        assert!(matches!(client.renew(refused), Err(ConnectError::InvalidTls { .. })));
        client.kinds().await.expect("the node answers");
        assert_eq!(callers.take(), first);
    }
    client.clone().renew(nodes.renewed_tls()).expect("a good identity");
    client.kinds().await.expect("the node answers");
    let second = callers.take();
    assert_ne!(first, second);
    let only = client.only(&nodes.config().endpoints[0]).expect("an address");
    only.kinds().await.expect("the node answers");
    assert_eq!(callers.take(), second, "clients that are made of it are the same client");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_stream_is_resumed_with_the_renewed_certificate() {
    let (gateway, nodes) = Gateway::start(vec![Fate::LostAfter(1)], 400).await;
    let client = nodes.client().await;
    let (stream, mut events) = GatewayStream::open(&client, GatewayOptions::default()).await.expect("a node opens it");
    client.renew(nodes.renewed_tls()).expect("a good identity");
    let attachment = Attachment { alias: 0, device: "districts/d/devices/x".to_owned(), first: false };
    stream.attach(vec![attachment]).await.expect("the stream lives");
    while !matches!(events.next().await.expect("the stream lives"), GatewayEvent::Resumed { .. }) {}
    let openings = gateway.shards().openings.clone();
    let numbers: Vec<_> = openings.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, [1, 2]);
    assert_eq!(gateway.shards().asked_first, BTreeSet::from([0]), "before the connection was lost");
    gateway.check();
    let certificates: BTreeSet<_> = openings.into_iter().map(|(_, certificate)| certificate).collect();
    assert_eq!(certificates.len(), 2);
}
