//! Plays a kubelet whose figures are the samples of a case: counters of processor seconds with a time each, so that
//! the operator's reader comes to the very samples that `replay --samples` reads.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use axum::Router;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use yellowjack::model::EventTime;

/// A longer pause between two readings gives no rate, see `signals/decode/metrics`.
const PAUSE_MAX_US: i64 = 300_000_000;

/// What stands in for the reading before the first one.
const STEP_US: i64 = 15_000_000;

#[derive(Clone, Copy, Debug)]
struct Counter {
    seconds: f64,
    time: EventTime,
}

type Counters = BTreeMap<(String, String), Counter>;

/// A running server; dropping it stops it.
#[derive(Debug)]
pub struct Kubelet {
    address: SocketAddr,
    counters: Arc<Mutex<Counters>>,
    task: JoinHandle<()>,
}

impl Kubelet {
    /// Serves on a free port.
    pub async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .context("failed to listen")?;
        let counters: Arc<Mutex<Counters>> = Arc::default();
        let shown = Arc::clone(&counters);
        let text =
            move || std::future::ready(text(&shown.lock().unwrap_or_else(PoisonError::into_inner)));
        let router = Router::new().route("/metrics/resource", get(text));
        let address = listener.local_addr()?;
        let task = tokio::spawn(async move {
            // It ends with the case; a failure shows as samples that do not come.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self {
            address,
            counters,
            task,
        })
    }

    /// The value of `--metrics`.
    pub fn flag(&self) -> String {
        format!("kubelet=http://{}", self.address)
    }

    /// Shows the reading that a sample counts from, where the last one is missing or too long ago. Returns whether
    /// there is one to be fetched first.
    pub fn begin(&self, pod: &(String, String), time: EventTime) -> bool {
        let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        let known = counters.get(pod).copied();
        if known.is_some_and(|known| time.micros_since(known.time) <= PAUSE_MAX_US) {
            return false;
        }
        let seconds = known.map_or(0.0, |known| known.seconds);
        counters.insert(
            pod.clone(),
            Counter {
                seconds,
                time: time.plus_micros(-STEP_US),
            },
        );
        true
    }

    /// Shows that the pod used so many processors since the last reading.
    pub fn show(&self, pod: &(String, String), time: EventTime, cores: f64) {
        let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(counter) = counters.get_mut(pod) {
            counter.seconds += cores * time.seconds_since(counter.time);
            counter.time = time;
        }
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn text(counters: &Counters) -> String {
    let mut text = String::from("# TYPE pod_cpu_usage_seconds_total counter\n");
    for ((namespace, name), counter) in counters {
        let (seconds, ms) = (counter.seconds, counter.time.as_micros() / 1_000);
        // Writing to a String does not fail.
        let _ = writeln!(
            text,
            "pod_cpu_usage_seconds_total{{namespace=\"{namespace}\",pod=\"{name}\"}} {seconds} {ms}"
        );
    }
    text
}
