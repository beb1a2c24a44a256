//! Scraper: fetches node metrics at an interval, and passes on the samples of pods.
//!
//! One task per source, started by the operator. It never waits for the pipeline: if the queue is
//! full, the fetched samples are dropped and counted, because the next response is more valuable. Every response is
//! bounded in time and size. The scraper does not attribute samples to pods; that is the task of the pipeline.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{Request, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use jiff::Timestamp;
use kube::Client;
use kube::client::Body;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use crate::limits;
use crate::model::EventTime;
use crate::observability::chain;
use crate::signals::decode::{MetricsFormat, MetricsReader, PodSample};

/// Path at which the metrics API lists the resource usage of pods.
pub(crate) const METRICS_API_PATH: &str = "/apis/metrics.k8s.io/v1beta1/pods";

/// One source of node metrics.
#[derive(Clone)]
pub(crate) struct Scraper {
    /// Its index among all sources; the logs come first.
    pub source: usize,
    /// Name for logs, metrics and conditions.
    pub name: String,
    /// The format of the responses.
    pub format: MetricsFormat,
    /// The connection.
    pub client: Client,
    /// The path and query of the request.
    pub path: String,
    /// Time between two fetches.
    pub interval: Duration,
    /// The counters of the fetches.
    pub counters: Arc<ScrapeCounters>,
}

/// The content of one response.
#[derive(Clone, Debug)]
pub(crate) struct SampleBatch {
    /// The source's index.
    pub source: usize,
    /// Whether it contains anything new.
    pub has_new_data: bool,
    /// The samples.
    pub samples: Vec<PodSample>,
}

/// Counters of the fetches and their contents, since the start.
#[derive(Debug, Default)]
pub(crate) struct ScrapeCounters {
    /// Responses with new data.
    pub news: AtomicU64,
    /// Responses without new data.
    pub unchanged: AtomicU64,
    /// Fetches without a usable response.
    pub failed: AtomicU64,
    /// Responses that did not fit into the queue.
    pub overflowed: AtomicU64,
    /// Lines or objects that could not be read.
    pub malformed: AtomicU64,
    /// Accelerators that several pods share, once per response.
    pub shared_gpus: AtomicU64,
    /// Series and samples beyond a bound.
    pub beyond_bound: AtomicU64,
    /// Samples with a time in the future.
    pub ahead: AtomicU64,
    /// Figures that are impossible for any machine.
    pub impossible: AtomicU64,
}

/// Why a fetch failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScrapeError {
    /// The path is not valid in a request.
    #[error("unable to request {path}")]
    Path {
        /// The path.
        path: String,
        /// The cause.
        source: http::Error,
    },
    /// There was no response.
    #[error("failed to reach the source")]
    Request(#[source] kube::Error),
    /// The response has an unexpected status.
    #[error("failed to get metrics: the response is {0}")]
    Status(StatusCode),
    /// The response was incomplete.
    #[error("failed to read the complete response")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The response is too large.
    #[error("unable to read a response of more than {bytes_max} bytes")]
    TooLong {
        /// The bound.
        bytes_max: usize,
    },
    /// The response took too long.
    #[error("failed to get a response within {seconds} s")]
    TimedOut {
        /// The bound.
        seconds: u64,
    },
}

/// The queue of samples, for all scrapers of one pipeline.
#[must_use]
pub(crate) fn channel() -> (mpsc::Sender<SampleBatch>, mpsc::Receiver<SampleBatch>) {
    mpsc::channel(limits::SAMPLE_QUEUE_MAX)
}

