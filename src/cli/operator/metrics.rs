//! Sources of node metrics: connected and started.

use std::sync::{Arc, PoisonError};

use anyhow::Context;
use kube::Client;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Operator;
use crate::cli::metrics::Reach;
use crate::cluster::{connect_kubelet, connect_plain};
use crate::signals::source::scrape::{self, SampleBatch, ScrapeCounters, Scraper};

impl Operator {
    /// Starts a scraper for each source; they end with `tasks`.
    pub(super) async fn start_metrics(
        &self,
        client: &Client,
        tasks: &mut JoinSet<()>,
    ) -> anyhow::Result<mpsc::Receiver<SampleBatch>> {
        let (sender, samples) = scrape::channel();
        let first = self.config.sources.len();
        for (place, source) in self.config.metrics.iter().enumerate() {
            let client = match &source.reach {
                Reach::Kubelet(url, trust) => connect_kubelet(url, trust).await,
                Reach::Plain(url) => connect_plain(url),
                Reach::ApiServer => Ok(client.clone()),
            };
            let scraper = Scraper {
                source: first + place,
                name: source.name.clone(),
                format: source.format,
                client: client.with_context(|| format!("failed to set up {}", source.name))?,
                path: source.path.clone(),
                interval: source.interval,
                counters: Arc::default(),
            };
            let counters = (source.name.clone(), Arc::clone(&scraper.counters));
            self.scrapes
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(counters);
            tasks.spawn(scraper.run(sender.clone()));
        }
        Ok(samples)
    }

    /// The counters of each source, by name.
    pub(super) fn scrapes(&self) -> Vec<(String, Arc<ScrapeCounters>)> {
        let scrapes = self.scrapes.lock().unwrap_or_else(PoisonError::into_inner);
        scrapes.clone()
    }
}
