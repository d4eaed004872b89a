//! What must be refused: bytes that are no TLS, strangers' certificates, messages that are no protobuf, and protobuf that breaks a
//! rule of the API. Each is sent to every node, and each must get its own clear answer.
mod calls;
mod readings;

use std::path::Path;

use futures::future::join_all;
use kvarter_api::TlsIdentity;
use kvarter_simulator::register;
use rcgen::{CertificateParams, DnType, KeyPair};
use tokio::net::TcpStream;
use tonic::{Code, Status};

use super::wire::{self, BytesOutcome, Papers};
use super::{Aftermath, Scene, failed};
use crate::check::{Violation, Violations};
use crate::drill::DrillError;

/// Where `kvarter dev` keeps a client's certificate that has expired.
const EXPIRED: &str = "tls/expired";
/// A handshake message that claims 512 bytes and stops after five.
const HALF_HELLO: [u8; 5] = [0x16, 0x03, 0x01, 0x02, 0x00];

/// What one input led to.
pub(super) struct Answer {
    what: &'static str,
    /// None: it was refused as it must be.
    wrong: Option<String>,
}

impl Answer {
    fn of_bytes(what: &'static str, outcome: BytesOutcome) -> Self {
        let wrong = match outcome {
            BytesOutcome::HungUp => None,
            BytesOutcome::StillOpen => Some("the connection stays open".to_owned()),
        };
        Self { what, wrong }
    }

    /// The status must have one of `codes`, and say why.
    fn of_status(what: &'static str, outcome: Result<(), Status>, codes: &[Code]) -> Self {
        let wrong = match outcome {
            Ok(()) => Some("accepted".to_owned()),
            // That there is no such method says all.
            Err(status) if status.code() == Code::Unimplemented && codes.contains(&Code::Unimplemented) => None,
            Err(status) if codes.contains(&status.code()) && !status.message().is_empty() => None,
            Err(status) => Some(format!("{:?}: {}", status.code(), status.message())),
        };
        Self { what, wrong }
    }
}

/// Throws everything at every node.
pub(super) async fn throw(scene: Scene<'_>) -> Result<Aftermath, DrillError> {
    let tls = &scene.client.config().tls;
    let own = Papers { certificate_pem: tls.certificate_pem.clone(), key_pem: tls.key_pem.clone() };
    let data = scene.fleet.data_dir();
    let expired = papers(data, EXPIRED)?;
    let status = scene.client.cluster_status().await?;
    register(scene.client, vec![calls::hostile_device()]).await?;
    let mut aftermath = Aftermath::default();
    for node in status.nodes {
        let of_node = papers(data, &format!("tls/node{}", node.id))?;
        let strangers = [("an expired certificate", &expired), ("a certificate of another authority", &stranger()?)];
        let mut answers = bytes(&node.api_address, &node.peer_address).await;
        for (what, papers) in strangers {
            for address in [&node.api_address, &node.peer_address] {
                answers.push(Answer::of_bytes(what, hello(address, tls, Some(papers)).await));
            }
        }
        answers.push(Answer::of_bytes("no certificate", hello(&node.api_address, tls, None).await));
        answers.push(Answer::of_bytes("no certificate at the peers' port", hello(&node.peer_address, tls, None).await));

        let channel = |address: &str, papers: &Papers| wire::channel(address, tls, papers).map_err(failed);
        let as_node = channel(&node.api_address, &of_node)?;
        let outcome = calls::status(&as_node).await;
        answers.push(Answer::of_status("a node's certificate at the API", outcome, &[Code::Unauthenticated]));
        let as_client = channel(&node.peer_address, &own)?;
        answers.extend(calls::at_peers(&as_client).await);
        let api = channel(&node.api_address, &own)?;
        answers.extend(calls::broken(&api).await);
        answers.extend(calls::rule_breaking(&api).await);
        answers.extend(readings::send(scene.client, &node.api_address).await?);

        aftermath.acts += answers.len() as u64;
        judge(node.id, answers, &mut aftermath.violations);
    }
    Ok(aftermath)
}

fn judge(node: u64, answers: Vec<Answer>, violations: &mut Violations) {
    for Answer { what, wrong } in answers {
        if let Some(answer) = wrong {
            violations.add(Violation::HostileInputAccepted { node, what: what.to_owned(), answer });
        }
    }
}

/// What is no TLS, and TLS that stops in the middle, to both ports at once.
async fn bytes(api_address: &str, peer_address: &str) -> Vec<Answer> {
    let inputs: [(&'static str, Vec<u8>); 4] = [
        ("bytes that are no TLS", vec![0xff; 65_536]),
        ("a web browser's request", b"GET / HTTP/1.1\r\nHost: kvarter\r\n\r\n".to_vec()),
        ("a handshake that stops", HALF_HELLO.to_vec()),
        ("a connection that says nothing", Vec::new()),
    ];
    let sending = inputs.iter().flat_map(|(what, bytes)| {
        [api_address, peer_address].map(|address| async move {
            match TcpStream::connect(address).await {
                Ok(socket) => Answer::of_bytes(what, wire::exchange(socket, bytes).await),
                Err(error) => Answer { what, wrong: Some(error.to_string()) },
            }
        })
    });
    join_all(sending).await
}

/// A handshake with these papers must fail, at once or when the server has read them.
async fn hello(address: &str, tls: &TlsIdentity, papers: Option<&Papers>) -> BytesOutcome {
    match wire::handshake(address, tls, papers).await {
        // The beginning of HTTP/2: who is let in gets an answer, and the connection stays.
        Ok(connection) => wire::exchange(connection, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await,
        Err(_refused) => BytesOutcome::HungUp,
    }
}

fn papers(data: &Path, name: &str) -> Result<Papers, DrillError> {
    let read = |end: &str| {
        let file = data.join(format!("{name}.{end}"));
        std::fs::read(&file)
            .map_err(|error| failed(format!("{}: {error}; begin anew with `kvarter dev --clean`", file.display())))
    };
    Ok(Papers { certificate_pem: read("pem")?, key_pem: read("key")? })
}

/// Who looks like a client, and was let in by nobody.
fn stranger() -> Result<Papers, DrillError> {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).map_err(failed)?;
    params.distinguished_name.push(DnType::CommonName, "client:dev");
    let key = KeyPair::generate().map_err(failed)?;
    let certificate = params.self_signed(&key).map_err(failed)?;
    Ok(Papers { certificate_pem: certificate.pem().into_bytes(), key_pem: key.serialize_pem().into_bytes() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_refusal_with_a_reason_is_right() {
        let codes = &[Code::InvalidArgument];
        let of = |outcome| Answer::of_status("x", outcome, codes).wrong;
        assert_eq!(of(Err(Status::invalid_argument("name: too long"))), None);
        assert!(of(Ok(())).is_some() && of(Err(Status::invalid_argument(""))).is_some());
        assert!(of(Err(Status::internal("panicked"))).is_some());
        assert!(Answer::of_bytes("x", BytesOutcome::StillOpen).wrong.is_some());
    }

    #[test]
    fn what_was_let_in_is_named() {
        let mut violations = Violations::default();
        let answers = vec![Answer::of_status("no certificate", Ok(()), &[]), Answer { what: "y", wrong: None }];
        judge(2, answers, &mut violations);
        let what = "no certificate".to_owned();
        assert_eq!(
            violations.first,
            [Violation::HostileInputAccepted { node: 2, what, answer: "accepted".to_owned() }]
        );
    }
}
