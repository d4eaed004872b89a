//! A wire between a client and a node that can be cut: bytes go through both ways, until all connections are broken at once.
use std::io;
use std::net::Ipv4Addr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Runs until it is dropped.
pub(super) struct Proxy {
    address: String,
    /// Rises with each cut.
    cuts: watch::Sender<u64>,
    _task: JoinSet<()>,
}

impl Proxy {
    /// Listens on a free port of loopback, for connections that go on to `address`.
    pub(super) async fn open(address: String) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let own = listener.local_addr()?.to_string();
        let (cuts, seen) = watch::channel(0);
        let mut task = JoinSet::new();
        task.spawn(serve(listener, address, seen));
        Ok(Self { address: own, cuts, _task: task })
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Breaks all connections; new ones go through.
    pub(super) fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }
}

async fn serve(listener: TcpListener, address: String, cuts: watch::Receiver<u64>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { continue };
                let (address, mut cuts) = (address.clone(), cuts.clone());
                cuts.mark_unchanged();
                connections.spawn(async move {
                    tokio::select! {
                        () = pass(client, &address) => {}
                        _ = cuts.changed() => {}
                    }
                });
            }
            Some(_ended) = connections.join_next() => {}
        }
    }
}

async fn pass(mut client: TcpStream, address: &str) {
    // A node that is down, and either end that leaves, end the other end's connection.
    let Ok(mut node) = TcpStream::connect(address).await else { return };
    drop((client.set_nodelay(true), node.set_nodelay(true)));
    drop(copy_bidirectional(&mut client, &mut node).await);
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn bytes_go_through_until_the_wire_is_cut() {
        let node = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let proxy = Proxy::open(node.local_addr().unwrap().to_string()).await.unwrap();
        for _ in 0..2 {
            let mut client = TcpStream::connect(proxy.address()).await.unwrap();
            let (mut accepted, _) = node.accept().await.unwrap();
            client.write_all(b"hello").await.unwrap();
            let mut heard = [0; 5];
            accepted.read_exact(&mut heard).await.unwrap();
            assert_eq!(&heard, b"hello");
            proxy.cut();
            assert!(matches!(client.read(&mut heard).await, Ok(0) | Err(_)), "cut off");
        }
    }
}
