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

use super::{Aftermath, Scene, failed};
use crate::check::{Violation, Violations};
use crate::drill::DrillError;
use crate::drill::strike::wire::{self, BytesOutcome, Greeting, HandshakeError, Papers};

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

    /// The other end itself must have ended it.
    fn of_hello(what: &'static str, outcome: Result<Greeting, HandshakeError>) -> Self {
        let wrong = match outcome {
            Ok(Greeting::HungUp) | Err(HandshakeError::Refused(_)) => None,
            Ok(Greeting::Answered) => Some("let in, and answered".to_owned()),
            Ok(Greeting::Silent) => Some("the connection stays open".to_owned()),
            Err(error @ HandshakeError::Unmade(_)) => Some(error.to_string()),
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
    let own = Papers::of(tls);
    let data = scene.fleet.data_dir();
    let expired = papers(data, EXPIRED)?;
    let status = scene.client.cluster_status().await?;
    register(scene.client, vec![calls::hostile_device()]).await?;
    let mut aftermath = Aftermath::default();
    for node in status.nodes {
        let of_node = papers(data, &format!("tls/node{}", node.id))?;
        let strangers = [("an expired certificate", &expired), ("a certificate of another authority", &stranger()?)];
        for address in [&node.api_address, &node.peer_address] {
            welcome(address, tls, &own).await?;
        }
        let mut answers = bytes(&node.api_address, &node.peer_address).await;
        for (what, papers) in strangers {
            for address in [&node.api_address, &node.peer_address] {
                answers.push(Answer::of_hello(what, hello(address, tls, Some(papers)).await));
            }
        }
        answers.push(Answer::of_hello("no certificate", hello(&node.api_address, tls, None).await));
        answers.push(Answer::of_hello("no certificate at the peers' port", hello(&node.peer_address, tls, None).await));

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

/// A handshake with these papers, and the beginning of HTTP/2: only who is let in gets an answer.
async fn hello(address: &str, tls: &TlsIdentity, papers: Option<&Papers>) -> Result<Greeting, HandshakeError> {
    let connection = wire::handshake(address, tls, papers).await?;
    Ok(wire::greet(connection, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await)
}

/// The right papers must be let in: where they are not, it proves nothing that others are refused.
async fn welcome(address: &str, tls: &TlsIdentity, own: &Papers) -> Result<(), DrillError> {
    match hello(address, tls, Some(own)).await {
        Ok(Greeting::Answered) => Ok(()),
        Ok(Greeting::HungUp | Greeting::Silent) => {
            Err(failed(format!("{address} does not answer to the right papers")))
        }
        Err(error) => Err(failed(format!("{address} does not take the right papers: {error}"))),
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
    use std::net::Ipv4Addr;
    use std::pin::pin;
    use std::sync::Arc;

    use futures::{StreamExt as _, stream};
    use kvarter_cluster::PortTls;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;
    use tokio::task::JoinSet;

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

    /// A port that trusts `papers` alone, and answers everybody that it lets in.
    async fn port(papers: &Papers) -> (String, JoinSet<()>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let Papers { certificate_pem, key_pem } = papers.clone();
        let ca_pem = certificate_pem.clone();
        let port = PortTls::new(&kvarter_cluster::TlsIdentity { ca_pem, certificate_pem, key_pem }).unwrap();
        let incoming = stream::unfold(listener, async |listener| Some((listener.accept().await.unwrap().0, listener)));
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut let_in = pin!(Arc::new(port).accept_all(incoming));
            let mut kept = Vec::new();
            while let Some(Ok(mut connection)) = let_in.next().await {
                connection.write_all(b"welcome").await.unwrap();
                kept.push(connection);
            }
        });
        (address, serving)
    }

    #[tokio::test]
    async fn only_who_is_turned_away_by_the_other_end_was_refused() {
        let (own, stranger) = (stranger().unwrap(), stranger().unwrap());
        let tls = TlsIdentity {
            ca_pem: own.certificate_pem.clone(),
            certificate_pem: own.certificate_pem.clone(),
            key_pem: own.key_pem.clone(),
            domain: "localhost".to_owned(),
        };
        let (address, serving) = port(&own).await;
        welcome(&address, &tls, &own).await.unwrap();
        let judge = async |tls: &TlsIdentity, papers| Answer::of_hello("x", hello(&address, tls, papers).await).wrong;
        assert_eq!([judge(&tls, Some(&stranger)).await, judge(&tls, None).await], [None, None]);
        assert_eq!(judge(&tls, Some(&own)).await.as_deref(), Some("let in, and answered"));

        let misfit = Papers { key_pem: b"no key".to_vec(), ..own.clone() };
        let distrustful = TlsIdentity { ca_pem: stranger.certificate_pem.clone(), ..tls.clone() };
        let unmade = [judge(&tls, Some(&misfit)).await, judge(&distrustful, Some(&stranger)).await];
        drop(serving);
        let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap().to_string();
        let absent = Answer::of_hello("x", hello(&nobody, &tls, None).await).wrong;
        for wrong in unmade.into_iter().chain([absent]) {
            assert!(wrong.as_ref().is_some_and(|wrong| wrong.starts_with("no handshake took place")), "{wrong:?}");
        }
        welcome(&nobody, &tls, &own).await.unwrap_err();
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
