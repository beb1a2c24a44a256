//! How fields of Cilium's messages are written in the line of an exporter: enums by name, and zero values
//! not at all. Called by serde, for `message`.

use serde::Serializer;

use crate::signals::decode::hubble::drop_reason;

/// Whether a value is omitted by protobuf, on the wire and in JSON.
pub(super) fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Writes an enum by its name, or by its number if the name is unknown, which the decoder treats as
/// an unknown value.
fn named<S: Serializer>(
    name: Option<&'static str>,
    number: i32,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match name {
        Some(name) => serializer.serialize_str(name),
        None => serializer.serialize_i32(number),
    }
}

/// The function that serde calls for an enum field.
macro_rules! names {
    ($name:ident: $($number:literal => $text:literal,)*) => {
        #[allow(clippy::trivially_copy_pass_by_ref)] // serde passes it so
        pub(super) fn $name<S: Serializer>(number: &i32, serializer: S) -> Result<S::Ok, S::Error> {
            let name = match number {
                $($number => Some($text),)*
                _ => None,
            };
            named(name, *number, serializer)
        }
    };
}

names! { verdict:
    1 => "FORWARDED",
    2 => "DROPPED",
    3 => "ERROR",
    4 => "AUDIT",
    5 => "REDIRECTED",
    6 => "TRACED",
    7 => "TRANSLATED",
}

names! { direction:
    1 => "INGRESS",
    2 => "EGRESS",
}

names! { point:
    1 => "TO_PROXY",
    2 => "TO_HOST",
    3 => "TO_STACK",
    4 => "TO_OVERLAY",
    101 => "TO_ENDPOINT",
    5 => "FROM_ENDPOINT",
    6 => "FROM_PROXY",
    7 => "FROM_HOST",
    8 => "FROM_STACK",
    9 => "FROM_OVERLAY",
    10 => "FROM_NETWORK",
    11 => "TO_NETWORK",
    12 => "FROM_CRYPTO",
    13 => "TO_CRYPTO",
}

names! { trace_reason:
    1 => "NEW",
    2 => "ESTABLISHED",
    3 => "REPLY",
    4 => "RELATED",
    5 => "REOPENED",
    6 => "SRV6_ENCAP",
    7 => "SRV6_DECAP",
    8 => "ENCRYPT_OVERLAY",
}

names! { l7_type:
    1 => "REQUEST",
    2 => "RESPONSE",
    3 => "SAMPLE",
}

/// Only the reasons that the decoder distinguishes have a name here.
#[allow(clippy::trivially_copy_pass_by_ref)] // serde passes it so
pub(super) fn drop_name<S: Serializer>(number: &i32, serializer: S) -> Result<S::Ok, S::Error> {
    let name = u64::try_from(*number).ok().and_then(drop_reason::name);
    named(name, *number, serializer)
}
