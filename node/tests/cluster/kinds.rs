//! Kinds that are put, used, removed and put again.
use kvarter_api::v1::{Device, ErrorReason, Kind};
use kvarter_api::{ApiError, DeviceName};

use crate::fleet::{Fleet, NODES};

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_is_removed_once_no_device_is_of_it() {
    let fleet = Fleet::start().await;
    let client = fleet.client();
    let luminaire = client.kind("luminaire").await.expect("a built-in kind");
    let bench = client.put_kind(Kind { name: "bench".to_owned(), ..luminaire }).await.expect("a new kind");
    let name = DeviceName::new("harbour", "bench-1").unwrap();
    let is_registered = async || {
        let device = Device { name: name.to_string(), kind: bench.name.clone(), ..Device::default() };
        let registrations = client.register(vec![device]).await.expect("an answer");
        registrations[0].error.is_empty().then_some(())
    };
    fleet.eventually("the kind is known where the device belongs", is_registered).await;

    let in_use = client.delete_kind("bench").await.expect_err("it has a device");
    assert_eq!(in_use.reason(), Some(ErrorReason::KindInUse), "{in_use}");
    assert!(matches!(&in_use, ApiError::Rejected { message, .. } if message.contains("1 devices")), "{in_use}");
    let has = async |node: u64| match fleet.only(node).kind("bench").await {
        Ok(_) => true,
        Err(error) if error.is_not_found() => false,
        Err(error) => panic!("{error}"),
    };
    for node in NODES {
        fleet.eventually("the kind is as it was", async || has(node).await.then_some(())).await;
    }

    client.retire(&name).await.expect("retired");
    fleet.command(&["kind", "delete", "bench"]).await;
    for node in NODES {
        fleet.eventually("the kind is gone", async || (!has(node).await).then_some(())).await;
        let kinds = fleet.only(node).kinds().await.expect("a list");
        assert!(kinds.iter().all(|kind| kind.name != "bench") && kinds.len() > 1);
    }
    client.delete_kind("bench").await.expect("harmless");
    assert_eq!(client.put_kind(bench.clone()).await.expect("it is back"), bench);
    fleet.eventually("a device can be of it", is_registered).await;
}
