//! Certificates of simulated nodes. Keys and signatures of Ed25519 have one length each: no packet's size is left to chance.

use kvarter_cluster::TlsIdentity;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, PKCS_ED25519, SerialNumber};

/// Signs the certificates of one simulation.
pub(super) struct Authority {
    ca_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

fn key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ED25519).expect("Ed25519 is there")
}

impl Authority {
    pub(super) fn new() -> Self {
        let key = key();
        let mut params = CertificateParams::new(Vec::new()).expect("no name is no bad name");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.serial_number = Some(SerialNumber::from(1));
        let certificate = params.self_signed(&key).expect("the parameters are good");
        Self { ca_pem: certificate.pem(), issuer: Issuer::new(params, key) }
    }

    pub(super) fn identity(&self, node: u64) -> TlsIdentity {
        let key = key();
        let mut params = CertificateParams::new(vec![super::stage::host(node)]).expect("a host's name is good");
        params.distinguished_name.push(DnType::CommonName, format!("node:{node}"));
        params.serial_number = Some(SerialNumber::from(100 + node));
        let certificate = params.signed_by(&key, &self.issuer).expect("the parameters are good");
        TlsIdentity {
            ca_pem: self.ca_pem.clone().into_bytes(),
            certificate_pem: certificate.pem().into_bytes(),
            key_pem: key.serialize_pem().into_bytes(),
        }
    }
}
