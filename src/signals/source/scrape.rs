//! Scraper: fetches node metrics now and then, and hands over the samples of pods.
//!
//! One task per source, started by the wiring. It never waits for the pipeline: when the queue is
//! full, what was fetched is dropped and counted, for the next answer is worth more. Every answer is
//! bounded in time and size. It must not decide whose a sample is; that is the pipeline's matter.

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

/// Where the metrics API lists the use of pods.
pub const METRICS_API_PATH: &str = "/apis/metrics.k8s.io/v1beta1/pods";

/// One source of node metrics.
#[derive(Clone)]
pub struct Scraper {
    /// Its index among all sources, the logs first.
    pub source: usize,
    /// Name for logs, metrics and conditions.
    pub name: String,
    /// Who answers.
    pub format: MetricsFormat,
    /// The connection.
    pub client: Client,
    /// What is asked for: path and query.
    pub path: String,
    /// Time between two fetches.
    pub interval: Duration,
    /// What became of the fetches.
    pub counters: Arc<ScrapeCounters>,
}

/// What one answer brought.
#[derive(Clone, Debug)]
pub struct SampleBatch {
    /// The source's index.
    pub source: usize,
    /// Whether it said anything new.
    pub is_news: bool,
    /// The samples.
    pub samples: Vec<PodSample>,
}

/// Fetches and what was in them, since the start.
#[derive(Debug, Default)]
pub struct ScrapeCounters {
    /// Answers that said something new.
    pub news: AtomicU64,
    /// Answers that said nothing new.
    pub unchanged: AtomicU64,
    /// Fetches without an answer that could be used.
    pub failed: AtomicU64,
    /// Answers that did not fit into the queue.
    pub overflowed: AtomicU64,
    /// Lines or objects that could not be read.
    pub malformed: AtomicU64,
    /// Accelerators that several pods share, once per answer.
    pub shared_gpus: AtomicU64,
    /// Series and samples that did not fit.
    pub beyond_bound: AtomicU64,
    /// Samples with a time that is yet to come.
    pub ahead: AtomicU64,
    /// Figures that no machine can have.
    pub impossible: AtomicU64,
}

/// Why a fetch brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum ScrapeError {
    /// No request can be made of the path.
    #[error("unable to ask for {path}")]
    Path {
        /// The path.
        path: String,
        /// Why.
        source: http::Error,
    },
    /// No answer.
    #[error("failed to reach the source")]
    Request(#[source] kube::Error),
    /// The wrong answer.
    #[error("failed to get metrics: the answer is {0}")]
    Status(StatusCode),
    /// The answer broke off.
    #[error("failed to read the answer to its end")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The answer is beyond the bound.
    #[error("unable to read an answer of more than {bytes_max} bytes")]
    TooLong {
        /// The bound.
        bytes_max: usize,
    },
    /// The answer took too long.
    #[error("failed to get an answer within {seconds} s")]
    TimedOut {
        /// The bound.
        seconds: u64,
    },
}

/// The queue of samples, for all scrapers of one pipeline.
#[must_use]
pub fn channel() -> (mpsc::Sender<SampleBatch>, mpsc::Receiver<SampleBatch>) {
    mpsc::channel(limits::SAMPLE_QUEUE_MAX)
}

impl Scraper {
    /// Fetches for ever, or until the pipeline is gone. End it by dropping it: it keeps nothing that
    /// would have to be saved.
    pub async fn run(self, sender: mpsc::Sender<SampleBatch>) {
        let mut reader = MetricsReader::new(self.format);
        let mut ticks = tokio::time::interval(self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut works = None;
        while !sender.is_closed() {
            ticks.tick().await;
            let result = self.fetch().await;
            self.say(&mut works, &result);
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
        let kind = if read.is_news {
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
        // What is withdrawn comes first, so that it cannot take back a sample of this answer.
        let mut samples = read.withdrawn;
        samples.extend(read.samples);
        SampleBatch {
            source: self.source,
            is_news: read.is_news,
            samples,
        }
    }

    async fn fetch(&self) -> Result<Vec<u8>, ScrapeError> {
        let seconds = limits::SCRAPE_TIMEOUT_S;
        tokio::time::timeout(Duration::from_secs(seconds), self.ask())
            .await
            .unwrap_or(Err(ScrapeError::TimedOut { seconds }))
    }

    async fn ask(&self) -> Result<Vec<u8>, ScrapeError> {
        let request = Request::get(&self.path)
            .body(Body::empty())
            .map_err(|source| ScrapeError::Path {
                path: self.path.clone(),
                source,
            })?;
        let answer = self.client.send(request).await;
        let answer = answer.map_err(ScrapeError::Request)?;
        // Nothing but a body counts: an error's text is not read at all.
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

    /// Says when it begins and ends to work, not each time.
    fn say(&self, works: &mut Option<bool>, result: &Result<Vec<u8>, ScrapeError>) {
        let before = works.replace(result.is_ok());
        match result {
            Ok(_) if before == Some(false) => {
                tracing::info!(source = self.name, "Node metrics are there again.");
            }
            Err(error) if before != Some(false) => {
                let error = chain(error);
                tracing::warn!(source = self.name, error, "Node metrics cannot be fetched.");
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

    /// A kubelet on whose node a pod uses half a core; ten seconds pass per look.
    fn half_a_core() -> Router {
        let looks = Arc::new(AtomicU64::new(0));
        let text = move || {
            let look = looks.fetch_add(1, Ordering::Relaxed);
            let (seconds, ms) = (look * 5, 1_790_000_000_000 + look * 10_000);
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
        assert!(first.is_news && first.samples.is_empty());
        let second = next(&mut receiver).await;
        assert_eq!((second.source, second.samples.len()), (3, 1));
        assert_eq!(second.samples[0].sample.cpu, Some(0.5));
        assert!(counters.news.load(Ordering::Relaxed) >= 2);
        drop(receiver);
        let limit = Duration::from_secs(10);
        tokio::time::timeout(limit, task).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_full_queue_drops_and_counts_and_stops_nobody() {
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
    async fn nobody_at_the_address_is_an_error_and_not_the_end() {
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
