//! Every bound of every queue, map, loop and text, with its arithmetic.
//!
//! They are in one place, so that the maximum memory use can be determined in one place. The relations between the
//! bounds are checked at compile time. Nothing here may depend on configuration (INV-3).

mod commands;
mod notify;
mod response;
mod sources;

pub(crate) use commands::*;
pub(crate) use notify::*;
pub(crate) use response::*;
pub use sources::*;

// --- text ------------------------------------------------------------------------------------

/// Longest name that is kept from a log, in bytes. A DNS name has at most 253 (RFC 1035).
pub const NAME_BYTES_MAX: usize = 256;

/// Longest summary that a node agent publishes about its logs, in bytes: two paths and the words between them.
pub(crate) const AGENT_SUMMARY_BYTES_MAX: usize = 600;

/// Addresses that are kept from one DNS answer. Large answers of content delivery networks contain 8 to 16.
pub const DNS_ANSWERS_MAX: usize = 32;

/// Longest key of a pod or run that is accepted from a saved state. That of a pod is its UID with 36 bytes; that of a
/// run starts with a namespace of at most 63.
pub(crate) const KEY_BYTES_MAX: usize = 512;

// --- saved state -----------------------------------------------------------------------------

/// Longest piece of a saved state: a run with 1,024 members of 37 B, 80 walks with up to 128 targets of 3 + 3 B each and
/// 80 B besides, and 1,536 contacts of 8 B is 113 KiB; a busy pod has 40 KiB.
pub(crate) const STATE_PIECE_BYTES_MAX: usize = 256 * 1024;

/// Largest state file: 1,600 pods with the maximum of 40 KiB each; a cluster of 10,000 pods takes about 10 MiB. A
/// larger state is not saved, which is counted and logged. With its successor and [`STATES_ASIDE_MAX`] others the folder takes
/// at most 256 MiB; the chart's `sizeLimit` is above that.
pub(crate) const STATE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Minimum size of one step of a pass, so that the pipeline is blocked for a millisecond or two at a time.
pub const STATE_SLICE_BYTES: usize = 256 * 1024;

/// Pause between two steps of a pass: at most 12.5 MiB a second, and 5 to 10 % of the pipeline's time while one lasts.
pub(crate) const STATE_SLICE_PAUSE: std::time::Duration = std::time::Duration::from_millis(20);

/// Shortest pause between two passes: the time for which a walk can be lost if the log cannot be read again.
pub(crate) const STATE_PAUSE_MIN: std::time::Duration = std::time::Duration::from_secs(2);

/// Average rate at which passes write, in bytes per second: a state of 10 MiB is written every 5 s.
pub(crate) const STATE_BYTES_PER_SECOND: u64 = 2 * 1024 * 1024;

/// Longest pause in a log, between the saved state and the first line after a restart, that does not count as a gap: as
/// long as a contact waits for its answer.
pub(crate) const STATE_LOG_GAP_US: i64 = 10_000_000;

/// Chunks that are being written to the disk, each with at most a slice and a piece: 4 x 512 KiB.
pub(crate) const STATE_CHUNKS_MAX: usize = 4;

/// Findings for the recorder that are saved: all that the recorder and its channel can contain.
pub(crate) const STATE_FINDINGS_MAX: usize = FINDINGS_QUEUE_MAX + FINDINGS_CHANNEL_MAX;

/// How long the last pass may take when the process stops. Kubernetes allows 30 s.
pub(crate) const STATE_LAST_WRITE_MAX: std::time::Duration = std::time::Duration::from_secs(8);

/// Unusable states that are kept beside the one in use.
pub(crate) const STATES_ASIDE_MAX: usize = 2;

// --- log lines -------------------------------------------------------------------------------

/// Longest line that is read, in bytes. The longest real lines seen are 5 KiB (Hubble with L7 and
/// policy lists); 256 KiB leaves a margin and keeps a buffer small.
pub const LINE_BYTES_MAX: usize = 256 * 1024;

// --- findings --------------------------------------------------------------------------------

/// Example contacts in one finding.
pub const EXAMPLES_MAX: usize = 10;

/// Sentences with counter-evidence in one finding.
pub const AGAINST_MAX: usize = 5;

/// Points in the history of an evidence entry; the schema allows as many. A finding is reported again when its
/// contacts double, so 20 points correspond to a million contacts. At 110 bytes each, 64 full entries take
/// 220 KiB of etcd's request limit of 1.5 MiB.
pub(crate) const COURSE_MAX: usize = 32;

