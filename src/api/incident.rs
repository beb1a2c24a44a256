//! Incident: a finding that crossed a line, and everything that was done about it.
//!
//! `spec` contains the evidence, written by each observer under its own field manager, and the
//! human's disposition. `status` belongs to the responder: conditions, actions, and what must be restored.
//! An Incident has no owner, so deleting an AgentRun deletes no record (INV-11). Only the human's
//! disposition reverts what was done (INV-7); what this requires is written before the pod is changed
//! (INV-5).

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{IncidentCondition, Trace, condition_is, condition_of, former, schema};
use crate::model::Severity;

/// A finding that crossed a line, its evidence, and what was done about it.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "yellowjack.dev",
    version = "v1alpha1",
    kind = "Incident",
    plural = "incidents",
    shortname = "inc",
    category = "yellowjack",
    category = "ai",
    namespaced,
    status = "IncidentStatus",
    derive = "PartialEq",
    doc = "A finding that crossed a line, its evidence, and everything that was done about it: the audit record.",
    printcolumn = r#"{"name":"Run","type":"string","jsonPath":".spec.run.name","description":"The AgentRun"}"#,
    printcolumn = r#"{"name":"Pod","type":"string","jsonPath":".spec.subject.name","description":"The pod"}"#,
    printcolumn = r#"{"name":"Signature","type":"string","jsonPath":".spec.evidence[*].signature","description":"What was recognised"}"#,
    printcolumn = r#"{"name":"Contained","type":"string","jsonPath":".status.conditions[?(@.type==\"Contained\")].status","description":"The pod is isolated, suspended or gone"}"#,
    printcolumn = r#"{"name":"Verified","type":"string","jsonPath":".status.conditions[?(@.type==\"Verified\")].status","description":"The traffic was seen to stop"}"#,
    printcolumn = r#"{"name":"Closed","type":"string","jsonPath":".status.conditions[?(@.type==\"Closed\")].status","description":"A human closed it"}"#,
    printcolumn = r#"{"name":"Last-Action","type":"string","jsonPath":".status.actions[-1:].type","description":"The last action"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
// These rules are here and not on the fields: a rule on an optional field does not see its removal.
#[x_kube(
    validation = Rule::new("has(self.run) == has(oldSelf.run) && (!has(self.run) || self.run == oldSelf.run)")
        .message("run is immutable"),
    validation = Rule::new("!has(oldSelf.disposition) || oldSelf.disposition.verdict == 'Confirm' || (has(self.disposition) && self.disposition == oldSelf.disposition)")
        .message("a Release or Terminate is final: a new finding makes a new Incident")
)]
pub struct IncidentSpec {
    /// The AgentRun that the pod belonged to. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunReference>,

    /// The pod that the finding is about. Immutable.
    #[x_kube(validation = Rule::new("self == oldSelf").message("subject is immutable"))]
    pub subject: SubjectReference,

    /// What was seen, one entry per observing node and signature.
    #[serde(default, deserialize_with = "former::evidence")]
    #[schemars(
        length(max = 64),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["observer", "signature"])
    )]
    pub evidence: Vec<EvidenceEntry>,

    /// What was seen of the contained pods since, one entry per node with an agent that reads a log.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["node"])
    )]
    pub observations: Vec<Observation>,

    /// The human's decision. `Release` and `Terminate` are final.
    #[serde(
        default,
        deserialize_with = "former::disposition",
        skip_serializing_if = "Option::is_none"
    )]
    pub disposition: Option<Disposition>,

    /// The run's identifiers of the training side, as they were at the finding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<Trace>,
}

impl Incident {
    /// The conditions of its status; none before the first status.
    #[must_use]
    pub fn conditions(&self) -> &[Condition] {
        self.status
            .as_ref()
            .map_or(&[], |status| &status.conditions)
    }

    /// The condition of this type, if it is set.
    #[must_use]
    pub fn condition(&self, condition: IncidentCondition) -> Option<&Condition> {
        condition_of(self.conditions(), condition.name())
    }

    /// Whether the condition of this type is `True`.
    #[must_use]
    pub fn is(&self, condition: IncidentCondition) -> bool {
        condition_is(self.conditions(), condition.name())
    }

    /// The recorded actions.
    #[must_use]
    pub fn actions(&self) -> &[ActionRecord] {
        self.status.as_ref().map_or(&[], |status| &status.actions)
    }

