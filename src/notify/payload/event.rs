//! Transitions as Kubernetes Events, on the Incident, the pod and the run, which `kubectl describe` shows. Best
//! effort, and deleted by the API server after an hour; the Incident keeps the record.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{Resource, ResourceExt};

use super::{OccurredTransition, Transition, text::plain};
use crate::api::{AgentRun, AgentRunCondition, Incident, Reason, condition_of};
use crate::limits;

macro_rules! reasons {
    ($($(#[doc = $doc:literal])* $variant:ident: $action:literal,)*) => {
        /// The reason of an Event. Closed set, in the order in which the docs list them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(crate) enum EventReason {
            $($(#[doc = $doc])* $variant,)*
        }

        impl EventReason {
            /// All reasons.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name in the Event.
            #[must_use]
            pub(crate) const fn name(self) -> &'static str {
                match self { $(Self::$variant => stringify!($variant),)* }
            }

            /// The action of the Event.
            #[must_use]
            pub(crate) const fn action(self) -> &'static str {
                match self { $(Self::$variant => $action,)* }
            }

            /// The description in the docs.
            #[must_use]
            pub(crate) fn meaning(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),*).trim(),)* }
            }
        }
    };
}

reasons! {
    /// A finding crossed its threshold, and there is an Incident.
    IncidentDetected: "Detect",
    /// The pod is isolated, suspended or gone.
    PodContained: "Contain",
    /// An action failed and is retried.
    ContainmentFailed: "Contain",
    /// Too many pods crossed their threshold at once, so nothing is done to this one.
    BreakerOpen: "Contain",
    /// The log shows that the traffic stopped.
    ContainmentVerified: "Verify",
    /// The log shows traffic after the isolation.
    ConnectionsSurvive: "Verify",
    /// A human released it, and what was changed is restored.
    IncidentReleased: "Release",
    /// A human ended it.
    IncidentTerminated: "Terminate",
    /// A source is silent or lost events, so the traffic of the run's pods is not visible.
    SignalsStale: "Observe",
    /// Another policy allows the run's pods more than its guardrails do.
    GuardrailWidened: "Audit",
}

impl EventReason {
    const fn of(transition: Transition) -> Self {
        match transition {
            Transition::Detected => Self::IncidentDetected,
            Transition::Contained => Self::PodContained,
            Transition::ContainmentFailed => Self::ContainmentFailed,
            Transition::BreakerOpen => Self::BreakerOpen,
            Transition::Verified => Self::ContainmentVerified,
            Transition::ConnectionsSurvive => Self::ConnectionsSurvive,
            Transition::Released => Self::IncidentReleased,
            Transition::Terminated => Self::IncidentTerminated,
        }
    }

    /// Whether `kubectl` shows it as a warning.
    #[must_use]
    pub(crate) const fn is_warning(self) -> bool {
        !matches!(
            self,
            Self::ContainmentVerified | Self::IncidentReleased | Self::IncidentTerminated
        )
    }
}

/// The Events' part of docs/conditions.md.
#[must_use]
pub fn events_section() -> String {
    let mut page = String::from(
        "\n## Events\n\n\
         Beside the conditions, `kubectl events` shows these on the AgentRun, the Incident and the pod. They are gone after\n\
         an hour; the Incident stays.\n\n\
         | reason | type | means |\n|---|---|---|\n",
    );
    for reason in EventReason::ALL {
        let kind = if reason.is_warning() {
            "Warning"
        } else {
            "Normal"
        };
        let row = [reason.name(), kind, reason.meaning()].join(" | ");
        page = page + "| " + &row + " |\n";
    }
    page
}

/// One Event about one object.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct EventText {
    /// Identifies this occurrence; it never changes.
    pub id: String,
    /// When it happened.
    pub since: Timestamp,
    /// The reason.
    pub reason: EventReason,
    /// The object that the Event is about.
    pub regarding: ObjectReference,
    /// The Incident, if the Event is about another object.
    pub related: Option<ObjectReference>,
    /// The text.
    pub note: String,
}

/// The Events of one transition: about the Incident, its pod and its run.
#[must_use]
pub(crate) fn incident_events(
    incident: &Incident,
    occurred: &OccurredTransition,
) -> Vec<EventText> {
    let spec = &incident.spec;
    let itself = incident.object_ref(&());
    let namespace = incident.namespace();
    let pod = ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        name: Some(spec.subject.name.clone()),
        uid: Some(spec.subject.uid.clone()),
        namespace: namespace.clone(),
        ..ObjectReference::default()
    };
    let run = spec.run.as_ref().map(|run| ObjectReference {
        api_version: Some(AgentRun::api_version(&()).into_owned()),
        kind: Some(AgentRun::kind(&()).into_owned()),
        name: Some(run.name.clone()),
        uid: Some(run.uid.clone()),
        namespace,
        ..ObjectReference::default()
    });
    let message = match (occurred.transition, spec.evidence.first()) {
        (Transition::Detected, Some(entry)) => &entry.summary,
        _ => &occurred.message,
    };
    let about = |regarding: ObjectReference, related: Option<ObjectReference>| {
        let prefix = match related {
            Some(_) => format!(
                "Incident {}: pod {}: ",
                incident.name_any(),
                spec.subject.name
            ),
            None => format!("pod {}: ", spec.subject.name),
        };
        EventText {
            id: occurred.id(incident),
            since: occurred.since,
            reason: EventReason::of(occurred.transition),
            regarding,
            related,
            note: plain(&(prefix + message), limits::EVENT_NOTE_BYTES_MAX),
        }
    };
    let others = [Some(pod), run].into_iter().flatten();
    std::iter::once(about(itself.clone(), None))
        .chain(others.map(|object| about(object, Some(itself.clone()))))
        .collect()
}

/// The Events about a run's conditions.
#[must_use]
pub(crate) fn run_events(run: &AgentRun) -> Vec<EventText> {
    let conditions = run.status.as_ref().map_or(&[][..], |s| &s.conditions);
    let of = |type_: AgentRunCondition, reasons: &[Reason], event: EventReason| {
        let condition = condition_of(conditions, type_.name())?;
        let matches = condition.status != "True"
            && reasons
                .iter()
                .any(|reason| reason.name() == condition.reason);
        let since = condition.last_transition_time.0;
        matches.then(|| EventText {
            id: format!(
                "{}-{}-{}-{}",
                run.uid().unwrap_or_default(),
                type_.name(),
                condition.reason,
                since.as_second()
            ),
            since,
            reason: event,
            regarding: run.object_ref(&()),
            related: None,
            note: plain(&condition.message, limits::EVENT_NOTE_BYTES_MAX),
        })
    };
    let stale = [
        Reason::FlowsStale,
        Reason::AnswersNotShown,
        Reason::MetricsStale,
        Reason::EventsLost,
    ];
    [
        of(
            AgentRunCondition::SignalsFresh,
            &stale,
            EventReason::SignalsStale,
        ),
        of(
            AgentRunCondition::NetworkGuarded,
            &[Reason::UnionWidened],
            EventReason::GuardrailWidened,
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}
