//! Every bound of every queue, map, loop and text, with its arithmetic.
//!
//! One place, so that "how much memory can it take" has one answer. The relations between the
//! bounds are checked when the crate is built. Nothing here may depend on configuration (INV-3).

mod commands;
mod notify;
mod sources;

pub use commands::*;
pub use notify::*;
pub use sources::*;

// --- text ------------------------------------------------------------------------------------

/// Longest name that is kept from a log, in bytes. A DNS name has at most 253 (RFC 1035).
pub const NAME_BYTES_MAX: usize = 256;

/// Longest sentence that a node agent says of its logs, in bytes. Two paths and the words around them.
pub const AGENT_SAYS_BYTES_MAX: usize = 600;

/// Addresses that are kept from one DNS answer. Large answers of content networks have 8-16.
pub const DNS_ANSWERS_MAX: usize = 32;

/// Longest key of a pod or run that is taken from a saved state. A pod's is its UID with 36 bytes, a run's has a
/// namespace of at most 63 before it.
pub const KEY_BYTES_MAX: usize = 512;

// --- saved state -----------------------------------------------------------------------------

/// Longest piece of a saved state: a run with 1,024 members of 37 B, 80 walks with up to 128 targets of 3 + 3 B each and
/// 80 B besides, and 1,536 contacts of 8 B is 113 KiB; a busy pod has 40 KiB.
pub const STATE_PIECE_BYTES_MAX: usize = 256 * 1024;

/// Largest state file. 1,600 pods as busy as can be, with 40 KiB each; a cluster of 10,000 pods takes about 10 MiB. What is
/// larger is not kept, which is counted and logged. With its successor and [`STATES_ASIDE_MAX`] others the folder takes
/// 256 MiB at most; the chart's `sizeLimit` is above that.
pub const STATE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// What one step of a pass writes at least, so that the pipeline is kept for a millisecond or two at a time.
pub const STATE_SLICE_BYTES: usize = 256 * 1024;

/// Pause between two steps of a pass: at most 12.5 MiB a second, and 5 to 10 % of the pipeline's time while one lasts.
pub const STATE_SLICE_PAUSE: std::time::Duration = std::time::Duration::from_millis(20);

/// Shortest pause between two passes: what a walk of a log that cannot be read again can lose.
pub const STATE_PAUSE_MIN: std::time::Duration = std::time::Duration::from_secs(2);

/// Bytes a second that passes write on average: a state of 10 MiB is written every 5 s.
pub const STATE_BYTES_PER_SECOND: u64 = 2 * 1024 * 1024;

/// Longest pause in a log between the saved state and the first line after a restart that is no gap: as long as a
/// contact waits for its answer.
pub const STATE_LOG_GAP_US: i64 = 10_000_000;

/// Chunks on their way to the disk, of a slice and a piece each at most: 4 x 512 KiB.
pub const STATE_CHUNKS_MAX: usize = 4;

/// Findings on their way to the recorder that are kept: all that it and its channel hold.
pub const STATE_FINDINGS_MAX: usize = FINDINGS_QUEUE_MAX + FINDINGS_CHANNEL_MAX;

/// How long the last pass may take when the program stops. Kubernetes gives it 30 s.
pub const STATE_LAST_WRITE_MAX: std::time::Duration = std::time::Duration::from_secs(8);

/// States that could not be used and lie beside the one in use.
pub const STATES_ASIDE_MAX: usize = 2;

// --- log lines -------------------------------------------------------------------------------

/// Longest line that is read, in bytes. The longest real lines seen are 5 KiB (Hubble with L7 and
/// policy lists); 256 KiB leaves room and keeps a buffer small.
pub const LINE_BYTES_MAX: usize = 256 * 1024;

// --- findings --------------------------------------------------------------------------------

/// Example contacts in one finding.
pub const EXAMPLES_MAX: usize = 10;

/// Sentences against a finding.
pub const AGAINST_MAX: usize = 5;

/// Points of an evidence entry's course; the schema holds as many. A finding is news when its
/// contacts double, so 20 points stand for a million contacts. At 110 bytes each, 64 full entries are
/// 220 KiB of etcd's request limit of 1.5 MiB.
pub const COURSE_MAX: usize = 32;

// --- decoding --------------------------------------------------------------------------------

/// Latest second since the Unix epoch that counts as a time: 2100-01-01. A record from beyond it
/// would carry the engine's event time away from every later record. The earliest is 0.
pub const EVENT_SECONDS_MAX: i64 = 4_102_444_800;

