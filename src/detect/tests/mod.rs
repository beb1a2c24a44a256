//! Tests of the engine through its interface: signals in, findings out.

mod causes;
mod distinct_targets;
mod fair;
mod lookalikes;
mod miners;
mod mining;
mod nodes;
mod properties;
mod robust;
mod run;
mod scan;
mod story;
mod tunnel;

use std::borrow::Cow;

use super::{Attributed, Engine, EngineConfig, Origin, PoolList, Scopes, Workload};
use crate::model::{
    DnsQuery, EventTime, Finding, Flow, Neighbour, Outcome, PodKey, Severity, Signal, Signature,
    Subject, TlsName, Transport, Volume,
};

pub(super) fn at(seconds: i64) -> EventTime {
    EventTime::from_seconds(1_700_000_000 + seconds, 0)
}

pub(super) fn pod(name: &str) -> Subject {
    Subject {
        pod: PodKey::from(name),
        run: None,
    }
}

/// The only log of most tests.
pub(super) const LOG: Origin<'static> = Origin {
    source: 0,
    node: Some("node-1"),
};

/// A signal of a pod to which its target is a stranger.
pub(super) fn by<'a>(
    subject: &'a Subject,
    workload: Workload,
    signal: &'a Signal<'a>,
) -> Attributed<'a> {
    Attributed {
        signal,
        subject,
        origin: LOG,
        neighbour: Neighbour::Stranger,
        workload,
    }
}

pub(super) fn flow(target: &str, port: u16, outcome: Outcome, seconds: i64) -> Flow<'static> {
    Flow {
        time: at(seconds),
        source: "10.244.0.5".parse().unwrap(),
        source_port: 40_000,
        destination: target.parse().unwrap(),
        destination_port: port,
        transport: Transport::Tcp,
        outcome,
        forwarded: true,
        volume: None,
        destination_name: None,
        pod: None,
        is_inferred: false,
        node: None,
    }
}

pub(super) fn dns(query: &str, answers: &[&str], seconds: i64) -> Signal<'static> {
    Signal::Dns(DnsQuery {
        time: at(seconds),
        source: "10.244.0.5".parse().unwrap(),
        query: Cow::Owned(query.to_owned()),
        answers: answers.iter().map(|ip| ip.parse().unwrap()).collect(),
        nonexistent: None,
    })
}

/// The n-th host of the Internet, each of the first 62,500 in a network of its own.
pub(super) fn host(n: usize) -> String {
    format!("23.{}.{}.{}", (n / 250) % 250, n % 250, n / 62_500 + 1)
}

/// An engine and its findings so far.
pub(super) struct Bench {
    pub(super) engine: Engine,
    pub(super) findings: Vec<Finding>,
    pub(super) workload: Workload,
    /// Whether the log also contains answers to another pod, over every transport.
    pub(super) log_shows_answers: bool,
    seconds: i64,
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::with_pools("")
    }

    pub(super) fn with_pools(pools: &str) -> Self {
        let nets = ["10.244.0.0/16", "10.96.0.0/12", "192.168.50.0/24"];
        let nets = nets.map(|text| text.parse().unwrap());
        let scopes = Scopes::new(&nets[..2], &nets[2..]);
        let pools = PoolList::parse(pools).0;
        let config = EngineConfig {
            scopes,
            pools,
            ..EngineConfig::default()
        };
        Self {
            engine: Engine::new(config),
            findings: Vec::new(),
            workload: Workload::Standard,
            log_shows_answers: true,
            seconds: 0,
        }
    }

    pub(super) fn signal(&mut self, signal: &Signal<'_>) -> &mut Self {
        if let Signal::Flow(flow) = signal
            && self.log_shows_answers
        {
            self.answer_to_another_pod(flow);
        }
        let found = self.engine.step(&by(&pod("agent"), self.workload, signal));
        self.findings.extend(found);
        self
    }

    /// Adds an answer to another pod over the same transport at the same time.
    pub(super) fn answer_to_another_pod(&mut self, like: &Flow<'_>) -> &mut Self {
        let answered = Flow {
            time: like.time,
            transport: like.transport,
            source: "10.244.0.99".parse().unwrap(),
            ..flow("203.0.113.200", 443, Outcome::Answered, 0)
        };
        self.engine
            .observe_unattributed(LOG, &Signal::Flow(answered));
        self
    }

    /// One contact per second.
    pub(super) fn contact(&mut self, target: &str, port: u16, outcome: Outcome) -> &mut Self {
        self.seconds += 1;
        let flow = flow(target, port, outcome, self.seconds);
        self.signal(&Signal::Flow(flow))
    }

    /// Contacts with these hosts on one port, all with the same outcome.
    pub(super) fn sweep(
        &mut self,
        hosts: std::ops::Range<usize>,
        port: u16,
        outcome: Outcome,
    ) -> &mut Self {
        for n in hosts {
            self.contact(&host(n), port, outcome);
        }
        self
    }

    pub(super) fn expire_pending(&mut self, seconds: i64) -> &mut Self {
        let found = self.engine.expire_pending(|_| Some(at(seconds)));
        self.findings.extend(found);
        self
    }

    pub(super) fn now(&self) -> i64 {
        self.seconds
    }

    /// The highest severity of a signature.
    pub(super) fn severity(&self, signature: Signature) -> Option<Severity> {
        let findings = self
            .findings
            .iter()
            .filter(|finding| finding.signature == signature);
        findings.map(|finding| finding.severity).max()
    }

    #[track_caller]
    pub(super) fn check(&self, signature: Signature, expected: Option<Severity>) {
        assert_eq!(
            self.severity(signature),
            expected,
            "{:#?}",
            self.findings.last()
        );
    }
}

pub(super) fn volume(seconds: u64, bytes: u64, packets: u64) -> Volume {
    Volume {
        bytes_out: bytes / 2,
        bytes_in: bytes / 2,
        packets_out: packets / 2,
        packets_in: packets / 2,
        duration_us: seconds * 1_000_000,
        is_final: true,
    }
}

pub(super) fn tls(name: &str, target: &str, source_port: u16, seconds: i64) -> Signal<'static> {
    Signal::Tls(TlsName {
        time: at(seconds),
        source: "10.244.0.5".parse().unwrap(),
        source_port,
        destination: target.parse().unwrap(),
        destination_port: 443,
        server_name: Cow::Owned(name.to_owned()),
    })
}
