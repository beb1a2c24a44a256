//! Accelerators that the pods of a group share with a neighbour by time-slicing, one on each node, as an exporter shows
//! them: each look names another of the pods there as the owner, with figures of the neighbour's miner. Where the node
//! declares that its accelerators are shared, the exporter names the same one all the time. Called by `group`.
//!
//! The texts go through the product's own reader, which must recognise that the figures are nobody's, and declarations
//! through the index.

use std::net::{IpAddr, Ipv4Addr};

use yellowjack::testing::signals::decode::{MetricsFormat, MetricsReader};

use super::group::Plan;
use super::pod::Pod;
use super::tape::{DAY, Event, Fate, HOUR, Load, MINUTE, Target, Word, event_time};

/// An experiment tracker at an address without a name, which keeps its connection for hours.
const TRACKER: Target = Target::tcp(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9)), 8_080);

/// The number by which the neighbour is called, which no pod of a run has.
const NEIGHBOUR: usize = 1_000_000;

/// What looks like a miner's session beside the accelerator's figures.
pub fn track(pod: &mut Pod) {
    let mut at = pod.start.saturating_add(HOUR);
    while at < pod.end {
        let length = pod.random().between(2 * HOUR, 5 * HOUR);
        pod.tape
            .contact(at, TRACKER, Fate::Answers, Load::Session(length), None);
        at = at.saturating_add(length).saturating_add(HOUR);
    }
}

/// What the exporters' texts make of the pods, a look a minute.
pub fn looks(plan: &Plan) -> Vec<Event> {
    let mut events = Vec::new();
    for node in 0..plan.cluster.nodes.len() {
        looks_at(plan, node, &mut events);
    }
    events
}

fn looks_at(plan: &Plan, node: usize, events: &mut Vec<Event>) {
    let here = plan.nodes.iter().enumerate();
    let here = here.filter(|(_, of_pod)| **of_pod == node);
    let mut owners: Vec<usize> = here.map(|(index, _)| plan.first_pod + index).collect();
    if owners.is_empty() {
        return;
    }
    let declares = plan.cluster.nodes.get(node);
    if declares.is_some_and(|node| node.declares_sharing) {
        owners.truncate(1);
    } else {
        owners.push(NEIGHBOUR);
    }
    let mut reader = MetricsReader::new(MetricsFormat::Dcgm);
    let days = i64::try_from(plan.day_count).unwrap_or(1);
    let mut at = HOUR;
    for owner in owners.iter().cycle() {
        if at >= days.saturating_mul(DAY) {
            break;
        }
        let read = reader.read(text(node, *owner, at).as_bytes(), event_time(at));
        for sample in read.withdrawn.into_iter().chain(read.samples) {
            let pod = sample.name.parse().ok();
            if let Some(pod) = pod.filter(|pod| *pod != NEIGHBOUR) {
                events.push(Event {
                    arrival: at,
                    pod,
                    word: Word::Sample(Box::new(sample)),
                });
            }
        }
        at = at.saturating_add(MINUTE);
    }
}

/// A pod is called by its number.
fn text(node: usize, owner: usize, at: i64) -> String {
    let watts = 68 + (at / MINUTE) % 2;
    let labels = format!("UUID=\"GPU-{node}\",namespace=\"runs\",pod=\"{owner}\"");
    [
        ("DCGM_FI_DEV_GPU_UTIL", 99.0),
        ("DCGM_FI_PROF_SM_ACTIVE", 0.97),
        ("DCGM_FI_PROF_PIPE_TENSOR_ACTIVE", 0.0),
        ("DCGM_FI_PROF_PIPE_INT_ACTIVE", 0.55),
        ("DCGM_FI_PROF_PCIE_TX_BYTES", 1_000_000.0),
    ]
    .iter()
    .map(|(name, value)| format!("{name}{{{labels}}} {value}\n"))
    .chain([format!("DCGM_FI_DEV_POWER_USAGE{{{labels}}} {watts}\n")])
    .collect()
}