/// First packets of a log that wait for the begin of their connection in conntrack, at some 400 bytes, over TCP and over
/// UDP and ICMP together; of one address at most [`PENDING_MAX`].
pub const UNCONFIRMED_MAX: usize = 8_192;

/// Connections of a log whose begin is remembered, for 150 s: 437 new ones a second, at some 150 bytes each 10 MB. With more
/// a dropped packet is not told from a repeated one, and counts for nothing.
pub const CONFIRMED_MAX: usize = 65_536;

/// The same for UDP and ICMP: 218 new ones a second, 5 MB.
pub const CONFIRMED_DATAGRAMS_MAX: usize = 32_768;

/// Fields that the header of a VPC flow log may name. Versions 2 to 8 have about 40.
pub const VPC_FIELDS_MAX: usize = 64;

/// Columns that the header of a Zeek log may name. `conn` has about 25, and packages add some; a
/// decoder keeps one byte for each.
pub const ZEEK_COLUMNS_MAX: usize = 128;

// --- attribution -----------------------------------------------------------------------------

/// Pods that the index holds, ended ones included. Kubernetes supports 150,000 pods in a cluster;
/// the rest is room for those that ended lately. About 700 bytes each: 140 MiB when full.
pub const INDEX_PODS_MAX: usize = 200_000;

/// Addresses of one pod at a time. Dual stack has 2.
pub const POD_ADDRESSES_MAX: usize = 4;

/// Addresses that one pod is remembered to have had. Addresses of a pod practically never change.
pub const POD_HELD_ADDRESSES_MAX: usize = 16;

/// Holders of one address that are remembered. An address that is given out again every 40 s
/// fills this within the 10 minutes of [`POD_RETENTION_SECONDS`].
pub const ADDRESS_HOLDERS_MAX: usize = 16;

/// Addresses of nodes: 5,000 nodes with 4 each.
pub const NODE_ADDRESSES_MAX: usize = 20_000;

/// How long an ended pod can still be found, for lines that come late.
pub const POD_RETENTION_SECONDS: i64 = 600;

/// How far the clock of a log and the times of the API may lie apart. The API cuts its times to
/// whole seconds; one more second covers clocks that NTP keeps.
pub const CLOCK_SKEW_MICROS: i64 = 2_000_000;

/// How far ahead of the clock on the wall a line, a sample or a report may be and still be believed; a log that is
/// further behind is said to be. No clock that is kept at all is off by that much.
pub const LOG_AHEAD_MAX_MICROS: i64 = 120_000_000;

/// Addresses of a run's pods in the status of its AgentRun; the schema holds as many. With 20 bytes each 80
/// KiB. Contacts with the pods beyond count like those with strangers.
pub const RUN_ADDRESSES_MAX: usize = 4_096;

/// Shortest time between two changes of that list.
pub const RUN_ADDRESSES_PAUSE: std::time::Duration = std::time::Duration::from_secs(1);

/// How much later than the pod's address that list may come to a node agent. Lines are not read earlier than
/// [`SIBLING_WAIT`] before; the rest is an API server that is slow.
pub const SIBLING_LAG_MICROS: i64 = 30_000_000;

/// How long a contact that fails waits for its target to become known, while pods of the run have no address yet:
/// the controller sees the address, waits [`RUN_ADDRESSES_PAUSE`] at most, and writes.
pub const SIBLING_WAIT: std::time::Duration = std::time::Duration::from_secs(3);

/// How long lines of a new pod wait for its run to become known. It takes milliseconds, or a look at the pod's
/// owners; a pod of no run is read that much later, once.
pub const ENROLMENT_WAIT_MICROS: i64 = 3_000_000;

// --- detection -------------------------------------------------------------------------------

// One busy pod: contacts and DNS answers 2 x 2 x 512 slots x 8 B = 16 KiB, walks 2 x 40 x 240 B =
// 19 KiB, pending 128 x 48 B = 6 KiB, spread 2 x 128 x 8 B = 2 KiB, tallies 8 x 350 B = 3 KiB,
// latest failures 16 x 32 B = 0.5 KiB, outage 2 x 5 x 16 B, sessions, names and domains 11 KiB (see
// there), listed pools and those of the starter list 2 x 64 x 50 B = 6 KiB, a catalogue of pools 1.5 KiB:
// at most 66 KiB. A quiet one holds a few entries: 2 KiB. A
// run beside its pods: contacts 2 x 1,024 slots x 8 B = 16 KiB, walks 2 x 40 x (170 + 128 x 4 B) =
// 53 KiB, spread and failures 3 KiB, members 1,024 x 16 B = 16 KiB: at most 88 KiB.

