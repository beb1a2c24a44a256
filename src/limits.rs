//! Every bound of every queue, map, loop and text, with its arithmetic.
//!
//! One place, so that "how much memory can it take" has one answer. The relations between the
//! bounds are checked when the crate is built. Nothing here may depend on configuration.

// --- text ------------------------------------------------------------------------------------

/// Longest name that is kept from a log, in bytes. A DNS name has at most 253 (RFC 1035).
pub const NAME_BYTES_MAX: usize = 256;

/// Addresses that are kept from one DNS answer. Large answers of content networks have 8-16.
pub const DNS_ANSWERS_MAX: usize = 32;

// --- log lines -------------------------------------------------------------------------------

/// Longest line that is read, in bytes. The longest real lines seen are 5 KiB (Hubble with L7 and
/// policy lists); 256 KiB leaves room and keeps a buffer small.
pub const LINE_BYTES_MAX: usize = 256 * 1024;

// --- findings --------------------------------------------------------------------------------

/// Example contacts in one finding.
pub const EXAMPLES_MAX: usize = 10;

/// Sentences against a finding.
pub const AGAINST_MAX: usize = 5;

// --- decoding --------------------------------------------------------------------------------

// --- sources and checkpoints -----------------------------------------------------------------

// --- attribution -----------------------------------------------------------------------------

// --- detection -------------------------------------------------------------------------------

// --- replay ----------------------------------------------------------------------------------

// --- guardrails ------------------------------------------------------------------------------

// --- response --------------------------------------------------------------------------------

/// Actions in one Incident's record; the schema holds as many. A whole ladder has 6, a release 3;
/// repeats of the same action share an entry.
pub const ACTIONS_MAX: usize = 32;

/// Things to restore in one Incident; the schema holds as many. One owner and the pods of a run.
pub const RESTORE_MAX: usize = 16;

/// Names of policies in one Incident; the schema holds as many.
pub const WIDENED_BY_MAX: usize = 16;

/// Largest captured pod, in bytes of JSON. Ten Incidents with one each are a fifth of etcd's request
/// limit of 1.5 MiB.
pub const CAPTURE_BYTES_MAX: usize = 32 * 1024;

/// Steps of one reconcile of an Incident. The longest way (isolate, capture, save, suspend,
/// terminate, close) has 6; more means that a step does not change what the plan looks at.
pub const STEPS_MAX: usize = 12;

/// Pods whose traffic is watched for proof of containment. As many as can be quarantined at once
/// by the default cap, 64, and room for a cap that was raised.
pub const WITNESSED_PODS_MAX: usize = 4096;

/// Findings that wait to be written as Incidents. The engine finds at most a few per pod; when the
/// API server is away, the newest of each pod and signature matter, and 4,096 hold a large cluster.
pub const FINDINGS_QUEUE_MAX: usize = 4096;

// --- cluster and controller ------------------------------------------------------------------

/// Longest watch, in seconds. Azure's load balancer drops a silent connection after 240 s without a
/// word; the client notices a dead watch 5 s after this.
pub const WATCH_TIMEOUT_S: u32 = 200;

/// Longest write or read in the response path, in seconds. The API server answers in milliseconds;
/// its own limit for a write is 34 s, too long to wait with a pod that scans.
pub const API_TIMEOUT_S: u64 = 5;

/// Reconcilers of one kind at the same time.
pub const RECONCILE_CONCURRENCY: u16 = 16;

/// Requests to reconcile that wait between a watch and a reconciler. The scheduler behind it holds
/// each object once, so the queue only smooths bursts.
pub const RECONCILE_QUEUE_MAX: usize = 1024;
