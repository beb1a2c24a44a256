//! Bounds of the commands for people; a part of `limits`, named through it.

/// Objects in one page of a list that a person asked for. An Incident has up to 100 KiB: 50 MiB for a
/// moment, and usually a hundredth of that.
pub const PEOPLE_PAGE: u32 = 500;

/// Objects that one command reads of one kind. What is left out is said. A person who has more runs
/// than this looks at one namespace at a time.
pub const PEOPLE_OBJECTS_MAX: usize = 20_000;

/// Longest read that a person waits for, in seconds: a page of large objects over a slow line.
pub const PEOPLE_TIMEOUT_S: u64 = 20;

/// Names that are suggested for one that does not exist.
pub const SUGGESTIONS_MAX: usize = 3;

/// Pods whose owners a preview looks up: four reads each, so some seconds in all.
pub const PREVIEWED_PODS_MAX: usize = 100;

/// Tries of a person's word, each after a look at the Incident as it is then. Evidence that is written
/// meanwhile costs one; agents write it every few seconds at most.
pub const WORD_TRIES_MAX: usize = 8;

/// How often it is looked whether a person's word was carried out.
pub const PEOPLE_POLL: std::time::Duration = std::time::Duration::from_millis(250);

/// Pods or Incidents in one page when it is looked for what is held. An Incident with its capture takes up
/// to 64 KiB, so a page takes 16 MiB for a moment.
pub const HELD_PAGE: u32 = 250;

/// Pages of that: 100,000 objects.
pub const HELD_PAGES_MAX: usize = 400;

/// Lines that are printed of what is held: a terminal's scrollback, and a hook's log.
pub const HELD_LINES_MAX: usize = 100;

/// What `doctor` reads of a log at its beginning, and as much at its end: some 400 lines of Hubble each.
pub const LOG_SAMPLE_BYTES_MAX: u64 = 256 * 1024;

/// Connections at once that the answering pod of a probe serves; its one caller has two.
pub const PROBE_CONNECTIONS_MAX: usize = 16;

/// How long the pods of a probe live at most, should nobody be left who removes them.
pub const PROBE_LIFE_MAX: std::time::Duration = std::time::Duration::from_mins(10);

/// What is read of a probe's log: 1,200 tries of 60 bytes in [`PROBE_LIFE_MAX`] are 72 KB.
pub const PROBE_LOG_BYTES_MAX: i64 = 256 * 1024;
