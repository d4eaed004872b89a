//! TLS of a port: mutual, HTTP/2 only, and with a certificate that can be renewed while the port listens.
//!
//! The library that serves HTTP/2 takes its TLS settings once; so the handshake is done here, before it gets the connection.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use parking_lot::RwLock;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::TlsIdentity;
use super::handshakes::keep_newest;

/// A client that has not shown who it is within this time is disconnected.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Handshakes at a time; the oldest gives way to a further connection.
const HANDSHAKES_MAX: usize = 256;

/// Why TLS material can not be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsRefused {
    #[error("no PEM {expected}: {reason}")]
    Pem { expected: &'static str, reason: rustls::pki_types::pem::Error },
    #[error("the authority's certificates do not verify clients: {0}")]
    Authority(#[from] VerifierBuilderError),
    /// Among others: the key is not the certificate's.
    #[error("certificate and key can not be used: {0}")]
    Certificate(#[from] rustls::Error),
    #[error("connections to peers can not be made: {0}")]
    Client(#[from] tonic::transport::Error),
}

/// What a port shows to those who connect, and whom it trusts.
pub struct PortTls {
    config: RwLock<Arc<ServerConfig>>,
}

impl PortTls {
    pub fn new(identity: &TlsIdentity) -> Result<Self, TlsRefused> {
        Ok(Self { config: RwLock::new(server_config(identity)?) })
    }

    /// New connections see `identity` from now on; those that exist stay. What is refused changes nothing.
    pub fn renew(&self, identity: &TlsIdentity) -> Result<(), TlsRefused> {
        self.take_over(Self::new(identity)?);
        Ok(())
    }

    pub(crate) fn take_over(&self, fresh: Self) {
        *self.config.write() = fresh.config.into_inner();
    }

    /// The connections of `incoming` whose handshake succeeds.
    pub fn accept_all<IO>(
        self: Arc<Self>,
        incoming: impl Stream<Item = IO> + Send,
    ) -> impl Stream<Item = io::Result<TlsStream<IO>>> + Send
    where
        IO: AsyncRead + AsyncWrite + Send + Unpin,
    {
        let handshakes = incoming.map(move |connection| {
            let acceptor = TlsAcceptor::from(Arc::clone(&*self.config.read()));
            async move { tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(connection)).await }
        });
        keep_newest(handshakes, HANDSHAKES_MAX).filter_map(|outcome| {
            let connection = match outcome {
                Ok(Ok(connection)) => Some(Ok(connection)),
                Ok(Err(error)) => {
                    tracing::debug!(%error, "a handshake failed");
                    None
                }
                Err(_elapsed) => {
                    tracing::debug!("a handshake took too long");
                    None
                }
            };
            std::future::ready(connection)
        })
    }
}

fn server_config(identity: &TlsIdentity) -> Result<Arc<ServerConfig>, TlsRefused> {
    let provider = CryptoProvider::get_default().cloned();
    let provider = provider.unwrap_or_else(|| Arc::new(rustls::crypto::ring::default_provider()));
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&identity.ca_pem)? {
        roots.add(certificate)?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build()?;
    let chain = certificates(&identity.certificate_pem)?;
    let key = PrivateKeyDer::from_pem_slice(&identity.key_pem)
        .map_err(|reason| TlsRefused::Pem { expected: "private key", reason })?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsRefused> {
    let certificates = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>();
    certificates.map_err(|reason| TlsRefused::Pem { expected: "certificate", reason })
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use rcgen::{CertificateParams, DnType, KeyPair};
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, RootCertStore};
    use tokio_rustls::TlsConnector;

    use super::*;

    /// A certificate of `name` that signs itself, and is its own authority.
    fn identity(name: &str) -> TlsIdentity {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem().into_bytes();
        TlsIdentity { ca_pem: pem.clone(), certificate_pem: pem, key_pem: key.serialize_pem().into_bytes() }
    }

    /// The common name that `port` shows to a client of `identity`, which trusts whoever `identity` trusts.
    async fn seen(port: &Arc<PortTls>, identity: &TlsIdentity) -> Option<String> {
        let mut roots = RootCertStore::empty();
        certificates(&identity.ca_pem).unwrap().into_iter().for_each(|certificate| roots.add(certificate).unwrap());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let key = PrivateKeyDer::from_pem_slice(&identity.key_pem).unwrap();
        let chain = certificates(&identity.certificate_pem).unwrap();
        let config = config.with_root_certificates(roots).with_client_auth_cert(chain, key).unwrap();
        let (client, server) = tokio::io::duplex(64 << 10);
        let mut accepted = Box::pin(Arc::clone(port).accept_all(stream::iter([server])));
        let name = ServerName::try_from("localhost").unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        let (connected, accepted) = tokio::join!(connector.connect(name, client), accepted.next());
        accepted?.ok()?;
        let connected = connected.ok()?;
        super::super::common_name(connected.get_ref().1.peer_certificates()?.first()?)
    }

    #[tokio::test]
    async fn a_port_shows_its_new_certificate_and_trusts_its_new_authority_at_once() {
        let (old, new) = (identity("node:1"), identity("node:1 renewed"));
        let port = Arc::new(PortTls::new(&old).unwrap());
        assert_eq!(seen(&port, &old).await.as_deref(), Some("node:1"));
        assert_eq!(seen(&port, &new).await, None, "nobody trusts the new authority yet");
        port.renew(&new).unwrap();
        assert_eq!(seen(&port, &new).await.as_deref(), Some("node:1 renewed"));
        assert_eq!(seen(&port, &old).await, None);
    }

    #[tokio::test]
    async fn material_that_does_not_fit_together_changes_nothing() {
        let (old, new) = (identity("node:1"), identity("node:1 renewed"));
        let port = Arc::new(PortTls::new(&old).unwrap());
        let half_written = TlsIdentity { key_pem: old.key_pem.clone(), ..new.clone() };
        assert!(matches!(port.renew(&half_written), Err(TlsRefused::Certificate(_))));
        let no_authority = TlsIdentity { ca_pem: Vec::new(), ..new.clone() };
        assert!(matches!(port.renew(&no_authority), Err(TlsRefused::Authority(_))));
        let cut_off = TlsIdentity { key_pem: new.key_pem[..40].to_vec(), ..new };
        assert!(matches!(port.renew(&cut_off), Err(TlsRefused::Pem { expected: "private key", .. })));
        assert_eq!(seen(&port, &old).await.as_deref(), Some("node:1"));
    }
}