/// Contacts that one generation of a pod's memory holds; two generations are kept. 384 is 3/4 of
/// 512, the load at which a table of 512 slots would grow.
pub const CONTACTS_GENERATION_MAX: usize = 384;

/// Addresses from DNS answers that one generation of a pod's memory holds.
pub const DNS_GENERATION_MAX: usize = 384;

/// Slots of a small table of contacts: 64 bytes, a cache line.
pub const TABLE_SLOTS_MIN: usize = 8;

/// Contacts of a pod that wait for an answer. More than twice the failures that a quarantine
/// takes, so a scan faster than this is judged from the part that fits.
pub const PENDING_MAX: usize = 128;

/// Contacts of a pod that wait until their log is seen to show answers: more than the 35 that a
/// quarantine takes.
pub const UNSHOWN_MAX: usize = 48;

/// Sources of a log whose latest SYN is remembered, where SYN-ACKs are told by their flags alone: 24 B
/// each, for twice the pods of a node.
pub const ASKED_SLOTS: usize = 256;

/// Horizontal walks per pod, and as many vertical ones; the same for a run. A target that gets
/// more than 1/40 of a pod's failed contacts always has a walk (see `detect::scan::walk`). More than the
/// 35 failures that a quarantine takes: a scan of fewer ports than that has a horizontal walk for
/// each of them, and one of more ports makes the vertical walk of each host cross.
pub const WALKS_MAX: usize = 40;

/// Known targets of a pod that have to fail together for an outage. A pod with fewer meets no 35 new
/// targets in one.
pub const LOST_TARGETS: usize = 5;

/// Failed targets that a pod's walk knows by heart: as many as make it cross its line.
pub const WALK_TARGETS_MAX: usize = 36;

/// The same for a run's walk: three times as many, so that pods with too few failures to count,
/// three each, leave room for those that count.
pub const RUN_WALK_TARGETS_MAX: usize = 128;

/// Contacts that one generation of a run's memory holds.
pub const RUN_CONTACTS_GENERATION_MAX: usize = 768;

/// Pods of a run on which failures are booked at the same time.
pub const RUN_MEMBERS_MAX: usize = 1_024;

/// Services of a run that are known to be in use. A run has a handful; a port per peer makes the
/// least used one go.
pub const RUN_SERVICES_MAX: usize = 16;

/// Failed contacts that one engine contributes to a run on several nodes: twice what a walk of the
/// run knows by heart, because they may belong to several walks. With the answers below and 80
/// bytes each 30 KiB, kept for runs with such contacts only.
pub const CONTRIBUTION_FAILED_MAX: usize = 256;

/// Answered contacts beside them. An answer weighs as much as 2.7 failures, so these outweigh any
/// walk.
pub const CONTRIBUTION_ANSWERED_MAX: usize = 128;

/// How long a contact is contributed, in event time. The other nodes keep it in their walks; this
/// is for nodes on which the run's first pod starts later.
pub const CONTRIBUTION_KEPT_US: i64 = 21_600_000_000;

/// Runs with state. As many as there may be pods, so that a run with a pod always has its place.
pub const RUNS_MAX: usize = PODS_MAX;

/// How long a run without pods is remembered, in event time: a Job that starts pod after pod has
/// pauses between them.
pub const EMPTY_RUN_KEPT_US: i64 = 86_400_000_000;

/// Tallies per pod, at most 300 bytes each.
pub const TALLIES_MAX: usize = 8;

/// The latest failed contacts of a pod or run that are kept as examples.
pub const LATEST_FAILURES_MAX: usize = 16;

/// Contacts that are remembered, per pod and transport, to tell peer-to-peer traffic from a scan.
pub const SPREAD_MAX: usize = 128;

/// Sessions of a pod that are followed, one per target: 16 x 260 B = 4 KiB. A miner has one or two,
/// an application a handful.
pub const SESSIONS_MAX: usize = 16;

/// Connections of a pod that may become sessions, in logs of packets: 32 x 32 B = 1 KiB.
pub const SESSION_CANDIDATES_MAX: usize = 32;

/// Targets on ports of pools that are remembered to notice a walk through a catalogue of pools. A walk is
/// 8 hosts on 4 ports; what comes after pushes the oldest out: 64 x 24 B = 1.5 KiB.
pub const CATALOGUE_CONTACTS_MAX: usize = 64;