// --- decoding --------------------------------------------------------------------------------

/// Latest second since the Unix epoch that is accepted as a time: 2100-01-01. A later record
/// would advance the engine's event time beyond that of all other records. The earliest is 0.
pub const EVENT_SECONDS_MAX: i64 = 4_102_444_800;

/// First packets of a log that wait for the begin of their connection in conntrack, at some 400 bytes, for TCP and for
/// UDP and ICMP together; at most [`PENDING_MAX`] of one address.
pub(crate) const UNCONFIRMED_MAX: usize = 8_192;

/// Connections of a log for which the begin is kept, for 150 s: 437 new ones a second, at some 150 bytes each 10 MB.
/// Beyond that a dropped packet cannot be distinguished from a repeated one, and is ignored.
pub(crate) const CONFIRMED_MAX: usize = 65_536;

/// The same for UDP and ICMP: 218 new ones a second, 5 MB.
pub(crate) const CONFIRMED_DATAGRAMS_MAX: usize = 32_768;

/// Fields in the header of a VPC flow log. Versions 2 to 8 have about 40.
pub(crate) const VPC_FIELDS_MAX: usize = 64;

/// Columns in the header of a Zeek log. `conn` has about 25, and packages add some; a
/// decoder keeps one byte for each.
pub(crate) const ZEEK_COLUMNS_MAX: usize = 128;

// --- attribution -----------------------------------------------------------------------------

/// Pods in the index, including those that have ended. Kubernetes supports 150,000 pods in a cluster;
/// the rest is for pods that ended recently. About 700 bytes each: 140 MiB when full.
pub(crate) const INDEX_PODS_MAX: usize = 200_000;

/// Addresses of one pod at a time. Dual-stack pods have 2.
pub(crate) const POD_ADDRESSES_MAX: usize = 4;

/// Addresses that are kept for one pod, including former ones. The addresses of a pod practically never change.
pub(crate) const POD_HELD_ADDRESSES_MAX: usize = 16;

/// Holders that are kept for one address. An address that is assigned again every 40 s
/// reaches this within the 10 minutes of [`POD_RETENTION_SECONDS`].
pub(crate) const ADDRESS_HOLDERS_MAX: usize = 16;

/// Addresses of nodes: 5,000 nodes with 4 each.
pub(crate) const NODE_ADDRESSES_MAX: usize = 20_000;

/// How long a pod that has ended can still be found, for lines that arrive late.
pub(crate) const POD_RETENTION_SECONDS: i64 = 600;

/// Maximum difference between the clock of a log and the times of the API. The API truncates its times to
/// whole seconds; one more second covers clocks that are synchronised with NTP.
pub(crate) const CLOCK_SKEW_MICROS: i64 = 2_000_000;

/// How far ahead of the wall clock the time of a line, a sample or a report may be to be accepted; a log that is
/// further behind is reported. No synchronised clock is off by that much.
pub const LOG_AHEAD_MAX_MICROS: i64 = 120_000_000;

/// Addresses of a run's pods in the status of its AgentRun; the schema allows as many. With 20 bytes each 80
/// KiB. Contacts with further pods count like those with strangers.
pub(crate) const RUN_ADDRESSES_MAX: usize = 4_096;

/// Shortest time between two changes of that list.
pub(crate) const RUN_ADDRESSES_PAUSE: std::time::Duration = std::time::Duration::from_secs(1);

/// How much later than the pod's address that list may reach a node agent. Lines are read at most
/// [`SIBLING_WAIT`] earlier; the rest is for a slow API server.
pub(crate) const SIBLING_LAG_MICROS: i64 = 30_000_000;

/// How long a failing contact waits for its target to become known while pods of the run have no address yet:
/// the controller observes the address, waits at most [`RUN_ADDRESSES_PAUSE`], and writes.
pub(crate) const SIBLING_WAIT: std::time::Duration = std::time::Duration::from_secs(3);

/// Addresses of pods that ended in the last ten minutes, or are terminating, in the list for node agents: pods that
/// end every 0.6 s. With 36 bytes each 36 KiB. Contacts with further pods count like those with strangers.
pub(crate) const ENDED_PODS_MAX: usize = 1_024;

