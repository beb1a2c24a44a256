//! The field managers: the names under which Yellowjack writes, and which of them act.
//!
//! Writes of a manager that acts need the leader gate. A new manager acts unless it is made by
//! `reporting`.

/// A name in `metadata.managedFields`. Each part of the program has its own, so that it owns only the
/// fields that it writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FieldManager {
    name: String,
    bypasses_leader_gate: bool,
}

impl FieldManager {
    /// Guardrail objects and the status of AgentRuns.
    #[must_use]
    pub(crate) fn controller() -> Self {
        Self::acting("yellowjack/controller")
    }

    /// Quarantine, suspension, release, and the status of Incidents.
    #[must_use]
    pub(crate) fn responder() -> Self {
        Self::acting("yellowjack/responder")
    }

    /// Evidence that one observer writes into Incidents. Managers have at most 128 bytes.
    #[must_use]
    pub(crate) fn evidence(observer: &str) -> Self {
        Self::reporting(&format!("yellowjack/evidence-{observer}"))
    }

    /// Events, and the delivery records of notifications in Incidents.
    #[must_use]
    pub(crate) fn notifier() -> Self {
        Self::acting("yellowjack/notifier")
    }

    /// The disposition that a person sets at the command line.
    #[must_use]
    pub(crate) fn person() -> Self {
        Self::acting("yellowjack/person")
    }

    /// The heartbeat Lease of a node agent.
    #[must_use]
    pub(crate) fn agent(node: &str) -> Self {
        Self::reporting(&format!("yellowjack/agent-{node}"))
    }

    /// The ContactReports of one observer.
    #[must_use]
    pub(crate) fn contacts(observer: &str) -> Self {
        Self::reporting(&format!("yellowjack/contacts-{observer}"))
    }

    /// The observations of contained pods by one observer. Not the manager of its evidence: an apply
    /// removes the fields of its manager that it leaves out.
    #[must_use]
    pub(crate) fn observation(observer: &str) -> Self {
        Self::reporting(&format!("yellowjack/observation-{observer}"))
    }

    /// The name in `metadata.managedFields`.
    #[must_use]
    pub(crate) fn as_str(&self) -> &str {
        &self.name
    }

    /// Whether its writes only report what was seen, which every replica and node agent does.
    #[must_use]
    pub(super) const fn bypasses_leader_gate(&self) -> bool {
        self.bypasses_leader_gate
    }

    fn acting(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            bypasses_leader_gate: false,
        }
    }

    fn reporting(name: &str) -> Self {
        Self {
            name: crate::model::clip(name, 128).to_owned(),
            bypasses_leader_gate: true,
        }
    }
}
