//! A kubelet's `/metrics/resource`: CPU seconds of pods and containers, each with its own
//! time.
//!
//! Called by `metrics`. Since Kubernetes 1.20 it contains `pod_cpu_usage_seconds_total`; if that is
//! missing, the containers of a pod are added up. It contains no network figures, no UID and no accelerators.

use std::collections::{BTreeMap, HashSet};

use super::exposition::Series;
use super::rates::{Rate, Rates, Step};
use super::{ReadResult, cpu_sample, is_name};
use crate::limits;
use crate::model::EventTime;

const POD: &str = "pod_cpu_usage_seconds_total";
const CONTAINER: &str = "container_cpu_usage_seconds_total";
/// Shows that the kubelet responds even if it has no pods.
const NODE: &str = "node_cpu_usage_seconds_total";

struct Counter {
    namespace: String,
    pod: String,
    /// Empty for the counter of the pod itself.
    container: String,
    seconds: f64,
    time: EventTime,
}

pub(super) fn read(text: &str, now: EventTime, rates: &mut Rates) -> ReadResult {
    let mut found = ReadResult::default();
    let counters = counters(text, now, &mut found);
    let of_pod = |c: &Counter| (c.namespace.clone(), c.pod.clone());
    let whole: HashSet<_> = counters
        .iter()
        .filter(|counter| counter.container.is_empty())
        .map(of_pod)
        .collect();
    let mut pods: BTreeMap<(String, String), Vec<Step>> = BTreeMap::new();
    for counter in counters {
        let key = of_pod(&counter);
        let counts = counter.container.is_empty() || !whole.contains(&key);
        if counts {
            let name = [key.0.as_str(), key.1.as_str(), counter.container.as_str()];
            let step = rates.step(name, counter.seconds, counter.time);
            pods.entry(key).or_default().push(step);
        }
    }
    for ((namespace, name), steps) in pods {
        if let Some(rate) = sum(&steps) {
            let span = (rate.from, rate.time);
            let sample = cpu_sample(&namespace, &name, span, rate.cores);
            found.read.samples.push(sample);
        }
    }
    found
}

fn counters(text: &str, now: EventTime, found: &mut ReadResult) -> Vec<Counter> {
    let wants = |name: &str| matches!(name, POD | CONTAINER | NODE);
    let mut counters = Vec::new();
    for line in text.lines() {
        let series = match Series::read(line, wants) {
            Ok(Some(series)) => series,
            Ok(None) => continue,
            Err(_) => {
                found.read.malformed += 1;
                continue;
            }
        };
        let time = series.time.unwrap_or(now);
        found.record_time(time);
        if series.name == NODE {
            continue;
        }
        let container = match series.name {
            POD => Some(""),
            _ => series.label("container"),
        };
        let names = (series.label("namespace"), series.label("pod"), container);
        let (Some(namespace), Some(pod), Some(container)) = names else {
            found.read.malformed += 1;
            continue;
        };
        if !is_name(namespace) || !is_name(pod) || container.len() > limits::NAME_BYTES_MAX {
            found.read.malformed += 1;
        } else if counters.len() >= limits::COUNTERS_MAX {
            found.read.beyond_bound += 1;
        } else {
            counters.push(Counter {
                namespace: namespace.to_owned(),
                pod: pod.to_owned(),
                container: container.to_owned(),
                seconds: series.value,
                time,
            });
        }
    }
    counters
}

/// A pod's usage: the sum of all of its counters, or unknown. Without this rule, a container that has just
/// started would appear as a dip of the pod.
fn sum(steps: &[Step]) -> Option<Rate> {
    let mut sum: Option<Rate> = None;
    for step in steps {
        let Step::Rate(rate) = step else {
            return None;
        };
        sum = Some(match sum {
            None => *rate,
            Some(sum) => Rate {
                from: sum.from.min(rate.from),
                time: sum.time.max(rate.time),
                cores: sum.cores + rate.cores,
            },
        });
    }
    sum
}
