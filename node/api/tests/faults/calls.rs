//! Calls whose answers are lost, late or refused.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kvarter_api::v1::command_service_server::{CommandService, CommandServiceServer};
use kvarter_api::v1::twin_service_server::{TwinService, TwinServiceServer};
use kvarter_api::v1::{
    BatchGetTwinsRequest, BatchGetTwinsResponse, BatchRegisterDevicesRequest, BatchRegisterDevicesResponse,
    CancelCommandRequest, Command, CommandState, ErrorReason, GetCommandRequest, GetTwinRequest, GetTwinResponse,
    IssueCommandRequest, IssueCommandsProgress, IssueCommandsRequest, ListTwinsRequest, ListTwinsResponse,
    PatchDesiredRequest, PatchDesiredResponse, RetireDeviceRequest, RetireDeviceResponse, Twin, WatchCommandRequest,
};
use kvarter_api::{ApiError, Client, ClientConfig, DeviceName, TwinSelection};
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status};

use crate::node::{Nodes, refusal};

/// What the next calls are refused with, and what was asked; shared by all nodes.
#[derive(Clone, Default)]
struct Script {
    refusals: Arc<Mutex<VecDeque<Status>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Script {
    fn new(refusals: impl IntoIterator<Item = Status>) -> Self {
        Self { refusals: Arc::new(Mutex::new(refusals.into_iter().collect())), asked: Arc::default() }
    }

    fn play(&self, asked: impl Into<String>) -> Result<(), Status> {
        self.asked.lock().expect("no test panicked").push(asked.into());
        self.refusals.lock().expect("no test panicked").pop_front().map_or(Ok(()), Err)
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no test panicked").clone()
    }
}

#[tonic::async_trait]
impl TwinService for Script {
    async fn batch_register_devices(
        &self,
        _request: Request<BatchRegisterDevicesRequest>,
    ) -> Result<Response<BatchRegisterDevicesResponse>, Status> {
        Err(Status::unimplemented("not in this script"))
    }

    async fn get_twin(&self, request: Request<GetTwinRequest>) -> Result<Response<GetTwinResponse>, Status> {
        self.play(request.into_inner().name)?;
        Ok(Response::new(GetTwinResponse::default()))
    }

    async fn list_twins(&self, request: Request<ListTwinsRequest>) -> Result<Response<ListTwinsResponse>, Status> {
        let token = request.into_inner().page_token;
        self.play(token.clone())?;
        let next_page_token = if token.is_empty() { "2".to_owned() } else { String::new() };
        let twin = Twin { version: 7, ..Twin::default() };
        Ok(Response::new(ListTwinsResponse { twins: vec![twin; 3], next_page_token, age_ms: 0 }))
    }

    async fn patch_desired(
        &self,
        request: Request<PatchDesiredRequest>,
    ) -> Result<Response<PatchDesiredResponse>, Status> {
        self.play(request.into_inner().name)?;
        Ok(Response::new(PatchDesiredResponse::default()))
    }

    async fn batch_get_twins(
        &self,
        _request: Request<BatchGetTwinsRequest>,
    ) -> Result<Response<BatchGetTwinsResponse>, Status> {
        Err(Status::unimplemented("not in this script"))
    }

    async fn retire_device(
        &self,
        _request: Request<RetireDeviceRequest>,
    ) -> Result<Response<RetireDeviceResponse>, Status> {
        Err(Status::unimplemented("not in this script"))
    }
}

#[tonic::async_trait]
impl CommandService for Script {
    type IssueCommandsStream = tokio_stream::Empty<Result<IssueCommandsProgress, Status>>;
    type WatchCommandStream = tokio_stream::Iter<std::vec::IntoIter<Result<Command, Status>>>;

    async fn issue_command(&self, request: Request<IssueCommandRequest>) -> Result<Response<Command>, Status> {
        self.play(request.into_inner().request_id)?;
        Ok(Response::new(Command::default()))
    }

    async fn get_command(&self, _request: Request<GetCommandRequest>) -> Result<Response<Command>, Status> {
        Err(Status::unimplemented("not in this script"))
    }

    async fn issue_commands(
        &self,
        _request: Request<IssueCommandsRequest>,
    ) -> Result<Response<Self::IssueCommandsStream>, Status> {
        Err(Status::unimplemented("not in this script"))
    }

    async fn cancel_command(&self, _request: Request<CancelCommandRequest>) -> Result<Response<Command>, Status> {
        Err(Status::unimplemented("not in this script"))
    }

