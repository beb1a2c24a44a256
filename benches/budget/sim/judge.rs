//! The judge: runs a group's records through the engine and notes what the engine says.
//!
//! One engine per group: an engine keeps nothing across runs but losses, so this is the same as one
//! for the whole cluster, and groups can run beside each other.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use yellowjack::testing::detect::{Attributed, Engine, EngineConfig, Origin, Scopes, Workload};
use yellowjack::testing::model::{
    Finding, Flow, Outcome, PodKey, RunKey, Severity, Signal, Subject, Transport,
};

use super::group::Plan;
use super::tape::{Answers, DAY, Event, HOUR, MINUTE, SECOND, Word, event_time};

/// Event time between two calls of the engine's `settle`.
const SETTLE_EVERY: i64 = 15 * SECOND;

/// Time between two answers to other pods of a node, which nobody judges here: a log shows some all
/// day, and only then is silence a failure.
const NEIGHBOURS_EVERY: i64 = 5 * MINUTE;

/// A finding, and when it came.
#[derive(Clone, Debug)]
pub struct Said {
    pub at: i64,
    pub pod: usize,
    pub finding: Finding,
    /// Contacts of the attacker in the group until then.
    pub attack_count: u64,
}

impl Said {
    pub fn is_quarantine(&self) -> bool {
        self.finding.severity == Severity::Quarantine
    }
}

/// The engine's settings in the simulated cluster; the lines are the defaults.
pub fn config() -> EngineConfig {
    let nets = |texts: &[&str]| -> Vec<IpNet> {
        texts.iter().filter_map(|text| text.parse().ok()).collect()
    };
    let cluster = nets(&["10.96.0.0/12", "10.244.0.0/15", "fd00:10:244::/56"]);
    EngineConfig {
        scopes: Scopes::new(&cluster, &nets(&["192.168.0.0/24"])),
        ..EngineConfig::default()
    }
}

/// Whom the engine hears of, by a pod's number.
pub fn subject(plan: &Plan, pod: usize) -> Subject {
    Subject {
        pod: PodKey::from(format!("pod-{pod:05}").as_str()),
        run: Some(RunKey::from(format!("runs/{}", plan.origin.group).as_str())),
    }
}

/// A record of a pod that is not of the group: its contact was answered.
fn answer_to_neighbour(at: i64, transport: Transport) -> Signal<'static> {
    let address = |last| IpAddr::V4(Ipv4Addr::new(10, 245, 0, last));
    Signal::Flow(Flow {
        time: event_time(at),
        source: address(1),
        source_port: 40_000,
        destination: address(2),
        destination_port: 443,
        transport,
        outcome: Outcome::Answered,
        forwarded: true,
        volume: None,
        destination_name: None,
        pod: None,
        is_inferred: false,
        node: None,
    })
}

/// Shows answers to other pods of each node, up to a time. Returns when the next are due.
fn answer_neighbours(
    engine: &mut Engine,
    (mut last, now): (i64, i64),
    nodes: &[Origin<'_>],
) -> i64 {
    while now.saturating_sub(last) >= NEIGHBOURS_EVERY {
        last = last.saturating_add(NEIGHBOURS_EVERY);
        for transport in [Transport::Tcp, Transport::Udp] {
            let answer = answer_to_neighbour(last, transport);
            for node in nodes {
                engine.heard(*node, &answer);
            }
        }
    }
    last
}

fn workload(plan: &Plan) -> Workload {
    if plan.is_declared_crawler {
        Workload::Crawler
    } else {
        Workload::Standard
    }
}

/// Everything that the engine says about these records.
pub fn judge(plan: &Plan, events: &[Event]) -> Vec<Said> {
    let mut engine = Engine::new(config());
    let subjects: Vec<Subject> = (0..plan.pod_count).map(|pod| subject(plan, pod)).collect();
    let nodes: Vec<String> = plan.nodes.iter().map(|n| format!("node-{n}")).collect();
    let origin = |pod: usize| Origin {
        source: 0,
        node: nodes.get(pod).map(String::as_str),
    };
    let workload = workload(plan);
    let mut said = Vec::new();
    let mut attack_count = 0_u64;
    let (mut settled, mut answered) = (0, 0);
    let mut keep = |at: i64, findings: Vec<Finding>, attack_count: u64| {
        for finding in findings {
            let pod = subjects
                .iter()
                .position(|s| s.pod == finding.subject.pod)
                .unwrap_or_default();
            said.push(Said {
                at,
                pod,
                finding,
                attack_count,
            });
        }
    };
    let shows_answers = plan.view.answers == Answers::Seen;
    let origins: Vec<_> = (0..plan.pod_count).map(origin).collect();
    for event in events {
        if shows_answers {
            answered = answer_neighbours(&mut engine, (answered, event.arrival), &origins);
        }
        if event.arrival.saturating_sub(settled) >= SETTLE_EVERY {
            settled = event.arrival;
            keep(
                settled,
                engine.settle(|_| Some(event_time(settled - SECOND))),
                attack_count,
            );
        }
        match &event.word {
            Word::Signal(signal) => {
                if let Some(subject) = subjects.get(event.pod) {
                    keep(
                        event.arrival,
                        engine.step(&Attributed {
                            signal,
                            subject,
                            origin: origin(event.pod),
                            neighbour: event.neighbour,
                            workload,
                        }),
                        attack_count,
                    );
                }
            }
            Word::Lost(count) => {
                engine.lost(origin(event.pod), event_time(event.arrival), *count);
            }
            Word::Attack => attack_count = attack_count.saturating_add(1),
        }
    }
    let end = events.last().map_or(DAY, |event| event.arrival);
    keep(
        end,
        engine.settle(|_| Some(event_time(end.saturating_add(HOUR)))),
        attack_count,
    );
    said
}
