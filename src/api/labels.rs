//! Labels and annotations that Yellowjack sets, and the names of the objects that it makes.
//!
//! Other tools may read them; only Yellowjack writes them. A pod can carry hostile labels, so
//! nothing in the operator trusts one of these without checking owner or UID as well.

/// On pods and guardrail objects: the name of the AgentRun.
pub const RUN: &str = "yellowjack.dev/run";
/// On guardrail objects: the UID of the AgentRun.
pub const RUN_UID: &str = "yellowjack.dev/run-uid";
/// On a pod: it is in quarantine. The value is the name of the Incident. The standing deny
/// selects the pods that have this label, whatever its value.
pub const QUARANTINE: &str = "yellowjack.dev/quarantine";
/// On a pod of a run, on Cilium: the run's cell of the pod, a small number. Pods of different cells have different security
/// identities, so a policy can select the pod without its siblings; see `guardrails::cilium`.
pub const CELL: &str = "yellowjack.dev/cell";
/// On an Incident: the UID of the pod it is about.
pub const POD_UID: &str = "yellowjack.dev/pod-uid";
/// Annotation on the Job of a `template`: when Yellowjack let it run. A Job that has it is never
/// let run again, so that whoever suspends it later is not overruled.
pub const STARTED_AT: &str = "yellowjack.dev/started-at";
/// Annotation on a node agent's Lease: what its sources do.
pub const SIGNALS: &str = "yellowjack.dev/signals";
/// Kubernetes' recommended label for the part of an application.
pub const COMPONENT: &str = "app.kubernetes.io/component";
/// Its value on what node agents make.
pub const NODE_AGENT: &str = "node-agent";
/// Kubernetes' recommended label for the tool that manages an object.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Its value here.
pub const MANAGED_BY_VALUE: &str = "yellowjack";

/// Name of the standing deny: a ClusterNetworkPolicy, or one NetworkPolicy per namespace. Both
/// deny both directions, IPv4 and IPv6 (INV-12).
pub const STANDING_DENY: &str = "yellowjack-quarantine";

/// Every field manager of Yellowjack begins so.
pub const FIELD_MANAGER_PREFIX: &str = "yellowjack/";