    /// Two states a connection, and the end on the second one.
    async fn watch_command(
        &self,
        request: Request<WatchCommandRequest>,
    ) -> Result<Response<Self::WatchCommandStream>, Status> {
        let name = request.into_inner().name;
        let in_state =
            |state: CommandState| Ok(Command { name: name.clone(), state: state.into(), ..Command::default() });
        let states = match self.play("watch") {
            Err(lost) => vec![in_state(CommandState::Accepted), in_state(CommandState::Delivered), Err(lost)],
            Ok(()) => vec![in_state(CommandState::Delivered), in_state(CommandState::Succeeded)],
        };
        Ok(Response::new(tokio_stream::iter(states)))
    }
}

async fn cluster(script: &Script) -> (Nodes, Client) {
    let mut nodes = Nodes::new();
    for _ in 0..2 {
        let services = Routes::new(TwinServiceServer::new(script.clone()));
        nodes.start(services.add_service(CommandServiceServer::new(script.clone()))).await;
    }
    let client = nodes.client().await;
    (nodes, client)
}

fn lamp() -> DeviceName {
    DeviceName::new("d", "lamp-1").expect("a well-formed name")
}

fn patch() -> PatchDesiredRequest {
    PatchDesiredRequest { name: lamp().to_string(), ..PatchDesiredRequest::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_down_is_passed_over() {
    let script = Script::default();
    let mut nodes = Nodes::new();
    nodes.add_dead().await;
    nodes.start(Routes::new(TwinServiceServer::new(script.clone()))).await;
    nodes.add_dead().await;
    for seed in 0..6 {
        let client = Client::connect(ClientConfig { seed: Some(seed), ..nodes.config() }).await.expect("a node is up");
        client.twin(&lamp(), Duration::ZERO).await.expect("a node is up");
    }
    assert_eq!(script.asked().len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_cut_off_from_the_leaders_is_passed_over() {
    let (cut_off, working) = (Script::new((0..50).map(|_| not_leader())), Script::default());
    let mut nodes = Nodes::new();
    for script in [&cut_off, &working] {
        nodes.start(Routes::new(TwinServiceServer::new(script.clone()))).await;
    }
    let client = nodes.client().await;
    for _ in 0..5 {
        client.patch_desired(patch()).await.expect("the other node works");
    }
    assert_eq!(working.asked().len(), 5);
    assert!(cut_off.asked().len() <= 1, "asked {} times", cut_off.asked().len());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_node_connecting_fails() {
    let mut nodes = Nodes::new();
    nodes.add_dead().await;
    let config = ClientConfig { deadline: Duration::from_millis(200), ..nodes.config() };
    let error = Client::connect(config).await.expect_err("no node is up");
    assert!(matches!(error, kvarter_api::ConnectError::Unreachable { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_is_repeated_whatever_happened_to_it() {
    let lost = Status::unknown("the connection broke");
    let script = Script::new([lost, refusal(Code::DeadlineExceeded, "OUTCOME_UNKNOWN"), not_leader()]);
    let (_nodes, client) = cluster(&script).await;
    client.twin(&lamp(), Duration::ZERO).await.expect("the fourth attempt succeeds");
    assert_eq!(script.asked().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_is_perhaps_applied_is_left_to_the_caller() {
    for lost in [Status::unavailable("the connection broke"), refusal(Code::DeadlineExceeded, "OUTCOME_UNKNOWN")] {
        let script = Script::new([not_leader(), lost]);
        let (_nodes, client) = cluster(&script).await;
        let error = client.patch_desired(patch()).await.expect_err("the outcome is unknown");
        assert!(matches!(error, ApiError::Unknown { .. }), "{error:?}");
        assert_eq!(script.asked().len(), 2, "only the attempt that was not applied is repeated");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_repeated_under_one_id() {
    let script = Script::new([Status::unknown("the connection broke"), not_leader()]);
    let (_nodes, client) = cluster(&script).await;
    let request = IssueCommandRequest { device: lamp().to_string(), ..IssueCommandRequest::default() };
    client.issue_command(request).await.expect("the third attempt succeeds");
    let asked = script.asked();
    assert!(asked.len() == 3 && asked.iter().all(|id| *id == asked[0] && !id.is_empty()), "{asked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_perhaps_applied_once_stays_unknown() {
    let script = Script::new([Status::unknown("the connection broke"), refusal(Code::FailedPrecondition, "LIMIT")]);
    let (_nodes, client) = cluster(&script).await;
    let request = IssueCommandRequest { device: lamp().to_string(), ..IssueCommandRequest::default() };
    let error = client.issue_command(request).await.expect_err("refused");
    assert!(matches!(error, ApiError::Unknown { .. }), "the first attempt may still commit: {error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_call_is_not_repeated() {
    let script = Script::new([refusal(Code::NotFound, "NOT_FOUND")]);
    let (_nodes, client) = cluster(&script).await;
    let error = client.twin(&lamp(), Duration::ZERO).await.expect_err("refused");
    assert!(error.is_not_found() && error.reason() == Some(ErrorReason::NotFound), "{error:?}");
    assert_eq!(script.asked().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_have_a_limit() {
    let script = Script::new((0..50).map(|_| not_leader()));
    let (nodes, _) = cluster(&script).await;
    let client = Client::connect(ClientConfig { attempts_max: 3, ..nodes.config() }).await.expect("a node is up");
    let error = client.patch_desired(patch()).await.expect_err("no leader");
    assert!(matches!(error, ApiError::NotApplied { reason: Some(ErrorReason::NotLeader), .. }), "{error:?}");
    assert_eq!(script.asked().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_follow_each_other() {
    let script = Script::new([not_leader()]);
    let (_nodes, client) = cluster(&script).await;
    let twins = client.twins(TwinSelection::default()).collect().await.expect("both pages");
    assert_eq!(twins.len(), 6);
    assert_eq!(script.asked(), ["", "", "2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_goes_on_after_a_loss_and_ends_with_the_command() {
    let script = Script::new([Status::unavailable("the connection broke")]);
    let (_nodes, client) = cluster(&script).await;
    let name = format!("{}/commands/c-1", lamp()).parse().expect("a well-formed name");
    let mut watch = client.watch_command(&name);
    let mut states = Vec::new();
    while let Some(command) = watch.next().await.expect("the watch goes on") {
        states.push(command.state());
    }
    assert_eq!(states, [CommandState::Accepted, CommandState::Delivered, CommandState::Succeeded]);
}

fn not_leader() -> Status {
    refusal(Code::Unavailable, "NOT_LEADER")
}
