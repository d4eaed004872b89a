//! Many calls at once.
use std::time::Duration;

use futures::future::join_all;
use kvarter_api::v1::{DesiredValue, Device, ErrorReason, PatchDesiredRequest, Value, value};
use kvarter_api::{ApiError, Client, ClientConfig, DeviceName};

use crate::fleet::{Fleet, NODES, PATIENCE};

/// As many as a node takes on one connection.
const CALLS: u32 = 1_024;
const ROUNDS: usize = 5;

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_bears_as_many_calls_at_once_as_it_may_have() {
    let fleet = Fleet::start().await;
    let device = DeviceName::new("harbour", "building-1").unwrap();
    let registered = Device { name: device.to_string(), kind: "building".to_owned(), ..Device::default() };
    fleet.client().register(vec![registered]).await.expect("registered");
    let config = fleet.only(NODES[0]).config().clone();
    let once = ClientConfig { attempts_max: 1, deadline: PATIENCE, attempt_deadline: PATIENCE, ..config };
    let client = Client::connect(ClientConfig { keep_alive_deadline: PATIENCE, ..once }).await.unwrap();

    for _ in 0..ROUNDS {
        let answers = join_all((0..CALLS).map(|number| wish(&client, &device, number))).await;
        for answer in answers {
            let is_told =
                matches!(answer, Ok(()) | Err(ApiError::NotApplied { reason: Some(ErrorReason::Overloaded), .. }));
            assert!(is_told, "{answer:?}");
        }
    }
    assert!(client.twin(&device, Duration::ZERO).await.unwrap().twin.is_some());
}

async fn wish(client: &Client, device: &DeviceName, number: u32) -> Result<(), ApiError> {
    let value = Some(Value { kind: Some(value::Kind::Number(5.0 + f64::from(number % 250) / 10.0)) });
    let set = vec![DesiredValue { attribute: "temperatureSetpoint".to_owned(), value }];
    client.patch_desired(PatchDesiredRequest { name: device.to_string(), set, ..Default::default() }).await.map(|_| ())
}
