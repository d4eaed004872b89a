//! Who may connect.
use std::time::Duration;

use kvarter_api::v1::{ClusterStatus, ErrorReason};
use kvarter_api::{ApiError, Client, ClientConfig, TlsIdentity};
use kvarter_cluster::NodeId;
use kvarter_node::dev::Authority;

use crate::fleet::{Fleet, NODES};

/// The status, as a client with this identity gets it.
async fn status(config: ClientConfig) -> Result<ClusterStatus, ApiError> {
    let patient = ClientConfig { deadline: Duration::from_secs(3), attempts_max: 2, ..config };
    // A server may refuse a certificate after the client's half of the handshake, so a connection proves nothing.
    let Ok(client) = Client::connect(patient).await else {
        let message = "no connection".to_owned();
        return Err(ApiError::NotApplied { reason: None, message, retry_after: None });
    };
    client.cluster_status().await
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_of_another_authority_and_of_nodes_are_refused() {
    let fleet = Fleet::start().await;
    let config = fleet.config();
    status(config.clone()).await.expect("the right certificate is accepted");

    let stranger = Authority::new().unwrap().client("dev").unwrap();
    let with_strange_certificate = TlsIdentity {
        certificate_pem: stranger.certificate_pem.clone(),
        key_pem: stranger.key_pem.clone(),
        ..config.tls.clone()
    };
    status(ClientConfig { tls: with_strange_certificate, ..config.clone() }).await.expect_err("a strange client");

    let with_strange_authority = TlsIdentity { ca_pem: stranger.ca_pem, ..config.tls.clone() };
    status(ClientConfig { tls: with_strange_authority, ..config.clone() }).await.expect_err("a strange cluster");

    let read = |end: &str| std::fs::read(fleet.certificates().join(format!("node1.{end}"))).unwrap();
    let of_a_node = TlsIdentity { certificate_pem: read("pem"), key_pem: read("key"), ..config.tls.clone() };
    let refused = status(ClientConfig { tls: of_a_node, ..config }).await.expect_err("a node is no client");
    assert_eq!(refused.reason(), Some(ErrorReason::Unauthenticated), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn renewed_certificates_are_used_without_a_restart_and_broken_ones_are_not() {
    let mut fleet = Fleet::start().await;
    let (config, files) = (fleet.config(), fleet.certificates());
    let at = |node: u64, tls: &TlsIdentity| {
        let endpoints = vec![config.endpoints[usize::try_from(node).unwrap() - 1].clone()];
        status(ClientConfig { endpoints, tls: tls.clone(), ..config.clone() })
    };
    let authority = Authority::new().unwrap();
    let renewed = authority.client("dev").unwrap();
    let (certificate_pem, key_pem) = (renewed.certificate_pem, renewed.key_pem);
    // Shows a certificate of the new authority; the first trusts the old one alone, the second the new one alone.
    let trusts_old = TlsIdentity { certificate_pem, key_pem, ..config.tls.clone() };
    let trusts_new = TlsIdentity { ca_pem: renewed.ca_pem.clone(), ..trusts_old.clone() };
    at(2, &trusts_old).await.expect_err("nobody trusts the new authority yet");

    let ours = std::fs::read(files.join("node1.pem")).unwrap();
    std::fs::write(files.join("node1.pem"), "half a certif").unwrap();
    let both = [config.tls.ca_pem.as_slice(), renewed.ca_pem.as_slice()].concat();
    std::fs::write(files.join("ca.pem"), both).unwrap();
    for node in [2, 3] {
        let is_trusted = async || at(node, &trusts_old).await.ok();
        fleet.eventually(&format!("node {node} trusts the new authority"), is_trusted).await;
    }
    at(1, &config.tls).await.expect("a node with broken files goes on with what it has");
    std::fs::write(files.join("node1.pem"), ours).unwrap();
    fleet.eventually("node 1 trusts it too", async || at(1, &trusts_old).await.ok()).await;

    for node in NODES {
        let fresh = authority.node(NodeId(node)).unwrap();
        std::fs::write(files.join(format!("node{node}.pem")), fresh.certificate_pem).unwrap();
        std::fs::write(files.join(format!("node{node}.key")), fresh.key_pem).unwrap();
    }
    for node in NODES {
        let is_renewed = async || at(node, &trusts_new).await.ok();
        fleet.eventually(&format!("node {node} shows its new certificate"), is_renewed).await;
    }
    // Its peers connect to it anew, and it to them.
    let sees = async |node, other, reachable| {
        let status = at(node, &trusts_new).await.ok()?;
        status.nodes.iter().find(|each| each.id == other).filter(|each| each.reachable == reachable).map(drop)
    };
    fleet.kill(3).await;
    fleet.eventually("node 1 misses node 3", async || sees(1, 3, false).await).await;
    fleet.restart(3);
    for (node, other) in [(1, 3), (2, 3), (3, 1), (3, 2)] {
        let is_back = async || sees(node, other, true).await;
        fleet.eventually(&format!("node {node} reaches node {other}"), is_back).await;
    }
}
