//! One authority with a node's certificate and two of a client, made anew for each test.

use kvarter_api::TlsIdentity;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair};
use tonic::transport::{Certificate, Identity, ServerTlsConfig};

const DOMAIN: &str = "localhost";

pub(crate) struct Certificates {
    ca_pem: String,
    node: (String, String),
    client: (String, String),
    renewed: (String, String),
}

impl Certificates {
    pub(crate) fn new() -> Self {
        let mut authority = CertificateParams::new(Vec::new()).expect("valid names");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().expect("a key")).expect("signed");
        let issue = |common_name: &str| {
            let mut parameters = CertificateParams::new(vec![DOMAIN.to_owned()]).expect("valid names");
            parameters.distinguished_name = DistinguishedName::new();
            parameters.distinguished_name.push(DnType::CommonName, common_name);
            let key = KeyPair::generate().expect("a key");
            let certificate = parameters.signed_by(&key, &authority).expect("signed");
            (certificate.pem(), key.serialize_pem())
        };
        Self {
            ca_pem: authority.pem(),
            node: issue("node:1"),
            client: issue("client:test"),
            renewed: issue("client:test"),
        }
    }

    pub(crate) fn client(&self) -> TlsIdentity {
        self.identity(&self.client)
    }

    /// The same client with its next certificate.
    pub(crate) fn renewed(&self) -> TlsIdentity {
        self.identity(&self.renewed)
    }

    fn identity(&self, (certificate, key): &(String, String)) -> TlsIdentity {
        TlsIdentity {
            ca_pem: self.ca_pem.clone().into_bytes(),
            certificate_pem: certificate.clone().into_bytes(),
            key_pem: key.clone().into_bytes(),
            domain: DOMAIN.to_owned(),
        }
    }

    pub(crate) fn node(&self) -> ServerTlsConfig {
        ServerTlsConfig::new()
            .identity(Identity::from_pem(&self.node.0, &self.node.1))
            .client_ca_root(Certificate::from_pem(&self.ca_pem))
    }
}
