//! Where districts live: the way from a name in a request to a shard.

use std::time::Duration;

use kvarter_actors::City;
use kvarter_cluster::{NodeId, ShardId};
use tokio::time::timeout;
use tonic::Status;

use crate::api::status;

/// A district that another node has just made is known here within this time, or does not exist.
pub(crate) const DISTRICT_WAIT: Duration = Duration::from_millis(500);

/// The shard of a district that must exist, `{district}`.
///
/// An unknown district is waited for: the caller may have made it through another node a moment ago.
pub(crate) async fn shard_of(city: &City, district: &str) -> Result<ShardId, Status> {
    let mut meta = city.cluster().meta_changes();
    let known = async {
        loop {
            meta.borrow_and_update();
            if let Some(shard) = city.shard_of(district) {
                return Some(shard);
            }
            meta.changed().await.ok()?;
        }
    };
    let found = timeout(DISTRICT_WAIT, known).await.ok().flatten();
    found.ok_or_else(|| status::not_found(format!("there is no district `{district}`")))
}

/// All shards of the city in the order of their ids.
pub(crate) fn shards(city: &City) -> Vec<ShardId> {
    city.cluster().meta().shards.keys().copied().filter(|shard| *shard != ShardId::META).collect()
}

/// `host:port` where clients reach the public API of `node`.
pub(crate) fn api_address(city: &City, node: NodeId) -> Option<String> {
    city.cluster().meta().nodes.get(&node).map(|node| node.api_address.clone())
}

/// The node that leads most of `shards`, if it is another than this one.
pub(crate) fn leader_elsewhere(city: &City, shards: impl Iterator<Item = ShardId>) -> Option<NodeId> {
    let leaders: Vec<_> = shards.map(|shard| city.cluster().leader(shard).map(|(leader, _term)| leader)).collect();
    majority(&leaders).filter(|leader| *leader != city.cluster().node())
}

/// Which node most of the leaders are, if more than half are one.
fn majority(leaders: &[Option<NodeId>]) -> Option<NodeId> {
    let count = |node| leaders.iter().filter(|leader| **leader == Some(node)).count();
    leaders.iter().flatten().copied().find(|node| 2 * count(*node) > leaders.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_leads_most_leads_more_than_half() {
        let [one, two] = [Some(NodeId(1)), Some(NodeId(2))];
        assert_eq!(majority(&[two]), two);
        assert_eq!(majority(&[one, two, two]), two);
        assert_eq!(majority(&[one, two]), None);
        assert_eq!(majority(&[two, None, None]), None);
        assert_eq!(majority(&[]), None);
    }
}