/// Shortest time between two writes of that list, and how much longer it is for each node agent, each of which receives
/// the list: with 36 KiB at most 18 MB/s leave the API server.
pub(crate) const ENDED_PODS_PAUSE: std::time::Duration = std::time::Duration::from_secs(1);
/// See [`ENDED_PODS_PAUSE`].
pub(crate) const ENDED_PODS_PAUSE_PER_AGENT: std::time::Duration =
    std::time::Duration::from_millis(2);

/// The score of a pod's highest walk, in nats, from which on its failing contacts inside the cluster wait for that list,
/// for [`SIBLING_WAIT`]: three failures of 0.588 nats. So lines of pods without failures do not wait, and what did
/// not wait counts for nothing: a walk of a run counts a pod from four failures on, and a pod's own takes 35.
pub(crate) const ENDED_WAIT_NATS: f64 = 1.7;

/// How long lines of a new pod wait for its run to become known. That takes milliseconds, or a read of the pod's
/// owners; the lines of a pod without a run are delayed by this, once.
pub(crate) const ENROLMENT_WAIT_MICROS: i64 = 3_000_000;

// --- detection -------------------------------------------------------------------------------

// One busy pod: contacts and DNS answers 2 x 2 x 512 slots x 8 B = 16 KiB, walks 2 x 40 x 240 B =
// 19 KiB, pending 128 x 48 B = 6 KiB, spread 2 x 128 x 8 B = 2 KiB, tallies 8 x 350 B = 3 KiB,
// latest failures 16 x 32 B = 0.5 KiB, outage 2 x 5 x 16 B, sessions, names and domains 11 KiB (see
// there), listed pools and those of the starter list 2 x 64 x 50 B = 6 KiB, a catalogue of pools 1.5 KiB:
// at most 66 KiB. A quiet one holds a few entries: 2 KiB. A
// run beside its pods: contacts 2 x 1,024 slots x 8 B = 16 KiB, walks 2 x 40 x (170 + 128 x 4 B) =
// 53 KiB, spread and failures 3 KiB, members 1,024 x 16 B = 16 KiB: at most 88 KiB.

/// Contacts in one generation of a pod's cache; two generations are kept. 384 is 3/4 of
/// 512, the load at which a table of 512 slots would grow.
pub(crate) const CONTACTS_GENERATION_MAX: usize = 384;

/// Addresses from DNS answers in one generation of a pod's cache.
pub(crate) const DNS_GENERATION_MAX: usize = 384;

/// Slots of a small table of contacts: 64 bytes, a cache line.
pub(crate) const TABLE_SLOTS_MIN: usize = 8;

/// Contacts of a pod that wait for an answer. More than twice the failures that are needed for a
/// quarantine, so a faster scan is detected from the part that fits.
pub(crate) const PENDING_MAX: usize = 128;

/// Contacts of a pod that wait until their log is known to show answers: more than the 35 that are needed for a
/// quarantine.
pub(crate) const UNSHOWN_MAX: usize = 48;

/// Sources of a log for which the latest SYN is kept, where SYN-ACKs are recognised by their flags alone: 24 B
/// each, for twice the pods of a node.
pub(crate) const SYN_SOURCE_SLOTS: usize = 256;

/// Horizontal walks per pod, and as many vertical ones; the same for a run. A target that receives
/// more than 1/40 of a pod's failed contacts always has a walk (see `detect::scan::walk`). More than the
/// 35 failures that are needed for a quarantine: a scan of fewer ports has a horizontal walk for
/// each of them, and in one of more ports the vertical walk of each host crosses the threshold.
pub(crate) const WALKS_MAX: usize = 40;

/// Deleted Incidents of quarantined pods that are created again at once: the cap of quarantines by default.
pub(crate) const LOST_INCIDENTS_MAX: usize = 64;

/// Known targets of a pod that must fail together for an outage. A pod with fewer does not contact 35 new
/// targets in one.
pub(crate) const LOST_TARGETS: usize = 5;

/// Hosts or networks that a walk stores because their answers have paid for failures. Whoever has more of them can let
/// them pay in turn.
pub(crate) const WALK_PAYERS_MAX: usize = 32;

/// Networks of the Internet that are known to answer a pod, where the log has no names: 16 x 8 B. An object store has
/// a handful.
pub(crate) const ANSWERING_NETWORKS_MAX: usize = 16;

/// Failed targets that a pod's walk stores exactly: as many as are needed to cross the threshold.
pub(crate) const WALK_TARGETS_MAX: usize = 36;

