//! Who calls, how long they wait, and which trace their call belongs to: read from the request's metadata and TLS.

use std::time::Duration;

use kvarter_actors::{CallContext, Criticality};
use tonic::metadata::MetadataMap;
use tonic::{Request, Status};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::api::status;

/// Deadline of a call that brings none.
pub(crate) const DEADLINE_DEFAULT: Duration = Duration::from_secs(5);
/// The same for calls that touch many devices.
pub(crate) const DEADLINE_BATCH: Duration = Duration::from_secs(10);
/// No call holds its resources longer, whatever it asks for.
const DEADLINE_MAX: Duration = Duration::from_secs(60);

/// The context of a call with the caller's own deadline (`grpc-timeout`), or `deadline_default` when it brings none.
pub(crate) fn context<T>(request: &Request<T>, deadline_default: Duration) -> CallContext {
    let deadline = match grpc_timeout(request.metadata()) {
        // The answer has to be on its way before the caller gives up.
        Some(timeout) => timeout.min(DEADLINE_MAX) - (timeout.min(DEADLINE_MAX) / 10).min(Duration::from_millis(50)),
        None => deadline_default,
    };
    CallContext {
        deadline,
        traceparent: traceparent(request.metadata()),
        criticality: criticality(request.metadata()),
        forwarding: request.extensions().get().cloned().unwrap_or_default(),
    }
}

/// What the caller says of its call; what is no criticality says nothing.
fn criticality(metadata: &MetadataMap) -> Option<Criticality> {
    match metadata.get("kvarter-criticality")?.to_str().ok()? {
        "low" => Some(Criticality::Low),
        "normal" => Some(Criticality::Normal),
        "high" => Some(Criticality::High),
        _ => None,
    }
}

/// Lets in who shows the certificate of a client. That of a node opens the peers' port alone.
pub(crate) fn authenticate(request: Request<()>) -> Result<Request<()>, Status> {
    identity(&request).map(|_client| request)
}

/// The identity of the client, `client:{name}`: the common name of its certificate's subject.
pub(crate) fn identity<T>(request: &Request<T>) -> Result<String, Status> {
    let certificates = request.peer_certs().ok_or_else(|| status::unauthenticated("no client certificate"))?;
    let leaf = certificates.first().ok_or_else(|| status::unauthenticated("no client certificate"))?;
    let client = common_name(leaf).filter(|name| name.strip_prefix("client:").is_some_and(|name| !name.is_empty()));
    client.ok_or_else(|| status::unauthenticated("the certificate's subject is not CN=client:{name}"))
}

fn common_name(certificate: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let name = certificate.subject().iter_common_name().next()?;
    name.as_str().ok().filter(|name| !name.is_empty()).map(str::to_owned)
}

/// The W3C `traceparent` of the request; empty when there is none or it is malformed.
fn traceparent(metadata: &MetadataMap) -> String {
    let value = metadata.get("traceparent").and_then(|value| value.to_str().ok()).unwrap_or_default();
    if is_traceparent(value) { value.to_owned() } else { String::new() }
}

/// Version 00: `00-{32 hex}-{16 hex}-{2 hex}`, all lower case.
fn is_traceparent(value: &str) -> bool {
    let lengths = [2, 32, 16, 2];
    let is_hex = |part: &str| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let parts: Vec<_> = value.split('-').collect();
    parts.len() == lengths.len() && parts.iter().zip(lengths).all(|(part, length)| part.len() == length && is_hex(part))
}

/// The gRPC wire format: up to eight digits and a unit.
fn grpc_timeout(metadata: &MetadataMap) -> Option<Duration> {
    let value = metadata.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    if digits.len() > 8 {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(name: &'static str, value: &'static str) -> Request<()> {
        let mut request = Request::new(());
        request.metadata_mut().insert(name, value.parse().expect("an ASCII value"));
        request
    }

    #[test]
    fn the_callers_deadline_counts_and_leaves_time_for_the_answer() {
        let context = context(&request("grpc-timeout", "2000m"), DEADLINE_DEFAULT);
        assert_eq!(context.deadline, Duration::from_millis(1950));
        let context = super::context(&request("grpc-timeout", "10H"), DEADLINE_DEFAULT);
        assert!(context.deadline <= DEADLINE_MAX);
    }

    #[test]
    fn a_missing_or_malformed_deadline_is_the_default() {
        for value in ["", "5", "x5S", "123456789S", "5D"] {
            let context = context(&request("grpc-timeout", value), DEADLINE_BATCH);
            assert_eq!(context.deadline, DEADLINE_BATCH, "{value}");
        }
    }

    #[test]
    fn only_a_well_formed_trace_context_is_passed_on() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(context(&request("traceparent", good), DEADLINE_DEFAULT).traceparent, good);
        for bad in ["", "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01", "00-1-2-01"] {
            assert_eq!(context(&request("traceparent", bad), DEADLINE_DEFAULT).traceparent, "");
        }
    }

    #[test]
    fn a_caller_may_say_how_critical_its_call_is() {
        let of = |value| context(&request("kvarter-criticality", value), DEADLINE_DEFAULT).criticality;
        assert_eq!(["low", "high"].map(of), [Some(Criticality::Low), Some(Criticality::High)]);
        // Above all is what operators and devices say, whatever callers claim.
        assert_eq!(["vital", "LOW", ""].map(of), [None; 3]);
    }

    #[test]
    fn a_call_without_certificate_is_unauthenticated() {
        let error = identity(&Request::new(())).expect_err("no certificate");
        assert_eq!(error.code(), tonic::Code::Unauthenticated);
    }

    #[test]
    fn the_identity_is_the_common_name() {
        let mut parameters = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("valid names");
        parameters.distinguished_name.push(rcgen::DnType::CommonName, "client:lamps");
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = parameters.self_signed(&key).expect("a certificate");
        // rcgen puts a common name of its own first unless it is replaced.
        assert_eq!(common_name(certificate.der()).as_deref(), Some("client:lamps"));
        assert_eq!(common_name(b"no certificate"), None);
    }
}
