//! Samples of node metrics: attributed and passed to the engine. Part of the pipeline.
//!
//! A sample identifies its pod by name. The pod must have had this name during the whole period that the sample covers
//! (INV-10).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::step::process_sample;
use super::{Pipeline, PipelineState, source_id};
use crate::model::Finding;
use crate::signals::attribute::PodFacts;
use crate::signals::decode::PodSample;
use crate::signals::source::scrape::SampleBatch;

/// Samples by result, since the start of the process.
#[derive(Debug, Default)]
pub(crate) struct SampleCounters {
    /// Attributed to a pod.
    pub attributed: AtomicU64,
    /// Not attributed to a pod.
    pub unattributed: AtomicU64,
    /// Of accelerators on nodes that declare their accelerators shared.
    pub shared_gpus: AtomicU64,
}

impl Pipeline {
    /// Processes the samples of one scrape.
    pub(super) fn process_samples(&mut self, batch: SampleBatch, state: &mut PipelineState) {
        self.apply_updates();
        if batch.has_new_data {
            self.health.record_activity(batch.source, Instant::now());
        }
        self.saver.mark_changed();
        let mut guards = Vec::new();
        for sample in batch.samples {
            for (finding, facts) in self.attribute_sample(batch.source, &sample) {
                self.send_finding(finding, &facts, &mut guards);
            }
        }
        // A finding from a sample also depends on earlier lines; these are read again if it is not recorded.
        if let Some(last) = state.pending_batches.back_mut() {
            last.guards.append(&mut guards);
        }
    }

    fn attribute_sample(&mut self, source: usize, sample: &PodSample) -> Vec<(Finding, PodFacts)> {
        let index = self.index.read();
        let counters = &self.counters.samples;
        // Metrics sources are numbered after the logs.
        let id = source_id(self.sources.len() + source);
        let Ok(taken) = process_sample(&mut self.engine, &index, id, sample) else {
            counters.unattributed.fetch_add(1, Ordering::Relaxed);
            return Vec::new();
        };
        if taken.is_of_shared_device {
            counters.shared_gpus.fetch_add(1, Ordering::Relaxed);
        }
        counters.attributed.fetch_add(1, Ordering::Relaxed);
        let facts_of = |finding: Finding| {
            let facts = index.pod(&finding.subject.pod).cloned()?;
            Some((finding, facts))
        };
        taken.findings.into_iter().filter_map(facts_of).collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::cluster::StoreWriter;
    use crate::pipeline::contact_reports::{ContactReports, ReportObserver};
    use std::sync::Arc;
    use std::time::Duration;

    use parking_lot::RwLock;
    use tokio::sync::{mpsc, watch};

    use super::*;
    use crate::detect::{Engine, EngineConfig};
    use crate::model::{ComputeSample, EventTime, GpuSample, PodKey};
    use crate::pipeline::LineCounters;
    use crate::respond::{ResetQueue, TrafficMonitor};
    use crate::signals::attribute::Index;
    use crate::signals::health::{SignalHealth, SignalsVerdict};

    fn at(second: i64) -> EventTime {
        EventTime::from_seconds(second, 0)
    }

    fn pod(uid: &str, since: i64) -> PodFacts {
        PodFacts {
            key: PodKey::from(uid),
            namespace: "team-a".into(),
            name: "agent-0".into(),
            ips: Vec::new(),
            host_network: false,
            node: None,
            since: at(since),
            ended_at: None,
            terminating_since: None,
            workload: None,
        }
    }

    fn sample(uid: Option<&str>, from: i64, time: i64) -> PodSample {
        PodSample {
            namespace: "team-a".into(),
            name: "agent-0".into(),
            uid: uid.map(str::to_owned),
            from: at(from),
            sample: ComputeSample {
                time: at(time),
                pod: "team-a/agent-0".into(),
                cpu: Some(0.5),
                gpu: None,
            },
        }
    }

    fn pipeline(index: Index) -> Pipeline {
        Pipeline {
            engine: Engine::new(EngineConfig::default()),
            index: Arc::new(RwLock::new(index)),
            traffic: TrafficMonitor::default(),
            health: SignalHealth::with_metrics([], ["kubelet".to_owned()]),
            is_namespaced: false,
            scopes: watch::channel(crate::detect::Scopes::default()).1,
            resets: ResetQueue::default(),
            sources: Vec::new(),
            reports: ContactReports::new(
                ReportObserver {
                    name: "node-1".into(),
                    is_controller: false,
                },
                StoreWriter::default().as_reader(),
            ),
            findings: mpsc::channel(1).0,
            counters: Arc::new(LineCounters::default()),
            saver: crate::pipeline::saved_state::StateSaver::default(),
            unrecorded: Vec::new(),
        }
    }

    fn take(pipeline: &mut Pipeline, has_new_data: bool, samples: Vec<PodSample>) -> (u64, u64) {
        let batch = SampleBatch {
            source: 0,
            has_new_data,
            samples,
        };
        pipeline.process_samples(batch, &mut PipelineState::default());
        let counters = &pipeline.counters.samples;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (count(&counters.attributed), count(&counters.unattributed))
    }

    #[test]
    fn a_sample_counts_for_the_pod_that_had_the_name_during_the_whole_period() {
        let mut index = Index::new();
        index.apply(pod("old", 0), at(0));
        index.delete(&PodKey::from("old"), at(100));
        index.apply(pod("new", 110), at(110));
        let mut pipeline = pipeline(index);
        let samples = vec![
            sample(None, 80, 95),
            // Covers the end of one pod and the start of the other.
            sample(None, 95, 115),
            sample(None, 115, 130),
            sample(Some("new"), 130, 145),
            sample(Some("old"), 145, 160),
        ];
        assert_eq!(take(&mut pipeline, true, samples), (3, 2));
        assert_eq!(pipeline.engine.pod_count(), 2);
    }

    #[test]
    fn an_accelerator_of_a_node_that_declares_it_shared_is_counted_as_shared() {
        for (sharing, expected) in [("n1", 1), ("n2", 0)] {
            let mut index = Index::new();
            let on_node = PodFacts {
                node: Some("n1".to_owned()),
                ..pod("a", 0)
            };
            index.apply(on_node, at(0));
            index.set_nodes_sharing_devices([sharing.into()].into_iter());
            let mut pipeline = pipeline(index);
            let mut of_gpu = sample(None, 80, 95);
            of_gpu.sample.gpu = Some(GpuSample::default());
            let without_gpu = sample(None, 80, 95);
            let both = vec![of_gpu, without_gpu];
            assert_eq!(take(&mut pipeline, true, both), (2, 0));
            let shared = &pipeline.counters.samples.shared_gpus;
            assert_eq!(shared.load(Ordering::Relaxed), expected, "{sharing}");
        }
    }

    #[test]
    fn a_source_that_repeats_the_same_values_is_silent() {
        let mut pipeline = pipeline(Index::new());
        let verdict = |pipeline: &Pipeline| {
            let stale_after = Duration::from_mins(1);
            pipeline.health.verdict(Instant::now(), stale_after)
        };
        let silent = SignalsVerdict::MetricsStale(vec!["kubelet".to_owned()]);
        take(&mut pipeline, false, Vec::new());
        assert_eq!(verdict(&pipeline), silent);
        take(&mut pipeline, true, Vec::new());
        assert_ne!(verdict(&pipeline), silent);
    }
}