/// The same for a run's walk: three times as many, so that pods with too few failures to count,
/// three each, leave space for those that count.
pub(crate) const RUN_WALK_TARGETS_MAX: usize = 128;

/// Contacts in one generation of a run's cache.
pub(crate) const RUN_CONTACTS_GENERATION_MAX: usize = 768;

/// Pods of a run for which failures are recorded at the same time.
pub(crate) const RUN_MEMBERS_MAX: usize = 1_024;

/// Services of a run that are known to be in use. A run has a handful; if there is a port per peer, the
/// least used one is evicted.
pub(crate) const RUN_SERVICES_MAX: usize = 16;

/// Failed contacts that one engine contributes to a run on several nodes: twice the number that a walk of the
/// run stores exactly, because they may belong to several walks. With the answers below and 80
/// bytes each 30 KiB, only for runs with such contacts.
pub(crate) const CONTRIBUTION_FAILED_MAX: usize = 256;

/// Answered contacts that it contributes. An answer weighs as much as 2.7 failures, so these outweigh any
/// walk.
pub(crate) const CONTRIBUTION_ANSWERED_MAX: usize = 128;

/// How long a contact is contributed, in event time. The other nodes keep it in their walks; this
/// is for nodes on which the first pod of the run starts later.
pub(crate) const CONTRIBUTION_KEPT_US: i64 = 21_600_000_000;

/// Runs with state. As many as there may be pods, so that a run with a pod always has an entry.
pub(crate) const RUNS_MAX: usize = PODS_MAX;

/// How long a run without pods is kept, in event time: a Job that starts its pods one after another has
/// pauses between them.
pub(crate) const EMPTY_RUN_KEPT_US: i64 = 86_400_000_000;

/// Tallies per pod, at most 300 bytes each.
pub(crate) const TALLIES_MAX: usize = 8;

/// The latest failed contacts of a pod or run that are kept as examples.
pub(crate) const LATEST_FAILURES_MAX: usize = 16;

/// Contacts that are kept, per pod and transport, to distinguish peer-to-peer traffic from a scan.
pub(crate) const SPREAD_MAX: usize = 128;

/// Sessions of a pod that are tracked, one per target: 16 x 260 B = 4 KiB. A miner has one or two,
/// an application a handful.
pub(crate) const SESSIONS_MAX: usize = 16;

/// Connections of a pod that may become sessions, in logs of packets: 32 x 32 B = 1 KiB.
pub(crate) const SESSION_CANDIDATES_MAX: usize = 32;

/// Targets on ports of pools that are kept to detect a walk through a catalogue of pools. A walk is
/// 8 hosts on 4 ports; new targets evict the oldest: 64 x 24 B = 1.5 KiB.
pub(crate) const CATALOGUE_CONTACTS_MAX: usize = 64;

/// Hosts of a pod for which a name is known: 128 x 8 B = 1 KiB.
pub(crate) const NAMED_HOSTS_MAX: usize = 128;

/// Pool-like names of a pod that are kept for the evidence: 8 x 60 B.
pub(crate) const POOL_LIKE_NAMES_MAX: usize = 8;

/// Registered domains of a pod for which names are counted: 16 x 360 B = 6 KiB when all are busy. A
/// tunnel needs one, and it is the one with the most bytes.
pub(crate) const DNS_DOMAINS_MAX: usize = 16;

/// Addresses of a pod that are known from a DNS answer or a TLS name to belong to a pool.
pub(crate) const POOL_ADDRESSES_MAX: usize = 64;

/// Pods that one engine tracks: 16,384 x 61 KiB = 1.0 GiB if every pod were busy, 32 MiB if all
/// are quiet. A larger cluster runs one engine per node, where the kubelet's limit is 110 pods.
pub(crate) const PODS_MAX: usize = 16_384;

/// Nodes for which one engine keeps losses. Kubernetes is tested up to 5,000 nodes.
pub(crate) const NODES_MAX: usize = 8_192;

/// Logs, by source and node, that one engine distinguishes: several sources over all nodes. 16,384 with
/// 200 bytes each are 3 MiB. Further logs share one entry, which has the losses of all.
pub(crate) const ORIGINS_MAX: usize = 16_384;

/// Sources in a saved state.
pub(crate) const SAVED_SOURCES_MAX: usize = 1_024;

