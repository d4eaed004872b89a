//! Who may connect.
use std::time::Duration;

use kvarter_api::{ApiError, Client, ClientConfig, TlsIdentity};
use kvarter_node::dev::Authority;

use crate::fleet::Fleet;

/// The status, as a client with this identity gets it.
async fn status(config: ClientConfig) -> Result<(), ApiError> {
    let patient = ClientConfig { deadline: Duration::from_secs(3), attempts_max: 2, ..config };
    // A server may refuse a certificate after the client's half of the handshake, so a connection proves nothing.
    let Ok(client) = Client::connect(patient).await else {
        let message = "no connection".to_owned();
        return Err(ApiError::NotApplied { reason: None, message, retry_after: None });
    };
    client.cluster_status().await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_of_another_authority_are_refused() {
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
    status(ClientConfig { tls: with_strange_authority, ..config }).await.expect_err("a strange cluster");
}
