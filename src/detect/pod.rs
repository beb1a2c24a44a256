//! All that is known about one pod: its contacts, walks, traffic and what was said about it.
//!
//! Called by `engine` for each signal of the pod, and when time has passed.

use serde::{Deserialize, Serialize};

use super::attributed::Workload;
use super::contacts::{Contacts, Judged};
use super::engine::EngineConfig;
use super::origin::{OriginId, Origins, Read};
use super::scan::{Crossing, Scan, Surroundings};
use super::scope::Scope;
use super::told::{Told, Word};
use super::traffic::Traffic;
use crate::model::{ComputeSample, EventTime, Finding, Neighbour, PodKey, Signal, Subject};

/// See the module.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Pod {
    pub(super) subject: Subject,
    pub(super) workload: Workload,
    /// The log that its last record came from.
    pub(super) origin: OriginId,
    /// Whether its records have come from more than one source, each of which is read at its own pace.
    is_mixed: bool,
    pub(super) contacts: Contacts,
    pub(super) scan: Scan,
    traffic: Traffic,
    pub(super) told: Told,
}

impl Pod {
    pub(super) fn new(key: &PodKey) -> Self {
        Self {
            subject: Subject {
                pod: key.clone(),
                run: None,
            },
            workload: Workload::default(),
            origin: OriginId::default(),
            is_mixed: false,
            contacts: Contacts::default(),
            scan: Scan::default(),
            traffic: Traffic::default(),
            told: Told::default(),
        }
    }

    /// A record of the pod comes from this log.
    pub(super) fn come_from(&mut self, id: OriginId, origins: &Origins) {
        if self.origin == id {
            return;
        }
        let is_first = self.origin == OriginId::default();
        self.is_mixed |= !is_first && origins.source(self.origin) != origins.source(id);
        self.origin = id;
    }

    /// What a record of this time says about how far the logs of this pod have been read.
    pub(super) fn read_by<'a>(&self, time: EventTime, origins: &'a Origins) -> Read<'a> {
        if self.is_mixed {
            Read::source_of(origins, self.origin, time)
        } else {
            Read::all(origins, time)
        }
    }

    /// One log of each source in which contacts of the pod wait for an answer.
    pub(super) fn waits_for(&self, origins: &Origins) -> Vec<OriginId> {
        let mut ids: Vec<OriginId> = Vec::new();
        for id in self.contacts.waiting_in() {
            let source = origins.source(id);
            if ids.iter().all(|known| origins.source(*known) != source) {
                ids.push(id);
            }
            if !self.is_mixed {
                break;
            }
        }
        ids
    }

    pub(super) fn observe_sample(
        &mut self,
        sample: &ComputeSample<'_>,
        config: &EngineConfig,
    ) -> Vec<Crossing> {
        self.traffic.observe_sample(sample, config, &self.told)
    }

    pub(super) fn take_in(
        &mut self,
        signal: &Signal<'_>,
        neighbour: Neighbour,
        (config, read): (&EngineConfig, &Read<'_>),
        judged: &mut Vec<Judged>,
    ) -> Vec<Crossing> {
        match signal {
            Signal::Flow(flow) => {
                let is_nobody = config.scopes.classify(flow.destination) == Scope::Nobody;
                if is_nobody {
                    return Vec::new();
                }
                let mut crossings = self.traffic.observe_flow(flow, config, &self.told);
                if !flow.outcome.is_attempt() {
                    return crossings;
                }
                let key = config.hash_key;
                let from = (neighbour, self.origin);
                if let Some(mut contact) = self.contacts.observe(flow, from, read, key) {
                    contact.is_lossy = read.is_lossy(contact.origin, contact.time);
                    let taken_back = self.contacts.taken_back(&contact, key);
                    for contact in [Some(contact), taken_back].into_iter().flatten() {
                        crossings.extend(self.scan(&contact, config));
                        judged.push(contact);
                    }
                }
                crossings
            }
            Signal::Dns(query) => {
                self.contacts.resolved(&query.answers, config.hash_key);
                self.traffic.observe_dns(query, config, &self.told)
            }
            Signal::Tls(tls) => self.traffic.observe_tls(tls, config, &self.told),
            Signal::Sample(sample) => self.observe_sample(sample, config),
            // About a log, not about a pod: `Engine::lost`.
            Signal::Lost(_) => Vec::new(),
        }
    }

    /// Judges what is overdue. Time that jumped by more than `jump_us` has not simply passed.
    pub(super) fn settle(
        &mut self,
        read: &Read<'_>,
        jump_us: i64,
        config: &EngineConfig,
        judged: &mut Vec<Judged>,
    ) -> Vec<Crossing> {
        let mut crossings = Vec::new();
        self.contacts.pass(read, jump_us);
        while let Some(contact) = self.contacts.overdue(read, config.hash_key) {
            crossings.extend(self.scan(&contact, config));
            judged.push(contact);
        }
        crossings
    }

    fn scan(&mut self, contact: &Judged, config: &EngineConfig) -> Vec<Crossing> {
        let around = Surroundings {
            config,
            workload: self.workload,
            has_dns: self.contacts.has_dns(),
            told: &self.told,
        };
        self.scan.observe(contact, around)
    }

    /// Keeps what is news.
    pub(super) fn news(&mut self, crossings: Vec<Crossing>) -> Vec<Finding> {
        let mut findings = Vec::new();
        for Crossing {
            signature,
            severity,
            evidence,
        } in crossings
        {
            let (contact_count, score) = (evidence.contact_count, evidence.score);
            let word = Word {
                signature,
                severity,
                contact_count,
                score,
            };
            if self.told.is_news(word) {
                self.told.tell(word);
                let subject = self.subject.clone();
                findings.push(Finding {
                    subject,
                    signature,
                    severity,
                    evidence,
                });
            }
        }
        findings
    }
}
