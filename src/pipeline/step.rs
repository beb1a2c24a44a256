//! One step of the pipeline: attributes a signal to a pod and passes it to the detection engine.
//!
//! Called by the pipeline for every input of its engine, and by the simulator of the error budget, which therefore
//! measures the code that runs in production. It must not read a clock, count, log or lock: it only changes the engine.

use crate::detect::{Attributed, Engine};
use crate::model::{DeviceUse, EventTime, Finding, LostEvents, PodKey, Signal};
use crate::observability::UnattributedReason;
use crate::signals::attribute::{Index, PodLocator};
use crate::signals::decode::PodSample;

/// Processes a signal of a log. Returns its pod and the findings, or `None` in place of the findings where `must_wait`
/// deferred the evaluation. A signal without a pod still proves which records its log contains.
pub fn process_signal<'a>(
    engine: &mut Engine,
    index: &'a Index,
    source: u16,
    signal: &'a Signal<'a>,
    must_wait: impl FnOnce(&Attributed<'_>, &Engine) -> bool,
) -> Result<(&'a PodKey, Option<Vec<Finding>>), UnattributedReason> {
    match index.attribute(source, signal, PodLocator::SignalSource) {
        Ok(attributed) => {
            let found = (!must_wait(&attributed, engine)).then(|| engine.step(&attributed));
            Ok((&attributed.subject.pod, found))
        }
        Err(why) => {
            engine.observe_unattributed(index.origin_of_unattributed(source, signal), signal);
            Err(why)
        }
    }
}

/// Processes a report of lost records.
pub fn process_loss(engine: &mut Engine, index: &Index, source: u16, lost: &LostEvents<'_>) {
    let origin = index.origin_of_loss(source, lost);
    engine.record_loss(origin, lost.time, lost.count);
}

/// Result of a sample.
#[derive(Debug)]
pub struct ProcessedSample {
    /// Whether the sample is of an accelerator on a node that declares its accelerators shared.
    pub is_of_shared_device: bool,
    /// Findings.
    pub findings: Vec<Finding>,
}

/// Processes a sample of node metrics, which identifies its pod by name.
pub fn process_sample(
    engine: &mut Engine,
    index: &Index,
    source: u16,
    sample: &PodSample,
) -> Result<ProcessedSample, UnattributedReason> {
    let signal = Signal::Sample(sample.sample.clone());
    let named = PodLocator::Name {
        namespace: &sample.namespace,
        name: &sample.name,
        uid: sample.uid.as_deref(),
        span: (sample.from, signal.time()),
    };
    let mut attributed = index.attribute(source, &signal, named)?;
    let node = attributed.origin.node;
    let is_shared = node.is_some_and(|node| index.shares_devices(node));
    let shared = as_shared(&signal).filter(|_| is_shared);
    if let Some(shared) = &shared {
        attributed.signal = shared;
    }
    Ok(ProcessedSample {
        is_of_shared_device: shared.is_some(),
        findings: engine.step(&attributed),
    })
}

/// Removes pods from the index and the engine that ended before the oldest line that may still arrive.
pub fn expire_pods(engine: &mut Engine, index: &mut Index, now: EventTime) {
    index.expire(now);
    engine.retain(|pod| index.pod(pod).is_some());
}

/// The sample with its accelerator marked as shared. `None` for a signal without accelerator data.
fn as_shared<'a>(signal: &Signal<'a>) -> Option<Signal<'a>> {
    let Signal::Sample(sample) = signal else {
        return None;
    };
    let mut sample = sample.clone();
    sample.gpu.as_mut()?.device_use = DeviceUse::Shared;
    Some(Signal::Sample(sample))
}
