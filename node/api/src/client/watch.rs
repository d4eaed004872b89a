//! Follows one command over lost connections.

use tokio::time::sleep;
use tonic::Streaming;

use super::Client;
use crate::backoff::Resume;
use crate::endpoints::EndpointId;
use crate::error::ApiError;
use crate::name::CommandName;
use crate::v1::command_service_client::CommandServiceClient;
use crate::v1::{Command, CommandState, WatchCommandRequest};

/// The states of a command from now to its end. Comes back by itself after a lost connection; states that the command
/// passed meanwhile are skipped.
#[derive(Debug)]
pub struct CommandWatch {
    client: Client,
    name: CommandName,
    changes: Option<(EndpointId, Streaming<Command>)>,
    resume: Resume,
    last: Option<Command>,
}

impl CommandWatch {
    pub(super) fn new(client: Client, name: CommandName) -> Self {
        let resume = Resume::new(client.config().resume_deadline);
        Self { client, name, changes: None, resume, last: None }
    }

    /// The command when it has changed, at first as it is; `None` after its end. Cancel safe.
    ///
    /// Fails when the command does not exist, or no node could be reached for the resume deadline.
    pub async fn next(&mut self) -> Result<Option<Command>, ApiError> {
        if self.last.as_ref().is_some_and(has_ended) {
            return Ok(None);
        }
        loop {
            match self.next_message().await {
                Ok(command) => {
                    self.resume.succeed();
                    if self.last.as_ref() != Some(&command) {
                        self.last = Some(command.clone());
                        return Ok(Some(command));
                    }
                }
                Err(error) => {
                    self.changes = None;
                    let pause = self.resume.fail(error, self.client.entropy())?;
                    sleep(pause).await;
                }
            }
        }
    }

    async fn next_message(&mut self) -> Result<Command, ApiError> {
        let (id, changes) = match &mut self.changes {
            Some(changes) => changes,
            none => {
                let request = WatchCommandRequest { name: self.name.to_string() };
                let opened = self
                    .client
                    .open(Some(self.name.district()), request, |channel, request| async move {
                        CommandServiceClient::new(channel).watch_command(request).await
                    })
                    .await?;
                none.insert(opened)
            }
        };
        match changes.message().await {
            Ok(Some(command)) => Ok(command),
            Ok(None) => {
                let address = self.client.endpoints().address(*id);
                Err(ApiError::broken_contract(address, "the watch ended before the command"))
            }
            Err(status) => {
                let error = ApiError::from(status);
                self.client.judge(*id, &error);
                Err(error)
            }
        }
    }
}

fn has_ended(command: &Command) -> bool {
    match command.state() {
        CommandState::Succeeded | CommandState::Failed | CommandState::Expired | CommandState::Cancelled => true,
        CommandState::Unspecified | CommandState::Accepted | CommandState::Delivered => false,
    }
}
