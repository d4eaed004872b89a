//! The node's TLS material: checked before anything listens, and read again when its files change.
//!
//! Files are compared by their bytes, since what a secret is mounted from may keep its times. A pair that is only half
//! replaced does not fit together: it is refused, the old one stays, and the next look takes the whole.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kvarter_cluster::{NodeId, TlsIdentity, TlsRefused};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::config::TlsFiles;

/// Between two looks at the files: how long new material waits at most.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

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
    #[error(transparent)]
    Refused(#[from] TlsRefused),
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

/// Looks at `files` every [`LOOK_INTERVAL`] until `stop`, and gives what has changed and fits to `renew`.
pub(crate) async fn follow(
    files: TlsFiles,
    node: NodeId,
    in_use: TlsIdentity,
    renew: impl Fn(TlsIdentity) -> Result<(), TlsRefused>,
    stop: CancellationToken,
) {
    let mut renewal = Renewal { in_use, refused: None };
    let mut ticks = interval(LOOK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let files = files.clone();
        let Ok(loaded) = tokio::task::spawn_blocking(move || load(&files, node)).await else { return };
        renewal.look(loaded, &renew);
    }
}

/// What a node shows now, and what it lately refused to show.
struct Renewal {
    in_use: TlsIdentity,
    /// The last refusal, so that it is told once and not at every look.
    refused: Option<String>,
}

impl Renewal {
    fn look(&mut self, loaded: Result<TlsIdentity, TlsError>, renew: impl Fn(TlsIdentity) -> Result<(), TlsRefused>) {
        let outcome = loaded.and_then(|loaded| {
            if loaded != self.in_use {
                renew(loaded.clone())?;
                tracing::info!("the TLS material is renewed");
                self.in_use = loaded;
            }
            Ok(())
        });
        let refused = outcome.err().map(|error| error.to_string());
        match &refused {
            Some(error) if refused != self.refused => {
                tracing::error!(error, "the new TLS material is refused; the old one stays in use");
            }
            Some(_) | None => {}
        }
        self.refused = refused;
    }
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
    fn only_what_changed_and_fits_is_taken_over() {
        let dir = tempfile::tempdir().expect("a directory");
        let old = load(&files(dir.path(), "node:4"), NodeId(4)).expect("fits");
        let files = files(dir.path(), "node:4");
        let new = load(&files, NodeId(4)).expect("fits");
        let taken = std::cell::RefCell::new(Vec::new());
        let renew = |identity: TlsIdentity| {
            kvarter_cluster::PortTls::new(&identity)?;
            taken.borrow_mut().push(identity.key_pem);
            Ok(())
        };
        let mut renewal = Renewal { in_use: old.clone(), refused: None };
        renewal.look(Ok(old.clone()), renew);
        assert!(taken.borrow().is_empty());
        // The key is not replaced yet.
        renewal.look(Ok(TlsIdentity { key_pem: old.key_pem.clone(), ..new.clone() }), renew);
        assert!(taken.borrow().is_empty() && renewal.in_use == old && renewal.refused.is_some());
        renewal.look(load(&files, NodeId(4)), renew);
        renewal.look(load(&files, NodeId(4)), renew);
        assert_eq!(taken.borrow().as_slice(), std::slice::from_ref(&new.key_pem));
        assert!(renewal.in_use == new && renewal.refused.is_none());
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
