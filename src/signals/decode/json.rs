//! Reads the fields that a decoder wants out of one JSON line, in one pass and without a copy.
//! Used by the decoders of this folder through [`read_line`] and `record!`.
//!
//! Decoding takes most of the time of a line, and most of a line is fields that nobody reads: so
//! this is our own code. docs/performance.md has the measurements. What is read is checked as
//! strictly as `serde_json` does (and the tests hold both against each other); what is skipped is
//! checked only as far as needed to find its end: quotes, escapes, brackets. A line that is cut,
//! or joined with another, never balances, so it is never taken for a record.
//!
//! Nothing here may recurse into a value that is skipped, or allocate for text without escapes.

use std::borrow::Cow;

use super::Malformed;
use super::bits::{self, BLOCK_BYTES};
use super::field::Scalar;

/// Whole numbers below this are exact in `f64`.
const EXACT_IN_F64: u64 = 1 << 53;

/// Powers of ten that are exact in `f64`.
const POWERS_OF_TEN: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];

/// Digits of which every number fits into `u64`.
const DIGITS_IN_U64: usize = 19;

/// What can be read from the value under a cursor.
pub(super) trait Read<'a>: Default {
    /// Takes the value in; `self` is as by default.
    fn read(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Malformed>;
}

/// Reads a line that is one object into `value`, which is as by default. Not returned, because the
/// structs are large and would be copied.
#[inline]
pub(super) fn read_line<'a, T: Read<'a>>(text: &'a str, value: &mut T) -> Result<(), Malformed> {
    let mut cursor = Cursor {
        text,
        at: 0,
        ends: bits::StringEnds::default(),
    };
    value.read(&mut cursor)?;
    cursor.end()
}

/// A struct whose fields are keys of an object. Keys that are not named are skipped; one that is
/// named and comes twice makes the line malformed. In tests the struct can also be read by serde,
/// which is the reference for what this reads.
macro_rules! record {
    ($(#[$meta:meta])* $visibility:vis struct $name:ident {
        $($(#[$field_meta:meta])* $field:ident: $kind:ty = $key:literal,)*
    }) => {
        $(#[$meta])*
        #[derive(Debug, Default)]
        #[cfg_attr(
            test,
            derive(serde::Deserialize),
            serde(default, bound(deserialize = "'de: 'a"))
        )]
        $visibility struct $name<'a> {
            $(
                $(#[$field_meta])*
                #[cfg_attr(test, serde(rename = $key))]
                $visibility $field: $kind,
            )*
        }

        impl<'a> $crate::signals::decode::json::Read<'a> for $name<'a> {
            fn read(
                &mut self,
                cursor: &mut $crate::signals::decode::json::Cursor<'a>,
            ) -> Result<(), $crate::signals::decode::Malformed> {
                /// Lengths of the keys: the compiler turns them into a jump, and then compares
                /// with the few keys of that length.
                #[allow(non_upper_case_globals)]
                mod length {
                    $(pub(super) const $field: usize = $key.len();)*
                }
                #[derive(Default)]
                #[allow(clippy::struct_excessive_bools)] // one for each key
                struct Seen {
                    $($field: bool,)*
                }
                let mut seen = Seen::default();
                cursor.object(|cursor, key| match (key.len(), key) {
                    $((length::$field, $key) => {
                        if std::mem::replace(&mut seen.$field, true) {
                            return Err($crate::signals::decode::Malformed::DuplicateKey);
                        }
                        cursor.colon()?;
                        $crate::signals::decode::json::Read::read(&mut self.$field, cursor)
                    })*
                    _ => {
                        cursor.colon()?;
                        cursor.skip()
                    }
                })
            }
        }
    };
}
pub(super) use record;

/// What a line reads as, by [`read_line`] and by serde.
#[cfg(test)]
pub(super) fn both_readings<'a, T>(text: &'a str) -> [Result<String, Malformed>; 2]
where
    T: Read<'a> + serde::Deserialize<'a> + std::fmt::Debug,
{
    let shown = |value: &T| format!("{value:?}");
    let mut ours = T::default();
    [
        read_line(text, &mut ours).map(|()| shown(&ours)),
        super::parse::<T>(text).map(|value| shown(&value)),
    ]
}

