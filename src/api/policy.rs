//! GuardrailPolicy: the security team's defaults and ceilings for AgentRuns.
//!
//! An AgentRun can be stricter than its policy, never laxer (INV-13); `guardrails` compares the
//! two. The bounds of the automatic response stand here too (INV-14).

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    EgressRule, IngressRule, Mode, Profile, ResourceDefaults, ResponseAction, ResponseScope,
    SignatureModes, schema,
};

/// Defaults and ceilings for the AgentRuns that name this policy.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "yellowjack.dev",
    version = "v1alpha1",
    kind = "GuardrailPolicy",
    plural = "guardrailpolicies",
    shortname = "gp",
    category = "yellowjack",
    derive = "PartialEq",
    derive = "Default",
    doc = "The security team's defaults and ceilings. An AgentRun can be stricter, never laxer.",
    printcolumn = r#"{"name":"Max-Action","type":"string","jsonPath":".spec.response.maxAction","description":"Highest action of a response, unless the run sets a lower one"}"#,
    printcolumn = r#"{"name":"Scan","type":"string","jsonPath":".spec.detection.modes.scan","description":"Mode for scans"}"#,
    printcolumn = r#"{"name":"Mining","type":"string","jsonPath":".spec.detection.modes.mining","description":"Mode for mining"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct GuardrailPolicySpec {
    /// What AgentRuns may list as reachable.
    #[serde(default)]
    pub network: PolicyNetwork,
    /// What AgentRuns may use.
    #[serde(default)]
    pub resources: PolicyResources,
    /// Detection modes.
    #[serde(default)]
    pub detection: PolicyDetection,
    /// How far a response goes.
    #[serde(default)]
    pub response: PolicyResponse,
    /// What the pods of a run's `template` may be.
    #[serde(default)]
    pub template: PolicyTemplate,
}

/// What AgentRuns may list as reachable.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PolicyNetwork {
    /// Ranges that a run's `cidr` rules must lie within. Left out, any range; empty, none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    #[x_kube(
        validation = Rule::new("self.all(c, isCIDR(c))").message("each entry must be a range such as 203.0.113.0/24"),
        validation = Rule::new("self.all(c, !isCIDR(c) || cidr(c) == cidr(c).masked())")
            .message("no entry may have bits set behind its prefix: write 203.0.113.0/24, not 203.0.113.7/24")
    )]
    pub allowed_cidrs: Option<Vec<CidrText>>,
    /// Names and `*.` patterns that a run's `fqdn` rules must match. Left out, any name; empty,
    /// none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub allowed_fqdns: Option<Vec<FqdnText>>,
    /// Ranges that stay blocked even inside an allowed range, besides the metadata address, node
    /// and cluster ranges.
    #[serde(default)]
    #[schemars(length(max = 64))]
    #[x_kube(
        validation = Rule::new("self.all(c, isCIDR(c))").message("each entry must be a range such as 203.0.113.0/24"),
        validation = Rule::new("self.all(c, !isCIDR(c) || cidr(c) == cidr(c).masked())")
            .message("no entry may have bits set behind its prefix: write 203.0.113.0/24, not 203.0.113.7/24")
    )]
    pub blocked_cidrs: Vec<CidrText>,
    /// Whether a run may list the metadata address, node ranges or cluster ranges by a rule of
    /// its own.
    #[serde(default)]
    pub allow_infrastructure: bool,
    /// Rules that every run of this policy gets besides its own.
    #[serde(default)]
    #[schemars(length(max = 32))]
    pub default_egress: Vec<EgressRule>,
    /// Whether the pods of a run may reach each other. Left out or true, they may unless the run
    /// forbids it; false isolates every pod, and a run that requests more is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_within_run: Option<bool>,
    /// Ranges that the `cidr` rules of a run's `ingress` must lie within. Left out, no range may be
    /// listed: what opens connections into a pod from outside the cluster gets around its egress
    /// rules.
    #[serde(default)]
    #[schemars(length(max = 128))]
    #[x_kube(
        validation = Rule::new("self.all(c, isCIDR(c))").message("each entry must be a range such as 203.0.113.0/24"),
        validation = Rule::new("self.all(c, !isCIDR(c) || cidr(c) == cidr(c).masked())")
            .message("no entry may have bits set behind its prefix: write 203.0.113.0/24, not 203.0.113.7/24")
    )]
    pub allowed_ingress_cidrs: Vec<CidrText>,
    /// Ingress rules that every run of this policy gets besides its own, for example for a metrics
    /// scraper.
    #[serde(default)]
    #[schemars(length(max = 32))]
    pub default_ingress: Vec<IngressRule>,
    /// Names of NetworkPolicies that may allow more than the guard does, in whatever namespace the
    /// run is, and of Cilium's policies with their kind (`CiliumNetworkPolicy/NAME`): the run is Ready with them, and its message names them. They are no excuse in a
    /// quarantine. Whoever may write NetworkPolicies of such a name decides what they allow.
    #[serde(default)]
    #[schemars(length(max = 32), inner(length(min = 1, max = 253)))]
    pub accepted_policies: Vec<String>,
}

/// A range in CIDR form.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(transparent)]
pub struct CidrText(#[schemars(length(min = 3, max = 49))] pub String);

/// A DNS name or a pattern that begins with `*.`.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(transparent)]
pub struct FqdnText(
    #[schemars(
        length(min = 1, max = 253),
        regex(
            pattern = r"^(\*\.)?([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\.)*[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
        )
    )]
    pub String,
);

