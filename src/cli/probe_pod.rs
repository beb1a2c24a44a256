//! What the two pods of `doctor --probe` run: a server, and a client that connects to it again and again and
//! logs each result. Hidden subcommands, which users do not call.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::limits;

/// The port of the server.
pub(super) const PORT: u16 = 8377;

/// Time limit of one answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// Pause between two attempts.
const PAUSE: Duration = Duration::from_millis(500);

/// Arguments of `yellowjack probe-connect`.
#[derive(clap::Args, Debug)]
pub(super) struct ConnectArgs {
    /// The address of the server.
    target: SocketAddr,
}

/// The result of one attempt, which the client logs as a line of JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Attempt {
    /// The time in milliseconds, by the clock of the pod's node.
    pub at_ms: i64,
    /// Whether a new connection was answered.
    pub new: bool,
    /// Whether the connection that was opened first was answered.
    pub held: bool,
}

/// Runs the server for a limited time.
pub(super) fn serve() -> anyhow::Result<()> {
    run(async {
        let listener = listener().await?;
        let free = Arc::new(Semaphore::new(limits::PROBE_CONNECTIONS_MAX));
        loop {
            let permit = Arc::clone(&free).acquire_owned().await?;
            let (stream, _) = listener.accept().await.context("failed to accept")?;
            tokio::spawn(async move {
                let _permit = permit;
                let _ = echo(stream).await;
            });
        }
    })
}

/// Runs the client for a limited time.
pub(super) fn connect(args: &ConnectArgs) -> anyhow::Result<()> {
    let target = args.target;
    run(async move {
        let mut held = None;
        loop {
            let line = serde_json::to_string(&attempt(target, &mut held).await)?;
            let mut stdout = std::io::stdout();
            writeln!(stdout, "{line}")?;
            stdout.flush()?;
            tokio::time::sleep(PAUSE).await;
        }
    })
}

fn run(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        tokio::time::timeout(limits::PROBE_LIFE_MAX, work)
            .await
            .unwrap_or(Ok(()))
    })
}

/// Listens on both address families, or on IPv4 alone where there is no IPv6.
async fn listener() -> anyhow::Result<TcpListener> {
    let of = |address: IpAddr| TcpListener::bind(SocketAddr::new(address, PORT));
    match of(Ipv6Addr::UNSPECIFIED.into()).await {
        Ok(listener) => Ok(listener),
        Err(_) => of(Ipv4Addr::UNSPECIFIED.into())
            .await
            .context("failed to listen"),
    }
}

async fn echo(mut stream: TcpStream) -> std::io::Result<()> {
    loop {
        let byte = stream.read_u8().await?;
        stream.write_u8(byte).await?;
    }
}

/// Tries a new connection and the held one. The first connection that works is held.
async fn attempt(target: SocketAddr, held: &mut Option<TcpStream>) -> Attempt {
    let (new, is_held) = tokio::join!(open(target), async {
        match held.as_mut() {
            Some(stream) => answers(stream).await,
            None => false,
        }
    });
    let at_ms = Timestamp::now().as_millisecond();
    let is_new = new.is_some();
    if held.is_none() {
        *held = new;
        return Attempt {
            at_ms,
            new: is_new,
            held: is_new,
        };
    }
    Attempt {
        at_ms,
        new: is_new,
        held: is_held,
    }
}

async fn open(target: SocketAddr) -> Option<TcpStream> {
    let connect = tokio::time::timeout(ANSWER_LIMIT, TcpStream::connect(target)).await;
    let mut stream = connect.ok()?.ok()?;
    answers(&mut stream).await.then_some(stream)
}

async fn answers(stream: &mut TcpStream) -> bool {
    let exchange = async {
        stream.write_u8(1).await?;
        stream.read_u8().await
    };
    let answer = tokio::time::timeout(ANSWER_LIMIT, exchange).await;
    answer.is_ok_and(|answer| answer.is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_new_connection_is_distinguished_from_the_held_one() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = listener.local_addr().unwrap();
        let answering = tokio::spawn(async move {
            let (first, _) = listener.accept().await.unwrap();
            echo(first).await
        });
        let mut held = None;
        let first = attempt(target, &mut held).await;
        assert!(first.new && first.held, "{first:?}");
        // The listener still exists while the first connection is served, but accepts no other one.
        let second = attempt(target, &mut held).await;
        assert!(!second.new && second.held, "{second:?}");
        answering.abort();
        let _ = answering.await;
        let third = attempt(target, &mut held).await;
        assert!(!third.new && !third.held, "{third:?}");
    }
}
