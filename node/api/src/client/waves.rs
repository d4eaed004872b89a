//! Follows one order to many devices over lost connections.

use tokio::time::sleep;
use tonic::Streaming;

use super::Client;
use crate::ANSWER_BYTES_MAX;
use crate::backoff::Resume;
use crate::endpoints::EndpointId;
use crate::error::ApiError;
use crate::v1::command_service_client::CommandServiceClient;
use crate::v1::issue_commands_progress::State;
use crate::v1::{IssueCommandsProgress, IssueCommandsRequest};

/// The waves of an order, from the first to the last. After a lost connection the order is repeated, which issues nothing twice:
/// the waves are told from the first again.
#[derive(Debug)]
pub struct CommandWaves {
    client: Client,
    request: IssueCommandsRequest,
    waves: Option<(EndpointId, Streaming<IssueCommandsProgress>)>,
    resume: Resume,
    /// A node took the order, so that commands may be issued.
    has_begun: bool,
    is_over: bool,
}

impl CommandWaves {
    pub(super) fn new(client: Client, request: IssueCommandsRequest) -> Self {
        let resume = Resume::new(client.config().resume_deadline);
        Self { client, request, waves: None, resume, has_begun: false, is_over: false }
    }

    /// The key of the order: repeating it with the same one goes on where it broke off.
    pub fn request_id(&self) -> &str {
        &self.request.request_id
    }

    /// The next wave that has ended; `None` behind the last one. Dropping the order lets no further wave begin. Cancel safe.
    ///
    /// Fails when the order is refused, or no node could be reached for the resume deadline: as [`ApiError::Unknown`] once commands
    /// may be issued.
    pub async fn next(&mut self) -> Result<Option<IssueCommandsProgress>, ApiError> {
        while !self.is_over {
            match self.next_message().await {
                Ok(progress) => {
                    self.resume.succeed();
                    self.is_over = progress.state() != State::Running;
                    return Ok(Some(progress));
                }
                Err(error) => {
                    self.waves = None;
                    let pause = self.resume.fail(error, self.client.entropy());
                    let pause = pause.map_err(|error| if self.has_begun { error.perhaps_applied() } else { error })?;
                    sleep(pause).await;
                }
            }
        }
        Ok(None)
    }

    async fn next_message(&mut self) -> Result<IssueCommandsProgress, ApiError> {
        let (id, waves) = match &mut self.waves {
            Some(waves) => waves,
            none => {
                let opened = self
                    .client
                    .open(None, self.request.clone(), |channel, request| async move {
                        CommandServiceClient::new(channel)
                            .max_decoding_message_size(ANSWER_BYTES_MAX)
                            .issue_commands(request)
                            .await
                    })
                    .await?;
                self.has_begun = !self.request.dry_run;
                none.insert(opened)
            }
        };
        let received = waves.message().await.map_err(ApiError::from);
        let received = received.and_then(|progress| {
            let address = self.client.endpoints().address(*id);
            progress.ok_or_else(|| ApiError::broken_contract(address, "the waves ended before the order"))
        });
        received.inspect_err(|error| self.client.judge(*id, error))
    }
}
