//! Not read yet.
use super::Decoded;
pub(super) fn decode(_text: &str) -> Decoded<'_> {
    Decoded::Unknown
}