/// A place in a line.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    text: &'a str,
    at: usize,
    ends: bits::StringEnds,
}

/// A string as it stands in the line, without its quotes.
struct RawText<'a> {
    text: &'a str,
    has_escapes: bool,
}

impl<'a> Cursor<'a> {
    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// The next byte that is no white space.
    #[inline]
    fn peek(&mut self) -> Result<u8, Malformed> {
        loop {
            match self.byte() {
                Some(b' ' | b'\t' | b'\n' | b'\r') => self.at += 1,
                Some(byte) => return Ok(byte),
                None => return Err(Malformed::Truncated),
            }
        }
    }

    /// Nothing but white space may follow.
    fn end(&mut self) -> Result<(), Malformed> {
        match self.peek() {
            Ok(_) => Err(Malformed::NotJson),
            Err(_) => Ok(()),
        }
    }

    /// The colon between a key and its value.
    #[inline]
    pub(super) fn colon(&mut self) -> Result<(), Malformed> {
        if self.peek()? != b':' {
            return Err(Malformed::NotJson);
        }
        self.at += 1;
        Ok(())
    }

    /// Goes through the keys of an object. `field` is called behind each key and takes colon and
    /// value, so that a key which comes twice is refused before what follows it.
    #[inline]
    pub(super) fn object(
        &mut self,
        mut field: impl FnMut(&mut Self, &str) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        if self.peek()? != b'{' {
            return Err(Malformed::NotJson);
        }
        self.at += 1;
        if self.peek()? == b'}' {
            self.at += 1;
            return Ok(());
        }
        loop {
            if self.peek()? != b'"' {
                return Err(Malformed::NotJson);
            }
            let key = self.string()?;
            if key.has_escapes {
                let key = unescape(key.text)?;
                field(self, &key)?;
            } else {
                field(self, key.text)?;
            }
            match self.peek()? {
                b',' => self.at += 1,
                b'}' => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(Malformed::NotJson),
            }
        }
    }

    /// Goes through an array and hands each element to `take`; skips any other value.
    pub(super) fn list(&mut self, mut take: impl FnMut(Scalar<'a>)) -> Result<(), Malformed> {
        if self.peek()? != b'[' {
            return self.skip();
        }
        self.at += 1;
        if self.peek()? == b']' {
            self.at += 1;
            return Ok(());
        }
        loop {
            let mut element = Scalar::Absent;
            self.scalar(&mut element)?;
            take(element);
            match self.peek()? {
                b',' => self.at += 1,
                b']' => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(Malformed::NotJson),
            }
        }
    }

    /// Whether the value that comes is an object.
    pub(super) fn is_at_object(&mut self) -> Result<bool, Malformed> {
        Ok(self.peek()? == b'{')
    }

    /// Reads any value into `slot`; arrays and objects are skipped and only remembered as such.
    ///
    /// Each branch writes its own result: a value handed on through several functions is copied
    /// with other widths than it was written with, and then the processor waits for the stores.
    #[inline]
    pub(super) fn scalar(&mut self, slot: &mut Scalar<'a>) -> Result<(), Malformed> {
        match self.peek()? {
            b'"' => {
                let string = self.string()?;
                *slot = Scalar::Text(if string.has_escapes {
                    Cow::Owned(unescape(string.text)?)
                } else {
                    Cow::Borrowed(string.text)
                });
            }
            b'{' | b'[' => {
                self.skip_nested()?;
                *slot = Scalar::Other;
            }
            b'0'..=b'9' if self.plain_number(slot) => {}
            _ => *slot = self.literal()?,
        }
        Ok(())
    }

    /// Skips any value.
    #[inline]
    pub(super) fn skip(&mut self) -> Result<(), Malformed> {
        match self.peek()? {
            b'"' => self.string().map(|_| ()),
            b'{' | b'[' => self.skip_nested(),
            b'0'..=b'9' | b'-' | b't' | b'f' | b'n' => self.token().map(|_| ()),
            _ => Err(Malformed::NotJson),
        }
    }

    /// A string, of which only the end is looked for. Control characters are refused.
    #[inline(always)]
    #[allow(clippy::inline_always)] // so that the result stays in registers
    fn string(&mut self) -> Result<RawText<'a>, Malformed> {
        let start = self.at + 1;
        let bytes = self.text.as_bytes();
        let mut has_escapes = false;
        let mut at = start;
        loop {
            at = self.ends.next(bytes, at);
            match bytes.get(at) {
                Some(b'"') => break,
                Some(b'\\') => {
                    has_escapes = true;
                    at += 2;
                }
                Some(_) => return Err(Malformed::NotJson),
                None => return Err(Malformed::Truncated),
            }
        }
        self.at = at + 1;
        let text = self.text.get(start..at).ok_or(Malformed::NotJson)?;
        Ok(RawText { text, has_escapes })
    }

