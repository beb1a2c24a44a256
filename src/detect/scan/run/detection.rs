//! A walk of a run that is above a threshold: the pods that it concerns, and the detection for each of them.
//!
//! Created by `run` for a failed contact, read by `engine`.

use super::{Cause, MEMBER_FAILURES_MIN, RunContext};
use crate::detect::config::EngineConfig;
use crate::detect::detection::Detection;
use crate::detect::reported::ReportLevel;
use crate::detect::scan::evidence::{self, TargetNames, WalkEvidence, threshold_crossed};
use crate::detect::scan::pod::PodScan;
use crate::detect::scan::service::Service;
use crate::detect::scan::walk::{FailedContact, Member, Walk};
use crate::detect::scope::Scope;
use crate::model::{PodKey, Severity, Signature};

/// A walk of a run above a threshold.
pub(in crate::detect) struct RunDetection<'a> {
    pub(in crate::detect) signature: Signature,
    pub(in crate::detect) severity: Severity,
    walk: &'a Walk,
    cause: Cause,
    /// Whether a finding may be due for every member, not only for the one with the latest failure.
    is_report_due: bool,
    run: RunContext<'a>,
}

impl<'a> RunDetection<'a> {
    pub(super) fn new(
        signature: Signature,
        walk: &'a mut Walk,
        cause: Cause,
        run: RunContext<'a>,
        config: &EngineConfig,
    ) -> Option<Self> {
        let severity = threshold_crossed(walk, config)?;
        let count = walk.count_of(cause.by);
        if count < MEMBER_FAILURES_MIN {
            return None;
        }
        // With its fourth failure a member begins to count.
        let is_report_due = walk.is_report_due(severity) || count == MEMBER_FAILURES_MIN;
        Some(Self {
            signature,
            severity,
            walk,
            cause,
            is_report_due,
            run,
        })
    }

    /// The members for which a finding may be due.
    pub(in crate::detect) fn pods(&self) -> Vec<(Member, &'a PodKey)> {
        let members = if self.is_report_due {
            self.counting_members()
        } else {
            vec![self.cause.by]
        };
        let with_key = |member: Member| Some((member, self.run.members.get(usize::from(member))?));
        members.into_iter().filter_map(with_key).collect()
    }

    /// Whether several pods count. One pod alone is detected by its own walks.
    pub(in crate::detect) fn is_shared(&self) -> bool {
        self.counting_members().len() >= 2
    }

    /// The members with enough failures to count.
    fn counting_members(&self) -> Vec<Member> {
        let counts = |member: &Member| self.walk.count_of(*member) >= MEMBER_FAILURES_MIN;
        self.walk.members().into_iter().filter(counts).collect()
    }

    /// If the contacts of this pod, or those of the whole run, look like peer-to-peer traffic: see
    /// [`PodScan::peer_to_peer_counts`].
    pub(in crate::detect) fn peer_to_peer_counts(&self, scan: &PodScan) -> Option<(usize, usize)> {
        let Service {
            scope,
            transport,
            port,
        } = self.cause.placement.service;
        if self.signature == Signature::VerticalScan || scope != Scope::Internet {
            return None;
        }
        scan.peer_to_peer_counts(self.cause.placement.service)
            .or_else(|| self.run.peer_to_peer.peer_to_peer_counts(transport, port))
    }

    /// What decides whether a finding of this severity is reported.
    pub(in crate::detect) fn report_level(&self, severity: Severity) -> ReportLevel {
        evidence::report_level(self.signature, severity, self.walk)
    }

    /// The detection for one member.
    pub(in crate::detect) fn for_member(
        &self,
        member: Member,
        severity: Severity,
        peers: Option<(usize, usize)>,
        has_dns: bool,
        config: &EngineConfig,
    ) -> Detection {
        let by = format!(
            " by {} pods of the run, {} of them by this one,",
            self.counting_members().len(),
            self.walk.count_of(member)
        );
        let placement = self.cause.placement;
        let is_vertical = self.signature == Signature::VerticalScan;
        let is_host = |failure: &FailedContact| {
            config
                .hash_key
                .word(self.run.hash.host(failure.target.host))
                == self.cause.host
        };
        let description = if is_vertical {
            // The member tried the host itself, usually not long ago.
            let latest = self
                .run
                .failures
                .iter()
                .rev()
                .find(|failure| is_host(failure));
            let host = latest.map(|failure| failure.target.host);
            evidence::ports_tried(host, placement.service.scope, &by)
        } else {
            evidence::hosts_tried(placement.service, &by)
        };
        let is_alike = |failure: &&FailedContact| {
            if is_vertical {
                is_host(failure)
            } else {
                placement.is_same_service(failure, config)
            }
        };
        let evidence = WalkEvidence {
            signature: self.signature,
            severity,
            walk: self.walk,
            description,
            names: TargetNames::Unknown,
            counter_evidence: evidence::counter_evidence(
                self.walk,
                peers,
                self.cause.contact.is_lossy,
                has_dns,
            ),
            latest: self.run.failures.iter().filter(is_alike).copied().collect(),
        };
        evidence.detection(config)
    }
}
