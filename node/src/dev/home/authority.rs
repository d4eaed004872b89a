//! A throwaway certificate authority, so that even a cluster on one laptop talks mutual TLS only.
//!
//! Certificates do not expire: they live and die with their data directory, and never guard anything but loopback.
use std::collections::BTreeSet;
use std::net::IpAddr;

use kvarter_cluster::{NodeId, TlsIdentity};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, Error, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
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

    /// The identity `node:{id}`, for the public API and for peers, at both ends of a connection, on loopback.
    pub fn node(&self, id: NodeId) -> Result<TlsIdentity, Error> {
        self.node_at(id, &[])
    }

    /// The same for a node that is reached at `hosts` too.
    pub fn node_at(&self, id: NodeId, hosts: &[IpAddr]) -> Result<TlsIdentity, Error> {
        let loopback = LOOPBACK_NAMES.map(str::to_owned);
        let names: BTreeSet<String> = hosts.iter().map(IpAddr::to_string).chain(loopback).collect();
        let mut params = params(&format!("node:{}", id.0), names)?;
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        self.issue(&params)
    }

    /// The identity `client:{name}` of a caller of the public API.
    pub fn client(&self, name: &str) -> Result<TlsIdentity, Error> {
        self.issue(&params(&format!("client:{name}"), LOOPBACK_NAMES.map(str::to_owned))?)
    }

    /// The same with a certificate that was valid long ago.
    pub fn expired_client(&self, name: &str) -> Result<TlsIdentity, Error> {
        let mut params = params(&format!("client:{name}"), LOOPBACK_NAMES.map(str::to_owned))?;
        (params.not_before, params.not_after) = (date_time_ymd(1999, 1, 1), date_time_ymd(2000, 1, 1));
        self.issue(&params)
    }

    fn issue(&self, params: &CertificateParams) -> Result<TlsIdentity, Error> {
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(TlsIdentity {
            ca_pem: self.certificate_pem.clone().into_bytes(),
            certificate_pem: certificate.pem().into_bytes(),
            key_pem: key.serialize_pem().into_bytes(),
        })
    }
}

fn params(subject: &str, names: impl IntoIterator<Item = String>) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::new(names.into_iter().collect::<Vec<_>>())?;
    params.distinguished_name.push(DnType::CommonName, subject);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
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
    fn a_node_may_be_reached_at_addresses_of_its_own() {
        let identity = Authority::new().unwrap().node_at(NodeId(2), &["10.1.2.3".parse().unwrap()]).unwrap();
        let (_, pem) = parse_x509_pem(&identity.certificate_pem).unwrap();
        let certificate = pem.parse_x509().unwrap();
        let names = &certificate.subject_alternative_name().unwrap().unwrap().value.general_names;
        assert!(names.contains(&GeneralName::IPAddress(&[10, 1, 2, 3])), "{names:?}");
        assert!(names.contains(&GeneralName::DNSName("localhost")), "{names:?}");
    }

    #[test]
    fn an_expired_certificate_is_expired() {
        let identity = Authority::new().unwrap().expired_client("dev").unwrap();
        let (_, pem) = parse_x509_pem(&identity.certificate_pem).unwrap();
        assert!(!pem.parse_x509().unwrap().validity().is_valid());
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