/// Hosts of a pod whose name is known to have been seen: 128 x 8 B = 1 KiB.
pub const NAMED_HOSTS_MAX: usize = 128;

/// Pool-like names of a pod that are kept for the evidence: 8 x 60 B.
pub const TELLING_NAMES_MAX: usize = 8;

/// Registered domains of a pod whose names are counted: 16 x 360 B = 6 KiB when all are busy. A
/// tunnel needs one, and it is the one with the most bytes.
pub const DNS_DOMAINS_MAX: usize = 16;

/// Addresses of a pod that are known to be a pool's from a DNS answer or a TLS name.
pub const POOL_ADDRESSES_MAX: usize = 64;

/// Pods that one engine follows: 16,384 x 61 KiB = 1.0 GiB if every pod were busy, 32 MiB if all
/// are quiet. A larger cluster runs one engine per node, where the kubelet's limit is 110 pods.
pub const PODS_MAX: usize = 16_384;

/// Nodes whose losses one engine remembers. Kubernetes is tested up to 5,000 nodes.
pub const NODES_MAX: usize = 8_192;

/// Logs, by source and node, that one engine tells apart: several sources over all nodes. 16,384 with
/// 200 bytes each are 3 MiB. Those beyond share one entry, which has the losses of all.
pub const ORIGINS_MAX: usize = 16_384;

/// Sources in a saved state.
pub const SAVED_SOURCES_MAX: usize = 1_024;

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

/// Files of one capture that are open at once and merged by time. Each holds one line in memory, and a
/// compressed one its window.
pub const MERGE_FILES_MAX: usize = 64;

/// Files of one log, rotated and compressed ones with it: an archive of Zeek's has 24 a day.
pub const CHAIN_FILES_MAX: usize = 4_096;

/// First bytes of each file that are kept to know a copy of it: 4,096 files take 16 MiB.
pub const CHAIN_HEAD_BYTES: usize = 4 * 1024;

/// First bytes of a file that are looked at for its time and its shape.
pub const PEEK_BYTES: usize = 64 * 1024;

/// Lines among them whose times are compared.
pub const PEEK_LINES: usize = 64;

/// Targets of one subject whose outcome is missing that replay counts. A scan needs 35; 16,384 subjects
/// with 40 bytes for each target take 80 MiB at most.
pub const OPEN_TARGETS_MAX: usize = 128;

/// Files that the text output names per capture: those that gave nothing first.
pub const FILES_SHOWN_MAX: usize = 5;

/// The same in Markdown.
pub const MARKDOWN_FILES_MAX: usize = 50;

/// Files that were passed over that a message names.
pub const LEFT_OUT_SHOWN_MAX: usize = 8;

/// Captures of one call.
pub const CAPTURES_MAX: usize = 10_000;

/// Largest file of labels, pools, policies or runs: 100,000 pool names of 40 bytes are 4 MB.
pub const SETUP_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Objects in one policy file. They are compared field by field, and people write dozens.
pub const MANIFESTS_MAX: usize = 1_000;

/// Lines and columns that the text output takes per capture: a screen.
pub const SCREEN_LINES_MAX: usize = 40;

/// See [`SCREEN_LINES_MAX`].
pub const SCREEN_COLUMNS_MAX: usize = 100;

/// Buckets of one subject's timeline. A sparkline of them fits into a line with its margin, and
/// 16,384 subjects take 16,384 x 80 x 4 B = 5 MiB.
pub const TIMELINE_BUCKETS_MAX: usize = 80;

/// Subjects without a finding that the text output shows per capture: those nearest to one.
pub const CLEAN_SUBJECTS_SHOWN_MAX: usize = 2;

/// Subjects of one capture that the Markdown output shows with their findings.
pub const MARKDOWN_SUBJECTS_MAX: usize = 20;

/// Examples that the text output shows per finding.
pub const EXAMPLES_SHOWN_MAX: usize = 3;

// --- report ----------------------------------------------------------------------------------

/// Entries of evidence, and observations, that a report shows; the schema holds as many.
pub const REPORT_EVIDENCE_MAX: usize = 64;

/// Conditions that a report shows. Yellowjack sets 4; others may add theirs.
pub const REPORT_CONDITIONS_MAX: usize = 16;

/// Network policies of a namespace that a report looks at. Namespaces have dozens.
pub const REPORT_POLICIES_READ_MAX: u32 = 500;

/// Network policies that a report shows.
pub const REPORT_POLICIES_MAX: usize = 32;

