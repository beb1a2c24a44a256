//! Examines many bytes of a JSON line at once. Used only by `json`. It handles quotes, escapes and
//! brackets, but not values.
//!
//! Uses vectors of 16 bytes, which every x86-64 and ARM64 processor has; `wide` abstracts over the two.

use wide::u8x16;

/// Bytes that are examined at once.
pub(super) const BLOCK_BYTES: usize = 64;

/// Finds where strings may end: at quotes, backslashes and control characters. Keeps the result for 64 bytes
/// of the line, because the next string usually ends within them too; examining the bytes again
/// would have to wait for the end of the previous string.
#[derive(Clone, Copy, Debug)]
pub(super) struct StringEnds {
    /// Offset of the first examined byte.
    start: usize,
    /// One bit per byte, the first byte in the lowest bit.
    ends: u64,
}

impl Default for StringEnds {
    /// Covers bytes before the line, so that no offset is within them.
    fn default() -> Self {
        Self {
            start: 0_usize.wrapping_sub(BLOCK_BYTES),
            ends: 0,
        }
    }
}

impl StringEnds {
    /// The first offset in `bytes`, from `at` on, at which a string may end; their length or more if
    /// there is none. Must be called with the same bytes each time.
    #[inline(always)]
    #[allow(clippy::inline_always)] // called for each string, and short
    pub(super) fn next(&mut self, bytes: &[u8], at: usize) -> usize {
        let ahead = at.wrapping_sub(self.start);
        if ahead < BLOCK_BYTES {
            let ends = self.ends & (u64::MAX << ahead);
            if ends != 0 {
                return self.start + ends.trailing_zeros() as usize;
            }
            self.look(bytes, self.start + BLOCK_BYTES)
        } else {
            self.look(bytes, at)
        }
    }

    #[inline]
    fn look(&mut self, bytes: &[u8], mut at: usize) -> usize {
        loop {
            let rest = bytes.get(at..).unwrap_or_default();
            self.start = at;
            self.ends = match rest.first_chunk() {
                Some(block) => string_ends(block),
                None => string_ends(&padded(rest)),
            };
            if self.ends != 0 {
                return at + self.ends.trailing_zeros() as usize;
            }
            if rest.len() <= BLOCK_BYTES {
                return bytes.len().max(at);
            }
            at += BLOCK_BYTES;
        }
    }
}

/// The last bytes of a line, padded with white space.
#[inline]
pub(super) fn padded(rest: &[u8]) -> [u8; BLOCK_BYTES] {
    let mut block = [b' '; BLOCK_BYTES];
    if let Some(start) = block.get_mut(..rest.len()) {
        start.copy_from_slice(rest);
    }
    block
}

/// Appends the decimal digits at the start of `bytes` to `number`, and returns their count.
/// Wraps on overflow. Processes eight digits at a time: the length of numbers varies from line to line, so
/// the end of a loop over digits would be mispredicted.
#[inline]
pub(super) fn leading_number(mut number: u64, bytes: &[u8]) -> (u64, usize) {
    let mut rest = bytes;
    let mut length = 0;
    while let Some((chunk, tail)) = rest.split_first_chunk::<8>() {
        let (digits, count) = leading_digits(u64::from_le_bytes(*chunk));
        let power = POWERS_OF_TEN.get(count).copied().unwrap_or(1);
        number = number.wrapping_mul(power).wrapping_add(digits);
        length += count;
        if count < 8 {
            return (number, length);
        }
        rest = tail;
    }
    for byte in rest {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        number = number.wrapping_mul(10).wrapping_add(u64::from(digit));
        length += 1;
    }
    (number, length)
}

/// The number of digits at the start of `bytes`, up to eight; zero if it is shorter than that.
#[inline]
pub(super) fn digit_count(bytes: &[u8]) -> usize {
    let chunk = bytes.first_chunk::<8>();
    chunk.map_or(0, |chunk| {
        let digits = u64::from_le_bytes(*chunk) ^ (ONES * u64::from(b'0'));
        count_digits(digits)
    })
}

