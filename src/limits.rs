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
