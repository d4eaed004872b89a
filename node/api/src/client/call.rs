//! One call with its repetitions.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};

use super::Client;
use crate::LEADER_KEY;
use crate::backoff::Backoff;
use crate::endpoints::EndpointId;
use crate::error::ApiError;
use crate::v1::Criticality;

const CRITICALITY_KEY: &str = "kvarter-criticality";

/// What a repetition of a call may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    /// Nothing: it changes nothing.
    Read,
    /// Nothing more than the first: the server knows it again, or the result is the same.
    IdempotentWrite,
    /// The change a second time, or undo a later one: it is repeated only when it certainly was not applied.
    Write,
}

impl Client {
    /// Calls until an answer comes that no repetition would better, at most `attempts_max` times within `deadline`.
    ///
    /// Once an attempt of a write is perhaps applied, only success says more: every other outcome stays *unknown*.
    pub(super) async fn call<M, T, F, A>(&self, repeat: Repeat, message: M, attempt: F) -> Result<T, ApiError>
    where
        M: Clone,
        F: Fn(Channel, Request<M>) -> A,
        A: Future<Output = Result<Response<T>, Status>>,
    {
        self.call_for(None, repeat, message, attempt).await
    }

    /// The same for a call that concerns one district: it goes to the node that leads there, as far as that is known.
    pub(super) async fn call_for<M, T, F, A>(
        &self,
        district: Option<&str>,
        repeat: Repeat,
        message: M,
        attempt: F,
    ) -> Result<T, ApiError>
    where
        M: Clone,
        F: Fn(Channel, Request<M>) -> A,
        A: Future<Output = Result<Response<T>, Status>>,
    {
        let give_up = Instant::now() + self.config().deadline;
        let mut backoff = Backoff::default();
        let mut perhaps_applied = None;
        loop {
            let remaining = give_up.saturating_duration_since(Instant::now());
            let patience = self.config().attempt_deadline.min(remaining);
            let id = self.choose(district);
            let mut request = self.request(message.clone());
            request.set_timeout(patience);
            let error = match timeout(patience, attempt(self.endpoints().channel(id), request)).await {
                Ok(Ok(response)) => {
                    self.endpoints().succeeded(id);
                    self.learn(district, id, response.metadata());
                    return Ok(response.into_inner());
                }
                Ok(Err(status)) => {
                    if status.metadata().contains_key(LEADER_KEY) {
                        self.learn(district, id, status.metadata());
                    }
                    ApiError::from(status)
                }
                Err(_elapsed) => self.silent(id, patience),
            };
            self.judge(id, &error);
            self.unlearn(district, &error);
            let (may_repeat, retry_after) = match &error {
                ApiError::NotApplied { retry_after, .. } => (true, *retry_after),
                ApiError::Unknown { .. } => {
                    if repeat != Repeat::Read {
                        perhaps_applied = Some(error.clone());
                    }
                    (repeat != Repeat::Write, None)
                }
                ApiError::Rejected { .. } => (false, None),
            };
            let pause = backoff.fail(self.entropy(), retry_after);
            let is_last = backoff.failures() >= self.config().attempts_max || Instant::now() + pause >= give_up;
            if is_last || !may_repeat {
                return Err(perhaps_applied.unwrap_or(error));
            }
            sleep(pause).await;
        }
    }

    /// Opens a stream of answers once, for one district or any, and says which node gives it.
    pub(super) async fn open<M, T, F, A>(
        &self,
        district: Option<&str>,
        message: M,
        open: F,
    ) -> Result<(EndpointId, Streaming<T>), ApiError>
    where
        F: Fn(Channel, Request<M>) -> A,
        A: Future<Output = Result<Response<Streaming<T>>, Status>>,
    {
        let id = self.choose(district);
        let patience = self.config().attempt_deadline;
        let opened = timeout(patience, open(self.endpoints().channel(id), self.request(message))).await;
        let error = match opened {
            Ok(Ok(response)) => {
                self.endpoints().succeeded(id);
                self.learn(district, id, response.metadata());
                return Ok((id, response.into_inner()));
            }
            Ok(Err(status)) => ApiError::from(status),
            Err(_elapsed) => self.silent(id, patience),
        };
        self.judge(id, &error);
        self.unlearn(district, &error);
        Err(error)
    }

    /// `message` with what its receiver is to know of this client.
    fn request<M>(&self, message: M) -> Request<M> {
        let mut request = Request::new(message);
        let criticality = match self.config().criticality {
            Criticality::Unspecified => return request,
            Criticality::Low => "low",
            Criticality::Normal => "normal",
            Criticality::High => "high",
        };
        request.metadata_mut().insert(CRITICALITY_KEY, MetadataValue::from_static(criticality));
        request
    }

    /// Leaves a node alone for a while that the error is about.
    pub(crate) fn judge(&self, id: EndpointId, error: &ApiError) {
        if error.is_about_node() {
            self.endpoints().failed(id);
        }
    }

    pub(crate) fn silent(&self, id: EndpointId, waited: Duration) -> ApiError {
        ApiError::silent(self.endpoints().address(id), waited)
    }
}
