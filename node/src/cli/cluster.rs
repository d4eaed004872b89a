//! `kvarter cluster`: the cluster as its operators see it, and which nodes it has.

use std::process::ExitCode;

use kvarter_api::Client;
use kvarter_api::v1::node_status::State;
use kvarter_api::v1::{ClusterStatus, ListLocalReplicasResponse, ShardStatus};
use serde_json::{Value as Json, json};

use super::call::Call;
use super::failure::explained;
use super::output::Output;
use super::table::Table;

/// Districts of a shard that are named for people; JSON has them all.
const DISTRICTS_SHOWN_MAX: usize = 6;

#[derive(Debug, clap::Subcommand)]
pub(super) enum ClusterCommand {
    /// Nodes, shards, leaders and districts, as one node sees them
    #[command(after_help = "\
Examples:
  kvarter cluster status
  kvarter cluster status --json | jq '.shards[] | select(.leader == null)'

Exits with 1 when a shard has no leader or a node is out of reach.")]
    Status,
    /// Replicas on one node: how far they are and what they hold
    #[command(after_help = "\
Examples:
  kvarter cluster replicas --endpoint localhost:7400 --hash

Replicas of a shard at the same applied index have the same hash.")]
    Replicas {
        /// Compute the hash of each replica's state, which reads all of it
        #[arg(long)]
        hash: bool,
    },
    /// Have a node lead nothing, as before work on its machine
    #[command(after_help = "\
Examples:
  kvarter cluster drain 2
  kvarter cluster status                 node 2 is drained once it leads 0
  kvarter cluster drain 2 --undo

The node hands its leaderships over and keeps its replicas. It leads again after --undo, and when it was started anew.")]
    Drain {
        /// Id of the node
        #[arg(value_name = "ID", value_parser = clap::value_parser!(u64).range(1..))]
        id: u64,
        /// Have it lead again
        #[arg(long)]
        undo: bool,
    },
    /// Change which nodes the cluster has
    #[command(subcommand)]
    Node(NodeCommand),
}

#[derive(Debug, clap::Subcommand)]
pub(super) enum NodeCommand {
    /// Remove a node for ever, after its replicas have moved to other nodes
    #[command(after_help = "\
Examples:
  kvarter cluster node remove 2
  kvarter cluster status                 how many replicas node 2 still has

Returns once the removal is decided. The node may be down; when it runs, it ends with exit code 3 once it is removed. Neither its
id nor its data directory can be used again.

To replace a node that lost its disk, first start another one with a new id, an empty data directory and `cluster.join` naming a
member (`kvarter node --print-sample` has the settings), then remove the old one. It is refused while fewer nodes would be left
than a shard has replicas.")]
    Remove {
        /// Id of the node
        #[arg(value_name = "ID", value_parser = clap::value_parser!(u64).range(1..))]
        id: u64,
    },
}

