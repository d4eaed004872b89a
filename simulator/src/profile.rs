//! How to reach a cluster and as whom: a small TOML file that the development cluster writes.
use std::path::{Path, PathBuf};
use std::{fs, io};

use kvarter_api::{ClientConfig, TlsIdentity};
use serde::Deserialize;

/// The name that the nodes' certificates carry.
const NODE_DOMAIN: &str = "localhost";

/// The keys of the file. Relative paths start at the file's directory.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// `host:port` of some nodes' public API.
    pub endpoints: Vec<String>,
    /// Certificate of the authority that signed the nodes' certificates, PEM.
    pub ca: PathBuf,
    /// The client's own certificate, PEM.
    pub certificate: PathBuf,
    /// Private key of the certificate, PEM.
    pub key: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    #[error("can not read {}; `kvarter dev` writes it, or name another profile", file.display())]
    Unreadable { file: PathBuf, source: io::Error },
    #[error("{} is not a profile", file.display())]
    Malformed { file: PathBuf, source: toml::de::Error },
}

impl Profile {
    /// Where the development cluster keeps its profile, below the directory in which it was started.
    pub const DEFAULT_FILE: &str = ".kvarter/dev/client.toml";

    pub fn load(file: &Path) -> Result<Self, ProfileError> {
        let text =
            fs::read_to_string(file).map_err(|source| ProfileError::Unreadable { file: file.to_owned(), source })?;
        let profile: Self =
            toml::from_str(&text).map_err(|source| ProfileError::Malformed { file: file.to_owned(), source })?;
        let dir = file.parent().unwrap_or(Path::new(""));
        Ok(Self {
            ca: dir.join(profile.ca),
            certificate: dir.join(profile.certificate),
            key: dir.join(profile.key),
            ..profile
        })
    }

    /// Reads the certificates; everything else stands at the client's defaults.
    pub fn client_config(&self) -> Result<ClientConfig, ProfileError> {
        let read =
            |file: &Path| fs::read(file).map_err(|source| ProfileError::Unreadable { file: file.to_owned(), source });
        let tls = TlsIdentity {
            ca_pem: read(&self.ca)?,
            certificate_pem: read(&self.certificate)?,
            key_pem: read(&self.key)?,
            domain: NODE_DOMAIN.to_owned(),
        };
        Ok(ClientConfig::new(self.endpoints.clone(), tls))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Profile, ProfileError> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("client.toml");
        fs::write(&file, text).unwrap();
        let profile = Profile::load(&file)?;
        assert_eq!(profile.ca, dir.path().join("ca.pem"));
        Ok(profile)
    }

    #[test]
    fn relative_paths_start_at_the_profile() {
        let text = "endpoints = [\"localhost:7101\"]\nca = \"ca.pem\"\ncertificate = \"/etc/c.pem\"\nkey = \"k.pem\"";
        let profile = load(text).unwrap();
        assert_eq!(profile.certificate, Path::new("/etc/c.pem"));
        assert!(matches!(profile.client_config(), Err(ProfileError::Unreadable { .. })));
    }

    #[test]
    fn an_unknown_key_is_refused() {
        let text = "endpoint = \"x\"\nendpoints = []\nca = \"ca.pem\"\ncertificate = \"c.pem\"\nkey = \"k.pem\"";
        assert!(matches!(load(text), Err(ProfileError::Malformed { .. })));
    }
}
