//! The transitions of an Incident that people hear of, read from its conditions.
//!
//! A transition is known by its kind and by the time at which its condition took its status, as the
//! API server keeps it. Both survive a restart, so the same transition has the same id for ever.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;

use crate::api::{Incident, IncidentCondition, Reason};
use crate::model::Severity;

/// What happened to an Incident. Closed set: names go into ids, types and the Incident's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transition {
    /// A finding crossed a line.
    Detected,
    /// The pod is isolated, suspended or gone.
    Contained,
    /// An action failed and is tried again.
    ContainmentFailed,
    /// The circuit breaker holds the action back.
    BreakerOpen,
    /// The traffic was seen to stop.
    Verified,
    /// Traffic was seen after the deny stood.
    ConnectionsSurvive,
    /// A human released it.
    Released,
    /// A human ended it.
    Terminated,
}

impl Transition {
    /// All of them, in the order in which they are told.
    pub const ALL: [Self; 8] = [
        Self::Detected,
        Self::BreakerOpen,
        Self::ContainmentFailed,
        Self::Contained,
        Self::ConnectionsSurvive,
        Self::Verified,
        Self::Released,
        Self::Terminated,
    ];

    /// The name in the Incident's status.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Detected => "Detected",
            Self::Contained => "Contained",
            Self::ContainmentFailed => "ContainmentFailed",
            Self::BreakerOpen => "BreakerOpen",
            Self::Verified => "Verified",
            Self::ConnectionsSurvive => "ConnectionsSurvive",
            Self::Released => "Released",
            Self::Terminated => "Terminated",
        }
    }

    /// The name in ids and in the types of CloudEvents.
    #[must_use]
    pub const fn slug(self) -> &'static str {
        match self {
            Self::Detected => "detected",
            Self::Contained => "contained",
            Self::ContainmentFailed => "containment-failed",
            Self::BreakerOpen => "breaker-open",
            Self::Verified => "verified",
            Self::ConnectionsSurvive => "connections-survive",
            Self::Released => "released",
            Self::Terminated => "terminated",
        }
    }

    /// Whether it ends the Incident.
    #[must_use]
    pub const fn is_end(self) -> bool {
        matches!(self, Self::Released | Self::Terminated)
    }

    /// Whether somebody should look although Yellowjack did what it could.
    #[must_use]
    pub const fn is_trouble(self) -> bool {
        matches!(
            self,
            Self::ContainmentFailed | Self::BreakerOpen | Self::ConnectionsSurvive
        )
    }

    /// What the condition says; `None` where people need not hear of it.
    fn of(condition: &Condition) -> Option<Self> {
        let is_type = |wanted: IncidentCondition| condition.type_ == wanted.name();
        let is_reason = |wanted: Reason| condition.reason == wanted.name();
        match condition.status.as_str() {
            "True" if is_type(IncidentCondition::Detected) => Some(Self::Detected),
            "True" if is_type(IncidentCondition::Contained) => Some(Self::Contained),
            "True" if is_type(IncidentCondition::Verified) => Some(Self::Verified),
            "True" if is_type(IncidentCondition::Closed) && is_reason(Reason::Terminated) => {
                Some(Self::Terminated)
            }
            "True" if is_type(IncidentCondition::Closed) => Some(Self::Released),
            "False" if is_reason(Reason::BreakerOpen) => Some(Self::BreakerOpen),
            "False" if is_reason(Reason::ActionFailed) => Some(Self::ContainmentFailed),
            "False" if is_reason(Reason::ConnectionsSurvive) => Some(Self::ConnectionsSurvive),
            _ => None,
        }
    }
}

/// A transition that took place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    /// Which.
    pub transition: Transition,
    /// When the condition took its status.
    pub since: Timestamp,
    /// The condition's reason.
    pub reason: String,
    /// The condition's message, as it stands.
    pub message: String,
}

impl Passed {
    /// The id, the same for ever. It holds no full stop: receivers sign ids joined by one.
    #[must_use]
    pub fn id(&self, incident: &Incident) -> String {
        let uid = incident.uid().unwrap_or_default();
        format!(
            "{uid}-{}-{}",
            self.transition.slug(),
            self.since.as_second()
        )
    }
}

/// The transitions that an Incident shows now, in the order in which they are told.
#[must_use]
pub fn passed(incident: &Incident) -> Vec<Passed> {
    let conditions = incident.status.as_ref().map_or(&[][..], |s| &s.conditions);
    let mut passed: Vec<Passed> = conditions
        .iter()
        .filter_map(|condition| {
            Some(Passed {
                transition: Transition::of(condition)?,
                since: condition.last_transition_time.0,
                reason: condition.reason.clone(),
                message: condition.message.clone(),
            })
        })
        .collect();
    let place = |transition| {
        Transition::ALL
            .iter()
            .position(|known| *known == transition)
    };
    passed.sort_by_key(|passed| (passed.since.as_second(), place(passed.transition)));
    passed
}

/// How the Incident's status notes that a transition was told: its name.
#[must_use]
pub const fn told_name(transition: Transition) -> &'static str {
    transition.name()
}

/// Whether the Incident's status says that this was told.
#[must_use]
pub fn was_told(incident: &Incident, passed: &Passed) -> bool {
    let notified = incident.status.as_ref().map(|status| &status.notified);
    let told = notified.and_then(|notified| notified.get(told_name(passed.transition)));
    told.is_some_and(|told| told.0.as_second() == passed.since.as_second())
}

/// The strongest severity in the evidence.
#[must_use]
pub fn level_of(incident: &Incident) -> Severity {
    let crossed = |entry: &crate::api::EvidenceEntry| entry.severity == Severity::Quarantine.name();
    if incident.spec.evidence.iter().any(crossed) {
        Severity::Quarantine
    } else {
        Severity::Alert
    }
}
