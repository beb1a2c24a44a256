//! Where attribution and detection meet: whose a signal is, and what the engine says to it.
//!
//! Called by the pipeline for everything that reaches its engine, and by the simulator of the error
//! budget, so that what is measured there is what runs here. It must not look at a clock, count, log or
//! lock: it only changes the engine.

use crate::detect::{Attributed, Engine};
use crate::model::{DeviceUse, EventTime, Finding, LostEvents, PodKey, Signal};
use crate::observability::UnattributedReason;
use crate::signals::attribute::{Index, Named};
use crate::signals::decode::PodSample;

/// Takes in a signal of a log; returns whose it was and what was found, `None` where `must_wait` put the
/// judgement off. One that is nobody's still shows what its log shows.
pub fn take_signal<'a>(
    engine: &mut Engine,
    index: &'a Index,
    source: u16,
    signal: &'a Signal<'a>,
    must_wait: impl FnOnce(&Attributed<'_>) -> bool,
) -> Result<(&'a PodKey, Option<Vec<Finding>>), UnattributedReason> {
    match index.attribute(source, signal, Named::Address) {
        Ok(attributed) => {
            let found = (!must_wait(&attributed)).then(|| engine.step(&attributed));
            Ok((&attributed.subject.pod, found))
        }
        Err(why) => {
            engine.heard(index.origin_of_other(source, signal), signal);
            Err(why)
        }
    }
}

/// Takes in that a log lost records.
pub fn take_loss(engine: &mut Engine, index: &Index, source: u16, lost: &LostEvents<'_>) {
    let origin = index.origin_of_loss(source, lost);
    engine.lost(origin, lost.time, lost.count);
}

/// What became of a sample.
#[derive(Debug)]
pub struct TakenSample {
    /// Whether it is of an accelerator on a node that declares them shared.
    pub is_of_shared_device: bool,
    /// What was found.
    pub findings: Vec<Finding>,
}

/// Takes in a sample of node metrics, which names its pod.
pub fn take_sample(
    engine: &mut Engine,
    index: &Index,
    source: u16,
    sample: &PodSample,
) -> Result<TakenSample, UnattributedReason> {
    let signal = Signal::Sample(sample.sample.clone());
    let named = Named::Pod {
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
    Ok(TakenSample {
        is_of_shared_device: shared.is_some(),
        findings: engine.step(&attributed),
    })
}

/// Drops what the index and the engine know of pods that ended longer ago than lines can be late.
pub fn forget_gone(engine: &mut Engine, index: &mut Index, now: EventTime) {
    index.expire(now);
    engine.retain(|pod| index.pod(pod).is_some());
}

/// A sample of an accelerator as one of a shared one.
fn as_shared<'a>(signal: &Signal<'a>) -> Option<Signal<'a>> {
    let Signal::Sample(sample) = signal else {
        return None;
    };
    let mut sample = sample.clone();
    sample.gpu.as_mut()?.device_use = DeviceUse::Shared;
    Some(Signal::Sample(sample))
}
