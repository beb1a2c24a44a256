//! Mutation that knows what lines look like: JSON and words between spaces. Used by `fuzz`.

use yellowjack::testing::limits;

use crate::Random;

/// Inputs longer than this are cut, save for the few that try the bound of a line.
const INPUT_BYTES_MAX: usize = 16 * 1024;

/// Values that break assumptions.
const VALUES: [&str; 34] = [
    "null",
    "true",
    "-1",
    "0",
    "1",
    "18",
    "40",
    "65536",
    "4294967296",
    "18446744073709551615",
    "18446744073709551616",
    "1e308",
    "-0.0",
    "4102444801",
    "\"\"",
    "\"-\"",
    "\"\\u0000\"",
    "\"\\ud800\"",
    "\"\\\"\"",
    "\"::ffff:10.0.0.1\"",
    "\"fe80::1%eth0\"",
    "\"999.1.1.1\"",
    "\"9999-12-31T23:59:59Z\"",
    "\"-009999-01-01T00:00:00Z\"",
    "[]",
    "{}",
    "[[[[]]]]",
    "{\"type\":1}",
    "[\"a\",1,null,{}]",
    "[{\"rrname\":\".\",\"rdata\":\"::1\"}]",
    "-",
    "SKIPDATA",
    "srcaddr",
    "\u{202e}\u{0}",
];

/// Makes inputs out of seeds and of inputs that led to something new.
#[derive(Debug)]
pub struct Mutator {
    random: Random,
    seeds: Vec<Vec<u8>>,
    kept: Vec<Vec<u8>>,
    tried: usize,
}

impl Mutator {
    /// One that has kept nothing yet.
    #[must_use]
    pub const fn new(random: Random, seeds: Vec<Vec<u8>>) -> Self {
        Self {
            random,
            seeds,
            kept: Vec::new(),
            tried: 0,
        }
    }

    /// Keeps an input for further mutation. Of more than `max` a random one gives way.
    pub fn keep(&mut self, input: Vec<u8>, max: usize) {
        if self.kept.len() < max {
            self.kept.push(input);
        } else {
            let at = self.random.below(self.kept.len());
            if let Some(slot) = self.kept.get_mut(at) {
                *slot = input;
            }
        }
    }

    /// Each seed as it is, then mutations.
    pub fn next_input(&mut self) -> Vec<u8> {
        if let Some(seed) = self.seeds.get(self.tried) {
            self.tried += 1;
            return seed.clone();
        }
        let mut input = self.parent();
        for _ in 0..=self.random.below(5) {
            self.mutate(&mut input);
        }
        input.truncate(INPUT_BYTES_MAX);
        if self.random.one_in(20_000) {
            let length = limits::LINE_BYTES_MAX - 2 + self.random.below(4);
            let filler = *self.random.pick(b"[{ x\"1,:").unwrap_or(&b'x');
            input.resize(length, filler);
        }
        input
    }

    fn parent(&mut self) -> Vec<u8> {
        let from_seeds = self.kept.is_empty() || self.random.one_in(3);
        let pool = if from_seeds { &self.seeds } else { &self.kept };
        self.random.pick(pool).cloned().unwrap_or_default()
    }

    fn mutate(&mut self, input: &mut Vec<u8>) {
        let at = self.random.below(input.len() + 1);
        match self.random.below(16) {
            0 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= 1 << self.random.below(8);
                }
            }
            1 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte = self.random.byte();
                }
            }
            2 => input.insert(at, self.random.byte()),
            3 => input.truncate(at),
            4 => {
                let end = (at + 1 + self.random.below(16)).min(input.len());
                input.drain(at.min(end)..end);
            }
            5 => self.splice(input, at),
            6..=8 => self.replace_value(input, at),
            9 => self.repeat_pair(input, at),
            10 => self.edit_number(input, at),
            11 => self.swap_words(input),
            12..=14 => self.transplant(input, at),
            _ => {
                let nest = *self
                    .random
                    .pick(&["[", "{\"a\":", "\n", " "])
                    .unwrap_or(&"[");
                let count = self.random.below(300);
                input.splice(at..at, nest.repeat(count).bytes());
            }
        }
    }

    /// Goes on with the end of another input.
    fn splice(&mut self, input: &mut Vec<u8>, at: usize) {
        let other = self.parent();
        let from = self.random.below(other.len() + 1);
        input.truncate(at);
        input.extend(other.iter().skip(from));
    }

    /// Puts a hostile value in the place of the next one.
    fn replace_value(&mut self, input: &mut Vec<u8>, at: usize) {
        let value = *self.random.pick(&VALUES).unwrap_or(&"null");
        let range = value_after(input, at);
        input.splice(range, value.bytes());
    }

    /// Takes the value of a key from another input that has the key: what each line says alone is
    /// well known, and what they say together is not.
    fn transplant(&mut self, input: &mut Vec<u8>, at: usize) {
        let Some(start) = find(input, at, |byte| byte == b'"') else {
            return;
        };
        let Some(colon) = find(input, start, |byte| byte == b':') else {
            return;
        };
        let key = input.get(start..=colon).unwrap_or_default();
        let other = self.parent();
        let Some(place) = other.windows(key.len()).position(|part| part == key) else {
            return;
        };
        let value = other.get(value_after(&other, place)).unwrap_or_default();
        let range = value_after(input, start);
        input.splice(range, value.iter().copied());
    }

    /// Writes a key with its value once more, there or elsewhere.
    fn repeat_pair(&mut self, input: &mut Vec<u8>, at: usize) {
        let Some(start) = find(input, at, |byte| matches!(byte, b'{' | b',' | b' ')) else {
            return;
        };
        let end = find(input, start + 1, |byte| matches!(byte, b',' | b'}' | b' '));
        let end = end.unwrap_or(input.len());
        let pair = input.get(start..end).unwrap_or_default().to_vec();
        let to = if self.random.one_in(2) {
            end
        } else {
            self.random.below(input.len() + 1)
        };
        input.splice(to..to, pair);
    }

    /// Changes a digit, which keeps the shape of numbers, addresses and dates.
    fn edit_number(&mut self, input: &mut [u8], at: usize) {
        let digit = b'0' + self.random.byte() % 10;
        let place = find(input, at, |byte| byte.is_ascii_digit());
        if let Some(byte) = place.and_then(|place| input.get_mut(place)) {
            *byte = digit;
        }
    }

    /// Puts two words of a line in each other's place.
    fn swap_words(&mut self, input: &mut Vec<u8>) {
        let mut words: Vec<Vec<u8>> = input
            .split(|byte| *byte == b' ')
            .map(<[u8]>::to_vec)
            .collect();
        let (one, other) = (
            self.random.below(words.len()),
            self.random.below(words.len()),
        );
        words.swap(one, other);
        *input = words.join(&b' ');
    }
}

/// The first place from `at` on whose byte fits.
fn find(input: &[u8], at: usize, fits: impl Fn(u8) -> bool) -> Option<usize> {
    let rest = input.iter().skip(at);
    rest.copied().position(fits).map(|offset| at + offset)
}

/// The place of the value behind the next colon, or of the next word.
fn value_after(input: &[u8], at: usize) -> std::ops::Range<usize> {
    let Some(before) = find(input, at, |byte| matches!(byte, b':' | b' ')) else {
        return at..input.len();
    };
    let start = before + 1;
    let end = find(input, start, |byte| {
        matches!(byte, b',' | b'}' | b' ' | b'\n')
    });
    start..end.unwrap_or(input.len())
}