/// The number of leading bytes, of eight, that are at most 9.
#[inline]
const fn count_digits(digits: u64) -> usize {
    // A byte above 9 sets its highest bit. The carry only affects later bytes.
    let others = (digits.wrapping_add(ONES * (0x7f - 9)) | digits) & (ONES * 0x80);
    (others.trailing_zeros() / 8) as usize
}

/// One in each of eight bytes.
const ONES: u64 = 0x0101_0101_0101_0101;

/// The number that the digits at the start of eight bytes represent, and their count.
#[inline]
const fn leading_digits(chunk: u64) -> (u64, usize) {
    let digits = chunk ^ (ONES * b'0' as u64);
    let count = count_digits(digits);
    if count == 0 {
        return (0, 0);
    }
    // Shift the digits to the end, after zeros; then combine pairs, fours and all eight, each with one
    // multiplication: 2561 = 256 x 10 + 1, 6553601 = 65536 x 100 + 1, and so on.
    let digits = digits << (64 - 8 * count);
    let pairs = (digits & (ONES * 0x0f)).wrapping_mul(2_561) >> 8;
    let fours = (pairs & 0x00ff_00ff_00ff_00ff).wrapping_mul(6_553_601) >> 16;
    let eight = (fours & 0x0000_ffff_0000_ffff).wrapping_mul(42_949_672_960_001) >> 32;
    (eight, count)
}

/// Which bytes of a block are of which kind: one bit each, the first byte in the lowest bit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Marks {
    quotes: u64,
    backslashes: u64,
    /// All brackets, and some other bytes: see [`BRACKET_BITS`].
    brackets: u64,
}

/// Tracks strings from block to block.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Strings {
    /// All bits are set while a string is open.
    inside: u64,
    /// 1 if the previous block ended with a backslash that escapes the next byte.
    escapes_next: u64,
}

impl Strings {
    /// The brackets of the next block that are outside strings, one bit per byte. The bits of
    /// bytes that JSON does not allow there (`Y`, `y`, `_`, DEL) may be set too.
    #[inline]
    pub(super) fn brackets_outside(&mut self, block: &[u8; BLOCK_BYTES]) -> u64 {
        let marks = marks(block);
        let quotes = if marks.backslashes == 0 && self.escapes_next == 0 {
            marks.quotes
        } else {
            marks.quotes & !self.escaped(marks.backslashes)
        };
        let inside = prefix_xor(quotes) ^ self.inside;
        self.inside = 0_u64.wrapping_sub(inside >> 63);
        marks.brackets & !inside
    }

    /// The bytes that are escaped by a backslash before them.
    #[cold]
    fn escaped(&mut self, mut backslashes: u64) -> u64 {
        let mut escaped = self.escapes_next;
        backslashes &= !escaped;
        self.escapes_next = 0;
        while backslashes != 0 {
            let backslash = backslashes & backslashes.wrapping_neg();
            let next = backslash << 1;
            self.escapes_next |= backslash >> 63;
            escaped |= next;
            backslashes &= !(backslash | next);
        }
        escaped
    }
}

/// Replaces each bit by the parity of the bits up to it.
#[inline]
const fn prefix_xor(mut bits: u64) -> u64 {
    bits ^= bits << 1;
    bits ^= bits << 2;
    bits ^= bits << 4;
    bits ^= bits << 8;
    bits ^= bits << 16;
    bits ^ (bits << 32)
}

const POWERS_OF_TEN: [u64; 9] = [
    1,
    10,
    100,
    1_000,
    10_000,
    100_000,
    1_000_000,
    10_000_000,
    100_000_000,
];

/// The four brackets differ from each other only in these bits. `Y`, `y`, `_` and DEL differ from
/// them in the same bits; JSON does not allow them outside strings.
const BRACKET_BITS: u8 = 0x26;

