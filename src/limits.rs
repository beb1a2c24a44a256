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

/// Latest second since the Unix epoch that counts as a time: 2100-01-01. A record from beyond it
/// would carry the engine's event time away from every later record. The earliest is 0.
pub const EVENT_SECONDS_MAX: i64 = 4_102_444_800;

// --- sources and checkpoints -----------------------------------------------------------------

// --- attribution -----------------------------------------------------------------------------

// --- detection -------------------------------------------------------------------------------

// One busy pod: contacts 2 x 512 buckets x 33 B = 33 KiB, DNS answers 2 x 512 x 19 B = 19 KiB,
// walks 2 x 48 x 300 B = 28 KiB, pending 128 x 40 B = 5 KiB, spread 2 x 128 x 20 B = 5 KiB,
// mining 16 x 100 B + 64 x 50 B = 5 KiB: at most 96 KiB. A quiet one holds a few entries: 2 KiB.

/// Contacts that one generation of a pod's memory holds; two generations are kept. 448 is 7/8 of
/// 512, the load at which a hash table of 512 buckets would grow.
pub const CONTACTS_GENERATION_MAX: usize = 448;

/// Addresses from DNS answers that one generation of a pod's memory holds.
pub const DNS_GENERATION_MAX: usize = 448;

/// Contacts of a pod that wait for an answer. More than twice the failures that a quarantine
/// takes, so a scan faster than this is judged from the part that fits.
pub const PENDING_MAX: usize = 128;

/// Horizontal walks per pod, and as many vertical ones. A target that gets more than 1/48 of a
/// pod's failed contacts always has a walk (see `detect::walk`). More than the 35 failures that a
/// quarantine takes: a scan of fewer ports than that has a horizontal walk for each of them, and
/// one of more ports makes the vertical walk of each host cross.
pub const WALKS_MAX: usize = 48;

/// Contacts that are remembered, per pod and transport, to tell peer-to-peer traffic from a scan.
pub const SPREAD_MAX: usize = 128;

/// Pool destinations of a pod whose sessions are followed.
pub const POOL_SESSIONS_MAX: usize = 16;

/// Addresses of a pod that are known to be a pool's from a DNS answer or a TLS name.
pub const POOL_ADDRESSES_MAX: usize = 64;

/// Pods that one engine follows: 16,384 x 96 KiB = 1.5 GiB if every pod were busy, 32 MiB if all
/// are quiet. A larger cluster runs one engine per node, where the kubelet's limit is 110 pods.
pub const PODS_MAX: usize = 16_384;

/// Nodes whose losses one engine remembers. Kubernetes is tested up to 5,000 nodes.
pub const NODES_MAX: usize = 8_192;

/// Entries of all pool lists together. Public lists have up to some 10,000; 100,000 names of 40
/// bytes are some 8 MiB.
pub const POOL_ENTRIES_MAX: usize = 100_000;

/// Unusable lines of a pool list that are reported.
pub const POOL_PROBLEMS_MAX: usize = 20;

const _: () = assert!(
    PENDING_MAX < CONTACTS_GENERATION_MAX,
    "what waits must not be forgotten"
);
const _: () = assert!(WALKS_MAX > 35, "see WALKS_MAX");

// --- replay ----------------------------------------------------------------------------------

/// Files of one capture that are merged by time; each holds one line in memory.
pub const MERGE_FILES_MAX: usize = 64;

/// Captures of one call.
pub const CAPTURES_MAX: usize = 10_000;

/// Subjects that the text output shows per capture, so that a capture fits on a screen: one with
/// a finding takes some 7 lines.
pub const SUBJECTS_SHOWN_MAX: usize = 6;

/// Subjects without a finding that the text output shows per capture: those nearest to one.
pub const CLEAN_SUBJECTS_SHOWN_MAX: usize = 2;

/// Examples that the text output shows per finding.
pub const EXAMPLES_SHOWN_MAX: usize = 3;

// --- guardrails ------------------------------------------------------------------------------

// --- response --------------------------------------------------------------------------------

// --- cluster and controller ------------------------------------------------------------------
