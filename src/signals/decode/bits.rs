//! Looks at many bytes of a JSON line at once. Used by `json` alone; knows quotes, escapes and
//! brackets, and no values.
//!
//! Vectors of 16 bytes, which every x86-64 and ARM64 processor has; `wide` hides which it is.

use wide::u8x16;

/// Bytes that one look covers.
pub(super) const BLOCK_BYTES: usize = 64;

/// How far it is to the first quote, backslash or control character; the length where there is
/// none.
#[inline]
pub(super) fn find_string_special(bytes: &[u8]) -> usize {
    let mut at = 0;
    let mut rest = bytes;
    while let Some((chunk, tail)) = rest.split_first_chunk::<16>() {
        let special = string_special(chunk);
        if special != 0 {
            return at + special.trailing_zeros() as usize;
        }
        at += 16;
        rest = tail;
    }
    let is_special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20);
    at + rest.iter().position(is_special).unwrap_or(rest.len())
}

/// Which bytes of a block are what, a bit for each, the first byte in the lowest bit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Marks {
    quotes: u64,
    backslashes: u64,
    opens: u64,
    closes: u64,
}

/// Follows strings from block to block.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Strings {
    /// All bits set while a string is open.
    inside: u64,
    /// 1 where the block before ended with a backslash that escapes the next byte.
    escapes_next: u64,
}

impl Strings {
    /// The brackets of the next block that stand outside of strings.
    #[inline]
    pub(super) fn brackets_outside(&mut self, block: &[u8; BLOCK_BYTES]) -> Brackets {
        let marks = marks(block);
        let quotes = if marks.backslashes == 0 && self.escapes_next == 0 {
            marks.quotes
        } else {
            marks.quotes & !self.escaped(marks.backslashes)
        };
        let inside = prefix_xor(quotes) ^ self.inside;
        self.inside = 0_u64.wrapping_sub(inside >> 63);
        Brackets {
            opens: marks.opens & !inside,
            closes: marks.closes & !inside,
        }
    }

    /// The bytes that a backslash before them escapes.
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

/// Brackets of one block, of both kinds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Brackets {
    opens: u64,
    closes: u64,
}

impl Brackets {
    /// Goes through the block with so many brackets open. `Ok`: how many bytes it is to behind the
    /// bracket that closes the last; else how many are open behind the block.
    #[inline]
    pub(super) fn close(self, mut depth: usize) -> Result<usize, usize> {
        let (open_count, close_count) = (
            self.opens.count_ones() as usize,
            self.closes.count_ones() as usize,
        );
        if close_count < depth {
            // Not even all of them together could close the last one.
            return Err(depth + open_count - close_count);
        }
        let mut both = self.opens | self.closes;
        while both != 0 {
            let bracket = both & both.wrapping_neg();
            if self.opens & bracket != 0 {
                depth += 1;
            } else {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return Ok(bracket.trailing_zeros() as usize + 1);
                }
            }
            both &= both - 1;
        }
        Err(depth)
    }
}

/// Each bit becomes the parity of the bits up to it.
#[inline]
const fn prefix_xor(mut bits: u64) -> u64 {
    bits ^= bits << 1;
    bits ^= bits << 2;
    bits ^= bits << 4;
    bits ^= bits << 8;
    bits ^= bits << 16;
    bits ^ (bits << 32)
}

/// Opening and closing brackets differ from each other by this bit alone.
const CASE_BIT: u8 = 0x20;

#[inline]
fn string_special(chunk: &[u8; 16]) -> u32 {
    let bytes = u8x16::new(*chunk);
    let controls = bytes.min(u8x16::splat(0x1f)).simd_eq(bytes);
    let quotes = bytes.simd_eq(u8x16::splat(b'"'));
    let backslashes = bytes.simd_eq(u8x16::splat(b'\\'));
    (quotes | backslashes | controls).to_bitmask()
}

#[inline]
fn marks(block: &[u8; BLOCK_BYTES]) -> Marks {
    let mut marks = Marks::default();
    let (chunks, _) = block.as_chunks::<16>();
    for (chunk, shift) in chunks.iter().zip([0_u32, 16, 32, 48]) {
        let bytes = u8x16::new(*chunk);
        let without_case = bytes | u8x16::splat(CASE_BIT);
        let equal =
            |bytes: u8x16, byte| u64::from(bytes.simd_eq(u8x16::splat(byte)).to_bitmask()) << shift;
        marks.quotes |= equal(bytes, b'"');
        marks.backslashes |= equal(bytes, b'\\');
        marks.opens |= equal(without_case, b'{');
        marks.closes |= equal(without_case, b'}');
    }
    marks
}

#[cfg(test)]
mod tests {
    use proptest::array::uniform;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    fn byte() -> impl Strategy<Value = u8> {
        prop_oneof![select(&b"\"\\{}[] a\x1f\x20\x7f\x80\xff"[..]), any::<u8>()]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_first_byte_that_ends_plain_text_is_found(block in uniform::<_, 64>(byte())) {
            let is_special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20);
            for length in 0..64 {
                let expected = block[..length].iter().position(is_special).unwrap_or(length);
                assert_eq!(find_string_special(&block[..length]), expected);
            }
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
                    let is_open = matches!(byte, b'{' | b'[') && !inside;
                    assert_eq!(brackets.opens >> place & 1 == 1, is_open);
                    let is_close = matches!(byte, b'}' | b']') && !inside;
                    assert_eq!(brackets.closes >> place & 1 == 1, is_close);
                }
            }
        }
    }
}