    /// The original values of changed fields.
    #[must_use]
    pub fn restore(&self) -> &[RestoreEntry] {
        self.status.as_ref().map_or(&[], |status| &status.restore)
    }

    /// Whether a human closed the Incident.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.is(IncidentCondition::Closed)
    }

    /// Whether the Incident is not closed.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.is_closed()
    }

    /// Whether the Incident is open and its pods are contained.
    #[must_use]
    pub fn is_contained(&self) -> bool {
        self.is(IncidentCondition::Contained) && self.is_open()
    }

    /// How far Cilium enforces the isolation, if it manages the network of the pods.
    #[must_use]
    pub fn cilium(&self) -> Option<&CiliumEnforcement> {
        self.status.as_ref()?.cilium.as_ref()
    }

    /// Whether any evidence calls for more than an alert, in a mode that acts.
    #[must_use]
    pub fn is_actionable(&self) -> bool {
        self.spec.evidence.iter().any(EvidenceEntry::is_actionable)
    }

    /// The highest severity in the evidence.
    #[must_use]
    pub fn severity(&self) -> Severity {
        let severities = self.spec.evidence.iter().map(|entry| entry.severity);
        severities.max().unwrap_or(Severity::Alert)
    }

    /// The entry of the highest severity; of several, the one that exceeds its threshold the most.
    #[must_use]
    pub fn worst_evidence(&self) -> Option<&EvidenceEntry> {
        self.spec.evidence.iter().max_by(|a, b| a.compare(b))
    }

    /// The earliest time at which evidence that leads to an action crossed its threshold.
    #[must_use]
    pub fn crossed_at(&self) -> Option<Timestamp> {
        let actionable = self.spec.evidence.iter().filter(|e| e.is_actionable());
        actionable.map(EvidenceEntry::crossed_at).min()
    }

    /// The verdict of the human who decided about it, if one did.
    #[must_use]
    pub fn verdict(&self) -> Option<Verdict> {
        self.spec
            .disposition
            .as_ref()
            .map(|disposition| disposition.verdict)
    }
}

impl EvidenceEntry {
    /// Whether it calls for more than an alert, in a mode that acts.
    #[must_use]
    pub fn is_actionable(&self) -> bool {
        self.severity == Severity::Quarantine && !self.observe_only
    }

    /// The time of the contact with which the score crossed the threshold, as the log recorded it.
    #[must_use]
    pub fn crossed_at(&self) -> Timestamp {
        let is_over = |point: &&HistoryPoint| point.score >= self.threshold;
        let crossed = self.history.iter().find(is_over);
        crossed.map_or(self.last_seen.0, |point| point.time.0)
    }

    /// By severity, then by how far the score exceeds the threshold.
    #[must_use]
    pub fn compare(&self, other: &Self) -> std::cmp::Ordering {
        let excess = |entry: &Self| entry.score / entry.threshold;
        let by_excess = excess(self).total_cmp(&excess(other));
        self.severity.cmp(&other.severity).then(by_excess)
    }
}

/// The AgentRun that a pod belonged to.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RunReference {
    /// Name, in the Incident's namespace.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// UID, so that a later run of the same name is not meant.
    #[schemars(length(min = 1, max = 64))]
    pub uid: String,
}

/// The pod that a finding is about.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SubjectReference {
    /// Name, in the Incident's namespace.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// UID, so that a later pod of the same name is not meant.
    #[schemars(length(min = 1, max = 64))]
    pub uid: String,
    /// Node that the pod ran on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub node: Option<String>,
    /// Addresses of the pod at the finding.
    #[serde(default, rename = "podIPs")]
    #[schemars(length(max = 8))]
    pub pod_ips: Vec<String>,
}

