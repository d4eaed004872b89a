//! The wire below the client crate: bytes over TCP, over TLS with any certificate, and as gRPC messages that nobody has checked.
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use http::uri::PathAndQuery;
use kvarter_api::TlsIdentity;
use rustls::ClientConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Status, Streaming};

/// The gateway stream.
pub(super) const CONNECT: &str = "/kvarter.v1.DeviceGateway/Connect";
/// The longest that any answer takes.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(10);
/// A node closes what is no connection within this time; its own limit for a handshake is 5 s.
const HANGUP_MAX: Duration = Duration::from_secs(15);

/// Certificate and key of a caller, PEM.
#[derive(Clone, Debug)]
pub(super) struct Papers {
    pub(super) certificate_pem: Vec<u8>,
    pub(super) key_pem: Vec<u8>,
}

impl Papers {
    /// The client's own.
    pub(super) fn of(tls: &TlsIdentity) -> Self {
        Self { certificate_pem: tls.certificate_pem.clone(), key_pem: tls.key_pem.clone() }
    }
}

/// How an exchange of bytes ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BytesOutcome {
    HungUp,
    /// The other end still listens.
    StillOpen,
}

/// How who is at the other end takes to whom it was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Greeting {
    Answered,
    HungUp,
    /// Neither.
    Silent,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    #[error("the other end broke the handshake off: {0}")]
    Refused(io::Error),
    /// Nobody was refused: there was no other end, or this one broke off.
    #[error("no handshake took place: {0}")]
    Unmade(io::Error),
}

/// Sends `bytes`, and reads until the other end closes the connection.
pub(super) async fn exchange(mut connection: impl AsyncRead + AsyncWrite + Unpin, bytes: &[u8]) -> BytesOutcome {
    let exchanging = async {
        // The other end may hang up before it has read everything.
        if connection.write_all(bytes).await.is_err() || connection.flush().await.is_err() {
            return;
        }
        let mut answer = [0; 4096];
        while matches!(connection.read(&mut answer).await, Ok(count) if count > 0) {}
    };
    match timeout(HANGUP_MAX, exchanging).await {
        Ok(()) => BytesOutcome::HungUp,
        Err(_elapsed) => BytesOutcome::StillOpen,
    }
}

/// Sends `bytes`, and waits for the first that come back.
pub(super) async fn greet(mut connection: impl AsyncRead + AsyncWrite + Unpin, bytes: &[u8]) -> Greeting {
    let greeting = async {
        connection.write_all(bytes).await?;
        connection.flush().await?;
        connection.read(&mut [0; 512]).await
    };
    match timeout(HANGUP_MAX, greeting).await {
        Ok(Ok(count)) if count > 0 => Greeting::Answered,
        Ok(Ok(_) | Err(_)) => Greeting::HungUp,
        Err(_elapsed) => Greeting::Silent,
    }
}

/// Connects to `address` with `papers`, or with none. A server may refuse them only after this returns.
pub(super) async fn handshake(
    address: &str,
    tls: &TlsIdentity,
    papers: Option<&Papers>,
) -> Result<TlsStream<TcpStream>, HandshakeError> {
    let config = client_config(tls, papers).map_err(HandshakeError::Unmade)?;
    let domain = ServerName::try_from(tls.domain.clone());
    let domain = domain.map_err(|error| HandshakeError::Unmade(io::Error::other(error)))?;
    let socket = in_time(TcpStream::connect(address)).await.map_err(HandshakeError::Unmade)?;
    in_time(TlsConnector::from(Arc::new(config)).connect(domain, socket)).await.map_err(|error| {
        if is_from_other_end(&error) { HandshakeError::Refused(error) } else { HandshakeError::Unmade(error) }
    })
}

fn is_from_other_end(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    let of_tls = error.get_ref().and_then(|source| source.downcast_ref());
    matches!(of_tls, Some(rustls::Error::AlertReceived(_)))
        || matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}

async fn in_time<T>(connecting: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(ANSWER_MAX, connecting).await.unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into()))
}

fn client_config(tls: &TlsIdentity, papers: Option<&Papers>) -> io::Result<ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&tls.ca_pem).map_err(io::Error::other)?).map_err(io::Error::other)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(io::Error::other)?.with_root_certificates(roots);
    let mut config = match papers {
        None => config.with_no_client_auth(),
        Some(Papers { certificate_pem, key_pem }) => {
            let certificate = CertificateDer::from_pem_slice(certificate_pem).map_err(io::Error::other)?;
            let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(io::Error::other)?;
            config.with_client_auth_cert(vec![certificate], key).map_err(io::Error::other)?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// A connection for calls, made when it is first used.
pub(super) fn channel(address: &str, tls: &TlsIdentity, papers: &Papers) -> Result<Channel, tonic::transport::Error> {
    let config = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(&tls.ca_pem))
        .identity(Identity::from_pem(&papers.certificate_pem, &papers.key_pem))
        .domain_name(&tls.domain);
    let endpoint = Endpoint::from_shared(format!("https://{address}"))?.tls_config(config)?;
    Ok(endpoint.connect_timeout(ANSWER_MAX).connect_lazy())
}

/// Calls `path` (`/package.Service/Method`) with `messages`, and returns the stream of answers.
pub(super) async fn open(
    channel: &Channel,
    path: &'static str,
    messages: impl tokio_stream::Stream<Item = Bytes> + Send + 'static,
) -> Result<Streaming<Bytes>, Status> {
    let mut grpc = Grpc::new(channel.clone());
    let opening = async {
        grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        grpc.streaming(Request::new(messages), PathAndQuery::from_static(path), Unchecked).await
    };
    match timeout(ANSWER_MAX, opening).await {
        Ok(opened) => Ok(opened?.into_inner()),
        Err(_elapsed) => Err(silence()),
    }
}

/// Calls `path` with `messages`, and waits for the status at the end; `Ok` when that is no error.
pub(super) async fn call(channel: &Channel, path: &'static str, messages: Vec<Bytes>) -> Result<(), Status> {
    // The last message does not end the call: what is refused must be refused without that.
    let messages = tokio_stream::StreamExt::chain(tokio_stream::iter(messages), tokio_stream::pending());
    let mut answers = open(channel, path, messages).await?;
    let reading = async {
        while answers.message().await?.is_some() {}
        Ok(())
    };
    timeout(ANSWER_MAX, reading).await.unwrap_or_else(|_elapsed| Err(silence()))
}

/// As [`call`], ended after the one message: a unary call.
pub(super) async fn call_once(channel: &Channel, path: &'static str, message: Bytes) -> Result<(), Status> {
    let mut answers = open(channel, path, tokio_stream::once(message)).await?;
    let reading = async {
        while answers.message().await?.is_some() {}
        Ok(())
    };
    timeout(ANSWER_MAX, reading).await.unwrap_or_else(|_elapsed| Err(silence()))
}

fn silence() -> Status {
    Status::cancelled(format!("no answer within {ANSWER_MAX:?}"))
}

/// Messages as bytes, whatever they are.
#[derive(Clone, Copy, Debug, Default)]
struct Unchecked;

impl Codec for Unchecked {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Unchecked {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.reserve(message.len());
        buffer.put(message);
        Ok(())
    }
}

impl Decoder for Unchecked {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}
