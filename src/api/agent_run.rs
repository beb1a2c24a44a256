//! AgentRun: what an ML team applies, and what it reads to know whether its run is safe.
//!
//! CEL rules here validate one object on its own; what depends on the GuardrailPolicy
//! is checked by `guardrails` and, at admission, by `deploy/admission.yaml`.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DEFAULT_POLICY, schema};

/// An AI-agent run and the guardrails around it.
///
/// Yellowjack attaches network policies and quotas to the pods of the run before they start,
/// watches what they do, and quarantines a pod that scans or mines.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "yellowjack.dev",
    version = "v1alpha1",
    kind = "AgentRun",
    plural = "agentruns",
    shortname = "ar",
    category = "yellowjack",
    category = "ai",
    namespaced,
    status = "AgentRunStatus",
    derive = "PartialEq",
    doc = "An AI-agent run and the guardrails around it: network policy, quota, detection and response.",
    validation = Rule::new("self.metadata.name.size() <= 48")
        .message("metadata.name must have at most 48 characters, so that the names and labels derived from it fit"),
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status","description":"The guardrails are in place and nothing is quarantined"}"#,
    printcolumn = r#"{"name":"Suspicious","type":"string","jsonPath":".status.conditions[?(@.type==\"Suspicious\")].status","description":"A finding is open"}"#,
    printcolumn = r#"{"name":"Quarantined","type":"string","jsonPath":".status.conditions[?(@.type==\"Quarantined\")].status","description":"At least one pod is contained"}"#,
    printcolumn = r#"{"name":"Watched","type":"string","jsonPath":".status.conditions[?(@.type==\"SignalsFresh\")].status","description":"A log shows what the pods do; False: whatever they do is not seen"}"#,
    printcolumn = r#"{"name":"Pods","type":"integer","jsonPath":".status.pods.total","description":"Pods of the run"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].reason","description":"Why Ready is what it is"}"#,
    printcolumn = r#"{"name":"Signals","type":"string","priority":1,"jsonPath":".status.conditions[?(@.type==\"SignalsFresh\")].reason","description":"Why Watched is what it is"}"#,
    printcolumn = r#"{"name":"Policy","type":"string","priority":1,"jsonPath":".spec.policy","description":"The GuardrailPolicy in force"}"#,
    printcolumn = r#"{"name":"Message","type":"string","priority":1,"jsonPath":".status.conditions[?(@.type==\"Ready\")].message","description":"The sentence behind the reason"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.policy == oldSelf.policy").message("policy is immutable: delete the AgentRun and apply a new one"))]
pub struct AgentRunSpec {
    /// The pods that the run covers. Immutable: exactly one of `selector`, `ref` and `template`.
    #[x_kube(validation = Rule::new("self == oldSelf").message("target is immutable: delete the AgentRun and apply a new one"))]
    pub target: Target,

    /// Name of the GuardrailPolicy that sets defaults and ceilings. Where the policy `default`
    /// does not exist, the built-in defaults apply. Immutable.
    #[serde(default = "default_policy")]
    #[schemars(length(min = 1, max = 253))]
    pub policy: String,

    /// What the run may reach and what may reach it. Left out, its pods reach each other and the
    /// cluster's DNS, and nothing else reaches them.
    #[serde(default)]
    pub network: NetworkSpec,

    /// What the run may use.
    #[serde(default)]
    pub resources: ResourcesSpec,

    /// What is normal for this run, and what happens on a finding.
    #[serde(default)]
    pub detection: DetectionSpec,

    /// How far an automatic response may go.
    #[serde(default)]
    pub response: ResponseSpec,

    /// Identifiers that go into every Incident, so that one can be matched with training traces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<Trace>,
}

fn default_policy() -> String {
    DEFAULT_POLICY.to_owned()
}

/// The pods that the run covers: exactly one of the three.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.selector) ? 1 : 0) + (has(self.ref) ? 1 : 0) + (has(self.template) ? 1 : 0) == 1")
    .message("exactly one of selector, ref and template must be set"))]
