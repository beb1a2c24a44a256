//! The names under which writes are made, and which of them act.
//!
//! `write` asks the gate for those that act. A new manager acts unless it is made by `reporting`.

/// A writer's name in `metadata.managedFields`. One per part of the program, so that each owns its
/// own fields and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldManager {
    name: String,
    bypasses_leader_gate: bool,
}

impl FieldManager {
    /// Guardrail objects and the status of AgentRuns.
    #[must_use]
    pub fn controller() -> Self {
        Self::acting("yellowjack/controller")
    }

    /// Quarantine, suspension, release, and the status of Incidents.
    #[must_use]
    pub fn responder() -> Self {
        Self::acting("yellowjack/responder")
    }

    /// Evidence that one observer writes into Incidents. Managers have at most 128 bytes.
    #[must_use]
    pub fn evidence(observer: &str) -> Self {
        Self::reporting(&format!("yellowjack/evidence-{observer}"))
    }

    /// Events, and what Incidents say about who was told.
    #[must_use]
    pub fn notifier() -> Self {
        Self::acting("yellowjack/notifier")
    }

    /// The word of a person at the command line.
    #[must_use]
    pub fn person() -> Self {
        Self::acting("yellowjack/person")
    }

    /// An agent's Lease.
    #[must_use]
    pub fn agent(node: &str) -> Self {
        Self::reporting(&format!("yellowjack/agent-{node}"))
    }

    /// What one observer reports of the contacts of a run's pods.
    #[must_use]
    pub fn contacts(observer: &str) -> Self {
        Self::reporting(&format!("yellowjack/contacts-{observer}"))
    }

    /// What one observer saw of contained pods. Not the manager of its evidence: an apply takes back
    /// what it leaves out.
    #[must_use]
    pub fn observation(observer: &str) -> Self {
        Self::reporting(&format!("yellowjack/observation-{observer}"))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// Whether it only says what was seen. Whoever sees may, leader or not.
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
