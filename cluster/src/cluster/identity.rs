//! Who a data directory belongs to: written once, checked at every start.

use std::path::{Path, PathBuf};

use crate::ports::storage::read_to_end;
use crate::{ClusterId, DiskId, NodeId, Ports, Storage};

const FILE: &str = "identity.json";

/// Why a data directory is refused.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("{path} can not be read or written: {source}")]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{path} is damaged: {reason}; restore it, or give the node an empty directory and a new id")]
    Damaged { path: PathBuf, reason: String },
    #[error("{path} belongs to {owner}, not to {node}; point the node at its own directory")]
    OtherNode { path: PathBuf, owner: NodeId, node: NodeId },
}

pub(super) struct DirectoryIdentity {
    pub(super) disk: DiskId,
    pub(super) cluster: Option<ClusterId>,
    /// How often the node was started from this directory.
    pub(super) starts: u64,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Stored {
    node: NodeId,
    disk: String,
    cluster: Option<String>,
    /// Not counted by earlier versions.
    #[serde(default)]
    starts: u64,
}

/// The identity of `directory`, drawn now when it is new.
pub(super) fn open(directory: &Path, node: NodeId, ports: &Ports) -> Result<DirectoryIdentity, IdentityError> {
    let path = directory.join(FILE);
    let io = |source| IdentityError::Io { path: path.clone(), source };
    ports.storage.create_directory(directory).map_err(io)?;
    if !ports.storage.exists(&path).map_err(io)? {
        let identity = DirectoryIdentity { disk: DiskId(ports.random.next_u128()), cluster: None, starts: 0 };
        write(&*ports.storage, directory, node, &identity)?;
        return Ok(identity);
    }
    let damaged = |reason: String| IdentityError::Damaged { path: path.clone(), reason };
    let file = ports.storage.open(&path).map_err(io)?;
    let bytes = read_to_end(&*file).map_err(io)?;
    let stored: Stored = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
    if stored.node != node {
        return Err(IdentityError::OtherNode { path, owner: stored.node, node });
    }
    let disk = stored.disk.parse().map_err(|_digits| damaged("the disk's id is no hexadecimal number".to_owned()))?;
    let cluster = stored.cluster.map(|text| text.parse()).transpose();
    let cluster = cluster.map_err(|_digits| damaged("the cluster's id is no hexadecimal number".to_owned()))?;
    Ok(DirectoryIdentity { disk, cluster, starts: stored.starts })
}

/// Stores the identity by writing a new file and renaming it; durable on return.
pub(super) fn write(
    storage: &dyn Storage,
    directory: &Path,
    node: NodeId,
    identity: &DirectoryIdentity,
) -> Result<(), IdentityError> {
    let path = directory.join(FILE);
    let io = |source| IdentityError::Io { path: path.clone(), source };
    let stored = Stored {
        node,
        disk: identity.disk.to_string(),
        cluster: identity.cluster.map(|cluster| cluster.to_string()),
        starts: identity.starts,
    };
    let new = directory.join("identity.json.new");
    let bytes = serde_json::to_vec_pretty(&stored).expect("an identity is plain text");
    let file = storage.create(&new).map_err(io)?;
    file.set_length(0).and_then(|()| file.write_at(&bytes, 0)).and_then(|()| file.sync()).map_err(io)?;
    storage.rename(&new, &path).and_then(|()| storage.sync_directory(directory)).map_err(io)
}
