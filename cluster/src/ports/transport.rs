//! The transport port: byte streams between nodes. TLS and HTTP/2 stand above it and are the same in every world.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

/// Wait after a connection could not be accepted, as when the process has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A connection between two nodes.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// Carries bytes between nodes.
#[tonic::async_trait]
pub trait Transport: Send + Sync + 'static {
    /// The connections made to `address`, until the stream is dropped. One that fails while it is made is left out.
    async fn listen(&self, address: SocketAddr) -> io::Result<BoxStream<'static, Box<dyn ByteStream>>>;

    /// A connection to `address`, as `host:port`. Has no deadline of its own.
    async fn connect(&self, address: &str) -> io::Result<Box<dyn ByteStream>>;
}

/// TCP, every write sent at once.
pub(super) struct TcpTransport;

#[tonic::async_trait]
impl Transport for TcpTransport {
    async fn listen(&self, address: SocketAddr) -> io::Result<BoxStream<'static, Box<dyn ByteStream>>> {
        let listener = TcpListener::bind(address).await?;
        let accepted =
            futures::stream::unfold(listener, |listener| async move { Some((accept(&listener).await, listener)) });
        Ok(accepted.boxed())
    }

    async fn connect(&self, address: &str) -> io::Result<Box<dyn ByteStream>> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }
}

/// The next connection. Failures pass: peers must find this node again once there is room.
async fn accept(listener: &TcpListener) -> Box<dyn ByteStream> {
    loop {
        let accepted = listener.accept().await.and_then(|(stream, _)| stream.set_nodelay(true).map(|()| stream));
        match accepted {
            Ok(stream) => return Box::new(stream),
            Err(error) => {
                tracing::warn!(%error, "a peer's connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
