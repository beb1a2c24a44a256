//! Reads the fields that a decoder needs from one JSON line, in one pass and without a copy.
//! Used by the decoders of this folder through [`read_line`] and `record!`.
//!
//! Decoding takes most of the time of a line, and most of a line is fields that are not needed. Therefore
//! this is custom code; docs/performance.md has the measurements. Values that are read are checked as
//! strictly as by `serde_json` (tests compare the two); skipped values are
//! checked only as far as needed to find their end: quotes, escapes, brackets. A line that is truncated
//! or joined with another never balances, so it is never accepted as a record.
//!
//! Nothing here may recurse into a skipped value, or allocate for text without escapes.

mod record;

use std::borrow::Cow;

use super::Malformed;
use super::bits::{self, BLOCK_BYTES};
use super::field::{Addresses, FirstText, Object, Scalar, Skipped};

/// Whole numbers below this are exact in `f64`.
const EXACT_IN_F64: u64 = 1 << 53;

/// Powers of ten that are exact in `f64`.
const POWERS_OF_TEN: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];

/// Number of digits for which every number fits into `u64`.
const DIGITS_IN_U64: usize = 19;

/// A type that can be read from the value at a cursor.
pub(super) trait Read<'a>: Default {
    /// Reads the value; `self` has its default value before.
    fn read(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Malformed>;
}

impl<'a> Read<'a> for Scalar<'a> {
    #[inline]
    fn read(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Malformed> {
        cursor.scalar(self)
    }
}

impl<'a> Read<'a> for Skipped {
    #[inline]
    fn read(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Malformed> {
        cursor.skip()
    }
}

impl<'a, T: Read<'a>> Read<'a> for Object<T> {
    fn read(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Malformed> {
        if cursor.is_at_object()? {
            self.0.insert(T::default()).read(cursor)
        } else {
            cursor.skip()
        }
    }
}

impl<'a> Read<'a> for Addresses {
    fn read(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Malformed> {
        cursor.list(|element| self.take(&element))
    }
}

impl<'a> Read<'a> for FirstText<'a> {
    fn read(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Malformed> {
        cursor.list(|element| {
            if self.0.is_none() {
                self.0 = element.into_text();
            }
        })
    }
}

/// Reads a line that is one object into `value`, which has its default value before. Not returned, because the
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

pub(super) use record::record;

/// The readings of a line by [`read_line`] and by serde.
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

/// A position in a line.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    text: &'a str,
    at: usize,
    ends: bits::StringEnds,
}

/// A key as it occurs in a line: in quotes and with its colon.
#[derive(Debug)]
pub(super) struct Key {
    quoted: &'static str,
    /// Its first eight bytes, and a mask of those that exist.
    head: u64,
    mask: u64,
}

impl Key {
    pub(super) const fn new(quoted: &'static str) -> Self {
        let length = quoted.len();
        Self {
            quoted,
            head: head_of(quoted.as_bytes()),
            mask: if length < 8 {
                (1 << (8 * length)) - 1
            } else {
                u64::MAX
            },
        }
    }
}

/// The first eight bytes, padded with zeros.
const fn head_of(mut bytes: &[u8]) -> u64 {
    let mut head = 0;
    let mut shift = 0;
    while let [byte, rest @ ..] = bytes
        && shift < 64
    {
        head |= (*byte as u64) << shift;
        shift += 8;
        bytes = rest;
    }
    head
}

/// A string as it occurs in the line, without its quotes.
struct RawText<'a> {
    text: &'a str,
    has_escapes: bool,
}

impl<'a> Cursor<'a> {
    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// The next byte that is not white space.
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

    /// Fails unless only white space follows.
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

    /// Enters an object. Returns `false` if it is empty; then the cursor is after it.
    #[inline]
    pub(super) fn open(&mut self) -> Result<bool, Malformed> {
        if self.peek()? != b'{' {
            return Err(Malformed::NotJson);
        }
        self.at += 1;
        if self.peek()? == b'}' {
            self.at += 1;
            return Ok(false);
        }
        Ok(true)
    }

    /// The next eight bytes, padded with zeros, which no key contains.
    #[inline(always)]
    #[allow(clippy::inline_always)] // a load
    pub(super) fn head(&self) -> u64 {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        match rest.first_chunk() {
            Some(head) => u64::from_le_bytes(*head),
            None => head_of(rest),
        }
    }

    /// Moves past this key and its colon, if they are next. `head` is the result of [`Self::head`].
    #[inline(always)]
    #[allow(clippy::inline_always)] // so that the key is a constant
    pub(super) fn take_key(&mut self, head: u64, key: &'static Key) -> bool {
        if head & key.mask != key.head {
            return false;
        }
        let quoted = key.quoted.as_bytes();
        if quoted.len() > 8 {
            let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
            if !rest.starts_with(quoted) {
                return false;
            }
        }
        self.at += quoted.len();
        true
    }