/// What one observer saw of one signature.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct EvidenceEntry {
    /// The node with the log that showed it; if the controller itself read the log, the name of its replica, or
    /// `controller` if it is the only one.
    #[schemars(length(min = 1, max = 253))]
    pub observer: String,
    /// What was recognised: `HorizontalScan`, `VerticalScan`, `Mining`, `ReverseTunnel`,
    /// `DnsTunnel`, `TunnelService`.
    #[schemars(length(min = 1, max = 63))]
    pub signature: String,
    /// `Alert` or `Quarantine`: whether the line of the false-quarantine budget was crossed.
    #[schemars(with = "String", extend("enum" = ["Alert", "Quarantine"]))]
    pub severity: Severity,
    /// Whether the run's mode is Observe: nothing is done to the pod for this entry.
    #[serde(default)]
    pub observe_only: bool,
    /// Log-likelihood score in nats.
    pub score: f64,
    /// The line that the score had to cross, in nats.
    pub threshold: f64,
    /// First contact that counts, as the log recorded it.
    pub first_seen: Time,
    /// Last contact that counts, as the log recorded it.
    pub last_seen: Time,
    /// Distinct contacts that count.
    #[schemars(range(min = 0))]
    pub contacts: i64,
    /// What was seen, in at most two sentences.
    #[schemars(length(max = 512))]
    pub summary: String,
    /// Example contacts.
    #[serde(default)]
    #[schemars(length(max = 10))]
    pub examples: Vec<ExampleFlow>,
    /// Observations that make the finding less likely.
    #[serde(default)]
    #[schemars(length(max = 5), inner(length(max = 512)))]
    pub counter_evidence: Vec<String>,
    /// How the score grew: one point for each time that this entry was written, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub history: Vec<HistoryPoint>,
}

/// How far the evidence was at one time.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct HistoryPoint {
    /// The last contact that counted by then, as the log recorded it.
    pub time: MicroTime,
    /// Distinct contacts that counted by then.
    #[schemars(range(min = 0))]
    pub contacts: i64,
    /// Score in nats.
    pub score: f64,
    /// The line that it had to cross, in nats.
    pub threshold: f64,
}

/// What one node's log showed of the contained pods after the isolation. The controller takes it
/// for proof, or for the opposite.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Observation {
    /// The node that the log belongs to.
    #[schemars(length(min = 1, max = 253))]
    pub node: String,
    /// From when on the pods must be silent, in the log's time.
    pub since: MicroTime,
    /// The newest line of the log, about any pod.
    pub log_time: MicroTime,
    /// The last time that traffic of the pods was seen to pass after `since`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_passed: Option<MicroTime>,
    /// When the agent wrote this, by its own clock.
    pub observed_at: MicroTime,
    /// Whether this log shows connections that were open before the isolation and survive it. If it
    /// does not, its silence proves only that nothing new passes.
    #[serde(default)]
    pub shows_survivors: bool,
}

/// One contact as an example.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ExampleFlow {
    /// When, as the log recorded it.
    pub time: Time,
    /// Target address.
    #[schemars(length(max = 45))]
    pub destination: String,
    /// Target port; 0 where the protocol has none.
    #[schemars(range(min = 0, max = 65535))]
    pub port: i32,
    /// Transport protocol.
    #[schemars(length(max = 8))]
    pub protocol: String,
    /// What became of it.
    #[schemars(length(max = 32))]
    pub outcome: String,
    /// The target's name, where one is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub name: Option<String>,
}

/// The human's word about an Incident.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Disposition {
    /// `Confirm`: it was right, the pod stays contained. `Release`: undo what was done.
    /// `Terminate`: end the run's owner and the pod.
    pub verdict: Verdict,
    /// Who decided.
    #[schemars(length(min = 1, max = 253))]
    pub decided_by: String,
    /// The reason for the decision.
    #[schemars(length(min = 1, max = 1024))]
    pub justification: String,
}

/// What a human decided.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was right; the pod stays contained.
    Confirm,
    /// Undo what was done.
    Release,
    /// End it.
    Terminate,
}

/// What was done about an Incident.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct IncidentStatus {
    /// The generation of the spec that this status refers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Detected, Contained, Verified, Closed.
    #[serde(default)]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// The actions taken, oldest first, with times and results.
    #[serde(default)]
    #[schemars(length(max = 32))]
    pub actions: Vec<ActionRecord>,
    /// What must be restored on release. Written before the change that it undoes.
    #[serde(default, deserialize_with = "former::restore")]
    #[schemars(length(max = 16))]
    pub restore: Vec<RestoreEntry>,
    /// The pod as it was before an action that destroys it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capture: Option<Capture>,
    /// Which pod takes the place of the isolated one once that is deleted. Set with scope `Pod`, where a controller may
    /// make such a pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replacement: Option<Replacement>,
    /// How far Cilium enforces the isolation. Absent where Cilium does not manage the network of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cilium: Option<CiliumEnforcement>,
    /// Policies of others that still let the pod's traffic through.
    #[serde(default)]
    #[schemars(length(max = 16), inner(length(max = 253)))]
    pub widened_by: Vec<String>,
    /// Technique identifiers of MITRE ATT&CK and ATLAS.
    #[serde(default)]
    #[schemars(length(max = 16), inner(length(max = 32)))]
    pub techniques: Vec<String>,
    /// Notifications that were delivered: by transition, the time since when it held. A transition that is not
    /// here is notified again after a restart.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::times")]
    pub notified: BTreeMap<String, Time>,
    /// When the record was closed; it expires some time after. With microseconds: what came before is settled, what
    /// comes after is new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_at: Option<MicroTime>,
}