    /// An array or object, of which only the end is looked for, 64 bytes at a time: brackets
    /// outside of strings are counted, whatever their kind.
    fn skip_nested(&mut self) -> Result<(), Malformed> {
        let mut depth = 0;
        let mut strings = bits::Strings::default();
        loop {
            let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
            let brackets = match rest.first_chunk::<BLOCK_BYTES>() {
                Some(block) => strings.brackets_outside(block),
                None if rest.is_empty() => return Err(Malformed::Truncated),
                // White space has no meaning, so the last block can be filled up with it.
                None => strings.brackets_outside(&bits::padded(rest)),
            };
            match brackets.close(depth) {
                Ok(length) => {
                    self.at += length;
                    return Ok(());
                }
                Err(open) => {
                    depth = open;
                    self.at = (self.at + BLOCK_BYTES).min(self.text.len());
                }
            }
        }
    }

    /// What stands here of letters, digits and signs.
    fn token(&mut self) -> Result<&'a str, Malformed> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let is_part = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'.' | b'+' | b'-');
        let length = rest.bytes().take_while(is_part).count();
        self.at += length;
        rest.get(..length).ok_or(Malformed::NotJson)
    }

    /// Reads a number without sign and exponent that is so short that the result is exact. `false`,
    /// and not a byte further, for any other.
    #[inline(always)]
    #[allow(clippy::inline_always)] // so that the result stays in registers
    #[allow(clippy::cast_precision_loss)] // below 2^53 by the guard
    fn plain_number(&mut self, slot: &mut Scalar<'a>) -> bool {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        let (mantissa, whole_length) = bits::leading_number(0, rest);
        let has_leading_zero = whole_length > 1 && rest.first() == Some(&b'0');
        let after = rest.get(whole_length..).unwrap_or_default();
        let (number, length) = if let Some((b'.', fraction)) = after.split_first() {
            let (mantissa, fraction_length) = bits::leading_number(mantissa, fraction);
            let power = POWERS_OF_TEN.get(fraction_length);
            let Some(power) = power.filter(|_| fraction_length > 0 && mantissa < EXACT_IN_F64)
            else {
                return false;
            };
            let number = Scalar::Float(mantissa as f64 / power);
            (number, whole_length + 1 + fraction_length)
        } else {
            (Scalar::Unsigned(mantissa), whole_length)
        };
        let is_over = matches!(
            rest.get(length),
            Some(b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r')
        );
        let is_read = is_over && length <= DIGITS_IN_U64 && !has_leading_zero;
        if is_read {
            self.at += length;
            *slot = number;
        }
        is_read
    }

    /// Any number, `true`, `false`, `null`.
    fn literal(&mut self) -> Result<Scalar<'a>, Malformed> {
        let token = self.token()?;
        let is_at_end = self.at == self.text.len();
        match token {
            "true" => Ok(Scalar::Bool(true)),
            "false" => Ok(Scalar::Bool(false)),
            "null" => Ok(Scalar::Absent),
            _ => super::parse(token).map_err(|malformed| match malformed {
                // The token is cut, but not the line.
                Malformed::Truncated if !is_at_end => Malformed::NotJson,
                malformed => malformed,
            }),
        }
    }
}

/// Text with escapes, which is rare enough to be left to serde.
#[cold]
fn unescape(text: &str) -> Result<String, Malformed> {
    serde_json::from_str(&format!("\"{text}\"")).map_err(|_| Malformed::NotJson)
}

#[cfg(test)]
mod tests;