    /// Moves past the separator after a member of an object. Returns `false` at the end of the object.
    #[inline(always)]
    #[allow(clippy::inline_always)] // two comparisons
    pub(super) fn next_member(&mut self) -> Result<bool, Malformed> {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        match rest {
            [b',', b'"', ..] => self.at += 1,
            [b',', b' ', b'"', ..] => self.at += 2,
            _ => return self.next_member_slow(),
        }
        Ok(true)
    }

    fn next_member_slow(&mut self) -> Result<bool, Malformed> {
        match self.peek()? {
            b',' => {
                self.at += 1;
                self.peek()?;
                Ok(true)
            }
            b'}' => {
                self.at += 1;
                Ok(false)
            }
            _ => Err(Malformed::NotJson),
        }
    }

    /// Iterates over the keys of an object, from here to its end. `field` is called after each key
    /// and reads the colon and the value, so that a duplicate key is rejected before its value.
    pub(super) fn members(
        &mut self,
        mut field: impl FnMut(&mut Self, &str) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
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
            if !self.next_member()? {
                return Ok(());
            }
        }
    }

    /// Passes each element of an array to `take`; skips any other value.
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

    /// Whether the next value is an object.
    pub(super) fn is_at_object(&mut self) -> Result<bool, Malformed> {
        Ok(self.peek()? == b'{')
    }

    /// Reads any value into `slot`; arrays and objects are skipped and represented as such.
    ///
    /// Each branch writes its own result: a value that is passed through several functions is copied
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
            b'"' => self.skip_string().map(|_| ()),
            b'{' | b'[' => self.skip_nested(),
            b'0'..=b'9' if self.skip_digits() => Ok(()),
            b'0'..=b'9' | b'-' | b't' | b'f' | b'n' => self.token().map(|_| ()),
            _ => Err(Malformed::NotJson),
        }
    }

    /// A string, of which only the end is searched. Control characters are rejected.
    #[inline(always)]
    #[allow(clippy::inline_always)] // so that the result stays in registers
    fn string(&mut self) -> Result<RawText<'a>, Malformed> {
        let start = self.at + 1;
        let has_escapes = self.skip_string()?;
        let text = self.text.get(start..self.at - 1);
        Ok(RawText {
            text: text.ok_or(Malformed::NotJson)?,
            has_escapes,
        })
    }

    /// Moves past a string, and returns whether it has escapes.
    #[inline(always)]
    #[allow(clippy::inline_always)] // so that the result stays in registers
    fn skip_string(&mut self) -> Result<bool, Malformed> {
        let bytes = self.text.as_bytes();
        let mut has_escapes = false;
        let mut at = self.at + 1;
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
        Ok(has_escapes)
    }

    /// Skips an array or object by searching for its end, 64 bytes at a time: brackets
    /// outside strings are counted, regardless of their kind.
    fn skip_nested(&mut self) -> Result<(), Malformed> {
        let mut depth = 0_usize;
        let mut strings = bits::Strings::default();
        loop {
            let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
            let padded;
            let block = match rest.first_chunk::<BLOCK_BYTES>() {
                Some(block) => block,
                None if rest.is_empty() => return Err(Malformed::Truncated),
                // White space has no meaning, so the last block can be padded with it.
                None => {
                    padded = bits::padded(rest);
                    &padded
                }
            };
            let mut brackets = strings.brackets_outside(block);
            while brackets != 0 {
                let place = brackets.trailing_zeros() as usize;
                match block.get(place) {
                    Some(b'{' | b'[') => depth += 1,
                    Some(b'}' | b']') => depth = depth.saturating_sub(1),
                    _ => {} // see `brackets_outside`
                }
                if depth == 0 {
                    self.at += place + 1;
                    return Ok(());
                }
                brackets &= brackets - 1;
            }
            self.at = (self.at + BLOCK_BYTES).min(self.text.len());
        }
    }

    /// Moves past a whole number of up to seven digits. Returns `false`, without moving, for
    /// anything else.
    #[inline(always)]
    #[allow(clippy::inline_always)] // a few instructions
    fn skip_digits(&mut self) -> bool {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        let length = bits::digit_count(rest);
        let is_over = matches!(rest.get(length), Some(b',' | b'}' | b']'));
        if is_over {
            self.at += length;
        }
        is_over
    }

    /// The letters, digits and signs at the cursor.
    fn token(&mut self) -> Result<&'a str, Malformed> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let is_part = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'.' | b'+' | b'-');
        let length = rest.bytes().take_while(is_part).count();
        self.at += length;
        rest.get(..length).ok_or(Malformed::NotJson)
    }

    /// Reads a number without sign and exponent that is short enough for an exact result. Returns `false`,
    /// without moving, for any other.
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
                // The token is truncated, but the line is not.
                Malformed::Truncated if !is_at_end => Malformed::NotJson,
                malformed => malformed,
            }),
        }
    }
}

/// Unescapes text with serde, since escapes are rare.
#[cold]
fn unescape(text: &str) -> Result<String, Malformed> {
    serde_json::from_str(&format!("\"{text}\"")).map_err(|_| Malformed::NotJson)
}

#[cfg(test)]
mod tests;
