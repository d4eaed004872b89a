//! The data directory of a development cluster: certificates, addresses, settings, and a directory for each node.
//!
//! All of it is made on the first start and kept; only the settings are written anew each time, so that they follow the
//! program's version.
mod addresses;
mod authority;
mod settings;

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use kvarter_cluster::{NodeId, Random, TlsIdentity};

pub use addresses::NodeAddresses;
pub use authority::Authority;

/// Most nodes of a development cluster.
pub(super) const NODES_MAX: u64 = 7;

/// Further nodes that have a certificate, and may join: the authority is gone when they come.
const SPARES: usize = 2;

/// Who `kvarter dev` is to the cluster: `client:dev`.
const CLIENT_NAME: &str = "dev";

/// An opened data directory. No other program opens it meanwhile.
pub struct Home {
    dir: PathBuf,
    addresses: Vec<NodeAddresses>,
    _lock: File,
}

/// What a first start begins with.
pub struct HomeOptions<'a> {
    /// Remove an earlier cluster first.
    pub clean: bool,
    /// Nodes of a cluster that is formed, with ids from 1; an existing one keeps its own. One to seven.
    pub nodes: u64,
    /// Shards of a cluster that is formed; an existing one keeps its own.
    pub shards: u32,
    pub random: &'a dyn Random,
}

impl Home {
    /// Opens `dir`, and makes what is missing.
    pub fn open(dir: &Path, options: &HomeOptions<'_>) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir).with_context(|| format!("can not make the data directory {}", dir.display()))?;
        let dir = dir.canonicalize()?;
        let lock = lock(&dir)?;
        if options.clean {
            clean(&dir).with_context(|| format!("can not clean {}", dir.display()))?;
        }
        let addresses = load_addresses(&dir, options).context("can not choose the ports")?;
        issue_certificates(&dir, &addresses).context("can not make the certificates")?;
        let home = Self { dir, addresses, _lock: lock };
        settings::write(&home, options.shards).context("can not write the nodes' settings")?;
        Ok(home)
    }

    /// The directory, as an absolute path.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn nodes(&self) -> impl Iterator<Item = NodeId> + use<> {
        (1..=self.node_count()).map(NodeId)
    }

    pub fn node_count(&self) -> u64 {
        self.addresses.len() as u64
    }

    pub fn addresses(&self, node: NodeId) -> &NodeAddresses {
        let place = usize::try_from(node.0 - 1).expect("a node of this cluster");
        &self.addresses[place]
    }

    /// Refuses when another program listens where a node has to.
    pub fn check_addresses(&self) -> anyhow::Result<()> {
        match addresses::occupied(&self.addresses) {
            Some(address) => bail!(
                "{address} is in use by another program; stop it (does an earlier cluster still run?), or choose \
                 new ports with --clean"
            ),
            None => Ok(()),
        }
    }

    /// Settings for `kvarter node --config`.
    pub fn node_settings(&self, node: NodeId) -> PathBuf {
        self.dir.join(format!("node{}.toml", node.0))
    }

    /// What the node's process says on standard output and standard error.
    pub fn node_log(&self, node: NodeId) -> PathBuf {
        self.dir.join(format!("node{}.log", node.0))
    }

    /// The node's stores.
    pub fn node_data(&self, node: NodeId) -> PathBuf {
        self.dir.join(format!("node{}", node.0))
    }

    /// Profile of a client of this cluster.
    pub fn client_profile(&self) -> PathBuf {
        self.dir.join("client.toml")
    }

    /// The processes of the running cluster.
    pub fn fleet_file(&self) -> PathBuf {
        self.dir.join("fleet.json")
    }

    /// Simulated time of the built-in town.
    pub fn clock_file(&self) -> PathBuf {
        self.dir.join("clock.json")
    }

    fn certificates(&self) -> PathBuf {
        self.dir.join(CERTIFICATES)
    }
}

/// Replaces `file` whole: a reader, or a crash, sees the old bytes or the new ones.
pub(super) fn replace_file(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut fresh = file.as_os_str().to_owned();
    fresh.push(".new");
    std::fs::write(&fresh, bytes)?;
    std::fs::rename(&fresh, file)
}

const LOCK: &str = "lock";
const CERTIFICATES: &str = "tls";
const ADDRESSES: &str = "addresses.json";

fn lock(dir: &Path) -> anyhow::Result<File> {
    let file = dir.join(LOCK);
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&file)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => {
            bail!("another `kvarter dev` uses {}; stop it, or choose another directory with --data", dir.display())
        }
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("can not lock {}", file.display())),
    }
}