/// Rules of one policy that a report puts into words.
pub const REPORT_RULES_MAX: usize = 8;

/// Peers or ports of one rule that a report puts into words.
pub const REPORT_PEERS_MAX: usize = 6;

/// Entries of evidence whose score a report plots.
pub const REPORT_PLOTS_MAX: usize = 4;

/// Rows and columns of a report's map of targets: what one sees at a glance. 64 entries have up to
/// 640 examples.
pub const TARGET_ROWS_MAX: usize = 12;

/// See [`TARGET_ROWS_MAX`].
pub const TARGET_COLUMNS_MAX: usize = 12;

// --- guardrails ------------------------------------------------------------------------------

/// Longest quantity that is read, in bytes. The schema takes 32; the API server's own spelling of
/// the largest amount has 20.
pub const QUANTITY_BYTES_MAX: usize = 64;

/// Ranges that stay blocked inside one allowed range. With at most 64 rules of a run and 32 of its
/// policy, and 20 bytes for an IPv4 range (45 for IPv6), a NetworkPolicy stays below 96 × 128 × 48
/// bytes = 576 KiB, and the API server takes 1.5 MiB.
pub const EXCEPT_MAX: usize = 128;

/// Names of policies that widen a pod. A person reads a handful; an Incident holds 16.
pub const WIDENING_NAMES_MAX: usize = 16;

// --- response --------------------------------------------------------------------------------

/// Actions in one Incident's record; the schema holds as many. A whole ladder has 6, a release 3;
/// repeats of the same action share an entry.
pub const ACTIONS_MAX: usize = 32;

/// Things to restore in one Incident; the schema holds as many. One owner and the pods of a run.
pub const RESTORE_MAX: usize = 16;

/// Names of policies in one Incident; the schema holds as many.
pub const WIDENED_BY_MAX: usize = 16;

/// Names of policies in one captured pod; the schema holds as many.
pub const CAPTURED_POLICIES_MAX: usize = 32;

/// Largest captured pod, in bytes of JSON. Ten Incidents with one each are a fifth of etcd's request
/// limit of 1.5 MiB.
pub const CAPTURE_BYTES_MAX: usize = 32 * 1024;

/// Steps of one reconcile of an Incident. The longest way up (isolate, capture, look, save and suspend
/// of a CronJob and of its Job, terminate) has 8, and one way back has a step for each of the 64 pods
/// in quarantine and the 16 things to restore; more means that a step does not change what the plan
/// looks at.
pub const STEPS_MAX: usize = 96;

/// Containers of a pod that are throttled: as many as there are things to restore, less 4 for owners.
pub const THROTTLED_CONTAINERS_MAX: usize = RESTORE_MAX - 4;

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

/// Objects on a page of a list. A full pod takes 36 KiB before it is pruned, and four kinds can be listed at the same
/// time: 4 x 100 x 36 KiB = 14 MiB. 20,000 pods are 200 requests.
pub const WATCH_PAGE: u32 = 100;

/// Longest wait before a failed watch is tried again.
pub const WATCH_RETRY_MAX: std::time::Duration = std::time::Duration::from_secs(5);

/// How long a failed watch counts as failed when nothing more is heard of it: longer than the wait
/// (5 s), the connection (5 s) and the API server's answer take.
pub const WATCH_FAILURE_STANDS: std::time::Duration = std::time::Duration::from_secs(20);

/// Longest write or read in the response path, in seconds. The API server answers in milliseconds;
/// its own limit for a write is 34 s, too long to wait with a pod that scans.
pub const API_TIMEOUT_S: u64 = 5;

/// Shortest lease of the leader. Below, a slow API server alone would change the leader.
pub const LEASE_DURATION_MIN: std::time::Duration = std::time::Duration::from_secs(2);

/// Longest lease: whoever dies while it holds one leaves nobody to respond for as long. A record that
/// promises more is not believed.
pub const LEASE_DURATION_MAX: std::time::Duration = std::time::Duration::from_mins(10);

/// Shortest time between two renewals.
pub const LEASE_RETRY_MIN: std::time::Duration = std::time::Duration::from_millis(100);

/// Longest name of a holder, in bytes. A pod's name has at most 253.
pub const LEASE_IDENTITY_BYTES_MAX: usize = 280;

/// How long a new leader waits for its store to show Incidents that the API server has. An event takes
/// milliseconds; what is not there after this cannot be read, and the others must not wait for it.
pub const CATCH_UP_MAX: std::time::Duration = std::time::Duration::from_secs(5);

