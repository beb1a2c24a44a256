//! Every bound of every queue, map, loop and text, with its arithmetic.
//!
//! One place, so that "how much memory can it take" has one answer. The relations between the
//! bounds are checked when the crate is built. Nothing here may depend on configuration (INV-3).

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