impl Call for ClusterCommand {
    async fn run(self, client: &Client, output: &mut Output) -> anyhow::Result<ExitCode> {
        match self {
            ClusterCommand::Status => {
                let status = client.cluster_status().await.map_err(explained)?;
                if output.is_json() {
                    output.json(&status_json(&status))?;
                } else {
                    print_status(&status, output)?;
                }
                Ok(if is_healthy(&status) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
            }
            ClusterCommand::Replicas { hash } => {
                let replicas = client.local_replicas(hash).await.map_err(explained)?;
                if output.is_json() {
                    output.json(&replicas_json(&replicas))?;
                } else {
                    output.table(&replicas_table(&replicas))?;
                }
                Ok(ExitCode::SUCCESS)
            }
            ClusterCommand::Drain { id, undo } => {
                client.drain_node(id, undo).await.map_err(explained)?;
                if output.is_json() {
                    output.json(&json!({ "node": id, "drained": !undo }))?;
                } else if undo {
                    output.line(&format!("node {id} may lead again"))?;
                } else {
                    output
                        .line(&format!("node {id} gives its leaderships away: `kvarter cluster status` shows LEADS"))?;
                }
                Ok(ExitCode::SUCCESS)
            }
            ClusterCommand::Node(NodeCommand::Remove { id }) => {
                client.remove_node(id).await.map_err(explained)?;
                if output.is_json() {
                    output.json(&json!({ "node": id, "leaving": true }))?;
                } else {
                    output
                        .line(&format!("node {id} leaves the cluster: `kvarter cluster status` shows how far it is"))?;
                }
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

fn is_healthy(status: &ClusterStatus) -> bool {
    status.nodes.iter().all(|node| node.reachable) && status.shards.iter().all(|shard| shard.leader.is_some())
}

fn print_status(status: &ClusterStatus, output: &mut Output) -> std::io::Result<()> {
    let led = status.shards.iter().filter(|shard| shard.leader.is_some()).count();
    let reachable = status.nodes.iter().filter(|node| node.reachable).count();
    output.line(&format!(
        "{reachable} of {} nodes reachable, {led} of {} shards have a leader, {} districts (seen by node {})\n",
        status.nodes.len(),
        status.shards.len(),
        status.districts.len(),
        status.answered_by
    ))?;
    let mut nodes = Table::new(&["NODE", "ZONE", "API", "PEER", "STATE", "REPLICAS", "LEADS"]);
    for node in &status.nodes {
        let reach = if node.reachable { "reachable" } else { "OUT OF REACH" };
        let leaves = if node.state() == State::Leaving { ", leaving" } else { "" };
        let drained = if node.drained { ", drained" } else { "" };
        nodes.row([
            node.id.to_string(),
            node.zone.clone(),
            node.api_address.clone(),
            node.peer_address.clone(),
            format!("{reach}{leaves}{drained}"),
            node.replicas.to_string(),
            node.shards_led.to_string(),
        ]);
    }
    output.table(&nodes)?;
    output.line("")?;
    let mut shards = Table::new(&["SHARD", "LEADER", "REPLICAS", "TERM", "APPLIED", "DISTRICTS"]);
    for shard in &status.shards {
        let leader = shard.leader.map_or_else(|| "NONE".to_owned(), |leader| leader.to_string());
        let replicas = replicas_text(shard);
        let districts = status.districts.iter().filter(|district| district.shard == shard.shard);
        let names: Vec<_> = districts.map(|district| super::target::short(&district.name)).collect();
        shards.row([
            shard_name(shard.shard),
            leader,
            replicas,
            shard.term.to_string(),
            shard.applied_index.to_string(),
            first_of(&names),
        ]);
    }
    output.table(&shards)
}

/// `1,2,4` and, while replicas move, from where: `1,2,4 (from 3)`.
fn replicas_text(shard: &ShardStatus) -> String {
    let list = |nodes: &[u64]| nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let replicas = list(&shard.replicas);
    match (shard.moving, shard.leaving.as_slice()) {
        (false, _) => replicas,
        (true, []) => format!("{replicas} (moving)"),
        (true, leaving) => format!("{replicas} (from {})", list(leaving)),
    }
}

/// The first names, and how many more there are: a row stays a line.
fn first_of(names: &[impl AsRef<str>]) -> String {
    let (first, rest) = names.split_at(names.len().min(DISTRICTS_SHOWN_MAX));
    let mut text = first.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(",");
    if !rest.is_empty() {
        text += &format!(" and {} more", rest.len());
    }
    text
}

/// The meta group has the number 0.
fn shard_name(shard: u32) -> String {
    if shard == 0 { "meta".to_owned() } else { shard.to_string() }
}

fn status_json(status: &ClusterStatus) -> Json {
    let nodes = status.nodes.iter().map(|node| {
        json!({
            "id": node.id,
            "zone": node.zone,
            "api_address": node.api_address,
            "peer_address": node.peer_address,
            "reachable": node.reachable,
            "drained": node.drained,
            "leaving": node.state() == State::Leaving,
            "replicas": node.replicas,
            "shards_led": node.shards_led,
        })
    });
    let shards = status.shards.iter().map(|shard| {
        json!({
            "shard": shard.shard,
            "leader": shard.leader,
            "replicas": shard.replicas,
            "moving": shard.moving,
            "leaving": shard.leaving,
            "term": shard.term,
            "applied_index": shard.applied_index,
        })
    });
    let districts = status.districts.iter().map(|district| json!({ "name": district.name, "shard": district.shard }));
    json!({
        "answered_by": status.answered_by,
        "healthy": is_healthy(status),
        "nodes": nodes.collect::<Vec<_>>(),
        "shards": shards.collect::<Vec<_>>(),
        "districts": districts.collect::<Vec<_>>(),
        "removed_nodes": status.removed_nodes,
    })
}

fn replicas_table(replicas: &ListLocalReplicasResponse) -> Table {
    let mut table =
        Table::new(&["SHARD", "APPLIED", "FEED FROM", "DEVICES", "STORED", "LATE", "OPEN COMMANDS", "HASH"]);
    for replica in &replicas.replicas {
        table.row([
            shard_name(replica.shard),
            replica.applied_index.to_string(),
            replica.first_index.to_string(),
            replica.devices.to_string(),
            replica.readings_stored.to_string(),
            replica.readings_late.to_string(),
            replica.commands_open.to_string(),
            replica.state_hash.clone(),
        ]);
    }
    table
}

fn replicas_json(replicas: &ListLocalReplicasResponse) -> Json {
    let rows = replicas.replicas.iter().map(|replica| {
        json!({
            "shard": replica.shard,
            "applied_index": replica.applied_index,
            "first_index": replica.first_index,
            "devices": replica.devices,
            "state_hash": replica.state_hash,
            "readings_stored": replica.readings_stored,
            "readings_late": replica.readings_late,
            "readings_duplicate": replica.readings_duplicate,
            "readings_rejected": replica.readings_rejected,
            "commands_issued": replica.commands_issued,
            "commands_succeeded": replica.commands_succeeded,
            "commands_open": replica.commands_open,
        })
    });
    json!({ "node": replicas.node, "replicas": rows.collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use kvarter_api::v1::NodeStatus;

    use super::*;

    #[test]
    fn many_districts_are_counted_and_not_named() {
        assert_eq!(first_of(&["a", "b"]), "a,b");
        assert_eq!(first_of(&["a", "b", "c", "d", "e", "f", "g", "h"]), "a,b,c,d,e,f and 2 more");
        assert_eq!(first_of(&[""; 0]), "");
    }

    #[test]
    fn a_shard_that_moves_says_from_where() {
        let mut shard =
            ShardStatus { replicas: vec![1, 2, 4], moving: true, leaving: vec![3], ..ShardStatus::default() };
        assert_eq!(replicas_text(&shard), "1,2,4 (from 3)");
        shard.leaving.clear();
        assert_eq!(replicas_text(&shard), "1,2,4 (moving)");
        shard.moving = false;
        assert_eq!(replicas_text(&shard), "1,2,4");
    }

    #[test]
    fn a_shard_without_leader_is_not_healthy() {
        let node = NodeStatus { id: 1, reachable: true, ..NodeStatus::default() };
        let shard = ShardStatus { shard: 1, leader: Some(1), ..ShardStatus::default() };
        let mut status = ClusterStatus { nodes: vec![node], shards: vec![shard], ..ClusterStatus::default() };
        assert_eq!(status_json(&status)["healthy"], true);
        status.shards[0].leader = None;
        assert_eq!(status_json(&status)["healthy"], false);
        assert_eq!(status_json(&status)["shards"][0]["leader"], Json::Null);
    }
}