/// Incidents on a page when a new leader looks for what it has not seen. Metadata only.
pub const CATCH_UP_PAGE: u32 = 500;

/// Batches that wait for their findings to be recorded. One takes under 100 bytes; at the source's
/// fastest pace of 100 batches a second this is 11 minutes of an API server that is away.
pub const UNACKNOWLEDGED_BATCHES_MAX: usize = 65_536;

/// Lines that wait for their pod to become known: 1.6 s of the busiest node that was reported
/// (5,000 flows a second), far more than a watch event takes.
pub const DEFERRED_LINES_MAX: usize = 8_192;

/// And their bytes. A line has about 700.
pub const DEFERRED_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Findings between the pipeline and the recorder. The pipeline waits when it is full.
pub const FINDINGS_CHANNEL_MAX: usize = 256;

/// Pods that wait for their detection state to be reset, 100 bytes each. They wait for half a second, and
/// each had an Incident that was closed by hand.
pub const RESETS_MAX: usize = 4_096;

/// How long our own write may take to come through a watch. It takes milliseconds; a watch that failed is back within
/// [`WATCH_RETRY_MAX`] and a list.
pub const STORE_LAG_MAX: std::time::Duration = std::time::Duration::from_secs(15);

/// How soon an object is looked at again whose stored state was newer than ours.
pub const STALE_RETRY: std::time::Duration = std::time::Duration::from_millis(20);

/// Reconcilers of one kind at the same time.
pub const RECONCILE_CONCURRENCY: u16 = 16;

/// Longest chain of owners that is followed from a pod. The longest real one has 4 (pod, Job,
/// JobSet, TrainJob, and what made that).
pub const OWNER_DEPTH_MAX: usize = 6;

/// Owners whose own owner is remembered, at about 300 bytes each: 6 MB. One per Job or cluster of
/// pods, not one per pod; when it is full it starts anew and the owners are asked for again.
pub const OWNERS_CACHED_MAX: usize = 20_000;

/// Objects on a page when it is looked for what somebody owns. Metadata only, about 1 KB each.
pub const OWNED_PAGE: u32 = 500;

/// Objects that are looked at for that. A namespace of a large cluster has some thousand Workloads of
/// Kueue; 20 pages take about a second.
pub const OWNED_LOOKED_AT_MAX: usize = 10_000;

/// Kinds of owners whose resource name is remembered. Clusters have a few dozen that own pods.
pub const OWNER_KINDS_MAX: usize = 256;

/// Names of Incidents in a run's status; the schema holds as many.
pub const OPEN_INCIDENTS_MAX: usize = 20;

/// Longest wait before a run that failed is looked at again, in seconds. The waits double from 1 s:
/// after nine failures in a row this is reached.
pub const RETRY_WAIT_MAX_S: u64 = 300;

/// ContactReports that a process holds. One exists per run and node for which pods failed on
/// several targets lately, so few are full: 256 failed and 128 answered contacts of 80 bytes are 30
/// KiB, and 1,024 full ones 30 MiB.
pub const CONTACT_REPORTS_MAX: usize = 1024;

/// Pods in one ContactReport; the schema holds as many. A pod counts with 4 failures, and
/// [`CONTRIBUTION_FAILED_MAX`] are as many as 64 pods have then.
pub const CONTACT_REPORT_PODS_MAX: usize = 64;

/// Writes of ContactReports per second by one process, and as many at once. A node has up to 110
/// pods, mostly of a few runs.
pub const CONTACT_REPORTS_PER_SECOND: f64 = 5.0;

/// Shortest time between two writes of one ContactReport. It doubles with each write in a row up to
/// [`CONTACT_REPORT_PAUSE_MAX`], so a run that goes on failing costs a write in 8 s per node.
pub const CONTACT_REPORT_PAUSE_MIN: std::time::Duration = std::time::Duration::from_secs(1);

/// See [`CONTACT_REPORT_PAUSE_MIN`].
pub const CONTACT_REPORT_PAUSE_MAX: std::time::Duration = std::time::Duration::from_secs(8);

/// Malformed objects that are remembered, so that each version is said once, at about 200 bytes
/// each. More than a handful means a broken tool; then some are said again.
pub const MALFORMED_MAX: usize = 1024;

/// Nodes in one page of a list: about 20 KiB each, so a page takes 10 MiB for a moment.
pub const NODES_PAGE: u32 = 500;

/// Isolations whose latency was counted last. One is repeated within seconds, while the store does not show it yet.
pub const LATENCY_KEYS_MAX: usize = 1024;
