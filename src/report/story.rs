//! The parts of a report: plain values with cleaned texts, in reading order.
//!
//! As JSON this is a contract: keys may be added, never removed. Some keys therefore differ from the names of the fields.

use jiff::Timestamp;
use serde::{Serialize, Serializer};

/// The content of a report.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Story {
    /// When the report was made.
    pub generated: Moment,
    /// The Incident.
    pub incident: ObjectName,
    /// When the Incident was created.
    pub opened: Option<Moment>,
    /// What happened, in a sentence.
    pub headline: String,
    /// The phase.
    #[serde(rename = "stance")]
    pub phase: Phase,
    /// The phase in words.
    #[serde(rename = "stanceTitle")]
    pub phase_title: String,
    /// The actions and their result, in one or two sentences.
    pub summary: String,
    /// The conditions Detected, Contained, Verified and Closed.
    pub answers: Vec<Answer>,
    /// The AgentRun.
    pub run: Option<String>,
    /// The state of the AgentRun.
    pub run_note: Option<String>,
    /// The pod.
    pub pod: PodPart,
    /// What to do next.
    pub next: Vec<NextStep>,
    /// The evidence, strongest first.
    pub evidence: Vec<ReportedFinding>,
    /// What happened, oldest first.
    pub timeline: Vec<Event>,
    /// Destinations of the example contacts.
    pub targets: Targets,
    /// The network policies that select the pod.
    pub policies: Policies,
    /// Fields that a release restores.
    pub restore: Vec<RestorePart>,
    /// The run's identifiers in the training system.
    pub trace: Vec<Pair>,
    /// Techniques of ATT&CK and ATLAS.
    pub techniques: Vec<Technique>,
    /// What the report cannot show.
    #[serde(rename = "unknown")]
    pub caveats: Vec<String>,
}

/// A time, written as UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(Timestamp);

impl Moment {
    /// This time.
    #[must_use]
    pub const fn new(time: Timestamp) -> Self {
        Self(time)
    }

    /// RFC 3339, for programs.
    #[must_use]
    pub fn iso(self) -> String {
        self.0.to_string()
    }

    /// The day.
    #[must_use]
    pub fn day(self) -> String {
        self.0.strftime("%Y-%m-%d").to_string()
    }

    /// The time of day, with tenths where there are any.
    #[must_use]
    pub fn clock(self) -> String {
        let form = if self.0.subsec_nanosecond() == 0 {
            "%H:%M:%S"
        } else {
            "%H:%M:%S%.1f"
        };
        self.0.strftime(form).to_string()
    }

    /// Microseconds since the Unix epoch.
    #[must_use]
    pub fn micros(self) -> i64 {
        self.0.as_microsecond()
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// A time after the first event, precise enough to distinguish events in quick succession.
#[must_use]
pub(super) fn offset(micros: i64) -> String {
    let micros = micros.max(0);
    let seconds = micros / 1_000_000;
    let (minutes, hours) = (seconds / 60, seconds / 3_600);
    match seconds {
        0..60 => format!("{seconds}.{} s", (micros / 100_000) % 10),
        60..3_600 => format!("{minutes}:{:02}", seconds % 60),
        3_600..172_800 => format!("{hours}:{:02}:{:02}", minutes % 60, seconds % 60),
        _ => format!("{} d {} h", hours / 24, hours % 24),
    }
}

/// A number with a noun in singular or plural.
#[must_use]
pub(super) fn counted(count: i64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// Namespace and name of an object.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectName {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// The phase of an Incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Phase {
    /// Contained, and the log proves that the traffic stopped.
    Proven,
    /// Contained, and no log proves yet that the traffic stopped.
    Unproven,
    /// Contained, and the log still shows traffic.
    Survives,
    /// Not contained, although evidence requires it.
    Uncontained,
    /// Not contained, and no evidence requires it.
    Watched,
    /// A human's decision is being carried out.
    Ending,
    /// A human closed it.
    Closed,
}

impl Phase {
    /// In words.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Proven => "Contained and verified",
            Self::Unproven => "Contained, verification pending",
            Self::Survives => "Traffic continues",
            Self::Uncontained => "Not contained",
            Self::Watched => "Recorded, no action",
            Self::Ending => "A human decided",
            Self::Closed => "Closed",
        }
    }

    /// A symbol beside the words, so that the meaning does not depend on colour.
    #[must_use]
    pub const fn sign(self) -> &'static str {
        match self {
            Self::Proven => "✓",
            Self::Unproven => "…",
            Self::Survives | Self::Uncontained => "!",
            Self::Watched => "○",
            Self::Ending => "→",
            Self::Closed => "■",
        }
    }

    /// Urgency: `good`, `wait`, `bad` or `calm`.
    #[must_use]
    pub const fn tone(self) -> &'static str {
        match self {
            Self::Proven => "good",
            Self::Unproven | Self::Ending => "wait",
            Self::Survives | Self::Uncontained => "bad",
            Self::Watched | Self::Closed => "calm",
        }
    }
}

