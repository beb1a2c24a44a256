//! The state of one pod: its contacts, walks and traffic, and the findings that were reported about it.
//!
//! Called by `engine` for each signal of the pod, and when time has passed.

use serde::{Deserialize, Serialize};

use super::attributed::Workload;
use super::config::EngineConfig;
use super::context::ScanContext;
use super::detection::Detection;
use super::origin::{OriginId, Origins, ReadProgress};
use super::reported::{ReportLevel, ReportedFindings};
use super::scan::PodScan;
use super::scan::contacts::{ContactVerdict, Contacts};
use super::scope::Scope;
use super::traffic::Traffic;
use crate::model::{ComputeSample, EventTime, Finding, Neighbour, PodKey, Signal, Subject};

/// See the module.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Pod {
    pub(super) subject: Subject,
    pub(super) workload: Workload,
    /// The log of its last record.
    pub(super) origin: OriginId,
    /// Whether its records come from several sources, each of which is read at its own pace.
    has_several_sources: bool,
    pub(super) contacts: Contacts,
    pub(super) scan: PodScan,
    traffic: Traffic,
    pub(super) reported: ReportedFindings,
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
            has_several_sources: false,
            contacts: Contacts::default(),
            scan: PodScan::default(),
            traffic: Traffic::default(),
            reported: ReportedFindings::default(),
        }
    }

    /// Sets the log of the pod's latest record.
    pub(super) fn set_origin(&mut self, id: OriginId, origins: &Origins) {
        if self.origin == id {
            return;
        }
        let is_first = self.origin == OriginId::default();
        self.has_several_sources |= !is_first && origins.source(self.origin) != origins.source(id);
        self.origin = id;
    }

    /// How far the logs of this pod have been read, if one of them contains a record of this time.
    pub(super) fn read_progress_at<'a>(
        &self,
        time: EventTime,
        origins: &'a Origins,
    ) -> ReadProgress<'a> {
        if self.has_several_sources {
            ReadProgress::source_of(origins, self.origin, time)
        } else {
            ReadProgress::all(origins, time)
        }
    }

    /// One log of each source in which contacts of the pod wait for an answer.
    pub(super) fn pending_origins(&self, origins: &Origins) -> Vec<OriginId> {
        let mut ids: Vec<OriginId> = Vec::new();
        for id in self.contacts.pending_origins() {
            let source = origins.source(id);
            if ids.iter().all(|known| origins.source(*known) != source) {
                ids.push(id);
            }
            if !self.has_several_sources {
                break;
            }
        }
        ids
    }

    pub(super) fn observe_sample(
        &mut self,
        sample: &ComputeSample<'_>,
        config: &EngineConfig,
    ) -> Vec<Detection> {
        self.traffic.observe_sample(sample, config, &self.reported)
    }

    pub(super) fn observe(
        &mut self,
        signal: &Signal<'_>,
        neighbour: Neighbour,
        (config, read): (&EngineConfig, &ReadProgress<'_>),
        verdicts: &mut Vec<ContactVerdict>,
    ) -> Vec<Detection> {
        match signal {
            Signal::Flow(flow) => {
                let is_excluded = config.scopes.classify(flow.destination) == Scope::Excluded;
                if is_excluded {
                    return Vec::new();
                }
                let mut detections = self.traffic.observe_flow(flow, config, &self.reported);
                if !flow.outcome.is_attempt() {
                    return detections;
                }
                let key = config.hash_key;
                let from = (neighbour, self.origin);
                if let Some(mut contact) = self.contacts.observe(flow, from, read, config) {
                    contact.is_lossy = read.is_lossy(contact.origin, contact.time);
                    let cleared = self.contacts.cleared_by_answer(&contact, key);
                    for contact in [Some(contact), cleared].into_iter().flatten() {
                        detections.extend(self.scan(&contact, config));
                        verdicts.push(contact);
                    }
                }
                detections
            }
            Signal::Dns(query) => {
                self.contacts.resolved(&query.query, &query.answers, config);
                let mut detections = self.traffic.observe_dns(query, config, &self.reported);
                let context = ScanContext {
                    config,
                    workload: self.workload,
                    has_dns: self.contacts.has_dns(),
                    reported: &self.reported,
                };
                detections.extend(self.scan.observe_dns(query, context));
                detections
            }
            Signal::Tls(tls) => self.traffic.observe_tls(tls, config, &self.reported),
            Signal::Sample(sample) => self.observe_sample(sample, config),
            // Concerns a log, not a pod: see `Engine::record_loss`.
            Signal::Lost(_) => Vec::new(),
        }
    }

    /// Expires the contacts that have waited too long for an answer. If the time since the last call is more than
    /// `jump_us`, the clock may have jumped (see [`Contacts::advance_to`]).
    pub(super) fn expire_pending(
        &mut self,
        read: &ReadProgress<'_>,
        jump_us: i64,
        config: &EngineConfig,
        verdicts: &mut Vec<ContactVerdict>,
    ) -> Vec<Detection> {
        let mut detections = Vec::new();
        self.contacts.advance_to(read, jump_us);
        while let Some(contact) = self.contacts.next_overdue(read, config.hash_key) {
            detections.extend(self.scan(&contact, config));
            verdicts.push(contact);
        }
        detections
    }

    fn scan(&mut self, contact: &ContactVerdict, config: &EngineConfig) -> Vec<Detection> {
        let context = ScanContext {
            config,
            workload: self.workload,
            has_dns: self.contacts.has_dns(),
            reported: &self.reported,
        };
        self.scan.observe(contact, context)
    }

    /// Returns the detections that are to be reported, as findings, and records them as reported.
    pub(super) fn report(&mut self, detections: Vec<Detection>) -> Vec<Finding> {
        let mut findings = Vec::new();
        for Detection {
            signature,
            severity,
            evidence,
        } in detections
        {
            let (contact_count, score) = (evidence.contact_count, evidence.score);
            let level = ReportLevel {
                signature,
                severity,
                contact_count,
                score,
            };
            if self.reported.should_report(level) {
                self.reported.mark_reported(level);
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
