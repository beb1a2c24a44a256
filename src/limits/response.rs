//! Limits of the response: of the record of an Incident, of its steps, and of what they read.

/// Actions in the record of one Incident; the schema allows as many. A complete escalation has 6, a release 3;
/// repetitions of the same action share an entry.
pub(crate) const ACTIONS_MAX: usize = 32;

/// Restore entries in one Incident; the schema allows as many. One owner and the pods of a run.
pub(crate) const RESTORE_MAX: usize = 16;

/// Names of policies in one Incident; the schema allows as many.
pub(crate) const WIDENED_BY_MAX: usize = 16;

/// Names of policies in one captured pod; the schema allows as many.
pub(crate) const CAPTURED_POLICIES_MAX: usize = 32;

/// Largest captured pod, in bytes of JSON. Ten Incidents with one each are a fifth of etcd's request
/// limit of 1.5 MiB.
pub(crate) const CAPTURE_BYTES_MAX: usize = 32 * 1024;

/// Steps of one reconciliation of an Incident. The longest escalation (isolate, capture, read, save and suspend
/// of a CronJob and of its Job, terminate) has 8, and a release has a step for each of the 64 pods
/// in quarantine and the 16 restore entries; more means that a step does not change the state that the plan
/// reads.
pub(crate) const STEPS_MAX: usize = 96;

/// Containers of a pod that are throttled: as many as there are restore entries, less 4 for owners.
pub(crate) const THROTTLED_CONTAINERS_MAX: usize = RESTORE_MAX - 4;

/// Pods of one namespace that the circuit breaker counts. More than the 0.5 % of 100,000 pods that it lets pass.
pub(crate) const BREAKER_CROSSINGS_MAX: usize = 1024;

/// Pods of one controller that are remembered from the two seconds around the deletion of a quarantined pod. The
/// controllers of Kubernetes make at most 500 pods at once.
pub(crate) const SIBLINGS_PRESENT_MAX: usize = 1024;

/// How far back the deletion of a quarantined pod may be that was not observed, for example because no controller ran: a pod
/// that its controller has made since then takes its place. Twice as long as another replica takes to become the leader.
pub(crate) const UNSEEN_DELETION_MAX: std::time::Duration = std::time::Duration::from_mins(1);

/// Pods that are monitored for proof of containment. As many as can be quarantined at once
/// with the default cap, 64, and a margin for a higher cap.
pub(crate) const MONITORED_PODS_MAX: usize = 4096;

/// Findings that wait to be written to Incidents. The engine reports at most a few per pod; while the
/// API server is unavailable, the newest of each pod and signature matter, and 4,096 are enough for a large cluster.
pub(crate) const FINDINGS_QUEUE_MAX: usize = 4096;

/// Labels of a security identity of Cilium that are read; Cilium itself takes at most as many as a pod has.
pub(crate) const IDENTITY_LABELS_MAX: usize = 256;

/// Policies of Cilium of each kind that are read. With more, the condition of a run names the kind as not read.
pub(crate) const CILIUM_POLICIES_MAX: usize = 4096;

/// Policies of Cilium in one answer of the API server.
pub(crate) const CILIUM_POLICIES_PAGE: u32 = 250;

/// Security identities that the policy of one Incident selects; the schema allows as many. Two for each cell of a run:
/// pods may have been made before and after a change of their template.
pub(crate) const INTERIM_IDENTITIES_MAX: usize = 32;

/// Length of the text of one of them; the schema allows as many bytes.
pub(crate) const INTERIM_IDENTITY_BYTES_MAX: usize = 4096;

/// Cells of a run on Cilium. A run of as many pods has an identity for each, so the policy of an Incident denies no sibling.
pub(crate) const CELLS_PER_RUN_MAX: usize = 16;

/// Cells in the cluster: a quarter of the 65,535 identities that Cilium has.
pub(crate) const CELLS_IN_CLUSTER_MAX: usize = 16_384;

/// How long the identity of a pod may take to get the quarantine label. The default settings of Cilium take up to 36 s.
pub(crate) const IDENTITY_CHANGE_MAX: std::time::Duration = std::time::Duration::from_mins(1);
