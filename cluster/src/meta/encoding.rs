//! The meta group's records on the wire and on disk.

use bytes::Bytes;
use prost::Message as _;

use super::{MetaView, NodeRecord, Phase, ShardRecord};
use crate::page::PageContent;
use crate::{ClusterId, DamagedBytes, DiskId, NodeId, ShardId, wire};

pub(super) fn id_from_bytes(bytes: &[u8]) -> Result<u128, DamagedBytes> {
    let bytes = <[u8; 16]>::try_from(bytes);
    bytes.map(u128::from_be_bytes).map_err(|_length| DamagedBytes { reason: "an id has 16 bytes".to_owned() })
}

fn id_to_bytes(id: u128) -> Bytes {
    id.to_be_bytes().to_vec().into()
}

pub(crate) fn node_from_wire(identity: wire::Identity) -> Result<NodeRecord, DamagedBytes> {
    Ok(NodeRecord {
        id: NodeId(identity.node),
        disk: DiskId(id_from_bytes(&identity.disk)?),
        zone: identity.zone,
        peer_address: identity.peer_address,
        api_address: identity.api_address,
        is_leaving: identity.is_leaving,
    })
}

pub(crate) fn node_to_wire(node: &NodeRecord) -> wire::Identity {
    wire::Identity {
        node: node.id.0,
        disk: id_to_bytes(node.disk.0),
        zone: node.zone.clone(),
        peer_address: node.peer_address.clone(),
        api_address: node.api_address.clone(),
        is_leaving: node.is_leaving,
        ..wire::Identity::default()
    }
}

pub(super) fn shard_from_wire(placed: wire::ShardPlaced) -> (ShardId, ShardRecord) {
    use wire::shard_placed::Phase as Stored;
    let phase = match placed.phase() {
        Stored::Settled => Phase::Settled,
        Stored::Founding => Phase::Founding,
        Stored::Moving => Phase::Moving,
    };
    let nodes = |ids: Vec<u64>| ids.into_iter().map(NodeId).collect();
    let version = placed.version;
    let record = ShardRecord { replicas: nodes(placed.replicas), leaving: nodes(placed.leaving), phase, version };
    (ShardId(placed.shard), record)
}

fn shard_to_wire((shard, record): (&ShardId, &ShardRecord)) -> wire::ShardPlaced {
    use wire::shard_placed::Phase as Stored;
    let phase = match record.phase {
        Phase::Settled => Stored::Settled,
        Phase::Founding => Stored::Founding,
        Phase::Moving => Stored::Moving,
    };
    let ids = |nodes: &[NodeId]| nodes.iter().map(|node| node.0).collect();
    wire::ShardPlaced {
        shard: shard.0,
        replicas: ids(&record.replicas),
        version: record.version,
        leaving: ids(&record.leaving),
        phase: phase.into(),
    }
}

impl PageContent for MetaView {
    fn encode(&self, buffer: &mut Vec<u8>) {
        let districts = self.districts.iter();
        let documents = self.documents.iter();
        let removed = self.removed.iter();
        let state = wire::MetaState {
            cluster: self.cluster.map(|id| id_to_bytes(id.0)).unwrap_or_default(),
            nodes: self.nodes.values().map(node_to_wire).collect(),
            shards: self.shards.iter().map(shard_to_wire).collect(),
            districts: districts
                .map(|(district, shard)| wire::DistrictAssigned { district: district.clone(), shard: shard.0 })
                .collect(),
            documents: documents
                .map(|(key, content)| wire::Document { key: key.clone(), content: Some(content.clone()) })
                .collect(),
            documents_version: self.documents_version,
            removed: removed
                .map(|(node, disk)| wire::RemovedNode { node: node.0, disk: id_to_bytes(disk.0) })
                .collect(),
            replication_factor: self.replication_factor,
            version: self.version,
        };
        buffer.extend_from_slice(&state.encode_to_vec());
    }
}

impl MetaView {
    pub(super) fn decode(bytes: Bytes) -> Result<Self, DamagedBytes> {
        let state = wire::MetaState::decode(bytes).map_err(|error| DamagedBytes { reason: error.to_string() })?;
        let cluster = if state.cluster.is_empty() { None } else { Some(ClusterId(id_from_bytes(&state.cluster)?)) };
        let nodes = state.nodes.into_iter().map(node_from_wire).collect::<Result<Vec<_>, _>>()?;
        let removed = state.removed.into_iter().map(|gone| Ok((NodeId(gone.node), DiskId(id_from_bytes(&gone.disk)?))));
        Ok(Self {
            cluster,
            nodes: nodes.into_iter().map(|node| (node.id, node)).collect(),
            removed: removed.collect::<Result<_, _>>()?,
            shards: state.shards.into_iter().map(shard_from_wire).collect(),
            districts: state.districts.into_iter().map(|each| (each.district, ShardId(each.shard))).collect(),
            documents: state
                .documents
                .into_iter()
                .filter_map(|document| document.content.map(|content| (document.key, content)))
                .collect(),
            documents_version: state.documents_version,
            replication_factor: state.replication_factor,
            version: state.version,
        })
    }
}