impl Scraper {
    /// Fetches until the pipeline is gone. To stop it, drop it: it has no state that
    /// must be saved.
    pub(crate) async fn run(self, sender: mpsc::Sender<SampleBatch>) {
        let mut reader = MetricsReader::new(self.format);
        let mut ticks = tokio::time::interval(self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_working = None;
        while !sender.is_closed() {
            ticks.tick().await;
            let result = self.fetch().await;
            self.log_transition(&mut is_working, &result);
            let Ok(body) = result else {
                count(&self.counters.failed, 1);
                continue;
            };
            let batch = self.read(&mut reader, &body);
            if let Err(mpsc::error::TrySendError::Full(_)) = sender.try_send(batch) {
                count(&self.counters.overflowed, 1);
            }
        }
    }

    fn read(&self, reader: &mut MetricsReader, body: &[u8]) -> SampleBatch {
        let read = reader.read(body, EventTime::from(Timestamp::now()));
        let counters = &self.counters;
        let kind = if read.has_new_data {
            &counters.news
        } else {
            &counters.unchanged
        };
        count(kind, 1);
        count(&counters.malformed, read.malformed);
        count(&counters.shared_gpus, read.shared_gpus);
        count(&counters.beyond_bound, read.beyond_bound);
        count(&counters.ahead, read.ahead);
        count(&counters.impossible, read.impossible);
        // Withdrawn samples come first, so that they cannot revoke a sample of this response.
        let mut samples = read.withdrawn;
        samples.extend(read.samples);
        SampleBatch {
            source: self.source,
            has_new_data: read.has_new_data,
            samples,
        }
    }

    async fn fetch(&self) -> Result<Vec<u8>, ScrapeError> {
        let seconds = limits::SCRAPE_TIMEOUT_S;
        tokio::time::timeout(Duration::from_secs(seconds), self.request())
            .await
            .unwrap_or(Err(ScrapeError::TimedOut { seconds }))
    }

    async fn request(&self) -> Result<Vec<u8>, ScrapeError> {
        let request = Request::get(&self.path)
            .body(Body::empty())
            .map_err(|source| ScrapeError::Path {
                path: self.path.clone(),
                source,
            })?;
        let answer = self.client.send(request).await;
        let answer = answer.map_err(ScrapeError::Request)?;
        // Only a successful response is read; the text of an error is ignored.
        if answer.status() != StatusCode::OK {
            return Err(ScrapeError::Status(answer.status()));
        }
        let bytes_max = self.format.body_bytes_max();
        let body = Limited::new(answer.into_body(), bytes_max).collect().await;
        match body {
            Ok(body) => Ok(body.to_bytes().to_vec()),
            Err(error) if error.is::<LengthLimitError>() => Err(ScrapeError::TooLong { bytes_max }),
            Err(error) => Err(ScrapeError::Body(error)),
        }
    }

    /// Logs when fetching starts to fail and when it recovers, not each attempt.
    fn log_transition(&self, is_working: &mut Option<bool>, result: &Result<Vec<u8>, ScrapeError>) {
        let before = is_working.replace(result.is_ok());
        match result {
            Ok(_) if before == Some(false) => {
                tracing::info!(source = self.name, "Fetching node metrics recovered.");
            }
            Err(error) if before != Some(false) => {
                let error = chain(error);
                tracing::warn!(source = self.name, error, "Failed to fetch node metrics.");
            }
            _ => {}
        }
    }
}

fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::get;

    use super::*;
    use crate::cluster::connect_plain;

    async fn serve(router: Router) -> http::Uri {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        format!("http://{address}/metrics").parse().unwrap()
    }

    fn scraper(url: &http::Uri, format: MetricsFormat) -> Scraper {
        Scraper {
            source: 3,
            name: "test".into(),
            format,
            client: connect_plain(url).unwrap(),
            path: url.path().into(),
            interval: Duration::from_millis(5),
            counters: Arc::default(),
        }
    }

    async fn kubelet(router: Router) -> Scraper {
        scraper(&serve(router).await, MetricsFormat::Kubelet)
    }

    async fn next(receiver: &mut mpsc::Receiver<SampleBatch>) -> SampleBatch {
        let limit = Duration::from_secs(10);
        let next = tokio::time::timeout(limit, receiver.recv()).await;
        next.unwrap().unwrap()
    }