/// How the pod is recognised that takes the place of an isolated one. It is isolated too: it runs the same code, and the
/// agent may have had the other one deleted.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Replacement {
    /// The controller of the isolated pod, which makes the new one.
    pub controller: ObjectTarget,
    /// When the isolated pod was deleted: the first pod that the controller made from then on takes its place. Absent while
    /// the isolated pod exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<MicroTime>,
}

/// How far Cilium enforces the isolation. Cilium selects pods by their security identity, and a pod with changed labels gets
/// its new identity only after a wait: with Cilium's default settings up to 36 s. Until then a CiliumNetworkPolicy of the
/// Incident denies the identity that the pod has.
// No field is left out where it has no value: the status is written as a merge patch, which keeps what it does not name.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct CiliumEnforcement {
    /// The labels of the identities that the policy of the Incident denies now; empty when there is no such policy.
    #[serde(default)]
    #[schemars(length(max = 32), inner(length(max = 4096)))]
    pub interim_identities: Vec<String>,
    /// Since when a policy denies the identity of every isolated pod.
    #[serde(default)]
    pub denied_since: Option<MicroTime>,
    /// Since when the identity of every isolated pod has the quarantine label, so that the standing deny selects it.
    #[serde(default)]
    pub label_in_force_since: Option<MicroTime>,
}

/// A pod as it was before an action that destroys it.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Capture {
    /// When it was taken.
    pub time: Time,
    /// The network policies that selected the pod.
    #[serde(default)]
    #[schemars(length(max = 32), inner(length(max = 253)))]
    pub selected_by: Vec<String>,
    /// The pod's metadata, spec and status. What may be a credential is withheld, because an Incident has
    /// more readers than a pod: values of environment variables and of HTTP headers, arguments, and commands
    /// after the program. Cut down to names and images where it would be larger than 32 KiB.
    #[schemars(schema_with = "schema::any_object")]
    pub pod: serde_json::Value,
}

/// One action and its result.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ActionRecord {
    /// What was done.
    #[serde(rename = "type")]
    pub kind: ActionKind,
    /// To what.
    pub target: ObjectTarget,
    /// When it ended.
    pub time: Time,
    /// How it ended.
    pub result: ActionResult,
    /// Message of the API server or the operator.
    #[serde(default)]
    #[schemars(length(max = 1024))]
    pub message: String,
}

/// What an action does.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ActionKind {
    /// Report it.
    Alert,
    /// Reduce CPU.
    Throttle,
    /// Keep the pod's spec, status and policies in the Incident.
    Capture,
    /// Label the pod, so that the standing deny selects it.
    Isolate,
    /// Suspend the owner.
    Suspend,
    /// Delete the pod.
    Terminate,
    /// Undo an action.
    Restore,
}

/// How an action ended.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActionResult {
    /// The API server accepted it.
    Succeeded,
    /// It was attempted and failed.
    Failed,
    /// It was not attempted; the message contains the reason.
    Skipped,
}

/// An object by kind and name, in the Incident's namespace.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ObjectTarget {
    /// API version.
    #[schemars(length(max = 253))]
    pub api_version: String,
    /// Kind.
    #[schemars(length(max = 63))]
    pub kind: String,
    /// Name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// UID.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub uid: String,
}

/// A field as it was before Yellowjack changed it.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RestoreEntry {
    /// The object.
    pub target: ObjectTarget,
    /// The field, as a JSON pointer.
    #[schemars(length(min = 1, max = 512))]
    pub field: String,
    /// Its value before; absent where the field was not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::any_value")]
    pub original_value: Option<serde_json::Value>,
    /// The value that Yellowjack set. If the field has another value at release, it was changed
    /// since, and stays as it is.
    #[schemars(schema_with = "schema::any_value")]
    pub applied_value: serde_json::Value,
}

impl ObjectTarget {
    /// A pod.
    #[must_use]
    pub fn pod(name: &str, uid: &str) -> Self {
        Self {
            api_version: "v1".to_owned(),
            kind: "Pod".to_owned(),
            name: name.to_owned(),
            uid: uid.to_owned(),
        }
    }
}