/// Entries of all pool lists together. Public lists have up to some 10,000; 100,000 names of 40
/// bytes are some 8 MiB.
pub(crate) const POOL_ENTRIES_MAX: usize = 100_000;

/// Unusable lines of a pool list that are reported.
pub const POOL_PROBLEMS_MAX: usize = 20;

const _: () = assert!(
    PENDING_MAX < CONTACTS_GENERATION_MAX,
    "waiting contacts must not be evicted"
);
const _: () = assert!(WALKS_MAX > 35, "see WALKS_MAX");
const _: () = assert!(WALK_TARGETS_MAX > 35, "see WALK_TARGETS_MAX");
const _: () = assert!(ORIGINS_MAX <= u16::MAX as usize, "an origin is a u16");
const _: () = assert!(RUN_MEMBERS_MAX <= u16::MAX as usize, "a member is a u16");
const _: () = assert!(RUNS_MAX >= PODS_MAX, "see RUNS_MAX");
const _: () = assert!(
    CONTACT_REPORT_PODS_MAX * 4 >= CONTRIBUTION_FAILED_MAX,
    "see CONTACT_REPORT_PODS_MAX"
);
const _: () = assert!(
    CONTRIBUTION_FAILED_MAX >= RUN_WALK_TARGETS_MAX,
    "a whole walk can be contributed"
);

// --- replay ----------------------------------------------------------------------------------

/// Files of one capture that are open at once and merged by time. Each keeps one line in memory, and a
/// compressed one its window.
pub(crate) const MERGE_FILES_MAX: usize = 64;

/// Files of one log, including rotated and compressed ones: an archive of Zeek logs has 24 a day.
pub(crate) const CHAIN_FILES_MAX: usize = 4_096;

/// First bytes of each file that are kept to recognise a copy of it: 4,096 files take 16 MiB.
pub(crate) const CHAIN_HEAD_BYTES: usize = 4 * 1024;

/// First bytes of a file that are examined for its time and its format.
pub(crate) const PEEK_BYTES: usize = 64 * 1024;

/// Lines among them for which times are compared.
pub(crate) const PEEK_LINES: usize = 64;

/// Targets of one subject without a known outcome that replay counts. A scan needs 35; 16,384 subjects
/// with 40 bytes for each target take 80 MiB at most.
pub(crate) const OPEN_TARGETS_MAX: usize = 128;

/// Files that the text output lists per capture: those without signals first.
pub(crate) const FILES_SHOWN_MAX: usize = 5;

/// The same in Markdown.
pub(crate) const MARKDOWN_FILES_MAX: usize = 50;

/// Skipped files that a message lists.
pub(crate) const LEFT_OUT_SHOWN_MAX: usize = 8;

/// Captures of one call.
pub(crate) const CAPTURES_MAX: usize = 10_000;

/// Largest file of labels, pools, policies or runs: 100,000 pool names of 40 bytes are 4 MB.
pub(crate) const SETUP_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Objects in one policy file. They are compared field by field, and users write dozens.
pub(crate) const MANIFESTS_MAX: usize = 1_000;

/// Lines that the text output takes per capture: a screen.
pub(crate) const SCREEN_LINES_MAX: usize = 40;

/// See [`SCREEN_LINES_MAX`].
pub(crate) const SCREEN_COLUMNS_MAX: usize = 100;

/// Buckets of the timeline of one subject. A sparkline of them fits into a line with its margin, and
/// 16,384 subjects take 16,384 x 80 x 4 B = 5 MiB.
pub(crate) const TIMELINE_BUCKETS_MAX: usize = 80;

/// Subjects without a finding that the text output shows per capture: those closest to one.
pub(crate) const CLEAN_SUBJECTS_SHOWN_MAX: usize = 2;

/// Subjects of one capture that the Markdown output shows with their findings.
pub(crate) const MARKDOWN_SUBJECTS_MAX: usize = 20;

/// Examples that the text output shows per finding.
pub(crate) const EXAMPLES_SHOWN_MAX: usize = 3;

// --- report ----------------------------------------------------------------------------------

/// Entries of evidence, and observations, that a report shows; the schema allows as many.
pub(crate) const REPORT_EVIDENCE_MAX: usize = 64;

/// Conditions that a report shows. Yellowjack sets 4; other components may add theirs.
pub(crate) const REPORT_CONDITIONS_MAX: usize = 16;

/// Network policies of a namespace that a report reads. Namespaces have dozens.
pub(crate) const REPORT_POLICIES_READ_MAX: u32 = 500;