#[inline]
fn string_ends(block: &[u8; BLOCK_BYTES]) -> u64 {
    let (chunks, _) = block.as_chunks::<16>();
    let each = chunks.iter().zip([0_u32, 16, 32, 48]);
    each.fold(0, |ends, (chunk, shift)| {
        let bytes = u8x16::new(*chunk);
        let controls = bytes.min(u8x16::splat(0x1f)).simd_eq(bytes);
        let quotes = bytes.simd_eq(u8x16::splat(b'"'));
        let backslashes = bytes.simd_eq(u8x16::splat(b'\\'));
        let any = (quotes | backslashes | controls).to_bitmask();
        ends | u64::from(any) << shift
    })
}

#[inline]
fn marks(block: &[u8; BLOCK_BYTES]) -> Marks {
    let mut marks = Marks::default();
    let mut backslash = u8x16::default();
    let (chunks, _) = block.as_chunks::<16>();
    for (chunk, shift) in chunks.iter().zip([0_u32, 16, 32, 48]) {
        let bytes = u8x16::new(*chunk);
        let bits = |found: u8x16| u64::from(found.to_bitmask()) << shift;
        marks.quotes |= bits(bytes.simd_eq(u8x16::splat(b'"')));
        let without_kind = bytes | u8x16::splat(BRACKET_BITS);
        marks.brackets |= bits(without_kind.simd_eq(u8x16::splat(b'{' | BRACKET_BITS)));
        backslash |= bytes.simd_eq(u8x16::splat(b'\\'));
    }
    if backslash.to_bitmask() != 0 {
        marks.backslashes = backslashes(block);
    }
    marks
}

#[cold]
fn backslashes(block: &[u8; BLOCK_BYTES]) -> u64 {
    block
        .iter()
        .rev()
        .fold(0, |marks, byte| marks << 1 | u64::from(*byte == b'\\'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    fn byte() -> impl Strategy<Value = u8> {
        prop_oneof![select(&b"\"\\{}[] a\x1f\x20\x7f\x80\xff"[..]), any::<u8>()]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_place_where_a_string_may_end_is_found_in_turn(
            bytes in proptest::collection::vec(
                prop_oneof![1 => byte(), 20 => Just(b'a')], 0..400,
            ),
            steps in proptest::collection::vec(1..150_usize, 1..20),
        ) {
            let is_end = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20);
            let expected = |at: usize| {
                let rest = bytes.get(at..).unwrap_or_default();
                rest.iter().position(is_end).map(|ahead| at + ahead)
            };
            let mut ends = StringEnds::default();
            let mut at = 0;
            for step in steps {
                let found = ends.next(&bytes, at);
                assert_eq!(Some(found).filter(|found| *found < bytes.len()), expected(at));
                assert!(found >= at);
                at = found.min(bytes.len()) + step;
            }
        }

        #[test]
        fn leading_digits_make_the_number_that_they_represent(
            digits in "[0-9]{0,19}", rest in "([^0-9].{0,12})?", before in 0..1_000_u64,
        ) {
            let expected = format!("{before}{digits}").parse::<u128>().unwrap();
            let (number, length) = leading_number(before, format!("{digits}{rest}").as_bytes());
            assert_eq!(length, digits.len());
            assert_eq!(u128::from(number), expected % (1 << 64));
        }

        #[test]
        fn brackets_in_strings_do_not_count_whatever_is_escaped(
            bytes in proptest::collection::vec(byte(), 192),
        ) {
            let mut strings = Strings::default();
            let (mut inside, mut escaped) = (false, false);
            for block in bytes.as_chunks::<64>().0 {
                let brackets = strings.brackets_outside(block);
                for (place, byte) in block.iter().enumerate() {
                    // Escapes exist in strings only; elsewhere JSON has no backslash at all.
                    let is_quote = *byte == b'"' && !escaped;
                    escaped = *byte == b'\\' && !escaped;
                    inside ^= is_quote;
                    let is_marked = brackets >> place & 1 == 1;
                    let is_bracket = matches!(byte, b'{' | b'[' | b'}' | b']');
                    let may_be_marked = is_bracket || matches!(byte, b'Y' | b'y' | b'_' | b'\x7f');
                    assert!(is_marked || !is_bracket || inside);
                    assert!(!is_marked || (may_be_marked && !inside));
                }
            }
        }
    }
}
