//! Bounds of the commands for users; re-exported by `limits`.

/// Objects in one page of a list. An Incident has up to 100 KiB, so a page temporarily needs up to 50 MiB,
/// and usually a hundredth of that.
pub(crate) const COMMAND_PAGE: u32 = 500;

/// Objects of one kind that one command reads. The output mentions the limit when it is reached; with more
/// runs than this, a user must query one namespace at a time.
pub(crate) const COMMAND_OBJECTS_MAX: usize = 20_000;

/// Time limit of one read, in seconds: a page of large objects over a slow connection.
pub(crate) const COMMAND_TIMEOUT_S: u64 = 20;

/// Suggested names for one that does not exist.
pub(crate) const SUGGESTIONS_MAX: usize = 3;

/// Pods for which a preview reads the owners: four reads each, some seconds in total.
pub(crate) const PREVIEWED_PODS_MAX: usize = 100;

/// Attempts to store a disposition, each based on the current version of the Incident. Concurrently written
/// evidence costs one attempt; agents write it every few seconds at most.
pub(crate) const DISPOSITION_TRIES_MAX: usize = 8;

/// Pause between two reads while a command waits until a disposition has been carried out.
pub(crate) const COMMAND_POLL: std::time::Duration = std::time::Duration::from_millis(250);

/// Pods or Incidents in one page of `yellowjack held`. An Incident with its capture has up to 64 KiB, so a
/// page temporarily needs up to 16 MiB.
pub(crate) const HELD_PAGE: u32 = 250;

/// Pages that `yellowjack held` reads of one kind: 100,000 objects.
pub(crate) const HELD_PAGES_MAX: usize = 400;

/// Lines that `yellowjack held` prints: they fit a terminal's scrollback and the log of a Helm hook.
pub(crate) const HELD_LINES_MAX: usize = 100;

/// Bytes that `doctor` reads at the beginning of a log, and again at its end: some 400 lines of Hubble each.
pub(crate) const LOG_SAMPLE_BYTES_MAX: u64 = 256 * 1024;

/// Simultaneous connections that the server pod of a probe accepts; its one client opens two.
pub(crate) const PROBE_CONNECTIONS_MAX: usize = 16;

/// How long the pods of a probe may take to start: an image of 10 MiB is pulled in seconds, and a node may be busy.
pub(crate) const PROBE_START_MAX: std::time::Duration = std::time::Duration::from_mins(2);

/// Lifetime of the pods of a probe, in case they are not deleted.
pub(crate) const PROBE_LIFE_MAX: std::time::Duration = std::time::Duration::from_mins(10);

/// Bytes that are read from the log of a probe: 1,200 attempts of 60 bytes in [`PROBE_LIFE_MAX`] are 72 KB.
pub(crate) const PROBE_LOG_BYTES_MAX: i64 = 256 * 1024;
