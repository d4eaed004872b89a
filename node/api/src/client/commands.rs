//! Commands to devices.

use super::Client;
use super::call::Repeat;
use super::watch::CommandWatch;
use super::waves::CommandWaves;
use crate::error::ApiError;
use crate::name::{CommandName, district_of};
use crate::v1::command_service_client::CommandServiceClient;
use crate::v1::{CancelCommandRequest, Command, GetCommandRequest, IssueCommandRequest, IssueCommandsRequest};

impl Client {
    /// Issues a command and returns when it is committed. Repeated by itself: an empty `request_id` is drawn here first, so
    /// that a repetition is the same command.
    pub async fn issue_command(&self, mut request: IssueCommandRequest) -> Result<Command, ApiError> {
        if request.request_id.is_empty() {
            request.request_id = self.entropy().id();
        }
        let device = request.device.clone();
        self.call_for(district_of(&device), Repeat::IdempotentWrite, request, |channel, request| async move {
            CommandServiceClient::new(channel).issue_command(request).await
        })
        .await
    }

    /// Issues an order to all devices that match, in waves, as they are asked for. An empty `request_id` is drawn here.
    pub fn issue_commands(&self, mut request: IssueCommandsRequest) -> CommandWaves {
        if request.request_id.is_empty() {
            request.request_id = self.entropy().id();
        }
        CommandWaves::new(self.clone(), request)
    }

    /// Reads a command.
    pub async fn command(&self, name: &CommandName) -> Result<Command, ApiError> {
        let request = GetCommandRequest { name: name.to_string() };
        self.call_for(Some(name.district()), Repeat::Read, request, |channel, request| async move {
            CommandServiceClient::new(channel).get_command(request).await
        })
        .await
    }

    /// Cancels a command that is not delivered; any other is answered as it is. Safe to repeat, and repeated by itself.
    pub async fn cancel_command(&self, name: &CommandName) -> Result<Command, ApiError> {
        let request = CancelCommandRequest { name: name.to_string() };
        self.call_for(Some(name.district()), Repeat::IdempotentWrite, request, |channel, request| async move {
            CommandServiceClient::new(channel).cancel_command(request).await
        })
        .await
    }

    /// Follows a command until it has ended.
    pub fn watch_command(&self, name: &CommandName) -> CommandWatch {
        CommandWatch::new(self.clone(), name.clone())
    }
}
