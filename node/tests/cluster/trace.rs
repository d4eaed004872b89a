//! A caller's trace, from an integrator's call to the device.
use kvarter_api::v1::command_service_client::CommandServiceClient;
use kvarter_api::v1::{
    Argument, Attachment, CommandAcknowledgement, CommandOutcome, CommandState, Device, GetCommandRequest,
    IssueCommandRequest, Value, value,
};
use kvarter_api::{GatewayEvent, GatewayOptions, GatewayStream};
use tokio::time::timeout;
use tonic::Request;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::fleet::{Fleet, PATIENCE};

const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const LAMP: &str = "districts/harbour/devices/lamp-1";

/// A channel of an integrator that uses no client of ours.
async fn channel(fleet: &Fleet) -> Channel {
    let config = fleet.config();
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(config.tls.ca_pem))
        .identity(Identity::from_pem(config.tls.certificate_pem, config.tls.key_pem))
        .domain_name(config.tls.domain);
    let endpoint = Endpoint::from_shared(format!("https://{}", config.endpoints[0])).unwrap();
    endpoint.tls_config(tls).unwrap().connect().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callers_trace_reaches_the_device_that_acknowledges_its_command() {
    let fleet = Fleet::start().await;
    let lamp = Device { name: LAMP.to_owned(), kind: "luminaire".to_owned(), ..Device::default() };
    fleet.client().register(vec![lamp]).await.expect("registered");
    let (stream, mut events) = GatewayStream::open(fleet.client(), GatewayOptions::default()).await.expect("a stream");
    stream.attach(vec![Attachment { alias: 0, device: LAMP.to_owned(), first: false }]).await.expect("attached");

    let mut commands = CommandServiceClient::new(channel(&fleet).await);
    let level = Value { kind: Some(value::Kind::Number(40.0)) };
    let mut request = Request::new(IssueCommandRequest {
        device: LAMP.to_owned(),
        action: "set_level".to_owned(),
        arguments: vec![Argument { name: "level".to_owned(), value: Some(level) }],
        request_id: "traced".to_owned(),
        ..IssueCommandRequest::default()
    });
    request.metadata_mut().insert("traceparent", TRACEPARENT.parse().unwrap());
    let issued = commands.issue_command(request).await.expect("issued").into_inner();

    let delivered = async {
        loop {
            match events.next().await.expect("the stream goes on") {
                GatewayEvent::Command(command) if command.id == "traced" => return command,
                _ => {}
            }
        }
    };
    let command = timeout(PATIENCE, delivered).await.expect("delivered");
    assert_eq!(command.traceparent, TRACEPARENT);
    let (alias, id, outcome) = (command.alias, command.id, CommandOutcome::Succeeded.into());
    let acknowledgement = CommandAcknowledgement { alias, id, outcome, detail: String::new() };
    stream.acknowledge(acknowledgement).await.expect("taken");
    let has_succeeded = async || {
        let name = issued.name.clone();
        let command = commands.clone().get_command(GetCommandRequest { name }).await.ok()?.into_inner();
        (command.state() == CommandState::Succeeded).then_some(())
    };
    fleet.eventually("the command has succeeded", has_succeeded).await;
}
