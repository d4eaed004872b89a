//! One connection of a gateway stream to one node.

use std::error::Error;

use http::uri::PathAndQuery;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::{Request, Streaming};

use super::frame::{Frame, FrameCodec};
use crate::client::Client;
use crate::endpoints::EndpointId;
use crate::error::ApiError;
use crate::v1::connect_response::Message;
use crate::v1::{ConnectResponse, StreamOpened};

const CONNECT: &str = "/kvarter.v1.DeviceGateway/Connect";

/// Frames between the stream and the transport, which holds about as many bytes again. Batches wait in the window.
const FRAMES_MAX: usize = 4;

/// An open connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: EndpointId,
    /// `None` once the stream is closed in this direction.
    pub(super) to_node: Option<mpsc::Sender<Frame>>,
    pub(super) from_node: Streaming<ConnectResponse>,
    pub(super) opened: StreamOpened,
    pub(super) opened_at: Instant,
}

impl Connection {
    /// Opens a stream at the node `id`, or resumes it when `stream` is not empty, on its connection numbered `number`: above all
    /// before it, also those that failed.
    pub(super) async fn open(client: &Client, id: EndpointId, stream: &str, number: u64) -> Result<Self, ApiError> {
        let patience = client.config().attempt_deadline;
        let opened = match timeout(patience, Self::open_at(client, id, stream, number)).await {
            Ok(opened) => opened,
            Err(_elapsed) => Err(client.silent(id, patience)),
        };
        match &opened {
            Ok(_) => client.endpoints().succeeded(id),
            Err(error) => client.judge(id, error),
        }
        opened
    }

    async fn open_at(client: &Client, id: EndpointId, stream: &str, number: u64) -> Result<Self, ApiError> {
        let address = client.endpoints().address(id);
        let unreachable = |error: &dyn Error| ApiError::NotApplied {
            reason: None,
            message: format!("{address} can not be reached: {}", innermost(error)),
            retry_after: None,
        };
        let channel = client.endpoints().dial(id).await.map_err(|error| unreachable(&error))?;
        let mut grpc = Grpc::new(channel);
        grpc.ready().await.map_err(|error| unreachable(&error))?;
        let (to_node, frames) = mpsc::channel(FRAMES_MAX);
        let opening = Frame::open(stream.to_owned(), number, client.config().criticality);
        to_node.try_send(opening).expect("a new channel has room");
        let request = Request::new(ReceiverStream::new(frames));
        let response = grpc.streaming(request, PathAndQuery::from_static(CONNECT), FrameCodec).await?;
        let mut from_node = response.into_inner();
        match from_node.message().await?.and_then(|response| response.message) {
            Some(Message::Opened(opened)) => {
                let opened_at = Instant::now();
                Ok(Self { id, to_node: Some(to_node), from_node, opened, opened_at })
            }
            _ => Err(ApiError::broken_contract(address, "the first response is not `opened`")),
        }
    }
}

/// What went wrong in the end: the errors around it only say *transport error*.
fn innermost(error: &dyn Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
