//! What the two pods of `doctor --probe` run: one answers, the other tries to reach it and says each time
//! whether it did. Hidden subcommands; nobody calls them by hand.

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

/// The port on which the one pod answers.
pub const PORT: u16 = 8377;

/// How long one answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// The pause between two tries.
const PAUSE: Duration = Duration::from_millis(500);

/// Arguments of `yellowjack probe-connect`.
#[derive(clap::Args, Debug)]
pub struct ConnectArgs {
    /// The pod that answers.
    target: SocketAddr,
}

/// What the pod that tries says of one try, a line of JSON each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Try {
    /// When, in milliseconds, by the clock of the pod's node.
    pub at_ms: i64,
    /// Whether a new connection was answered.
    pub new: bool,
    /// Whether the connection that was opened first was.
    pub held: bool,
}

/// Answers until its time is over.
pub fn serve() -> anyhow::Result<()> {
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

/// Tries until its time is over.
pub fn connect(args: &ConnectArgs) -> anyhow::Result<()> {
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

/// Of both families, or of IPv4 alone where there is no IPv6.
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

/// One try on a new connection and on the one that is held. The first that works is held.
async fn attempt(target: SocketAddr, held: &mut Option<TcpStream>) -> Try {
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
        return Try {
            at_ms,
            new: is_new,
            held: is_new,
        };
    }
    Try {
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
    let asked = async {
        stream.write_u8(1).await?;
        stream.read_u8().await
    };
    let answer = tokio::time::timeout(ANSWER_LIMIT, asked).await;
    answer.is_ok_and(|answer| answer.is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_new_connection_is_told_from_the_one_that_is_held() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = listener.local_addr().unwrap();
        let answering = tokio::spawn(async move {
            let (first, _) = listener.accept().await.unwrap();
            echo(first).await
        });
        let mut held = None;
        let first = attempt(target, &mut held).await;
        assert!(first.new && first.held, "{first:?}");
        // The listener is still there while the first connection is served, and accepts nobody else.
        let second = attempt(target, &mut held).await;
        assert!(!second.new && second.held, "{second:?}");
        answering.abort();
        let _ = answering.await;
        let third = attempt(target, &mut held).await;
        assert!(!third.new && !third.held, "{third:?}");
    }
}
