//! The record that the engine takes of a signal: the one place where it is made.
//!
//! Part of the index, which knows the pod, its run, its node and its neighbours at the time of the
//! signal.

use std::net::IpAddr;

use super::{Index, Known};
use crate::detect::{Attributed, Origin};
use crate::model::{EventTime, LostEvents, Neighbour, Signal};
use crate::observability::UnattributedReason;

/// How a signal names its pod.
#[derive(Clone, Copy, Debug)]
pub enum Named<'a> {
    /// By the address that a signal of a log says.
    Address,
    /// By an address that is said beside the signal.
    By(IpAddr),
    /// By namespace, name and UID, over the span that the signal is about.
    Pod {
        /// Namespace.
        namespace: &'a str,
        /// Name.
        name: &'a str,
        /// UID, where it is said. It can only take away certainty: the name has found the pod.
        uid: Option<&'a str>,
        /// From when to when.
        span: (EventTime, EventTime),
    },
}

impl Index {
    /// Whose a signal of this source is, and everything else that the engine must know of it.
    pub fn attribute<'a>(
        &'a self,
        source: u16,
        signal: &'a Signal<'a>,
        named: Named<'_>,
    ) -> Result<Attributed<'a>, UnattributedReason> {
        let known = match named {
            Named::Address => {
                let address = signal.source().ok_or(UnattributedReason::UnknownAddress)?;
                let hint = match signal {
                    Signal::Flow(flow) => flow.pod.as_ref(),
                    _ => None,
                };
                self.find_hinted(address, signal.time(), hint)?
            }
            Named::By(address) => self.find(address.to_canonical(), signal.time())?,
            Named::Pod {
                namespace,
                name,
                uid,
                span,
            } => {
                let known = self.find_named(namespace, name, span)?;
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
        known: &'a Known,
    ) -> Attributed<'a> {
        let (said_node, neighbour) = match signal {
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
                node: known.facts.node.as_deref().or(said_node),
            },
            neighbour,
            workload: known.workload,
        }
    }

    /// Which log records were lost in. A node that the API server does not know by that name is not
    /// named: then the records of all nodes of the source may be missing.
    #[must_use]
    pub fn origin_of_loss<'a>(&self, source: u16, lost: &'a LostEvents<'_>) -> Origin<'a> {
        let node = lost.node.as_deref();
        Origin {
            source,
            node: node.filter(|node| self.knows_node(node)),
        }
    }

    /// Which log a record is in that belongs to no known pod: it still shows what the log shows.
    #[must_use]
    pub fn origin_of_other<'a>(&self, source: u16, signal: &'a Signal<'_>) -> Origin<'a> {
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