    /// A kubelet with a pod that uses half a core; ten seconds pass per request.
    fn half_a_core() -> Router {
        let requests = Arc::new(AtomicU64::new(0));
        let text = move || {
            let request = requests.fetch_add(1, Ordering::Relaxed);
            let (seconds, ms) = (request * 5, 1_790_000_000_000 + request * 10_000);
            let labels = "namespace=\"n\",pod=\"p\"";
            std::future::ready(format!(
                "pod_cpu_usage_seconds_total{{{labels}}} {seconds} {ms}\n"
            ))
        };
        Router::new().route("/metrics", get(text))
    }

    #[tokio::test]
    async fn samples_of_a_real_server_reach_the_queue() {
        let scraper = kubelet(half_a_core()).await;
        let counters = Arc::clone(&scraper.counters);
        let (sender, mut receiver) = channel();
        let task = tokio::spawn(scraper.run(sender));
        let first = next(&mut receiver).await;
        assert!(first.has_new_data && first.samples.is_empty());
        let second = next(&mut receiver).await;
        assert_eq!((second.source, second.samples.len()), (3, 1));
        assert_eq!(second.samples[0].sample.cpu, Some(0.5));
        assert!(counters.news.load(Ordering::Relaxed) >= 2);
        drop(receiver);
        let limit = Duration::from_secs(10);
        tokio::time::timeout(limit, task).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_full_queue_drops_and_counts_samples_and_does_not_block() {
        let scraper = kubelet(half_a_core()).await;
        let counters = Arc::clone(&scraper.counters);
        let (sender, receiver) = channel();
        let task = tokio::spawn(scraper.run(sender));
        let limit = Duration::from_secs(10);
        let overflowed = async {
            while counters.overflowed.load(Ordering::Relaxed) < 2 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(limit, overflowed).await.unwrap();
        drop(receiver);
        tokio::time::timeout(limit, task).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn an_error_of_the_server_is_no_metrics() {
        let text = || async { (StatusCode::FORBIDDEN, "pod_cpu_usage_seconds_total{} 1\n") };
        let scraper = kubelet(Router::new().route("/metrics", get(text))).await;
        let result = scraper.fetch().await;
        assert!(matches!(
            result,
            Err(ScrapeError::Status(StatusCode::FORBIDDEN))
        ));
    }

    #[tokio::test]
    async fn a_redirect_is_not_followed() {
        let there = || async { (StatusCode::FOUND, [("location", "http://192.0.2.1/")]) };
        let scraper = kubelet(Router::new().route("/metrics", get(there))).await;
        let result = scraper.fetch().await;
        assert!(matches!(
            result,
            Err(ScrapeError::Status(StatusCode::FOUND))
        ));
    }

    #[tokio::test]
    async fn an_answer_beyond_the_bound_is_not_read() {
        let text = || async { "#".repeat(limits::METRICS_TEXT_BYTES_MAX + 1) };
        let scraper = kubelet(Router::new().route("/metrics", get(text))).await;
        let result = scraper.fetch().await;
        assert!(matches!(result, Err(ScrapeError::TooLong { .. })));
    }

    #[tokio::test]
    async fn an_unreachable_address_is_an_error_and_the_scraper_continues() {
        let url = "http://127.0.0.1:1/metrics".parse().unwrap();
        let scraper = scraper(&url, MetricsFormat::Dcgm);
        let counters = Arc::clone(&scraper.counters);
        let (sender, receiver) = channel();
        let task = tokio::spawn(scraper.run(sender));
        let failed = async {
            while counters.failed.load(Ordering::Relaxed) < 3 {
                tokio::task::yield_now().await;
            }
        };
        let limit = Duration::from_secs(10);
        tokio::time::timeout(limit, failed).await.unwrap();
        drop(receiver);
        tokio::time::timeout(limit, task).await.unwrap().unwrap();
    }
}
