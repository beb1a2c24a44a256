//! Plays the part of a kubelet that matters to node metrics: `/metrics/resource` over HTTP.
//!
//! Time in the text is of its own: each look passes some seconds, so that a test of twenty minutes
//! takes a second. Used by tests; it knows nothing of pods but names and how busy they are.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use axum::Router;
use axum::routing::get;
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A pod and its use.
#[derive(Clone, Debug)]
pub struct BusyPod {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Cores at first, and from the change on.
    pub cores: [f64; 2],
}

/// What the text shows from some moment on.
#[derive(Clone, Debug)]
pub struct Story {
    /// The time of the first text.
    pub start: Timestamp,
    /// Seconds that each look passes.
    pub step_s: u32,
    /// Looks until the pods change their use.
    pub change_at: u32,
    /// Looks after which nothing changes any more.
    pub end_at: u32,
    /// The pods.
    pub pods: Vec<BusyPod>,
}

/// A running server; dropping it stops it.
#[derive(Debug)]
pub struct KubeletMetrics {
    address: SocketAddr,
    story: Arc<Mutex<Option<(Story, u32)>>>,
    task: JoinHandle<()>,
}

impl KubeletMetrics {
    /// Serves on a free port: the node alone, as of now, until there is a story to tell.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    /// Serves at this address.
    pub async fn start_at(address: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("failed to listen at {address}"))?;
        let story: Arc<Mutex<Option<(Story, u32)>>> = Arc::default();
        let told = Arc::clone(&story);
        let text = move || {
            let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
            std::future::ready(match told.as_mut() {
                None => node_alone(),
                Some((story, look)) => {
                    let text = story.text(*look);
                    *look = (*look + 1).min(story.end_at);
                    text
                }
            })
        };
        let router = Router::new().route("/metrics/resource", get(text));
        let address = listener.local_addr()?;
        let task = tokio::spawn(async move {
            // It ends with the test; a failure shows as metrics that are stale.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self {
            address,
            story,
            task,
        })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The value of `--metrics`.
    #[must_use]
    pub fn flag(&self) -> String {
        format!("kubelet=http://{}", self.address)
    }

    /// Begins to tell.
    pub fn tell(&self, story: Story) {
        let mut told = self.story.lock().unwrap_or_else(PoisonError::into_inner);
        *told = Some((story, 0));
    }

    /// Whether the story is at its end.
    #[must_use]
    pub fn is_told(&self) -> bool {
        let told = self.story.lock().unwrap_or_else(PoisonError::into_inner);
        told.as_ref()
            .is_some_and(|(story, look)| *look >= story.end_at)
    }

    /// Stops, and waits until the port is free.
    pub async fn stop(mut self) {
        self.task.abort();
        // Cancelled, as was asked for.
        let _ = (&mut self.task).await;
    }
}

impl Drop for KubeletMetrics {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn node_alone() -> String {
    let ms = Timestamp::now().as_millisecond();
    format!("node_cpu_usage_seconds_total 357.35491 {ms}\n")
}

impl Story {
    fn text(&self, look: u32) -> String {
        let seconds = i64::from(look * self.step_s);
        let ms = self.start.as_millisecond() + seconds * 1_000;
        let (before, after) = (
            look.min(self.change_at),
            look.saturating_sub(self.change_at),
        );
        let mut text = format!(
            "# TYPE node_cpu_usage_seconds_total counter\nnode_cpu_usage_seconds_total 357.35491 {ms}\n\
             # TYPE pod_cpu_usage_seconds_total counter\n"
        );
        for pod in &self.pods {
            let [first, then] = pod.cores;
            let looks = f64::from(before) * first + f64::from(after) * then;
            let used = looks * f64::from(self.step_s);
            let (namespace, name) = (&pod.namespace, &pod.name);
            // Writing to a String does not fail.
            let _ = writeln!(
                text,
                "pod_cpu_usage_seconds_total{{namespace=\"{namespace}\",pod=\"{name}\"}} {used} {ms}"
            );
        }
        text
    }
}