/// Network policies that a report shows.
pub(crate) const REPORT_POLICIES_MAX: usize = 32;

/// Rules of one policy that a report describes.
pub(crate) const REPORT_RULES_MAX: usize = 8;

/// Peers or ports of one rule that a report describes.
pub(crate) const REPORT_PEERS_MAX: usize = 6;

/// Entries of evidence for which a report plots the score.
pub(crate) const REPORT_PLOTS_MAX: usize = 4;

/// Rows of a report's map of targets: a number that is readable at a glance. 64 entries have up to
/// 640 examples.
pub(crate) const TARGET_ROWS_MAX: usize = 12;

/// See [`TARGET_ROWS_MAX`].
pub(crate) const TARGET_COLUMNS_MAX: usize = 12;

// --- guardrails ------------------------------------------------------------------------------

/// Longest quantity that is read, in bytes. The schema allows 32; the largest amount in the API server's
/// canonical form has 20.
pub(crate) const QUANTITY_BYTES_MAX: usize = 64;

/// Ranges that stay blocked within one allowed range. With at most 64 rules of a run and 32 of its
/// policy, and 20 bytes for an IPv4 range (45 for IPv6), a NetworkPolicy stays below 96 × 128 × 48
/// bytes = 576 KiB; the API server accepts 1.5 MiB.
pub(crate) const EXCEPT_MAX: usize = 128;

/// Fields of a template that are named because their GuardrailPolicy does not allow them. A person reads a handful.
pub(crate) const PRIVILEGED_FIELDS_MAX: usize = 16;

/// Names of policies that widen the access of a pod. A person reads a handful; an Incident contains 16.
pub(crate) const WIDENING_NAMES_MAX: usize = 16;

// --- cluster and controller ------------------------------------------------------------------

/// Longest watch, in seconds. Azure's load balancer drops a connection after 240 s without
/// traffic; the client detects a dead watch 5 s after this.
pub(crate) const WATCH_TIMEOUT_S: u32 = 200;

/// Objects on a page of a list. A full pod takes 36 KiB before it is pruned, and four kinds can be listed at the same
/// time: 4 x 100 x 36 KiB = 14 MiB. 20,000 pods take 200 requests.
pub(crate) const WATCH_PAGE: u32 = 100;

/// Longest wait before a failed watch is retried.
pub(crate) const WATCH_RETRY_MAX: std::time::Duration = std::time::Duration::from_secs(5);

/// How long a failed watch counts as failed without further events: longer than the wait
/// (5 s), the connection (5 s) and the response of the API server take.
pub(crate) const WATCH_FAILURE_RETENTION: std::time::Duration = std::time::Duration::from_secs(20);

/// Longest write or read in the response path, in seconds. The API server responds in milliseconds;
/// its own limit for a write is 34 s, too long while a pod is scanning.
pub(crate) const API_TIMEOUT_S: u64 = 5;

/// Shortest lease of the leader. With a shorter one, a slow API server alone would cause a change of leader.
pub(crate) const LEASE_DURATION_MIN: std::time::Duration = std::time::Duration::from_secs(2);

/// Longest lease: if the leader dies, no replica responds to Incidents for this long. A record with a
/// longer duration is treated as having this one.
pub(crate) const LEASE_DURATION_MAX: std::time::Duration = std::time::Duration::from_mins(10);

/// Shortest time between two renewals.
pub(crate) const LEASE_RETRY_MIN: std::time::Duration = std::time::Duration::from_millis(100);

/// Longest name of a holder, in bytes. A pod's name has at most 253.
pub(crate) const LEASE_IDENTITY_BYTES_MAX: usize = 280;

/// How long a new leader waits for its store to contain the Incidents of the API server. An event takes
/// milliseconds; an Incident that is missing after this time cannot be read, and the others must not wait for it.
pub(crate) const CATCH_UP_MAX: std::time::Duration = std::time::Duration::from_secs(5);

/// Incidents on a page when a new leader looks for Incidents that are missing from its store. Metadata only.
pub(crate) const CATCH_UP_PAGE: u32 = 500;

/// Batches that wait until their findings are recorded. One takes under 100 bytes; at the maximum
/// rate of a source of 100 batches a second this covers 11 minutes without an API server.
pub(crate) const UNACKNOWLEDGED_BATCHES_MAX: usize = 65_536;

