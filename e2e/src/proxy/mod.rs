//! A proxy between the operator and the API server that fails on demand.
//!
//! It forwards every request, watches included, and records the writes. A test scripts faults
//! that a real server does not give on demand: conflicts, throttling, lost replies, closed
//! watches, and the operator's death right before or right after the k-th write.
//!
//! Plain HTTP on loopback; the operator gets a kubeconfig without credentials, and the proxy
//! speaks with the server as the test's administrator.

mod fault;
mod forward;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use axum::Router;
use axum::extract::State;
use kube::Client;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use fault::{Fault, KillTime, Matcher, Write};
use fault::{Kill, Script};

/// A running proxy; dropping it stops it and closes its connections.
#[derive(Debug)]
pub struct FaultProxy {
    shared: Arc<Shared>,
    server: JoinHandle<()>,
    folder: tempfile::TempDir,
}

/// What the connections' tasks share.
#[derive(Debug)]
struct Shared {
    client: ClientHandle,
    script: Mutex<Script>,
    /// Counts up when every open watch must end.
    watch_epoch: watch::Sender<u64>,
}

impl Shared {
    /// A panic in a test's thread leaves the script usable.
    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client that can be printed.
struct ClientHandle(Client);

impl std::fmt::Debug for ClientHandle {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Client")
    }
}

impl FaultProxy {
    /// Starts a proxy to the server that `client` speaks with.
    pub async fn start(client: Client) -> anyhow::Result<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .context("failed to bind the proxy's port")?;
        let address = listener
            .local_addr()
            .context("failed to read the proxy's port")?;
        let shared = Arc::new(Shared {
            client: ClientHandle(client),
            script: Mutex::default(),
            watch_epoch: watch::Sender::new(0),
        });
        let router = Router::new()
            .fallback(|State(shared): State<Arc<Shared>>, request| forward::handle(shared, request))
            .with_state(Arc::clone(&shared));
        let server = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                eprintln!("proxy: {error}");
            }
        });
        let folder = tempfile::tempdir().context("failed to make the proxy's folder")?;
        let proxy = Self {
            shared,
            server,
            folder,
        };
        proxy.write_kubeconfig(address)?;
        Ok(proxy)
    }

    fn write_kubeconfig(&self, address: SocketAddr) -> anyhow::Result<()> {
        let text = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "proxy",
            "clusters": [{ "name": "proxy", "cluster": { "server": format!("http://{address}") }}],
            "users": [{ "name": "proxy", "user": {} }],
            "contexts": [{ "name": "proxy", "context": { "cluster": "proxy", "user": "proxy" }}],
        });
        std::fs::write(self.kubeconfig(), text.to_string())
            .context("failed to write the proxy's kubeconfig")
    }

    /// The kubeconfig for the operator.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    /// The next request that matches gets this fault.
    pub fn fail(&self, matcher: Matcher, fault: Fault) {
        self.fail_times(matcher, fault, 1);
    }

    /// The next `times` requests that match get this fault.
    pub fn fail_times(&self, matcher: Matcher, fault: Fault, times: usize) {
        self.shared.script().add(matcher, fault, times);
    }

    /// Takes back every fault and kill that has not happened yet.
    pub fn clear(&self) {
        self.shared.script().clear();
    }

    /// Faults that no request has met yet.
    #[must_use]
    pub fn faults_left(&self) -> usize {
        self.shared.script().faults_left()
    }

    /// Ends every watch that is open now, as an API server does when it restarts.
    pub fn close_watches(&self) {
        self.shared.watch_epoch.send_modify(|epoch| *epoch += 1);
    }

    /// Kills process `pid` at the `k`-th write from now (1 is the next one). Writes of leases and
    /// Events do not count: they come at times of their own.
    pub fn kill_at(&self, k: usize, time: KillTime, pid: u32) {
        self.kill_at_write_of(&[], k, time, pid);
    }

    /// The same, where only writes count whose path contains one of `paths`.
    pub fn kill_at_write_of(&self, paths: &[String], k: usize, time: KillTime, pid: u32) {
        self.shared.script().kill = Some(Kill {
            paths: paths.to_vec(),
            method: None,
            writes_left: k,
            time,
            pid,
        });
    }

    /// Kills process `pid` at its next deletion of something whose path contains this.
    pub fn kill_at_delete_of(&self, path: &str, time: KillTime, pid: u32) {
        self.shared.script().kill = Some(Kill {
            paths: vec![path.to_owned()],
            method: Some(http::Method::DELETE),
            writes_left: 1,
            time,
            pid,
        });
    }

    /// Whether the kill that was asked for is still to come.
    #[must_use]
    pub fn kill_pending(&self) -> bool {
        self.shared.script().kill.is_some()
    }

    /// Calls the kill off; `false` where it was too late for that, or none was asked for.
    #[must_use]
    pub fn call_off_kill(&self) -> bool {
        self.shared.script().kill.take().is_some()
    }

    /// The writes that were answered so far, oldest first, leases and Events left out.
    #[must_use]
    pub fn writes(&self) -> Vec<Write> {
        self.shared.script().writes.clone()
    }

    /// Forgets the writes so far.
    pub fn forget_writes(&self) {
        self.shared.script().writes.clear();
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.server.abort();
        self.close_watches();
    }
}
