//! What a kubelet and an exporter of accelerator metrics would have shown of a case's samples: texts with a time on
//! each line, as Prometheus hands them on, so that the readers of the product come to the very samples that `replay
//! --samples` reads. Given to a reader in this process, and served to the operator.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use axum::Router;
use axum::routing::get;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use yellowjack::testing::model::EventTime;

/// A longer pause between two readings gives no rate, see `signals/decode/metrics`.
const PAUSE_MAX_US: i64 = 300_000_000;

/// What stands in for the reading before the first one.
const STEP_US: i64 = 15_000_000;

/// Namespace and name of a pod.
pub type PodName = (String, String);

#[derive(Clone, Copy, Debug)]
struct Counter {
    seconds: f64,
    time: EventTime,
}

/// What is shown now.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    counters: BTreeMap<PodName, Counter>,
    accelerators: String,
}

impl Figures {
    /// Shows the reading that a sample counts from, where the last one is missing or too long ago. Returns whether
    /// there is one to be read first.
    pub fn begin(&mut self, pod: &PodName, time: EventTime) -> bool {
        let known = self.counters.get(pod).copied();
        if known.is_some_and(|known| time.micros_since(known.time) <= PAUSE_MAX_US) {
            return false;
        }
        let seconds = known.map_or(0.0, |known| known.seconds);
        let time = time.plus_micros(-STEP_US);
        self.counters.insert(pod.clone(), Counter { seconds, time });
        true
    }

    /// Shows that the pod used so many processors since the last reading.
    pub fn use_cores(&mut self, pod: &PodName, time: EventTime, cores: f64) {
        if let Some(counter) = self.counters.get_mut(pod) {
            counter.seconds += cores * time.seconds_since(counter.time);
            counter.time = time;
        }
    }

    /// Shows the accelerators of a moment and nothing of earlier ones.
    pub fn use_accelerators(&mut self, time: EventTime, of_pods: &[(PodName, Value)]) {
        self.accelerators = of_pods
            .iter()
            .map(|(pod, gpu)| lines(pod, gpu, time))
            .collect();
    }

    /// A kubelet's text.
    pub fn kubelet(&self) -> String {
        let mut text = String::from("# TYPE pod_cpu_usage_seconds_total counter\n");
        for ((namespace, name), counter) in &self.counters {
            let (seconds, ms) = (counter.seconds, counter.time.as_micros() / 1_000);
            // Writing to a String does not fail.
            let _ = writeln!(
                text,
                "pod_cpu_usage_seconds_total{{namespace=\"{namespace}\",pod=\"{name}\"}} {seconds} {ms}"
            );
        }
        text
    }

    /// An exporter's text.
    pub fn exporter(&self) -> String {
        self.accelerators.clone()
    }
}

/// One accelerator of a pod: its figures are the fields that DCGM names so, and the others are labels.
fn lines(pod: &PodName, gpu: &Value, time: EventTime) -> String {
    let fields = gpu.as_object().cloned().unwrap_or_default();
    let (figures, labels): (Vec<_>, Vec<_>) = fields
        .into_iter()
        .partition(|(name, _)| name.starts_with("DCGM_"));
    let labels = labels.iter().map(|(name, value)| {
        let value = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        format!(",{name}=\"{value}\"")
    });
    let labels: String = labels.collect();
    let ms = time.as_micros() / 1_000;
    let figures = figures.iter().map(|(name, value)| {
        format!(
            "{name}{{namespace=\"{}\",pod=\"{}\"{labels}}} {value} {ms}\n",
            pod.0, pod.1
        )
    });
    figures.collect()
}

/// A running server of both texts; dropping it stops it.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    figures: Arc<Mutex<Figures>>,
    task: JoinHandle<()>,
}

impl Server {
    /// Serves on a free port.
    pub async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .context("failed to listen")?;
        let figures: Arc<Mutex<Figures>> = Arc::default();
        let (of_kubelet, of_exporter) = (Arc::clone(&figures), Arc::clone(&figures));
        let kubelet = move || std::future::ready(locked(&of_kubelet).kubelet());
        let exporter = move || std::future::ready(locked(&of_exporter).exporter());
        let router = Router::new()
            .route("/metrics/resource", get(kubelet))
            .route("/metrics", get(exporter));
        let address = listener.local_addr()?;
        let task = tokio::spawn(async move {
            // It ends with the case; a failure shows as samples that do not come.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self {
            address,
            figures,
            task,
        })
    }

    /// The operator's flags.
    pub fn flags(&self) -> Vec<String> {
        let (kubelet, exporter) = (
            format!("kubelet=http://{}", self.address),
            format!("http://{}", self.address),
        );
        [
            "--metrics",
            &kubelet,
            "--dcgm",
            &exporter,
            "--metrics-interval",
            "10ms",
        ]
        .map(str::to_owned)
        .into()
    }

    /// The labels in the operator's metrics of answers of the kubelet, or of the exporter, that said something new.
    pub fn news(&self, kind: &str) -> String {
        format!("source=\"{kind} {}\",result=\"news\"", self.address)
    }

    /// What is shown.
    pub fn figures(&self) -> MutexGuard<'_, Figures> {
        locked(&self.figures)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn locked(figures: &Mutex<Figures>) -> MutexGuard<'_, Figures> {
    figures.lock().unwrap_or_else(PoisonError::into_inner)
}
