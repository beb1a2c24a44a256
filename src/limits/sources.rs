//! Bounds of logs, relays and node metrics as sources; a part of `limits`, which re-exports it.

use super::{LINE_BYTES_MAX, PODS_MAX};

// --- sources and checkpoints -----------------------------------------------------------------

/// Maximum number of bytes of one read from a file. Not above [`LINE_BYTES_MAX`], so that only the
/// first line of a batch, which started in an earlier read, can be too long.
pub(crate) const READ_BYTES_MAX: usize = 128 * 1024;

/// Batches that wait between a source and its consumer. A batch has at most `LINE_BYTES_MAX +
/// READ_BYTES_MAX` = 384 KiB, so 16 hold 6 MiB; a full queue stops the reader.
pub const BATCH_QUEUE_MAX: usize = 16;

/// First bytes of a file that distinguish it from another one with the same inode. Timestamps differ within
/// the first lines of every supported log.
pub(crate) const FILE_HEAD_BYTES_MAX: usize = 1024;

/// First bytes of a file that are passed on with its lines if reading starts at a later offset. The
/// header of Zeek's `conn` has 1 KiB, with packages that add columns 4 KiB.
pub(crate) const FILE_HEADER_BYTES_MAX: usize = 8 * 1024;

/// Files of one source for which the decoder is kept: twice those of a folder, because a rotated file is still read
/// while the new one is. About 250 bytes each.
pub(crate) const FILE_DECODERS_MAX: usize = 2 * FOLLOWED_FILES_MAX;

/// Fewest equal first bytes for which a file with another inode counts as a copy of a known one.
pub(crate) const COPY_HEAD_BYTES_MIN: usize = 64;

/// Files that are followed in one folder. Zeek writes about 30 kinds of log.
pub(crate) const FOLLOWED_FILES_MAX: usize = 64;

/// Generations of one rotating file that are open at once: a rotation every 0.7 s (10 MB at 10,000
/// flows/s) and a wait of 5 s give 8. With 64 files in a folder at most 1,024 file descriptors.
pub(crate) const GENERATIONS_MAX: usize = 16;

/// Generations per file that were read but not acknowledged yet. The queue contains batches of at
/// most [`BATCH_QUEUE_MAX`] of them, and one batch is being processed.
pub(crate) const UNACKNOWLEDGED_GENERATIONS_MAX: usize = BATCH_QUEUE_MAX + 1;

/// Backups of one log that are considered, the newest ones. lumberjack keeps 5, logrotate up to about
/// 30; twice as many are kept as done, at 150 bytes each: 64 logs take 1.2 MiB.
pub(crate) const BACKUPS_MAX: usize = 64;

/// Entries that are read in one scan of a folder.
pub(crate) const FOLDER_ENTRIES_MAX: usize = 8192;

/// Largest checkpoint that is read: 64 logs with 128 processed backups and 33 generations at 180 bytes
/// each are 1.8 MiB.
pub(crate) const CHECKPOINT_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Pause between two reads of a file that grew recently: delays a line by 2.5 ms on average.
pub(crate) const POLL_ACTIVE_MS: u64 = 5;

/// The same for an idle file: 10 ms on average. Polling every 5 ms took 1 % of a core in a debug
/// build, so this takes about a quarter of that.
pub(crate) const POLL_IDLE_MS: u64 = 20;

/// How long after it last grew a file counts as idle.
pub(crate) const ACTIVE_FOR_MS: u64 = 60_000;

/// Pause between two checks whether a path now refers to another file.
pub(crate) const ROTATION_CHECK_MS: u64 = 40;

/// How long a rotated file is read after it last grew. logrotate creates the new file
/// before it signals the writer to close the old one; this covers a slow writer, and delays nothing
/// because the new file is read at the same time.
pub(crate) const ROTATE_WAIT_MS: u64 = 5_000;

/// How long a file that no longer has a name is read after it last grew. Its writer may
/// still have it open, and no other process can read what it writes; but an open file occupies disk space.
pub(crate) const UNLINKED_WAIT_MS: u64 = 60_000;

/// Pause between two scans of a folder for new files.
pub(crate) const FOLDER_SCAN_MS: u64 = 500;

/// Pause between two checkpoints: the time for which a crash can repeat lines.
pub(crate) const CHECKPOINT_INTERVAL_MS: u64 = 1_000;

/// First and longest pause before a file that cannot be opened is retried.
pub(crate) const OPEN_RETRY_MS: (u64, u64) = (500, 30_000);

// --- compressed logs -------------------------------------------------------------------------

/// Decompressed size of one compressed log. It is read as a stream, so this bounds time, not memory:
/// a file of a megabyte that expands to a terabyte ends here. A day of 10,000 flows/s is 350 GiB of
/// JSON, rotated by the hour 15 GiB.
pub(crate) const DECOMPRESSED_BYTES_MAX: u64 = 32 * 1024 * 1024 * 1024;

/// Largest window of a zstd frame, which its decoder keeps in memory: that of `--long`, and 16 times
/// what `zstd -19` needs.
pub(crate) const ZSTD_WINDOW_BYTES_MAX: u64 = 128 * 1024 * 1024;

