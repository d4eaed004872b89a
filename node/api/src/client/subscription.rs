//! Reads the feed over lost connections, without gap or repeat.

use std::collections::BTreeMap;

use tokio::time::{sleep, timeout};
use tonic::Streaming;

use super::Client;
use crate::ANSWER_BYTES_MAX;
use crate::backoff::Resume;
use crate::endpoints::EndpointId;
use crate::error::ApiError;
use crate::v1::feed_service_client::FeedServiceClient;
use crate::v1::{FeedMessage, Position, SubscribeRequest};

/// Facts of the city from a cursor on. Comes back by itself after a lost connection, from the last position of each shard:
/// nothing is missed or repeated unless a message says so with its `gap`.
#[derive(Debug)]
pub struct Subscription {
    client: Client,
    request: SubscribeRequest,
    /// Where each shard goes on; known from the first message on.
    cursors: BTreeMap<u32, Position>,
    messages: Option<(EndpointId, Streaming<FeedMessage>)>,
    resume: Resume,
}

impl Client {
    /// Subscribes to the feed, and returns when the node has fixed where each shard begins: facts that commit later are in
    /// the subscription.
    pub async fn subscribe(&self, request: SubscribeRequest) -> Result<Subscription, ApiError> {
        let cursors = request.cursors.iter().map(|cursor| (cursor.shard, *cursor)).collect();
        let resume = Resume::new(self.config().resume_deadline);
        let mut subscription = Subscription { client: self.clone(), request, cursors, messages: None, resume };
        while let Err(error) = subscription.open().await {
            subscription.wait(error).await?;
        }
        Ok(subscription)
    }
}

impl Subscription {
    /// The next facts of a shard, or a `next` that moved on without any. Cancel safe.
    ///
    /// Fails when a node refuses the subscription, or none could be reached for the resume deadline.
    pub async fn next(&mut self) -> Result<FeedMessage, ApiError> {
        loop {
            match self.next_message().await {
                Ok(message) => {
                    self.resume.succeed();
                    return Ok(message);
                }
                Err(error) => self.wait(error).await?,
            }
        }
    }

    /// Where each shard goes on, as `SubscribeRequest.cursors` of a later subscription.
    pub fn cursors(&self) -> Vec<Position> {
        self.cursors.values().copied().collect()
    }

    async fn wait(&mut self, error: ApiError) -> Result<(), ApiError> {
        if let Some((id, _)) = self.messages.take() {
            self.client.judge(id, &error);
        }
        let pause = self.resume.fail(error, self.client.entropy())?;
        sleep(pause).await;
        Ok(())
    }

    /// Subscribes from the cursors, and takes the first message.
    async fn open(&mut self) -> Result<(), ApiError> {
        let request = SubscribeRequest { cursors: self.cursors(), ..self.request.clone() };
        let (id, mut messages) = self
            .client
            .open(None, request, |channel, request| async move {
                FeedServiceClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX).subscribe(request).await
            })
            .await?;
        let patience = self.client.config().attempt_deadline;
        let first = match timeout(patience, messages.message()).await {
            Ok(first) => first?,
            Err(_elapsed) => return Err(self.client.silent(id, patience)),
        };
        let beginnings = first.map(|message| message.beginnings).unwrap_or_default();
        if beginnings.is_empty() {
            let address = self.client.endpoints().address(id);
            return Err(ApiError::broken_contract(address, "the feed does not say where it begins"));
        }
        for beginning in beginnings {
            self.cursors.entry(beginning.shard).or_insert(beginning);
        }
        self.messages = Some((id, messages));
        Ok(())
    }

    async fn next_message(&mut self) -> Result<FeedMessage, ApiError> {
        if self.messages.is_none() {
            self.open().await?;
        }
        let (id, messages) = self.messages.as_mut().expect("just opened");
        let address = self.client.endpoints().address(*id);
        let message = messages.message().await?;
        let message = message.ok_or_else(|| ApiError::broken_contract(address, "the feed ended"))?;
        let next = message.next.ok_or_else(|| ApiError::broken_contract(address, "a message without its cursor"))?;
        self.cursors.insert(next.shard, next);
        Ok(message)
    }
}
