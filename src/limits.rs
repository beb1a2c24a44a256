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

/// Most bytes that one read takes from a file. Not above [`LINE_BYTES_MAX`], so that only the
/// first line of a batch, which began in an earlier read, can be too long.
pub const READ_BYTES_MAX: usize = 128 * 1024;

/// Batches that wait between a source and its consumer. A batch has at most `LINE_BYTES_MAX +
/// READ_BYTES_MAX` = 384 KiB, so 16 hold 6 MiB; a full queue stops the reader.
pub const BATCH_QUEUE_MAX: usize = 16;

/// First bytes of a file that tell it from another with the same inode. Time stamps differ within
/// the first lines of every log that is read here.
pub const FILE_HEAD_BYTES_MAX: usize = 1024;

/// Fewest equal first bytes that let a file with another inode pass for a copy of a known one.
pub const COPY_HEAD_BYTES_MIN: usize = 64;

/// Files that are followed in one folder. Zeek writes about 30 kinds of log.
pub const FOLLOWED_FILES_MAX: usize = 64;

/// Generations of one rotating file that are open at once: rotation every 0.7 s (10 MB at 10,000
/// flows/s) and a wait of 5 s make 8. With 64 files in a folder at most 1,024 descriptors.
pub const GENERATIONS_MAX: usize = 16;

/// Generations that were read but not yet acknowledged, per file. The queue holds batches of at
/// most [`BATCH_QUEUE_MAX`] of them, and one batch is being worked on.
pub const UNACKNOWLEDGED_GENERATIONS_MAX: usize = BATCH_QUEUE_MAX + 1;

/// Backups of one log that are looked at, the youngest. lumberjack keeps 5, logrotate up to about
/// 30; twice as many are remembered as done, at 150 bytes each: 64 logs take 1.2 MiB.
pub const BACKUPS_MAX: usize = 64;

/// Folder entries that one look at a folder goes through.
pub const FOLDER_ENTRIES_MAX: usize = 8192;

/// Largest checkpoint that is read: 64 logs with 128 backups done and 33 generations at 180 bytes
/// each are 1.8 MiB.
pub const CHECKPOINT_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Pause between two looks at a file that grew lately: adds 2.5 ms on average to the way of a line.
pub const POLL_ACTIVE_MS: u64 = 5;

/// The same for a file at rest: 10 ms on average. Looking every 5 ms took 1 % of a core in a debug
/// build, so that this takes about a quarter of that.
pub const POLL_IDLE_MS: u64 = 20;

/// How long after its last growth a file counts as at rest.
pub const ACTIVE_FOR_MS: u64 = 60_000;

/// Pause between two checks whether a path leads to another file by now.
pub const ROTATION_CHECK_MS: u64 = 40;

/// How long a rotated file is still read after its last growth. logrotate makes the new file
/// before it tells the writer to leave the old one; this covers a slow writer, and delays nothing
/// because the new file is read meanwhile.
pub const ROTATE_WAIT_MS: u64 = 5_000;

/// How long a file that has no name any more is still read after its last growth. Its writer may
/// have it open, and nobody else can read what it writes; but an open file keeps its disk space.
pub const UNLINKED_WAIT_MS: u64 = 60_000;

/// Pause between two looks at a folder for files that are new.
pub const FOLDER_SCAN_MS: u64 = 500;

/// Pause between two checkpoints: what a crash can repeat.
pub const CHECKPOINT_INTERVAL_MS: u64 = 1_000;

/// First and longest pause before a file that cannot be opened is tried again.
pub const OPEN_RETRY_MS: (u64, u64) = (500, 30_000);

const _: () = assert!(READ_BYTES_MAX <= LINE_BYTES_MAX);
const _: () = assert!(COPY_HEAD_BYTES_MIN <= FILE_HEAD_BYTES_MAX);
const _: () = assert!(POLL_ACTIVE_MS <= POLL_IDLE_MS && POLL_IDLE_MS <= ROTATION_CHECK_MS);

// --- attribution -----------------------------------------------------------------------------

/// Pods that the index holds, ended ones included. Kubernetes supports 150,000 pods in a cluster;
/// the rest is room for those that ended lately. About 600 bytes each: 120 MiB when full.
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

// --- detection -------------------------------------------------------------------------------

// --- replay ----------------------------------------------------------------------------------

// --- guardrails ------------------------------------------------------------------------------

// --- response --------------------------------------------------------------------------------

// --- cluster and controller ------------------------------------------------------------------