/// Lines that wait until their pod is known: 1.6 s of the busiest node that was reported
/// (5,000 flows a second), far more than a watch event takes.
pub(crate) const DEFERRED_LINES_MAX: usize = 8_192;

/// Bytes of these lines. A line has about 700.
pub(crate) const DEFERRED_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Findings between the pipeline and the recorder. The pipeline waits when it is full.
pub(crate) const FINDINGS_CHANNEL_MAX: usize = 256;

/// Pods that wait for a reset of their detection state, 100 bytes each. They wait for half a second, and
/// each had an Incident that was closed by a person.
pub(crate) const RESETS_MAX: usize = 4_096;

/// How long it may take until a write of this process appears in a watch. It takes milliseconds; a failed watch
/// recovers within [`WATCH_RETRY_MAX`] and a list.
pub(crate) const STORE_LAG_MAX: std::time::Duration = std::time::Duration::from_secs(15);

/// How soon an object is reconciled again if its stored version was newer than the one used.
pub(crate) const STALE_RETRY: std::time::Duration = std::time::Duration::from_millis(20);

/// Concurrent reconciliations of one kind.
pub(crate) const RECONCILE_CONCURRENCY: u16 = 16;

/// Longest chain of owners that is followed from a pod. The longest real one has 4 (pod, Job,
/// JobSet, TrainJob, and the owner of that).
pub(crate) const OWNER_DEPTH_MAX: usize = 6;

/// Cached owners of owners, at about 300 bytes each: 6 MB. One per Job or group of
/// pods, not one per pod; when the cache is full, it is cleared and the owners are read again.
pub(crate) const OWNERS_CACHED_MAX: usize = 20_000;

/// Objects on a page when the objects of an owner are searched. Metadata only, about 1 KB each.
pub(crate) const OWNED_PAGE: u32 = 500;

/// Objects that such a search reads. A namespace of a large cluster has some thousand Workloads of
/// Kueue; 20 pages take about a second.
pub(crate) const OWNED_OBJECTS_READ_MAX: usize = 10_000;

/// Cached resource names of kinds of owners. Clusters have a few dozen kinds that own pods.
pub(crate) const OWNER_KINDS_MAX: usize = 256;

/// Names of Incidents in the status of a run; the schema allows as many.
pub(crate) const OPEN_INCIDENTS_MAX: usize = 20;

/// Longest wait before a run is reconciled again after an error, in seconds. The waits double from 1 s:
/// this is reached after nine consecutive errors.
pub(crate) const RETRY_WAIT_MAX_S: u64 = 300;

/// ContactReports in memory. One exists per run and node on which pods recently failed on
/// several targets, so few are full: 256 failed and 128 answered contacts of 80 bytes are 30
/// KiB, and 1,024 full ones 30 MiB.
pub(crate) const CONTACT_REPORTS_MAX: usize = 1024;

/// Pods in one ContactReport; the schema allows as many. A pod is included from 4 failures on, and
/// [`CONTRIBUTION_FAILED_MAX`] failures belong to at most 64 such pods.
pub(crate) const CONTACT_REPORT_PODS_MAX: usize = 64;

/// Writes of ContactReports per second by one process, and the burst. A node has up to 110
/// pods, mostly of a few runs.
pub(crate) const CONTACT_REPORTS_PER_SECOND: f64 = 5.0;

/// Shortest time between two writes of one ContactReport. It doubles with each consecutive write up to
/// [`CONTACT_REPORT_PAUSE_MAX`], so a run that continues to fail costs a write in 8 s per node.
pub(crate) const CONTACT_REPORT_PAUSE_MIN: std::time::Duration = std::time::Duration::from_secs(1);

/// See [`CONTACT_REPORT_PAUSE_MIN`].
pub(crate) const CONTACT_REPORT_PAUSE_MAX: std::time::Duration = std::time::Duration::from_secs(8);

/// Malformed objects that are kept so that each version is logged once, at about 200 bytes
/// each. More than a handful means a broken tool; then some are logged again.
pub(crate) const MALFORMED_MAX: usize = 1024;

/// Nodes in one page of a list: about 20 KiB each, so a page temporarily takes 10 MiB.
pub(crate) const NODES_PAGE: u32 = 500;

/// Isolations that were counted last in the latency. An isolation is repeated within seconds, until the store contains
/// it.
pub(crate) const LATENCY_KEYS_MAX: usize = 1024;
