//! Samples on their way into the engine: whose they are, and what is found.
//!
//! Part of the pipeline, which owns the engine. A sample names its pod; the pod must have had that
//! name for the whole span that the sample is about (INV-10).

use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::{Pipeline, Progress};
use crate::model::{Finding, Signal, Subject};
use crate::signals::attribute::{Attribution, PodFacts};
use crate::signals::decode::PodSample;
use crate::signals::source::scrape::SampleBatch;

/// Samples by what became of them, since the start.
#[derive(Debug, Default)]
pub struct SampleCounters {
    /// Samples of a pod that is known.
    pub attributed: AtomicU64,
    /// Samples that no pod could be named for.
    pub unattributed: AtomicU64,
}

impl Pipeline {
    pub(super) fn take_samples(&mut self, batch: SampleBatch, progress: &mut Progress) {
        self.start_anew();
        self.refresh_crawlers(progress);
        if batch.is_news {
            self.health.spoke(batch.source, Instant::now());
        }
        let mut tickets = Vec::new();
        for sample in batch.samples {
            for (finding, facts) in self.sample_of_pod(sample, progress) {
                self.hand_over(finding, &facts, &mut tickets);
            }
        }
        // What a sample led to rests on lines too: they are read again if it is not recorded.
        if let Some(last) = progress.unacknowledged.back_mut() {
            last.1.append(&mut tickets);
        }
    }

    fn sample_of_pod(
        &mut self,
        sample: PodSample,
        progress: &Progress,
    ) -> Vec<(Finding, PodFacts)> {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        let span = (sample.from, sample.sample.time);
        let facts = match index.named(&sample.namespace, &sample.name, span) {
            Attribution::Pod(facts) if is_uid_of(&sample, facts) => facts,
            _ => {
                self.counters
                    .samples
                    .unattributed
                    .fetch_add(1, Ordering::Relaxed);
                return Vec::new();
            }
        };
        self.counters
            .samples
            .attributed
            .fetch_add(1, Ordering::Relaxed);
        let subject = Subject {
            pod: facts.key.clone(),
            run: facts.run.clone(),
        };
        let workload = progress.workload(&facts.key);
        let signal = Signal::Sample(sample.sample);
        let found = self.engine.step(&subject, workload, &signal);
        let facts_of = |finding: Finding| {
            let facts = index.pod(&finding.subject.pod).cloned()?;
            Some((finding, facts))
        };
        found.into_iter().filter_map(facts_of).collect()
    }
}

/// A UID can only take away certainty: the name has found the pod already.
fn is_uid_of(sample: &PodSample, facts: &PodFacts) -> bool {
    sample
        .uid
        .as_deref()
        .is_none_or(|uid| uid == facts.key.as_str())
}