// --- Hubble Relay ----------------------------------------------------------------------------

/// Longest message that is accepted from Relay. A flow has 1 to 5 KiB; the largest message contains every
/// node of the cluster, [`NODES_MAX`] with 64 bytes each: 512 KiB.
pub const RELAY_MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Bytes that Relay may send before we read them. Together with the queue of batches this is all that waits
/// in this process; then Relay's buffers fill up, and it reports what it lost.
pub(crate) const RELAY_WINDOW_BYTES: u32 = 1024 * 1024;

/// Messages that are converted to lines at once.
pub(crate) const RELAY_CHUNK_MAX: usize = 512;

/// Longest wait for a connection, and for the first response on it. Relay reports its nodes immediately.
pub(crate) const RELAY_ANSWER_S: u64 = 30;

/// An idle connection is pinged after the first time, and closed if the second passes without a response.
pub(crate) const RELAY_KEEPALIVE_S: (u64, u64) = (10, 10);

/// First and longest pause before a reconnection to Relay, in milliseconds.
pub(crate) const RELAY_RETRY_MS: (u64, u64) = (500, 30_000);

/// Interval of requests for the status of Relay's nodes. Relay queries each of them.
pub(crate) const RELAY_STATUS_S: u64 = 15;

/// Overlap of the requested time after a reconnection: how late a flow may arrive after others of its node.
pub(crate) const RELAY_OVERLAP_S: i64 = 10;

/// A node without flows for this long no longer determines the time from which flows are requested.
pub(crate) const RELAY_NODE_SILENT_S: i64 = 300;

/// Flows that are kept so that none counts twice: the overlap at 13,000 flows a second, of all
/// nodes together. About 24 bytes each: 3 MiB. Beyond that some count twice.
pub(crate) const RELAY_RECENT_MAX: usize = 131_072;

/// Consecutive flows of a node that can be repeated: Hubble's largest buffer has 65,535.
pub(crate) const RELAY_REPEATED_MAX: usize = 65_536;

/// Largest checkpoint of a relay that is read: [`NODES_MAX`] nodes with 300 bytes each are 2.4 MiB.
pub(crate) const RELAY_CHECKPOINT_BYTES_MAX: u64 = 4 * 1024 * 1024;

const _: () = assert!(RELAY_RETRY_MS.0 <= RELAY_RETRY_MS.1);
const _: () = assert!(RELAY_OVERLAP_S < RELAY_NODE_SILENT_S);

const _: () = assert!(READ_BYTES_MAX <= LINE_BYTES_MAX);
const _: () = assert!(COPY_HEAD_BYTES_MIN <= FILE_HEAD_BYTES_MAX);
const _: () = assert!(POLL_ACTIVE_MS <= POLL_IDLE_MS && POLL_IDLE_MS <= ROTATION_CHECK_MS);

// --- node metrics ----------------------------------------------------------------------------

/// Longest text of a kubelet or a DCGM exporter. A node with 500 pods of 3 containers, 12 series of
/// 150 bytes each, writes 900 KiB; 8 GPUs with 30 fields, 80 KiB.
pub(crate) const METRICS_TEXT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Longest list of the metrics API: [`PODS_MAX`] pods with 2 KiB each, labels included, are 32 MiB.
pub(crate) const METRICS_LIST_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Labels of one series. DCGM has about 15, and pod labels where they are enabled.
pub(crate) const SERIES_LABELS_MAX: usize = 64;

/// Counters of one source that are kept, and read from one response: [`PODS_MAX`] pods with two
/// containers and a total each. About 150 bytes each: 7 MiB.
pub const COUNTERS_MAX: usize = 49_152;

/// Samples of one response: one for each pod that the engine may track, at 250 bytes: 4 MiB.
pub(crate) const SAMPLES_PER_READ_MAX: usize = PODS_MAX;

/// Responses between the scrapers and the pipeline. The pipeline processes one in milliseconds, and
/// one arrives every 15 s; what does not fit is dropped and counted: 8 x 4 MiB.
pub(crate) const SAMPLE_QUEUE_MAX: usize = 8;

/// Sources of node metrics of one process: a kubelet and a DCGM exporter, or the metrics API, or the
/// kubelets of a cluster of a few nodes.
pub(crate) const METRICS_SOURCES_MAX: usize = 32;

/// Longest fetch of node metrics. A kubelet responds within a second; the API server gives the
/// metrics API some seconds.
pub(crate) const SCRAPE_TIMEOUT_S: u64 = 10;

/// How long the last owner of an accelerator is kept. With time-slicing and MPS an exporter may
/// name a different pod on a device in each response; two owners within this time share it.
pub(crate) const DEVICE_OWNER_KEPT_US: i64 = 600_000_000;

/// Accelerators and partitions of them for which the owner is kept per source, at about 200 bytes each. A node
/// has up to 16 devices with up to 8 partitions; a source that covers a cluster of 64 such nodes fits.
pub(crate) const DEVICES_MAX: usize = 8_192;

const _: () = assert!(METRICS_TEXT_BYTES_MAX <= METRICS_LIST_BYTES_MAX);
