//! What operators see on a node's metrics page.
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::fleet::{Fleet, NODES};
use crate::sensors::Sensors;

pub(crate) async fn page(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = "GET /metrics HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// The samples of `name` whose labels contain `label`.
pub(crate) fn samples(page: &str, name: &str, label: &str) -> Vec<f64> {
    let of_name = page.lines().filter_map(|line| line.strip_prefix(name));
    let with_label = of_name.filter(|rest| rest.starts_with(['{', ' ']) && rest.contains(label));
    with_label.map(|rest| rest.rsplit_once(' ').unwrap().1.parse().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metrics_page_tells_how_proposals_syncs_and_peers_fare() {
    let fleet = Fleet::start().await;
    let mut sensors = Sensors::connect(fleet.client()).await;
    sensors.send_round().await;
    sensors.acknowledged().await;
    let mut committed = 0.0;
    for node in NODES {
        let probed = async || {
            let page = page(fleet.admin(node)).await;
            (samples(&page, "kvarter_peer_round_trip_seconds", "peer=").len() == 2).then_some(page)
        };
        let page = fleet.eventually("both peers are probed", probed).await;
        let all = |name, label| samples(&page, name, label);
        let round_trips = all("kvarter_peer_round_trip_seconds", "peer=");
        assert!(round_trips.iter().all(|seconds| (0.000_001..1.0).contains(seconds)), "{round_trips:?}");
        committed += all("kvarter_proposal_duration_seconds_count", "outcome=\"committed\"").iter().sum::<f64>();
        assert_eq!(all("kvarter_proposals_pending", "").len(), 1, "{page}");
        assert_eq!(all("kvarter_requests_refused_total", "criticality=\"low\""), [0.0], "{page}");
        let leaders = all("kvarter_shard_has_leader", "shard=");
        assert!(leaders.len() == 5 && leaders.iter().all(|has| *has == 1.0), "{leaders:?}");
        assert!(all("kvarter_shard_leader_changes_total", "shard=").iter().sum::<f64>() > 0.0, "{page}");
        assert!(all("kvarter_log_sync_duration_seconds_count", "")[0] > 0.0, "{page}");
        assert!(all("raft_engine_sync_log_duration_seconds_count", "")[0] > 0.0, "{page}");
    }
    // Each of the four shards began a leadership, and took readings or registrations.
    assert!(committed >= 8.0, "{committed}");
}
