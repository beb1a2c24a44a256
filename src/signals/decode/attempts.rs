//! Attempts: determines from packet and byte counts whether everything that a TCP initiator sent are SYNs.
//! Used by the decoders of formats that count packets and do not log flags.
//!
//! A host that receives a SYN-ACK acknowledges it. If the initiator sent packets other than SYNs and the log has none
//! from the other side, the target is not silent: the log contains only one direction.

use crate::model::Volume;

/// A SYN that Linux retransmits six times (`tcp_syn_retries`).
pub(super) const SYN_COUNT_MAX: u64 = 7;

/// An IP and a TCP header without options: 20 bytes of TCP after 20 of IPv4 or 40 of IPv6.
pub(super) const fn header_bytes(is_v4: bool) -> u64 {
    if is_v4 { 40 } else { 60 }
}

/// Whether the initiator of this many connections sent one packet in each, or several that are all
/// SYNs. `header` is the number of bytes before the options.
pub(super) fn are_all(volume: &Volume, header: u64, connections: u64) -> bool {
    let sent = volume.packets_out;
    (1..=connections).contains(&sent)
        || (sent <= connections.saturating_mul(SYN_COUNT_MAX)
            && have_one_size_of_syns(sent, volume.bytes_out, header))
}

/// Whether all packets of one connection are SYNs.
pub(super) fn are_syns(count: u64, bytes: u64, header: u64) -> bool {
    count <= SYN_COUNT_MAX && have_one_size_of_syns(count, bytes, header)
}

/// Whether all packets have the size of a SYN: without options, or with the options that Linux,
/// Windows and scanners send. A SYN and the ACKs after it do not have such a mean size, except
/// at 44 bytes (48 + 40, 52 + 40 + 40), where therefore only a single packet counts.
fn have_one_size_of_syns(count: u64, bytes: u64, header: u64) -> bool {
    if count == 0 || !bytes.is_multiple_of(count) {
        return false;
    }
    match (bytes / count).checked_sub(header) {
        Some(0 | 8 | 12 | 20) => true,
        Some(4) => count == 1,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(packets_out: u64, bytes_out: u64) -> bool {
        let volume = Volume {
            bytes_out,
            packets_out,
            ..Volume::default()
        };
        are_all(&volume, header_bytes(true), 1)
    }

    #[test]
    fn syns_of_one_size_are_attempts_and_what_follows_an_answer_is_not() {
        assert!(sent(1, 60) && sent(7, 420) && sent(3, 120) && sent(1, 77));
        assert!(!sent(2, 60 + 52), "a SYN and the ACK after it");
        assert!(!sent(3, 60 + 52 + 52) && !sent(9, 666) && !sent(8, 480));
    }

    #[test]
    fn ipv6_has_a_longer_header() {
        assert!(are_syns(2, 160, header_bytes(false)));
        assert!(!are_syns(2, 160, header_bytes(true)));
    }
}
