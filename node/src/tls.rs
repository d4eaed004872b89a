//! The node's TLS material: read once at the start, checked before anything listens.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kvarter_cluster::{NodeId, TlsIdentity};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tonic::transport::{Certificate, Identity, ServerTlsConfig};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::config::TlsFiles;

/// A connection that has not finished its handshake by then is closed: it may be anybody's.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// Why the material is refused. The text names the file.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{file}: {reason}", file = file.display())]
    NotReadable { file: PathBuf, reason: std::io::Error },
    #[error("{file}: no PEM {expected} in it: {reason}", file = file.display())]
    NotPem { file: PathBuf, expected: &'static str, reason: rustls_pki_types::pem::Error },
    #[error("{file}: not a certificate: {reason}", file = file.display())]
    NotCertificate { file: PathBuf, reason: String },
    #[error("{file}: the certificate is for CN={found}, this node needs CN={expected}", file = file.display())]
    OtherSubject { file: PathBuf, found: String, expected: String },
}

/// Reads `files`, which must hold PEM and a certificate for `node`.
pub(crate) fn load(files: &TlsFiles, node: NodeId) -> Result<TlsIdentity, TlsError> {
    let ca_pem = read(&files.ca)?;
    check_certificate(&files.ca, &ca_pem)?;
    let certificate_pem = read(&files.certificate)?;
    let found = check_certificate(&files.certificate, &certificate_pem)?;
    let expected = format!("node:{}", node.0);
    if found != expected {
        return Err(TlsError::OtherSubject { file: files.certificate.clone(), found, expected });
    }
    let key_pem = read(&files.key)?;
    PrivateKeyDer::from_pem_slice(&key_pem).map_err(|reason| TlsError::NotPem {
        file: files.key.clone(),
        expected: "private key",
        reason,
    })?;
    Ok(TlsIdentity { ca_pem, certificate_pem, key_pem })
}

/// How the public API is served: clients need a certificate of the same authority.
pub(crate) fn server(identity: &TlsIdentity) -> ServerTlsConfig {
    ServerTlsConfig::new()
        .identity(Identity::from_pem(&identity.certificate_pem, &identity.key_pem))
        .client_ca_root(Certificate::from_pem(&identity.ca_pem))
        .timeout(HANDSHAKE_MAX)
}

fn read(file: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(file).map_err(|reason| TlsError::NotReadable { file: file.to_owned(), reason })
}

/// The common name of the first certificate; empty when it has none.
fn check_certificate(file: &Path, pem: &[u8]) -> Result<String, TlsError> {
    let certificate = CertificateDer::from_pem_slice(pem).map_err(|reason| TlsError::NotPem {
        file: file.to_owned(),
        expected: "certificate",
        reason,
    })?;
    let (_, certificate) = X509Certificate::from_der(&certificate)
        .map_err(|error| TlsError::NotCertificate { file: file.to_owned(), reason: error.to_string() })?;
    let name = certificate.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
    Ok(name.unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files with a certificate of `subject` that signs itself.
    fn files(dir: &Path, subject: &str) -> TlsFiles {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, subject);
        let key = rcgen::KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        let files = TlsFiles { ca: dir.join("ca.pem"), certificate: dir.join("node.pem"), key: dir.join("node.key") };
        std::fs::write(&files.ca, &pem).expect("written");
        std::fs::write(&files.certificate, &pem).expect("written");
        std::fs::write(&files.key, key.serialize_pem()).expect("written");
        files
    }

    #[test]
    fn the_material_of_this_node_is_taken() {
        let dir = tempfile::tempdir().expect("a directory");
        let identity = load(&files(dir.path(), "node:4"), NodeId(4)).expect("fits");
        assert!(identity.key_pem.starts_with(b"-----BEGIN PRIVATE KEY"));
    }

    #[test]
    fn what_does_not_fit_is_refused_with_its_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let files = files(dir.path(), "node:4");
        let refusal = |files: &TlsFiles, node| load(files, NodeId(node)).err().expect("refused").to_string();
        assert!(refusal(&files, 5).ends_with("node.pem: the certificate is for CN=node:4, this node needs CN=node:5"));
        std::fs::write(&files.key, "no key").expect("written");
        assert!(refusal(&files, 4).contains("node.key: no PEM private key in it"));
        std::fs::remove_file(&files.ca).expect("removed");
        assert!(refusal(&files, 4).contains("ca.pem: "));
    }
}