/// What AgentRuns may use.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.defaultQuota) || !has(self.maxQuota) || self.defaultQuota.all(k, !(k in self.maxQuota) || quantity(self.defaultQuota[k]).compareTo(quantity(self.maxQuota[k])) <= 0)")
    .message("defaultQuota must not exceed maxQuota: every run that states no quota would be refused"))]
pub struct PolicyResources {
    /// The quota of a run that states none. Left out, such a run gets no quota.
    #[serde(default)]
    #[schemars(schema_with = "schema::quantities")]
    pub default_quota: BTreeMap<String, String>,
    /// The most that a run's quota may name, by resource. A resource that is missing here has no
    /// ceiling; one that is here must be in the run's quota and not above it.
    #[serde(default)]
    #[schemars(schema_with = "schema::quantities")]
    pub max_quota: BTreeMap<String, String>,
    /// Requests and limits for containers that state none, where the run gives no defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub defaults: Option<ResourceDefaults>,
}

/// Detection modes.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.modes) || ((!has(self.modes.scan) || {'Disabled': 1, 'Observe': 2, 'Enforce': 3}[self.modes.scan] >= {'Disabled': 1, 'Observe': 2, 'Enforce': 3}[self.minimum]) && (!has(self.modes.mining) || {'Disabled': 1, 'Observe': 2, 'Enforce': 3}[self.modes.mining] >= {'Disabled': 1, 'Observe': 2, 'Enforce': 3}[self.minimum]) && (!has(self.modes.tunnel) || {'Disabled': 1, 'Observe': 2, 'Enforce': 3}[self.modes.tunnel] >= {'Disabled': 1, 'Observe': 2, 'Enforce': 3}[self.minimum]))")
    .message("modes must not be laxer than minimum: every run that states none would be refused"))]
// Ranks come from maps: the server takes indexOf in a list for too dear a rule.
pub struct PolicyDetection {
    /// Modes of the runs that set none. Left out, `Enforce`.
    #[serde(default)]
    pub modes: SignatureModes,
    /// The laxest mode that a run may set. Left out, `Observe`.
    #[serde(default = "default_minimum")]
    pub minimum: Mode,
    /// The profiles that a run may have. `Standard` is always one of them. Left out, all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "set"))]
    pub allowed_profiles: Option<Vec<Profile>>,
}

const fn default_minimum() -> Mode {
    Mode::Observe
}

/// What the pods of a run's `template` may be.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PolicyTemplate {
    /// Which fields a template may set that the Baseline level of the Pod Security Standards forbids. Left out, none: a run
    /// that sets one is refused. The Pod Security level of the namespace applies as well. `hostNetwork` is never allowed.
    #[serde(default)]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "set"))]
    pub allowed_privileges: Vec<PodPrivilege>,
}

/// What a field that the Baseline level forbids gives to a pod.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodPrivilege {
    /// No AppArmor profile: `Unconfined`.
    AppArmor,
    /// Capabilities beyond those that Baseline lists, for example `NET_RAW` or `IPC_LOCK`.
    Capabilities,
    /// `hostIPC`.
    HostIPC,
    /// Volumes of the node: `hostPath`.
    HostPath,
    /// `hostPID`.
    HostPID,
    /// Ports of the node: `hostPort`.
    HostPort,
    /// `windowsOptions.hostProcess`.
    HostProcess,
    /// `privileged`.
    Privileged,
    /// A `host` in a probe or a lifecycle hook, which the kubelet then connects to.
    ProbeHost,
    /// A `procMount` other than `Default`.
    ProcMount,
    /// No seccomp profile: `Unconfined`.
    Seccomp,
    /// An SELinux user or role, or a type that Baseline does not list.
    SELinux,
    /// Sysctls that Baseline does not list.
    Sysctls,
}

impl PodPrivilege {
    /// As a policy lists it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AppArmor => "AppArmor",
            Self::Capabilities => "Capabilities",
            Self::HostIPC => "HostIPC",
            Self::HostPath => "HostPath",
            Self::HostPID => "HostPID",
            Self::HostPort => "HostPort",
            Self::HostProcess => "HostProcess",
            Self::Privileged => "Privileged",
            Self::ProbeHost => "ProbeHost",
            Self::ProcMount => "ProcMount",
            Self::Seccomp => "Seccomp",
            Self::SELinux => "SELinux",
            Self::Sysctls => "Sysctls",
        }
    }
}

/// How far a response goes.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.minAction) || {'Alert': 1, 'Throttle': 2, 'Isolate': 3, 'Suspend': 4, 'Terminate': 5}[self.minAction] <= (has(self.maxAction) ? {'Alert': 1, 'Throttle': 2, 'Isolate': 3, 'Suspend': 4, 'Terminate': 5}[self.maxAction] : 4)")
    .message("minAction must not be above maxAction, which is Suspend where it is left out"))]
pub struct PolicyResponse {
    /// The highest rung of the ladder for runs that set none, and the highest that a run may set.
    /// Left out, `Suspend`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_action: Option<ResponseAction>,
    /// The lowest `maxAction` that a run may set. Left out, `Alert`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_action: Option<ResponseAction>,
    /// The scope of runs that set none. Left out, `Pod`. A run may widen `Pod` to `Run`, and not
    /// narrow `Run` to `Pod`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<ResponseScope>,
}

impl Default for Mode {
    fn default() -> Self {
        default_minimum()
    }
}
