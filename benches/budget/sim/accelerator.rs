//! An accelerator that the pods of a group share with a neighbour by time-slicing, as an exporter shows it: each look
//! names another of them as its owner, with figures of the neighbour's miner. Called by `group`.
//!
//! The texts go through the product's own reader, which must recognise that the figures are nobody's.

use std::net::{IpAddr, Ipv4Addr};

use yellowjack::testing::model::{Neighbour, Signal};
use yellowjack::testing::signals::decode::{MetricsFormat, MetricsReader};

use super::pod::Pod;
use super::tape::{DAY, Event, Fate, HOUR, Load, MINUTE, Target, Word, event_time};

/// An experiment tracker at an address without a name, which keeps its connection for hours.
const TRACKER: Target = Target::tcp(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9)), 8_080);

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

/// What an exporter's texts make of the pods with these numbers, a look a minute.
pub fn looks(pod_count: usize, day_count: usize) -> Vec<Event> {
    let mut reader = MetricsReader::new(MetricsFormat::Dcgm);
    let days = i64::try_from(day_count).unwrap_or(1);
    let mut events = Vec::new();
    let mut at = HOUR;
    // The last one is the neighbour, of another run.
    for owner in (0..=pod_count).cycle() {
        if at >= days.saturating_mul(DAY) {
            break;
        }
        let read = reader.read(text(owner, at).as_bytes(), event_time(at));
        for sample in read.withdrawn.into_iter().chain(read.samples) {
            let Some(pod) = sample.name.parse().ok().filter(|pod| *pod < pod_count) else {
                continue;
            };
            events.push(Event {
                arrival: at,
                pod,
                neighbour: Neighbour::Stranger,
                word: Word::Signal(Signal::Sample(sample.sample)),
            });
        }
        at = at.saturating_add(MINUTE);
    }
    events
}

/// A pod is called by its number.
fn text(owner: usize, at: i64) -> String {
    let watts = 68 + (at / MINUTE) % 2;
    let labels = format!("UUID=\"GPU-1\",namespace=\"runs\",pod=\"{owner}\"");
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
