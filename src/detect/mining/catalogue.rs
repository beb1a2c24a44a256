//! Probing of many pools: contacts with many Internet hosts on several ports of pools, most of which answer.
//!
//! Called by `mining` for TCP contacts on these ports. Miners and their installers try a list of pools before they
//! choose one, and none of these connections lasts long enough to be a session. On logs outside this repository, the
//! rule of 8 hosts on 4 ports within an hour found 5 of 5 such cases and no other among 60,000 subjects; a peer-to-peer
//! client reaches these ports by chance, among many more hosts on other ports. An adversary who waits an hour between
//! eight pools, or who knows one that works, avoids the rule, so it leads to an alert and adds nothing to other
//! evidence. State: 16 bytes per target, bounded, and none for other pods.

use serde::{Deserialize, Serialize};

use super::unlisted::is_pool_port;
use crate::detect::context::TrafficContext;
use crate::detect::detection::Detection;
use crate::detect::fusion::ALERT_NATS;
use crate::detect::reported::ReportLevel;
use crate::detect::scan::contacts::Target;
use crate::detect::scope::Scope;
use crate::detect::session::hash_host;
use crate::detect::state::bounded;
use crate::limits;
use crate::model::{
    BoundedText, EventTime, Evidence, Example, Flow, Severity, Signature, Transport, duration,
};

/// How long a contact counts.
const WINDOW_US: i64 = 3_600_000_000;

/// Minimum numbers of hosts and ports that answered.
const HOSTS_MIN: usize = 8;
const PORTS_MIN: usize = 4;

/// The hosts on pool ports must be more than one in this number of all hosts that the pod reached on ports outside the
/// web. Of the random ports of a peer-to-peer client, one in a thousand is a port of pools.
const SHARE_OF_HOSTS: usize = 8;

/// Bits of the bitmap of hosts in `session`, and the highest number of hosts that it can distinguish.
const HOST_BITS: f64 = 128.0;
const HOST_ESTIMATE_MAX: f64 = 700.0;

/// One target. A host with two ports has two.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct PortContact {
    time: EventTime,
    host: u32,
    port: u16,
    is_answered: bool,
}

/// See the module. Empty for nearly every pod.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Catalogue {
    #[serde(deserialize_with = "bounded::list::<_, _, { limits::CATALOGUE_CONTACTS_MAX }>")]
    contacts: Vec<PortContact>,
}

/// Whether a flow may count, as far as the flow alone shows it.
pub(super) fn may_belong(flow: &Flow<'_>, target: Target) -> bool {
    target.transport == Transport::Tcp && flow.outcome.is_attempt() && is_pool_port(target.port)
}

impl Catalogue {
    /// Processes a contact for which [`may_belong`] is true.
    pub(super) fn observe(
        &mut self,
        flow: &Flow<'_>,
        target: Target,
        context: TrafficContext<'_>,
    ) -> Option<Detection> {
        if context.config.scopes.classify(target.host) != Scope::Internet {
            return None;
        }
        let is_answered = flow.outcome.success() == Some(true);
        self.record(flow.time, target, is_answered);
        if is_answered {
            self.judge(flow, target, context)
        } else {
            None
        }
    }

    fn record(&mut self, time: EventTime, target: Target, is_answered: bool) {
        let (host, port) = (hash_host(target.host), target.port);
        let is_same = |contact: &&mut PortContact| contact.host == host && contact.port == port;
        if let Some(contact) = self.contacts.iter_mut().find(is_same) {
            contact.is_answered |= is_answered;
            contact.time = contact.time.max(time);
            return;
        }
        if self.contacts.len() >= limits::CATALOGUE_CONTACTS_MAX {
            let oldest = self.contacts.iter().enumerate();
            if let Some((index, _)) = oldest.min_by_key(|(_, contact)| contact.time) {
                self.contacts.swap_remove(index);
            }
        }
        self.contacts.push(PortContact {
            time,
            host,
            port,
            is_answered,
        });
    }

    fn judge(
        &self,
        flow: &Flow<'_>,
        target: Target,
        context: TrafficContext<'_>,
    ) -> Option<Detection> {
        let begin = flow.time.plus_micros(-WINDOW_US);
        let recent = || self.contacts.iter().filter(|contact| contact.time >= begin);
        let answered = || recent().filter(|contact| contact.is_answered);
        let tried = distinct(recent().map(|contact| contact.host));
        let hosts = distinct(answered().map(|contact| contact.host));
        let ports = distinct(answered().map(|contact| contact.port));
        let is_probing = hosts >= HOSTS_MIN && ports >= PORTS_MIN && hosts * 2 > tried;
        if !is_probing
            || tried * SHARE_OF_HOSTS < hosts_beside_the_web(context.sessions.host_count())
        {
            return None;
        }
        let contact_count = u64::try_from(hosts).unwrap_or(u64::MAX);
        let word = ReportLevel {
            signature: Signature::Mining,
            severity: Severity::Alert,
            contact_count,
            score: ALERT_NATS,
        };
        if !context.reported.should_report(word) {
            return None;
        }
        let first = recent().map(|contact| contact.time).min();
        let first = first.unwrap_or(flow.time);
        let summary = format!(
            "{tried} Internet hosts were tried on ports of mining pools within {}, and {hosts} of them answered \
             on {ports} such ports, as when a catalogue of pools is walked.",
            duration::rounded(flow.time.micros_since(first)),
        );
        let against = "no session with the shape of mining belongs to it";
        Some(Detection {
            signature: Signature::Mining,
            severity: Severity::Alert,
            evidence: Evidence {
                score: ALERT_NATS,
                threshold: ALERT_NATS,
                first,
                last: flow.time,
                contact_count,
                summary: BoundedText::new(&summary),
                examples: vec![Example {
                    time: flow.time,
                    destination: target.host,
                    port: target.port,
                    transport: target.transport,
                    outcome: flow.outcome,
                    name: None,
                }],
                against: vec![BoundedText::new(against)],
            },
        })
    }
}

fn distinct<T: Ord>(items: impl Iterator<Item = T>) -> usize {
    let mut items: Vec<_> = items.collect();
    items.sort_unstable();
    items.dedup();
    items.len()
}

/// The estimated number of hosts that set this number of bits, by linear counting.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // up to 700
fn hosts_beside_the_web(bits: u32) -> usize {
    let unset = (HOST_BITS - f64::from(bits)).max(0.0);
    let hosts = HOST_BITS * (HOST_BITS / unset).ln();
    hosts.clamp(0.0, HOST_ESTIMATE_MAX) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_estimated_from_the_bits_that_they_set() {
        assert_eq!(hosts_beside_the_web(0), 0);
        assert!((7..=9).contains(&hosts_beside_the_web(8)));
        assert!((110..=130).contains(&hosts_beside_the_web(78)));
        assert_eq!(hosts_beside_the_web(128), 700);
    }
}
