//! CommandService: orders to devices, and what became of them.

mod bulk;
mod watch;

use kvarter_actors::message::{self, shard_reply::Reply, shard_request};
use kvarter_actors::{CallContext, City, CommandId, DeviceName};
use kvarter_api::v1::command_service_server::CommandService;
use kvarter_api::v1::{
    CancelCommandRequest, Command, GetCommandRequest, IssueCommandRequest, IssueCommandsProgress, IssueCommandsRequest,
    WatchCommandRequest,
};
use kvarter_cluster::ShardId;
use tonic::{Request, Response, Status};

use self::bulk::Bulk;
use self::watch::Watch;
use crate::api::conversion::command;
use crate::api::outlet::{Ending, OutletStream, outlet};
use crate::api::{Lifetime, ask, caller, name, route, status};

/// A command changes a handful of times.
const WATCH_MESSAGES_MAX: usize = 8;

/// Waves that wait for a caller who reads slowly.
const PROGRESS_MESSAGES_MAX: usize = 2;

/// The service.
pub(crate) struct Commands {
    city: City,
    lifetime: Lifetime,
}

impl Commands {
    pub(crate) fn new(city: City, lifetime: Lifetime) -> Self {
        Self { city, lifetime }
    }

    /// The command called `name`, and the shard of its device.
    async fn find(&self, name: &str) -> Result<(DeviceName, CommandId, ShardId), Status> {
        let (device, id) = name::parse_command(name, "name")?;
        let shard = route::shard_of(&self.city, device.district()).await?;
        Ok((device, id, shard))
    }

    /// Runs what fills a stream, until the node ends.
    fn spawn(&self, filling: impl Future<Output = Option<Status>> + Send + 'static, ending: Ending) {
        let lifetime = self.lifetime.clone();
        self.lifetime.tasks.spawn(async move {
            let status = tokio::select! {
                () = lifetime.drain.cancelled() => Some(status::stopping()),
                () = lifetime.stop.cancelled() => Some(status::stopping()),
                status = filling => status,
            };
            if let Some(status) = status {
                ending.with(status);
            }
        });
    }
}

#[tonic::async_trait]
impl CommandService for Commands {
    type IssueCommandsStream = OutletStream<IssueCommandsProgress>;
    type WatchCommandStream = OutletStream<Command>;

    async fn issue_command(&self, request: Request<IssueCommandRequest>) -> Result<Response<Command>, Status> {
        let context = caller::context(&request, caller::DEADLINE_DEFAULT);
        let asked = request.into_inner();
        let device = name::parse_device(&asked.device, "device")?;
        let issue = message::IssueCommand {
            name: device.as_str().to_owned(),
            id: command_id(&self.city, &asked.request_id)?.as_str().to_owned(),
            action: asked.action,
            arguments: command::arguments_from_public(asked.arguments, "arguments")?,
            timeout_ms: command::timeout_from_public(asked.timeout, "timeout")?,
            priority: command::priority_from_public(asked.priority, "priority")?,
        };
        let shard = route::shard_of(&self.city, device.district()).await?;
        let issued = ask::ask(&self.city, shard, shard_request::Request::IssueCommand(issue), context).await?;
        let issued = command_in(issued, shard)?;
        Ok(Response::new(command::to_public(issued, device.as_str(), shard)))
    }

    async fn issue_commands(
        &self,
        request: Request<IssueCommandsRequest>,
    ) -> Result<Response<Self::IssueCommandsStream>, Status> {
        if self.lifetime.drain.is_cancelled() {
            return Err(status::draining());
        }
        let context = caller::context(&request, caller::DEADLINE_DEFAULT);
        let bulk = Bulk::from_public(&self.city, request.into_inner(), context)?;
        let (progress, ending, stream) = outlet(PROGRESS_MESSAGES_MAX);
        self.spawn(bulk.run(progress), ending);
        Ok(Response::new(stream))
    }

    async fn get_command(&self, request: Request<GetCommandRequest>) -> Result<Response<Command>, Status> {
        let context = caller::context(&request, caller::DEADLINE_DEFAULT);
        let (device, id, shard) = self.find(&request.get_ref().name).await?;
        let found = read(&self.city, shard, &device, &id, context).await?;
        Ok(Response::new(command::to_public(found, device.as_str(), shard)))
    }

    async fn cancel_command(&self, request: Request<CancelCommandRequest>) -> Result<Response<Command>, Status> {
        let context = caller::context(&request, caller::DEADLINE_DEFAULT);
        let (device, id, shard) = self.find(&request.get_ref().name).await?;
        let cancel = message::CancelCommand { name: device.as_str().to_owned(), id: id.as_str().to_owned() };
        let cancelled = ask::ask(&self.city, shard, shard_request::Request::CancelCommand(cancel), context).await?;
        Ok(Response::new(command::to_public(command_in(cancelled, shard)?, device.as_str(), shard)))
    }

    async fn watch_command(
        &self,
        request: Request<WatchCommandRequest>,
    ) -> Result<Response<Self::WatchCommandStream>, Status> {
        if self.lifetime.drain.is_cancelled() {
            return Err(status::draining());
        }
        let context = caller::context(&request, caller::DEADLINE_DEFAULT);
        let (device, id, shard) = self.find(&request.get_ref().name).await?;
        let first = read(&self.city, shard, &device, &id, context).await?;
        let (commands, ending, stream) = outlet(WATCH_MESSAGES_MAX);
        let watch = Watch { city: self.city.clone(), shard, device, id, commands };
        self.spawn(watch.run(first), ending);
        Ok(Response::new(stream))
    }
}

/// The command as its shard has it now.
async fn read(
    city: &City,
    shard: ShardId,
    device: &DeviceName,
    id: &CommandId,
    context: CallContext,
) -> Result<message::Command, Status> {
    let read = message::ReadCommand { name: device.as_str().to_owned(), id: id.as_str().to_owned() };
    command_in(ask::ask(city, shard, shard_request::Request::ReadCommand(read), context).await?, shard)
}

fn command_in(reply: Reply, shard: ShardId) -> Result<message::Command, Status> {
    match reply {
        Reply::CommandRead(message::CommandRead { command: Some(command) }) => Ok(command),
        _ => Err(ask::unexpected(shard)),
    }
}

/// The caller's own id, or a new one.
fn command_id(city: &City, asked: &str) -> Result<CommandId, Status> {
    let drawn;
    let id = if asked.is_empty() {
        drawn = format!("{:032x}", city.cluster().ports().random.next_u128());
        &drawn
    } else {
        asked
    };
    CommandId::parse(id).ok_or_else(|| status::invalid("request_id", format!("`{id}` is not `[A-Za-z0-9-]{{1,64}}`")))
}
