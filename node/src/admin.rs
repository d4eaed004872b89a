//! The HTTP port for probes and monitoring: `/livez`, `/readyz` and `/metrics`. Plain text, no TLS, no secrets.
//!
//! It answers from the start of the process to its end, so that a node that is replaying or draining is alive but not
//! ready. Liveness is the event loop and nothing else: a node must not be killed for what restarting it does not mend.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::telemetry::MetricsPage;

/// Connections at a time; more wait in the listener's backlog.
const CONNECTIONS_MAX: usize = 64;
/// A client that sends no request for so long is disconnected.
const HEADER_WAIT: Duration = Duration::from_secs(10);
/// Pause after a connection could not be accepted, which happens when the process has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Whether the node serves clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// Replaying its log and joining the cluster.
    Starting,
    Ready,
    /// Leaving: clients are to go elsewhere.
    Draining,
}

impl fmt::Display for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Draining => "draining",
        })
    }
}

/// The port, bound but not served yet.
pub(crate) struct AdminPort {
    listener: TcpListener,
    readiness: watch::Receiver<Readiness>,
    page: MetricsPage,
}

impl AdminPort {
    pub(crate) async fn bind(
        address: SocketAddr,
        readiness: watch::Receiver<Readiness>,
        page: MetricsPage,
    ) -> io::Result<Self> {
        Ok(Self { listener: TcpListener::bind(address).await?, readiness, page })
    }

    /// Answers until `stop`.
    pub(crate) async fn serve(self, stop: CancellationToken) {
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut connections = JoinSet::new();
        loop {
            // `None` without connections, which must not end the wait for one.
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                Some(_) = connections.join_next() => continue,
                accepted = accept(&self.listener, &room) => accepted,
            };
            match accepted {
                Ok((stream, permit)) => {
                    let (readiness, page) = (self.readiness.clone(), self.page.clone());
                    connections.spawn(async move {
                        serve_connection(stream, &readiness, &page).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection to the admin port could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        connections.shutdown().await;
    }
}

async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(room).acquire_owned().await.expect("the semaphore is never closed");
    let (stream, _) = listener.accept().await?;
    Ok((stream, permit))
}

async fn serve_connection(stream: TcpStream, readiness: &watch::Receiver<Readiness>, page: &MetricsPage) {
    let service = service_fn(|request: Request<hyper::body::Incoming>| {
        let response = answer(request.method(), request.uri().path(), *readiness.borrow(), page);
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_WAIT)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection to the admin port ended early");
    }
}

fn answer(method: &Method, path: &str, readiness: Readiness, page: &MetricsPage) -> Response<Full<Bytes>> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered\n".to_owned());
    }
    match path {
        "/livez" => text(StatusCode::OK, "alive\n".to_owned()),
        "/readyz" => {
            let is_ready = readiness == Readiness::Ready;
            let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            text(status, format!("{readiness}\n"))
        }
        "/metrics" => match page.render() {
            Ok(metrics) => {
                let mut response = text(StatusCode::OK, metrics);
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(MetricsPage::CONTENT_TYPE));
                response
            }
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("the metrics can not be shown: {error}\n")),
        },
        _ => text(StatusCode::NOT_FOUND, "there are /livez, /readyz and /metrics\n".to_owned()),
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::config;
    use crate::telemetry::Telemetry;

    async fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.expect("connected");
        let request = format!("GET {path} HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("text");
        answer
    }

    #[tokio::test]
    async fn a_node_that_starts_or_drains_is_alive_but_not_ready() {
        let config = config::Telemetry {
            otlp_endpoint: String::new(),
            trace_ratio: 0.0,
            log_format: config::LogFormat::Human,
            log_filter: "off".to_owned(),
        };
        let telemetry = Telemetry::start(&config, kvarter_cluster::NodeId(1)).expect("started");
        let (state, readiness) = watch::channel(Readiness::Starting);
        let any = "127.0.0.1:0".parse().expect("an address");
        let port = AdminPort::bind(any, readiness, telemetry.page()).await.expect("bound");
        let address = port.listener.local_addr().expect("an address");
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(port.serve(stop.clone()));
        for (now, code) in [(Readiness::Starting, "503"), (Readiness::Ready, "200"), (Readiness::Draining, "503")] {
            state.send_replace(now);
            let ready = get(address, "/readyz").await;
            assert!(ready.starts_with(&format!("HTTP/1.1 {code}")) && ready.ends_with(&format!("{now}\n")), "{ready}");
            assert!(get(address, "/livez").await.starts_with("HTTP/1.1 200"));
        }
        assert!(get(address, "/metrics").await.contains("target_info"));
        assert!(get(address, "/").await.starts_with("HTTP/1.1 404"));
        stop.cancel();
        tasks.join_all().await;
    }
}