pub struct Target {
    /// Pods in this namespace that something else owns and these labels select. An empty selector
    /// is refused: it would claim every pod of the namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("(has(self.matchLabels) && self.matchLabels.size() > 0) || (has(self.matchExpressions) && self.matchExpressions.size() > 0)")
        .message("selector must not be empty: it would claim every pod of the namespace"))]
    pub selector: Option<LabelSelector>,

    /// An owner in this namespace (Job, JobSet, RayJob, Sandbox, ...); the run covers the pods
    /// that it owns, directly or through other owners.
    #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<OwnerReferenceTarget>,

    /// A pod template: Yellowjack creates a Job from it, suspended until the guardrails are in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<RunTemplate>,
}

/// An object that owns the pods of the run, directly or through others.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct OwnerReferenceTarget {
    /// API version of the owner, for example `batch/v1`.
    #[schemars(length(min = 1, max = 253))]
    pub api_version: String,
    /// Kind of the owner, for example `Job`.
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// Name of the owner.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// The Job that Yellowjack makes.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.completions) || self.parallelism <= self.completions")
    .message("parallelism must not exceed completions"))]
pub struct RunTemplate {
    /// How many pods run at the same time.
    #[serde(default = "default_parallelism")]
    #[schemars(range(min = 1, max = 10000))]
    pub parallelism: i32,
    /// How many pods must succeed. Left out, the Job is done when one succeeds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub completions: Option<i32>,
    /// How often a failed pod is tried again.
    #[serde(default = "default_backoff_limit")]
    #[schemars(range(min = 0, max = 1000))]
    pub backoff_limit: i32,
    /// The pods.
    pub pod: PodTemplate,
}

const fn default_parallelism() -> i32 {
    1
}

const fn default_backoff_limit() -> i32 {
    6
}

/// Pod labels, annotations and spec.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.labels) || self.labels.all(k, !k.startsWith('yellowjack.dev/'))")
    .message("labels under yellowjack.dev/ are set by Yellowjack alone"))]
pub struct PodTemplate {
    /// Labels of the pods.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::string_map")]
    pub labels: BTreeMap<String, String>,
    /// Annotations of the pods.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::string_map")]
    pub annotations: BTreeMap<String, String>,
    /// The pod spec, as in a Job. `restartPolicy` is `Never` and `automountServiceAccountToken` is `false`
    /// unless set. hostNetwork is refused: no network policy applies to such a pod.
    #[schemars(schema_with = "schema::pod_spec")]
    #[x_kube(validation = Rule::new("!has(self.hostNetwork) || self.hostNetwork == false")
        .message("hostNetwork pods are outside every network policy and cannot be guarded"))]
    pub spec: serde_json::Map<String, serde_json::Value>,
}

/// What the run may reach.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct NetworkSpec {
    /// Whether the pods of this run may reach each other, on every port, over IPv4 and IPv6. Left
    /// out, they may, unless the GuardrailPolicy forbids it. A quarantined pod is cut off from
    /// the others in both directions either way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_within_run: Option<bool>,
    /// What may open connections to the run's pods, besides the run's own pods. Left out, nothing
    /// may.
    #[serde(default)]
    #[schemars(length(max = 32))]
    pub ingress: Vec<IngressRule>,
    /// The allow list. Everything else is denied but the cluster's DNS. The metadata address,
    /// node and cluster ranges stay blocked unless a rule lists them by themselves.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub egress: Vec<EgressRule>,
}

/// One destination that the run may reach: exactly one of `cidr`, `fqdn` and a pod or namespace
/// selector.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.cidr) ? 1 : 0) + (has(self.fqdn) ? 1 : 0) + ((has(self.podSelector) || has(self.namespaceSelector)) ? 1 : 0) == 1")
    .message("exactly one of cidr, fqdn and podSelector/namespaceSelector must be set"))]