/// Removes what this program has made in `dir`, and nothing else: the directory may be one that the user chose by mistake.
fn clean(dir: &Path) -> io::Result<()> {
    let of_nodes = (1..=NODES_MAX).flat_map(|id| ["", ".toml", ".log"].map(|end| format!("node{id}{end}")));
    let of_cluster = [CERTIFICATES, ADDRESSES, "client.toml", "fleet.json", "clock.json"].map(str::to_owned);
    for name in of_nodes.chain(of_cluster) {
        let path = dir.join(name);
        let removed = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

fn load_addresses(dir: &Path, options: &HomeOptions<'_>) -> anyhow::Result<Vec<NodeAddresses>> {
    let file = dir.join(ADDRESSES);
    if !file.exists() {
        let chosen = addresses::choose(usize::try_from(options.nodes)?, options.random)?;
        replace_file(&file, &serde_json::to_vec_pretty(&chosen)?)?;
    }
    let addresses: Vec<NodeAddresses> = serde_json::from_slice(&std::fs::read(&file)?)
        .with_context(|| format!("{} is damaged; begin anew with --clean", file.display()))?;
    let is_sane = (1..=NODES_MAX).contains(&(addresses.len() as u64));
    anyhow::ensure!(is_sane, "{} has no nodes, or too many; begin anew with --clean", file.display());
    Ok(addresses)
}

/// All certificates come into being together, since the authority is gone afterwards.
fn issue_certificates(dir: &Path, addresses: &[NodeAddresses]) -> anyhow::Result<()> {
    let certificates = dir.join(CERTIFICATES);
    if certificates.exists() {
        return Ok(());
    }
    let fresh = dir.join("tls.new");
    if fresh.exists() {
        std::fs::remove_dir_all(&fresh)?;
    }
    std::fs::create_dir(&fresh)?;
    let authority = Authority::new()?;
    // Spare identities, for nodes that join: they are reached on loopback alone.
    let spares = std::iter::repeat_n(None, SPARES);
    for (id, addresses) in (1..).zip(addresses.iter().map(Some).chain(spares)) {
        let hosts = addresses.map(|addresses| addresses.all().map(|address| address.ip()));
        let identity = authority.node_at(NodeId(id), hosts.as_ref().map_or(&[], |hosts| &hosts[..]))?;
        write_identity(&fresh, &format!("node{id}"), &identity)?;
    }
    write_identity(&fresh, "client", &authority.client(CLIENT_NAME)?)?;
    // Nobody gets in with it; that drills can see.
    write_identity(&fresh, "expired", &authority.expired_client(CLIENT_NAME)?)?;
    std::fs::rename(&fresh, &certificates)?;
    Ok(())
}

fn write_identity(dir: &Path, name: &str, identity: &TlsIdentity) -> io::Result<()> {
    std::fs::write(dir.join("ca.pem"), &identity.ca_pem)?;
    std::fs::write(dir.join(format!("{name}.pem")), &identity.certificate_pem)?;
    let mut owner_only = OpenOptions::new();
    owner_only.create_new(true).write(true).mode(0o600);
    owner_only.open(dir.join(format!("{name}.key")))?.write_all(&identity.key_pem)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use kvarter_cluster::Ports;

    use super::*;

    fn open(dir: &Path, clean: bool) -> anyhow::Result<Home> {
        Home::open(dir, &HomeOptions { clean, nodes: 3, shards: 4, random: &*Ports::system().random })
    }

    #[test]
    fn a_second_start_finds_the_same_cluster() {
        let dir = tempfile::tempdir().unwrap();
        let first = open(dir.path(), false).unwrap();
        let (addresses, key) = (first.addresses.clone(), first.certificates().join("client.key"));
        let key_bytes = std::fs::read(&key).unwrap();
        assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        drop(first);
        let second = open(dir.path(), false).unwrap();
        assert_eq!(second.addresses, addresses);
        assert_eq!(std::fs::read(&key).unwrap(), key_bytes);
    }

    #[test]
    fn a_cluster_keeps_its_number_of_nodes_until_it_is_cleaned() {
        let dir = tempfile::tempdir().unwrap();
        let open = |clean, nodes| {
            let options = HomeOptions { clean, nodes, shards: 4, random: &*Ports::system().random };
            Home::open(dir.path(), &options).unwrap().node_count()
        };
        assert_eq!([open(false, 5), open(false, 3), open(true, 1)], [5, 5, 1]);
    }

    #[test]
    fn a_directory_in_use_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let _held = open(dir.path(), false).unwrap();
        let refused = open(dir.path(), true).err().unwrap().to_string();
        assert!(refused.contains("--data"), "{refused}");
    }

    #[test]
    fn cleaning_spares_the_files_of_others() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("thesis.txt"), "mine").unwrap();
        let home = open(dir.path(), false).unwrap();
        std::fs::create_dir(home.node_data(NodeId(1))).unwrap();
        let (data, key) = (home.node_data(NodeId(1)), home.certificates().join("client.key"));
        let key_bytes = std::fs::read(&key).unwrap();
        drop(home);
        let _home = open(dir.path(), true).unwrap();
        assert!(!data.exists());
        assert_ne!(std::fs::read(&key).unwrap(), key_bytes);
        assert_eq!(std::fs::read_to_string(dir.path().join("thesis.txt")).unwrap(), "mine");
    }
}
