//! Whom a command calls, and as whom: from options, the environment, or a client profile.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use kvarter_api::{Client, ClientConfig, TlsIdentity};
use serde::Deserialize;

/// Where `kvarter dev` puts the profile of its client.
const PROFILE_DEFAULT: &str = ".kvarter/dev/client.toml";

#[derive(Debug, clap::Args)]
pub(super) struct ConnectionArguments {
    /// Public API of a node; repeat it for more nodes. Default: those of the profile
    #[arg(long = "endpoint", value_name = "HOST:PORT", env = "KVARTER_ENDPOINT", value_delimiter = ',', global = true)]
    endpoints: Vec<String>,
    /// Client profile: TOML with `endpoints`, `ca`, `certificate`, `key` and perhaps `domain`
    #[arg(long, value_name = "FILE", env = "KVARTER_PROFILE", default_value = PROFILE_DEFAULT, global = true)]
    profile: PathBuf,
}

/// A client profile. Relative paths start at its directory.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Profile {
    /// `host:port` of nodes' public API.
    endpoints: Vec<String>,
    /// PEM files: the authority, the client's certificate, and its key.
    ca: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
    /// The name that the nodes' certificates carry.
    #[serde(default = "domain_default")]
    domain: String,
}

fn domain_default() -> String {
    "localhost".to_owned()
}

impl ConnectionArguments {
    /// A client of the cluster that the arguments name.
    pub(super) async fn connect(&self) -> anyhow::Result<Client> {
        let config = self.config()?;
        let endpoints = config.endpoints.join(", ");
        Client::connect(config).await.with_context(|| {
            format!("no node answers at {endpoints}; does the cluster run? (`kvarter dev` starts one on this machine)")
        })
    }

    fn config(&self) -> anyhow::Result<ClientConfig> {
        if !self.profile.exists() {
            bail!(
                "there is no client profile {}: start `kvarter dev` in this directory, or name a profile with --profile \
                 or KVARTER_PROFILE",
                self.profile.display()
            );
        }
        let text = read(&self.profile)?;
        let profile: Profile = toml::from_str(&String::from_utf8_lossy(&text))
            .with_context(|| format!("{} is no client profile", self.profile.display()))?;
        let dir = self.profile.parent().unwrap_or(Path::new(""));
        let tls = TlsIdentity {
            ca_pem: read(&dir.join(&profile.ca))?,
            certificate_pem: read(&dir.join(&profile.certificate))?,
            key_pem: read(&dir.join(&profile.key))?,
            domain: profile.domain,
        };
        let endpoints = if self.endpoints.is_empty() { profile.endpoints } else { self.endpoints.clone() };
        Ok(ClientConfig::new(endpoints, tls))
    }
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(file).with_context(|| format!("{} can not be read", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(profile: PathBuf, endpoints: &[&str]) -> ConnectionArguments {
        ConnectionArguments { endpoints: endpoints.iter().map(|one| (*one).to_owned()).collect(), profile }
    }

    fn profile(dir: &Path) -> PathBuf {
        for file in ["ca.pem", "dev.pem", "dev.key"] {
            std::fs::write(dir.join(file), file).expect("written");
        }
        let text = "endpoints = ['localhost:1']\nca = 'ca.pem'\ncertificate = 'dev.pem'\nkey = 'dev.key'\n";
        std::fs::write(dir.join("client.toml"), text).expect("written");
        dir.join("client.toml")
    }

    #[test]
    fn a_profile_tells_whom_to_call_and_as_whom() {
        let dir = tempfile::tempdir().expect("a directory");
        let config = arguments(profile(dir.path()), &[]).config().expect("valid");
        assert_eq!(config.endpoints, ["localhost:1"]);
        assert_eq!((config.tls.key_pem.as_slice(), config.tls.domain.as_str()), (b"dev.key".as_slice(), "localhost"));
    }

    #[test]
    fn named_endpoints_win_over_the_profile() {
        let dir = tempfile::tempdir().expect("a directory");
        let config = arguments(profile(dir.path()), &["localhost:2", "localhost:3"]).config().expect("valid");
        assert_eq!(config.endpoints, ["localhost:2", "localhost:3"]);
    }

    #[test]
    fn a_missing_profile_is_told_with_what_to_do() {
        let refused = arguments(PathBuf::from("/nowhere/client.toml"), &[]).config().expect_err("refused").to_string();
        assert!(refused.contains("kvarter dev") && refused.contains("--profile"), "{refused}");
    }
}