pub struct EgressRule {
    /// An IPv4 or IPv6 range in CIDR form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 49))]
    #[x_kube(
        validation = Rule::new("isCIDR(self)").message("cidr must be a range such as 203.0.113.0/24 or 2001:db8::/32"),
        validation = Rule::new("!isCIDR(self) || cidr(self) == cidr(self).masked()")
            .message("cidr must have no bits set behind its prefix: 203.0.113.7/24 would open the whole of 203.0.113.0/24")
    )]
    pub cidr: Option<String>,
    /// A DNS name, or a pattern that begins with `*.`. Refused with a reason where the cluster's
    /// network backend cannot enforce names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 253),
        regex(
            pattern = r"^(\*\.)?([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\.)+[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
        )
    )]
    pub fqdn: Option<String>,
    /// Pods that the labels select; in this namespace, or in those that `namespaceSelector`
    /// selects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_selector: Option<LabelSelector>,
    /// Namespaces that the labels select. An empty selector is refused: it would open every
    /// namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("(has(self.matchLabels) && self.matchLabels.size() > 0) || (has(self.matchExpressions) && self.matchExpressions.size() > 0)")
        .message("namespaceSelector must not be empty: it would open every namespace"))]
    pub namespace_selector: Option<LabelSelector>,
    /// Ports. Left out, every port.
    #[serde(default)]
    #[schemars(length(max = 32))]
    pub ports: Vec<EgressPort>,
}

/// One source that may open connections to the pods of the run: exactly one of `cidr` and a pod or
/// namespace selector.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.cidr) ? 1 : 0) + ((has(self.podSelector) || has(self.namespaceSelector)) ? 1 : 0) == 1")
    .message("exactly one of cidr and podSelector/namespaceSelector must be set"))]
pub struct IngressRule {
    /// An IPv4 or IPv6 range in CIDR form, within the `allowedIngressCidrs` of the GuardrailPolicy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 49))]
    #[x_kube(
        validation = Rule::new("isCIDR(self)").message("cidr must be a range such as 203.0.113.0/24 or 2001:db8::/32"),
        validation = Rule::new("!isCIDR(self) || cidr(self) == cidr(self).masked()")
            .message("cidr must have no bits set behind its prefix: 203.0.113.7/24 would let in the whole of 203.0.113.0/24")
    )]
    pub cidr: Option<String>,
    /// Pods that the labels select; in this namespace, or in those that `namespaceSelector`
    /// selects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_selector: Option<LabelSelector>,
    /// Namespaces that the labels select. An empty selector is refused: it would let in every
    /// namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("(has(self.matchLabels) && self.matchLabels.size() > 0) || (has(self.matchExpressions) && self.matchExpressions.size() > 0)")
        .message("namespaceSelector must not be empty: it would let in every namespace"))]
    pub namespace_selector: Option<LabelSelector>,
    /// Ports of the run's pods. Left out, every port.
    #[serde(default)]
    #[schemars(length(max = 32))]
    pub ports: Vec<EgressPort>,
}

/// A port or a range of ports.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.endPort) || self.endPort >= self.port").message("endPort must not be below port"))]
pub struct EgressPort {
    /// Transport protocol.
    #[serde(default)]
    pub protocol: Protocol,
    /// The port, or the first of a range.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// The last port of a range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub end_port: Option<i32>,
}

/// Transport protocol of a port.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// The name in Kubernetes' own API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        }
    }
}

/// What the run may use.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ResourcesSpec {
    /// Becomes a ResourceQuota.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<QuotaSpec>,
    /// Becomes a LimitRange, so that containers without requests or limits are not refused by the
    /// quota.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub defaults: Option<ResourceDefaults>,
}

/// A quota. Kubernetes' quotas have no label selector: without `priorityClassName` this one counts
/// the whole namespace.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct QuotaSpec {
    /// Amounts by resource name, for example `requests.nvidia.com/gpu: "8"`.
    #[schemars(schema_with = "schema::quantities")]
    #[x_kube(validation = Rule::new("self.size() > 0").message("hard must name at least one resource"))]
    pub hard: BTreeMap<String, String>,
    /// Count only pods of this PriorityClass. The run's pods must have it; otherwise QuotaBound is
    /// False with reason ScopeMatchesNoPods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,
}

