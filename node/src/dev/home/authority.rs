//! A throwaway certificate authority, so that even a cluster on one laptop talks mutual TLS only.
//!
//! Certificates do not expire: they live and die with their data directory, and never guard anything but loopback.
use kvarter_cluster::{NodeId, TlsIdentity};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, Error, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

/// Names under which the nodes of a development cluster are reached.
const LOOPBACK_NAMES: [&str; 2] = ["localhost", "127.0.0.1"];

/// A certificate authority that exists in memory only: what it did not issue while it lived can not be issued any more.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate_pem: String,
}

impl Authority {
    pub fn new() -> Result<Self, Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "kvarter dev");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let certificate_pem = params.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), certificate_pem })
    }

    /// The identity `node:{id}`, for the public API and for peers, at both ends of a connection.
    pub fn node(&self, id: NodeId) -> Result<TlsIdentity, Error> {
        let usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(&format!("node:{}", id.0), usages)
    }

    /// The identity `client:{name}` of a caller of the public API.
    pub fn client(&self, name: &str) -> Result<TlsIdentity, Error> {
        self.issue(&format!("client:{name}"), vec![ExtendedKeyUsagePurpose::ClientAuth])
    }

    fn issue(&self, subject: &str, usages: Vec<ExtendedKeyUsagePurpose>) -> Result<TlsIdentity, Error> {
        let mut params = CertificateParams::new(LOOPBACK_NAMES.map(str::to_owned))?;
        params.distinguished_name.push(DnType::CommonName, subject);
        params.extended_key_usages = usages;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(TlsIdentity {
            ca_pem: self.certificate_pem.clone().into_bytes(),
            certificate_pem: certificate.pem().into_bytes(),
            key_pem: key.serialize_pem().into_bytes(),
        })
    }
}

#[cfg(test)]
mod tests {
    use x509_parser::extensions::GeneralName;
    use x509_parser::pem::parse_x509_pem;

    use super::*;

    #[test]
    fn a_node_is_named_in_its_subject_and_reached_as_localhost() {
        let identity = Authority::new().unwrap().node(NodeId(2)).unwrap();
        let (_, pem) = parse_x509_pem(&identity.certificate_pem).unwrap();
        let certificate = pem.parse_x509().unwrap();
        assert_eq!(certificate.subject().iter_common_name().next().unwrap().as_str().unwrap(), "node:2");
        let names = &certificate.subject_alternative_name().unwrap().unwrap().value.general_names;
        assert!(names.contains(&GeneralName::DNSName("localhost")), "{names:?}");
        assert!(names.contains(&GeneralName::IPAddress(&[127, 0, 0, 1])), "{names:?}");
    }

    #[test]
    fn clients_can_not_serve() {
        let identity = Authority::new().unwrap().client("dev").unwrap();
        let (_, pem) = parse_x509_pem(&identity.certificate_pem).unwrap();
        let certificate = pem.parse_x509().unwrap();
        let usage = certificate.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.client_auth && !usage.server_auth);
    }
}