/// One condition as a question with an answer.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(
    clippy::struct_field_names,
    reason = "they are the keys of the JSON form"
)]
pub struct Answer {
    /// The condition.
    pub question: String,
    /// `yes`, `no` or `unknown`.
    pub answer: String,
    /// `good`, `wait`, `bad` or `calm`.
    pub tone: String,
    /// The reason.
    pub reason: String,
    /// The message.
    pub sentence: String,
    /// When the condition took its status.
    pub since: Option<Moment>,
}

/// The pod and its owner.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodPart {
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// Node.
    pub node: Option<String>,
    /// Addresses at the finding.
    pub addresses: Vec<String>,
    /// Its current state.
    pub now: String,
    /// The object that owns it.
    pub owner: Option<String>,
    /// The Incident on its quarantine label.
    pub quarantine: Option<String>,
    /// When it was captured into the Incident.
    pub captured: Option<Moment>,
}

/// One step to take.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NextStep {
    /// The step.
    pub title: String,
    /// When to take it, or why.
    pub why: String,
    /// The command for it, if there is one.
    pub command: Option<String>,
}

/// The evidence of one observer for one signature.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReportedFinding {
    /// The observer.
    pub node: String,
    /// The signature's name in the API.
    pub signature: String,
    /// The signature in words.
    pub title: String,
    /// `Alert` or `Quarantine`.
    pub severity: String,
    /// Whether the evidence leads to no action, because of the mode.
    pub observe_only: bool,
    /// Score in nats.
    pub score: f64,
    /// Threshold in nats.
    pub threshold: f64,
    /// First contact that counts.
    pub first: Moment,
    /// Last contact that counts.
    pub last: Moment,
    /// Contacts that count.
    pub contacts: i64,
    /// The observation.
    pub summary: String,
    /// Why it is a finding.
    pub why: Vec<String>,
    /// Evidence against it.
    pub against: Vec<String>,
    /// The score over time.
    pub course: Vec<CoursePoint>,
    /// Example contacts.
    pub examples: Vec<Contact>,
}

/// The score at one time.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CoursePoint {
    /// When.
    pub time: Moment,
    /// Score in nats.
    pub score: f64,
    /// Threshold in nats.
    pub threshold: f64,
    /// Contacts that counted until then.
    pub contacts: i64,
}

/// One example contact.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Contact {
    /// When.
    pub time: Moment,
    /// Address.
    pub address: String,
    /// Name, where one is known.
    pub name: Option<String>,
    /// Port and protocol, as `tcp/22`.
    pub service: String,
    /// The outcome.
    pub outcome: String,
}

/// The kind of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum EventKind {
    /// An observation in a log.
    Seen,
    /// An action.
    Done,
    /// An action that failed, or traffic after the isolation.
    Failed,
    /// A change of a condition.
    Condition,
    /// A human's decision.
    Human,
}

impl EventKind {
    /// In a word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Seen => "log",
            Self::Done => "action",
            Self::Failed => "failure",
            Self::Condition => "state",
            Self::Human => "human",
        }
    }
}

/// One event.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// When.
    pub time: Moment,
    /// The kind.
    pub kind: EventKind,
    /// What happened.
    pub title: String,
    /// More about it.
    pub detail: String,
}

/// Destinations of the example contacts.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Targets {
    /// The kind of the rows: `host` or `block`.
    pub row_is: String,
    /// The columns: services, the most used first.
    pub services: Vec<String>,
    /// The rows.
    pub rows: Vec<TargetRow>,
    /// Contacts in the map.
    pub shown: usize,
    /// Contacts that are not in the map.
    pub left_out: usize,
}

/// A row of the map.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetRow {
    /// Address, or block of addresses.
    pub place: String,
    /// A name of it, where one is known.
    pub name: Option<String>,
    /// Contacts per column: those that failed, and all.
    pub counts: Vec<(usize, usize)>,
}

/// The network policies that select the pod.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Policies {
    /// The policies.
    pub selecting: Vec<PolicyPart>,
    /// A note on how to read them.
    pub note: Option<String>,
}

/// One policy.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyPart {
    /// Name.
    pub name: String,
    /// The purpose of the policy, for example the guardrail of the run.
    pub role: String,
    /// What it allows.
    pub allows: Vec<String>,
    /// Whether it allows more than the policy that restricts the pod.
    pub widens: bool,
}

/// A field that a release restores.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RestorePart {
    /// The object.
    pub object: String,
    /// The field.
    pub field: String,
    /// Its value before.
    pub before: String,
    /// The value that was set.
    pub set: String,
}

/// A name and its value.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pair {
    /// Name.
    pub name: String,
    /// Value.
    pub value: String,
}

/// A technique.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Technique {
    /// Identifier.
    pub id: String,
    /// Name, where it is one that Yellowjack knows.
    pub name: Option<String>,
    /// Address of its description.
    pub address: Option<String>,
}
