//! Classifies ICMP messages as request, reply or neither. Used by every decoder here.

use std::net::IpAddr;

/// The role of an ICMP message (RFC 792, RFC 4443).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Requests an answer: echo, timestamp, address mask.
    Request,
    /// Answers a request.
    Reply,
    /// An error about another packet, or link-layer housekeeping (neighbour discovery). It is not a
    /// contact, because it is sent in reaction to another packet.
    Neither,
}

/// The role of a message of this type; the address of either end determines the version of ICMP.
pub(super) const fn kind(address: IpAddr, icmp_type: u8) -> Kind {
    match address {
        IpAddr::V4(_) => kind_v4(icmp_type),
        IpAddr::V6(_) => kind_v6(icmp_type),
    }
}

/// The role of an ICMP message.
pub(super) const fn kind_v4(icmp_type: u8) -> Kind {
    match icmp_type {
        8 | 13 | 15 | 17 => Kind::Request,
        0 | 14 | 16 | 18 => Kind::Reply,
        _ => Kind::Neither,
    }
}

/// The role of an `ICMPv6` message.
pub(super) const fn kind_v6(icmp_type: u8) -> Kind {
    match icmp_type {
        128 => Kind::Request,
        129 => Kind::Reply,
        _ => Kind::Neither,
    }
}
