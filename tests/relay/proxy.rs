//! A wire between the source and the relay that can go dead: it stays open, and nothing passes any
//! more, as when a node loses its power or a firewall its memory.

use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// See the module.
#[derive(Debug)]
pub struct Wire {
    pub address: SocketAddr,
    generation: watch::Sender<u64>,
}

impl Wire {
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let generation = watch::Sender::new(0);
        let changes = generation.subscribe();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(pass(stream, target, changes.clone()));
            }
        });
        Self {
            address,
            generation,
        }
    }

    /// The connections that stand go dead; new ones work.
    pub fn goes_dead(&self) {
        self.generation.send_modify(|generation| *generation += 1);
    }
}

async fn pass(mut stream: TcpStream, target: SocketAddr, mut changes: watch::Receiver<u64>) {
    changes.mark_unchanged();
    let mut relay = TcpStream::connect(target).await.unwrap();
    tokio::select! {
        _ = copy_bidirectional(&mut stream, &mut relay) => return,
        _ = changes.changed() => {}
    }
    // Held open.
    std::future::pending::<()>().await;
}
