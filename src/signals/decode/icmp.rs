//! What an ICMP message is: a question, an answer, or neither. Used by every decoder here.

use std::net::IpAddr;

/// The part that an ICMP message plays (RFC 792, RFC 4443).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Asks for an answer: echo, timestamp, address mask.
    Request,
    /// Answers a request.
    Reply,
    /// An error about another packet, or housekeeping of the link (neighbour discovery). No
    /// contact: its sender was made to send it.
    Neither,
}

/// The part that a message of this type plays; either end's address tells which ICMP it is.
pub(super) const fn kind(address: IpAddr, icmp_type: u8) -> Kind {
    match address {
        IpAddr::V4(_) => kind_v4(icmp_type),
        IpAddr::V6(_) => kind_v6(icmp_type),
    }
}

/// The part that an ICMP message plays.
pub(super) const fn kind_v4(icmp_type: u8) -> Kind {
    match icmp_type {
        8 | 13 | 15 | 17 => Kind::Request,
        0 | 14 | 16 | 18 => Kind::Reply,
        _ => Kind::Neither,
    }
}

/// The part that an `ICMPv6` message plays.
pub(super) const fn kind_v6(icmp_type: u8) -> Kind {
    match icmp_type {
        128 => Kind::Request,
        129 => Kind::Reply,
        _ => Kind::Neither,
    }
}
