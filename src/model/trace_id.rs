//! Identifiers of traces: a log line of the operator and the spans of an Incident carry the same one.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

/// The trace id of an Incident: its UID without hyphens, or a digest of it where it is not a UUID.
#[must_use]
pub(crate) fn trace_id(uid: &str) -> String {
    let digits: String = uid.chars().filter(char::is_ascii_hexdigit).collect();
    if digits.len() == 32 && uid.len() == 36 {
        return digits.to_lowercase();
    }
    hex_digest(&[uid], 16)
}

/// The first `bytes` bytes of a digest of `parts`, in hexadecimal digits.
#[must_use]
pub(crate) fn hex_digest(parts: &[&str], bytes: usize) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.len().to_le_bytes());
        hash.update(part.as_bytes());
    }
    let mut digits = String::new();
    for byte in hash.finalize().iter().take(bytes) {
        // Writing to a String cannot fail.
        let _ = write!(digits, "{byte:02x}");
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_id_is_a_uid_or_a_digest_of_it() {
        let uid = "11111111-2222-3333-4444-555555555555";
        assert_eq!(trace_id(uid), "11111111222233334444555555555555");
        assert_eq!(trace_id("no uid").len(), 32);
        assert_ne!(trace_id("no uid"), trace_id("another"));
    }
}