/// Requests and limits for containers that state none.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ResourceDefaults {
    /// Default requests by resource name.
    #[serde(default)]
    #[schemars(schema_with = "schema::quantities")]
    pub requests: BTreeMap<String, String>,
    /// Default limits by resource name.
    #[serde(default)]
    #[schemars(schema_with = "schema::quantities")]
    pub limits: BTreeMap<String, String>,
}

/// What is normal for this run, and what happens on a finding.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct DetectionSpec {
    /// The kind of work. A `Crawler` reaches many hosts, and many of them are dead.
    #[serde(default)]
    pub profile: Profile,
    /// What a finding of each signature leads to. Unset ones take the policy's.
    #[serde(default)]
    pub modes: SignatureModes,
}

/// The kind of work that a run does.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// Tool calls, package installs, training.
    #[default]
    Standard,
    /// Reaches many public hosts by name or address, and many of them are dead: failures on the
    /// Internet weigh half. Internal and cluster addresses weigh as ever.
    Crawler,
}

/// A mode per signature.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SignatureModes {
    /// Horizontal and vertical scans.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scan: Option<Mode>,
    /// Mining.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mining: Option<Mode>,
    /// Reverse tunnels, DNS tunnels and tunnel services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<Mode>,
}

/// What a finding leads to. The order is that of strictness.
#[derive(
    JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord,
)]
pub enum Mode {
    /// Nothing; not even an Incident.
    Disabled,
    /// An Incident that records what would have been done.
    Observe,
    /// An Incident, and the response ladder.
    Enforce,
}

/// How far an automatic response may go.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ResponseSpec {
    /// The highest rung of the ladder. Left out, the policy's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_action: Option<ResponseAction>,
    /// Whether a finding about one pod contains that pod or every pod of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<ResponseScope>,
}

/// A rung of the response ladder. The order is that of severity.
#[derive(
    JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord,
)]
pub enum ResponseAction {
    /// Report it: conditions, Incident, events.
    Alert,
    /// Reduce the pod's CPU where it has a CPU limit; its traffic continues.
    Throttle,
    /// Deny all traffic of the pod.
    Isolate,
    /// Suspend the owner, or scale it to zero, when isolation cannot hold. Its other pods go too.
    Suspend,
    /// Delete the pod once its owner is suspended, or cannot be.
    Terminate,
}

/// What a finding about one pod contains.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResponseScope {
    /// The pod.
    #[default]
    Pod,
    /// Every pod of the run.
    Run,
}

/// Identifiers of the training side.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Trace {
    /// Run id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub run: Option<String>,
    /// Episode id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub episode: Option<String>,
    /// Experiment id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub experiment: Option<String>,
}

/// What Yellowjack observed about the run.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AgentRunStatus {
    /// The generation of the spec that this status refers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Accepted, TargetResolved, NetworkGuarded, QuotaBound, SignalsFresh, Suspicious,
    /// Quarantined, Ready, and kstatus' Reconciling and Stalled.
    #[serde(default)]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// The pods that the run covers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<PodsSummary>,
    /// Names of the Incidents that are not closed, at most 20.
    #[serde(default)]
    #[schemars(length(max = 20))]
    pub open_incidents: Vec<String>,
    /// The addresses of the run's pods, for node agents, each of which watches the pods of its own node alone.
    /// Only where there are node agents and the run has pods on several nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_addresses: Option<PodAddresses>,
}

/// The addresses of a run's pods.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PodAddresses {
    /// How many pods have their addresses in the list. Fewer than `pods.total` while pods start.
    #[schemars(range(min = 0))]
    pub pods: i32,
    /// IPv4 and IPv6 addresses, in order. Pods on the network of their node are not among them.
    #[serde(default)]
    #[schemars(length(max = 4096), inner(length(max = 64)))]
    pub addresses: Vec<String>,
}

/// The pods that a run covers.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PodsSummary {
    /// Pods that have not ended.
    pub total: i32,
    /// Those of them that are in quarantine.
    pub quarantined: i32,
}
