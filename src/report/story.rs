//! The story's parts: plain values with clean texts, in the order in which a person reads them.
//!
//! As JSON this is a contract: keys may be added, never taken away.

use jiff::Timestamp;
use serde::{Serialize, Serializer};

/// Everything that a report says.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Story {
    /// When it was told.
    pub generated: Moment,
    /// The Incident.
    pub incident: ObjectName,
    /// When the Incident was made.
    pub opened: Option<Moment>,
    /// What happened, in a sentence.
    pub headline: String,
    /// Where it stands.
    pub stance: Stance,
    /// The same in words.
    pub stance_title: String,
    /// What was done and what came of it, in one or two sentences.
    pub summary: String,
    /// Detected, Contained, Verified, Closed.
    pub answers: Vec<Answer>,
    /// The AgentRun.
    pub run: Option<String>,
    /// What there is to say about the AgentRun.
    pub run_note: Option<String>,
    /// The pod.
    pub pod: PodPart,
    /// What to do next.
    pub next: Vec<NextStep>,
    /// What was seen, and by whom.
    pub evidence: Vec<Judgement>,
    /// What happened, oldest first.
    pub timeline: Vec<Event>,
    /// Where the example contacts went.
    pub targets: Targets,
    /// The network policies that select the pod.
    pub policies: Policies,
    /// What a release sets back.
    pub restore: Vec<RestorePart>,
    /// The run's identifiers of the training side.
    pub trace: Vec<Pair>,
    /// Techniques of ATT&CK and ATLAS.
    pub techniques: Vec<Technique>,
    /// What cannot be known.
    pub unknown: Vec<String>,
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

/// How long after something: finer than a span, so that what follows closely can be told apart.
#[must_use]
pub fn offset(micros: i64) -> String {
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

/// A number and what it counts.
#[must_use]
pub fn counted(count: i64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// An object's place.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectName {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// Where an Incident stands: what a person must know first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Stance {
    /// Contained, and the log proves it.
    Proven,
    /// Contained, and nothing proves it yet.
    Unproven,
    /// Contained, and traffic goes on.
    Survives,
    /// Not contained, and something asked for it.
    Uncontained,
    /// Not contained, and nothing asked for more than a look.
    Watched,
    /// A human's word is being carried out.
    Ending,
    /// A human closed it.
    Closed,
}

impl Stance {
    /// In words.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Proven => "Contained and verified",
            Self::Unproven => "Contained, not proven yet",
            Self::Survives => "Traffic goes on",
            Self::Uncontained => "Not contained",
            Self::Watched => "Recorded, left alone",
            Self::Ending => "A human decided",
            Self::Closed => "Closed",
        }
    }

    /// A sign beside the words, so that colour is not all that tells them apart.
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

    /// How pressing it is: `good`, `wait`, `bad` or `calm`.
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

/// One condition as an answer.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// The condition.
    pub question: String,
    /// `yes`, `no` or `unknown`.
    pub answer: String,
    /// `good`, `wait`, `bad` or `calm`.
    pub tone: String,
    /// Why, as a word.
    pub reason: String,
    /// Why, as a sentence.
    pub sentence: String,
    /// Since when.
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
    /// What became of it.
    pub now: String,
    /// The object that owns it.
    pub owner: Option<String>,
    /// The Incident on its quarantine label.
    pub quarantine: Option<String>,
    /// When a copy of it was put into the Incident.
    pub captured: Option<Moment>,
}

/// One thing to do.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NextStep {
    /// What.
    pub title: String,
    /// When or why.
    pub why: String,
    /// The command, if one does it.
    pub command: Option<String>,
}

/// What one observer saw of one signature.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Judgement {
    /// The observer.
    pub node: String,
    /// The signature's name in the API.
    pub signature: String,
    /// The signature in words.
    pub title: String,
    /// `Alert` or `Quarantine`.
    pub severity: String,
    /// Nothing is done because of this.
    pub observe_only: bool,
    /// Score in nats.
    pub score: f64,
    /// Line in nats.
    pub threshold: f64,
    /// First contact that counts.
    pub first: Moment,
    /// Last contact that counts.
    pub last: Moment,
    /// Contacts that count.
    pub contacts: i64,
    /// What was seen.
    pub summary: String,
    /// Why that is a finding, in plain words.
    pub why: Vec<String>,
    /// What speaks against it.
    pub against: Vec<String>,
    /// How the score grew.
    pub course: Vec<CoursePoint>,
    /// Example contacts.
    pub examples: Vec<Contact>,
}

/// How far a judgement was at one time.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CoursePoint {
    /// When.
    pub time: Moment,
    /// Score in nats.
    pub score: f64,
    /// Line in nats.
    pub threshold: f64,
    /// Contacts that counted by then.
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
    /// What became of it, in a word.
    pub outcome: String,
}

/// What kind of thing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum EventKind {
    /// Something was seen in a log.
    Seen,
    /// Something was done.
    Done,
    /// Something was tried and failed, or traffic went on.
    Failed,
    /// A condition changed.
    Said,
    /// A human decided.
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
            Self::Said => "state",
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
    /// What kind.
    pub kind: EventKind,
    /// What happened.
    pub title: String,
    /// More about it.
    pub detail: String,
}

/// Where the example contacts went.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Targets {
    /// What a row is: `host` or `block`.
    pub row_is: String,
    /// The columns: services, the most used first.
    pub services: Vec<String>,
    /// The rows.
    pub rows: Vec<TargetRow>,
    /// Contacts that the map shows.
    pub shown: usize,
    /// Contacts that are left out of the map.
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
    /// What must be known to read them.
    pub note: Option<String>,
}

/// One policy.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyPart {
    /// Name.
    pub name: String,
    /// Whose it is.
    pub whose: String,
    /// What it lets out and in.
    pub allows: Vec<String>,
    /// It lets more through than what should hold the pod.
    pub widens: bool,
}

/// What a release sets back.
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
    /// Where it is described.
    pub address: Option<String>,
}
