//! The transitions of an Incident that cause notifications, derived from its conditions.
//!
//! A transition is identified by its kind and by the time at which its condition took its status, as stored in the
//! API server. Both survive a restart, so the id of a transition never changes.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;

use crate::api::{Incident, IncidentCondition, Reason};

/// A change of an Incident. Closed set: the names are used in ids, event types and the Incident's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Transition {
    /// A finding crossed its threshold.
    Detected,
    /// The pod is isolated, suspended or gone.
    Contained,
    /// An action failed and is retried.
    ContainmentFailed,
    /// The circuit breaker prevents the action.
    BreakerOpen,
    /// The log shows that the traffic stopped.
    Verified,
    /// The log shows traffic after the isolation.
    ConnectionsSurvive,
    /// A human released it.
    Released,
    /// A human ended it.
    Terminated,
}

impl Transition {
    /// All transitions, in the order in which they are delivered.
    pub(crate) const ALL: [Self; 8] = [
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
    pub(crate) const fn name(self) -> &'static str {
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

    /// The name in ids and in CloudEvent types.
    #[must_use]
    pub(crate) const fn slug(self) -> &'static str {
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
    pub(crate) const fn is_end(self) -> bool {
        matches!(self, Self::Released | Self::Terminated)
    }

    /// Whether a human should check although Yellowjack did what it could.
    #[must_use]
    pub(crate) const fn is_trouble(self) -> bool {
        matches!(
            self,
            Self::ContainmentFailed | Self::BreakerOpen | Self::ConnectionsSurvive
        )
    }

    /// The transition that a condition records. `None` where it causes no notification.
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
pub(crate) struct OccurredTransition {
    /// The transition.
    pub transition: Transition,
    /// When the condition took its status.
    pub since: Timestamp,
    /// The condition's reason.
    pub reason: String,
    /// The condition's current message.
    pub message: String,
}

impl OccurredTransition {
    /// The id, which never changes. It contains no full stop, which separates the parts of a signed webhook request.
    #[must_use]
    pub(crate) fn id(&self, incident: &Incident) -> String {
        let uid = incident.uid().unwrap_or_default();
        format!(
            "{uid}-{}-{}",
            self.transition.slug(),
            self.since.as_second()
        )
    }

    /// The key of this transition in the Incident's record of deliveries: its name.
    #[must_use]
    pub(crate) const fn notified_key(&self) -> &'static str {
        self.transition.name()
    }

    /// Whether the Incident's status records that this was delivered.
    #[must_use]
    pub(crate) fn is_notified(&self, incident: &Incident) -> bool {
        let notified = incident.status.as_ref().map(|status| &status.notified);
        let recorded = notified.and_then(|notified| notified.get(self.notified_key()));
        recorded.is_some_and(|time| time.0.as_second() == self.since.as_second())
    }
}

/// The transitions that an Incident's conditions record, in the order in which they are delivered.
#[must_use]
pub(crate) fn transitions_of(incident: &Incident) -> Vec<OccurredTransition> {
    let mut occurred: Vec<OccurredTransition> = incident
        .conditions()
        .iter()
        .filter_map(|condition| {
            Some(OccurredTransition {
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
    occurred.sort_by_key(|one| (one.since.as_second(), place(one.transition)));
    occurred
}
