//! A walk of a run that stands above a line: whom it is about, and the finding about each of them.
//!
//! Made by `run` for a contact that failed, read by `engine`.

use super::{Cause, MEMBER_FAILURES_MIN, RunView};
use crate::detect::engine::EngineConfig;
use crate::detect::scan::{Crossing, Scan, Service, standing};
use crate::detect::scope::Scope;
use crate::detect::walk::{Member, Seen, Walk};
use crate::detect::wording::{self, Account};
use crate::model::{PodKey, Severity, Signature};

/// A walk of a run above a line.
pub(in crate::detect) struct RunCrossing<'a> {
    pub(in crate::detect) signature: Signature,
    pub(in crate::detect) severity: Severity,
    walk: &'a Walk,
    cause: Cause,
    /// Whether it may be news for every member, not only for the one that caused it.
    is_turn: bool,
    run: RunView<'a>,
}

impl<'a> RunCrossing<'a> {
    pub(super) fn new(
        signature: Signature,
        walk: &'a mut Walk,
        cause: Cause,
        run: RunView<'a>,
        config: &EngineConfig,
    ) -> Option<Self> {
        let severity = standing(walk, config)?;
        let count = walk.count_of(cause.by);
        if count < MEMBER_FAILURES_MIN {
            return None;
        }
        // With its fourth failure a member begins to count.
        let is_turn = walk.is_turn(severity) || count == MEMBER_FAILURES_MIN;
        Some(Self {
            signature,
            severity,
            walk,
            cause,
            is_turn,
            run,
        })
    }

    /// For whom it may be news.
    pub(in crate::detect) fn pods(&self) -> Vec<(Member, &'a PodKey)> {
        let members = if self.is_turn {
            self.counting()
        } else {
            vec![self.cause.by]
        };
        let named = |member: Member| Some((member, self.run.members.get(usize::from(member))?));
        members.into_iter().filter_map(named).collect()
    }

    /// Whether it rests on several pods. One pod alone is the matter of its own walks.
    pub(in crate::detect) fn is_shared(&self) -> bool {
        self.counting().len() >= 2
    }

    /// Whom it is about.
    fn counting(&self) -> Vec<Member> {
        let counts = |member: &Member| self.walk.count_of(*member) >= MEMBER_FAILURES_MIN;
        self.walk.members().into_iter().filter(counts).collect()
    }

    /// If the contacts of this pod, or those of the run together, look like peer-to-peer traffic.
    pub(in crate::detect) fn peers_around(&self, scan: &Scan) -> Option<(usize, usize)> {
        let Service {
            scope,
            transport,
            port,
        } = self.cause.placed.service;
        if self.signature == Signature::VerticalScan || scope != Scope::Internet {
            return None;
        }
        scan.peers_around(self.cause.placed.service)
            .or_else(|| self.run.spread.peers_around(transport, port))
    }

    /// The size of the judgement.
    pub(in crate::detect) fn word(&self, severity: Severity) -> crate::detect::told::Word {
        wording::word_of(self.signature, severity, self.walk)
    }

    /// The judgement about one of its pods.
    pub(in crate::detect) fn crossing(
        &self,
        member: Member,
        severity: Severity,
        peers: Option<(usize, usize)>,
        has_dns: bool,
        config: &EngineConfig,
    ) -> Crossing {
        let by = format!(
            " by {} pods of the run, {} of them by this one,",
            self.counting().len(),
            self.walk.count_of(member)
        );
        let placed = self.cause.placed;
        let is_vertical = self.signature == Signature::VerticalScan;
        let is_host = |seen: &Seen| {
            config.hash_key.word(self.run.hash.host(seen.target.host)) == self.cause.host
        };
        let what = if is_vertical {
            // Whoever is named tried the host itself, mostly not long ago.
            let seen = self.run.failures.iter().rev().find(|seen| is_host(seen));
            let host = seen.map(|seen| seen.target.host);
            wording::ports_tried(host, placed.service.scope, &by)
        } else {
            wording::hosts_tried(placed.service, &by)
        };
        let is_alike = |seen: &&Seen| {
            if is_vertical {
                is_host(seen)
            } else {
                placed.is_same_service(seen, config)
            }
        };
        let account = Account {
            signature: self.signature,
            severity,
            walk: self.walk,
            what,
            against: wording::against(self.walk, peers, self.cause.contact.is_lossy, has_dns),
            latest: self.run.failures.iter().filter(is_alike).copied().collect(),
        };
        account.crossing(config)
    }
}
