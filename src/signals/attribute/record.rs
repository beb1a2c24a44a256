//! Builds the record that the engine takes for a signal. This is the only place that does.
//!
//! Part of the index, which knows the pod, its run, its node and its neighbours at the time of the
//! signal.

use std::net::IpAddr;

use super::{Index, KnownPod};
use crate::detect::{Attributed, Origin};
use crate::model::{EventTime, LostEvents, Neighbour, Signal};
use crate::observability::UnattributedReason;

/// How the pod of a signal is identified.
#[derive(Clone, Copy, Debug)]
pub enum PodLocator<'a> {
    /// By the source address in the signal.
    SignalSource,
    /// By an address that is given separately from the signal.
    Address(IpAddr),
    /// By namespace, name and UID, over the span that the signal covers.
    Name {
        /// Namespace.
        namespace: &'a str,
        /// Name.
        name: &'a str,
        /// UID, if given. It can only make the result less certain: the pod is found by its name.
        uid: Option<&'a str>,
        /// Start and end of the span.
        span: (EventTime, EventTime),
    },
}

impl Index {
    /// Attributes a signal of this source to a pod and adds everything else that the engine needs.
    pub fn attribute<'a>(
        &'a self,
        source: u16,
        signal: &'a Signal<'a>,
        locator: PodLocator<'_>,
    ) -> Result<Attributed<'a>, UnattributedReason> {
        let known = match locator {
            PodLocator::SignalSource => {
                let address = signal.source().ok_or(UnattributedReason::UnknownAddress)?;
                let hint = match signal {
                    Signal::Flow(flow) => flow.pod.as_ref(),
                    _ => None,
                };
                self.find_hinted(address, signal.time(), hint)?
            }
            PodLocator::Address(address) => self.find(address.to_canonical(), signal.time())?,
            PodLocator::Name {
                namespace,
                name,
                uid,
                span,
            } => {
                let known = self.find_by_name(namespace, name, span)?;
                if uid.is_some_and(|uid| uid != known.facts.key.as_str()) {
                    return Err(UnattributedReason::HintContradicts);
                }
                known
            }
        };
        Ok(self.record(source, signal, known))
    }

    fn record<'a>(
        &'a self,
        source: u16,
        signal: &'a Signal<'a>,
        known: &'a KnownPod,
    ) -> Attributed<'a> {
        let (flow_node, neighbour) = match signal {
            Signal::Flow(flow) => (flow.node.as_deref(), {
                if flow.outcome.may_fail() {
                    let run = known.subject.run.as_ref();
                    self.neighbour(flow.destination, flow.time, run)
                } else {
                    Neighbour::Stranger
                }
            }),
            _ => (None, Neighbour::Stranger),
        };
        Attributed {
            signal,
            subject: &known.subject,
            origin: Origin {
                source,
                node: known.facts.node.as_deref().or(flow_node),
            },
            neighbour,
            workload: known.workload,
        }
    }

    /// The log in which records were lost. A node name that the API server does not know is dropped:
    /// then records of any node of the source may be missing.
    #[must_use]
    pub fn origin_of_loss<'a>(&self, source: u16, lost: &'a LostEvents<'_>) -> Origin<'a> {
        let node = lost.node.as_deref();
        Origin {
            source,
            node: node.filter(|node| self.knows_node(node)),
        }
    }

    /// The log that contains a record of no known pod. The record still shows what the log can contain.
    #[must_use]
    pub fn origin_of_unattributed<'a>(&self, source: u16, signal: &'a Signal<'_>) -> Origin<'a> {
        let node = match signal {
            Signal::Flow(flow) => flow.node.as_deref(),
            _ => None,
        };
        Origin {
            source,
            node: node.filter(|node| self.knows_node(node)),
        }
    }
}
