//! What is measured, and how: memory and processor time from the kernel, requests from the API server.

use std::path::PathBuf;

use anyhow::Context;
use kube::Client;
use yellowjack_e2e::Operator;
use yellowjack_e2e::bench::{figure, process_cpu_seconds};

/// The flow schema of the operator's requests, by which the API server counts them.
pub const FLOW_SCHEMA: &str = "bench-operator";

/// Lines of the operator's log that are shown where something fails.
const LOG_LINES: usize = 40;

/// Requests of the operator since the API server's start, by the server's own count: a watch is one, when it begins.
pub async fn requests(client: &Client) -> anyhow::Result<u64> {
    let request = http::Request::get("/metrics").body(Vec::new())?;
    let text = client
        .request_text(request)
        .await
        .context("failed to read the API server's metrics")?;
    let schema = format!("flow_schema=\"{FLOW_SCHEMA}\"");
    let name = "apiserver_flowcontrol_dispatched_requests_total{";
    let lines = text
        .lines()
        .filter(|line| line.starts_with(name) && line.contains(&schema));
    Ok(lines.filter_map(value_of).sum())
}

/// The value at the end of a line of metrics.
fn value_of(line: &str) -> Option<u64> {
    let value: f64 = line.rsplit_once(' ')?.1.parse().ok()?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    Some(value as u64)
}

/// The operator under measurement.
pub struct Watched(Operator);

impl Watched {
    pub const fn new(operator: Operator) -> Self {
        Self(operator)
    }

    /// The end of its log.
    pub fn log_tail(&self) -> String {
        let text = self.0.log().unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(LOG_LINES).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// One of its own metrics, by name and labels; 0 where it has not said it yet.
    pub async fn metric(&self, series: &str) -> anyhow::Result<u64> {
        let text = self.0.http_get("/metrics").await?;
        let lines = text.lines().filter(|line| line.starts_with(series));
        Ok(lines.filter_map(value_of).sum())
    }

    /// Writes to the API server, however they ended.
    pub async fn writes(&self) -> anyhow::Result<u64> {
        self.metric("yellowjack_api_writes_total{").await
    }

    /// Processor time since its start.
    pub fn cpu_seconds(&self) -> anyhow::Result<f64> {
        process_cpu_seconds(self.0.pid())
    }

    /// Lets the peak of its memory begin anew.
    pub fn forget_peak(&self) -> anyhow::Result<()> {
        std::fs::write(self.file("clear_refs"), "5").context("failed to reset the peak of memory")
    }

    /// Prints memory and processor time so far under these names.
    pub fn say(&self, name: &str) -> anyhow::Result<()> {
        figure(&format!("{name}.rss"), self.mib("VmHWM:")?, "MiB");
        figure(&format!("{name}.rss_now"), self.memory_mib()?, "MiB");
        figure(&format!("{name}.cpu"), self.cpu_seconds()?, "s");
        Ok(())
    }

    /// The memory that it has now.
    pub fn memory_mib(&self) -> anyhow::Result<f64> {
        self.mib("VmRSS:")
    }

    fn mib(&self, line: &str) -> anyhow::Result<f64> {
        let status = self.read("status")?;
        let kib = status.lines().find_map(|found| found.strip_prefix(line));
        let kib = kib.and_then(|text| text.split_whitespace().next());
        let kib: f64 = kib.context("no size in its status")?.parse()?;
        Ok(kib / 1024.0)
    }

    fn read(&self, name: &str) -> anyhow::Result<String> {
        std::fs::read_to_string(self.file(name)).context("the operator is gone")
    }

    fn file(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.0.pid()))
    }
}
