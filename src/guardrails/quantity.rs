//! Kubernetes quantities as exact numbers, to compare them with ceilings and to detect drift.
//!
//! Called by `ceiling`, `quota` and `drift`. Like the API server, it rounds up to one nano and caps at 2^63 - 1, so that
//! "1k" and "1000" are the same amount.

use crate::limits;

/// An amount in nanos, between 0 and 2^63 - 1 units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Amount(u128);

/// Decimal places of the smallest amount.
const NANO_PLACES: i64 = 9;

/// The API server's cap of 2^63 - 1, in nanos.
const CAP_NANOS: u128 = 9_223_372_036_854_775_807 * 1_000_000_000;

impl Amount {
    /// Parses a quantity that is not negative. `None` if the text is not one.
    #[must_use]
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.len() > limits::QUANTITY_BYTES_MAX {
            return None;
        }
        let number_end = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(text.len());
        let (number, suffix) = text.split_at(number_end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return None;
        }
        let scale = Scale::parse(suffix)?;
        let places = i64::try_from(fraction.len()).ok()?;
        // Least significant digit first.
        let mut digits: Vec<u32> = whole
            .bytes()
            .chain(fraction.bytes())
            .rev()
            .map(|byte| u32::from(byte - b'0'))
            .collect();
        for _ in 0..scale.kibis {
            multiply_by_1024(&mut digits);
        }
        Some(Self(nanos(&digits, scale.tens - places + NANO_PLACES)))
    }

    /// Whether the amount is 0.
    #[must_use]
    pub(crate) const fn is_zero(self) -> bool {
        self.0 == 0
    }
}

/// Whether two texts are the same amount. Texts that are not quantities are compared as texts.
#[must_use]
pub(crate) fn same(left: &str, right: &str) -> bool {
    match (Amount::parse(left), Amount::parse(right)) {
        (Some(left), Some(right)) => left == right,
        _ => left == right,
    }
}

/// The factor of a suffix: 10^tens × 1024^kibis.
struct Scale {
    tens: i64,
    kibis: u32,
}

impl Scale {
    fn parse(suffix: &str) -> Option<Self> {
        let decimal = |tens| Some(Self { tens, kibis: 0 });
        let binary = |kibis| Some(Self { tens: 0, kibis });
        match suffix {
            "n" => decimal(-9),
            "u" => decimal(-6),
            "m" => decimal(-3),
            "" => decimal(0),
            "k" => decimal(3),
            "M" => decimal(6),
            "G" => decimal(9),
            "T" => decimal(12),
            "P" => decimal(15),
            "E" => decimal(18),
            "Ki" => binary(1),
            "Mi" => binary(2),
            "Gi" => binary(3),
            "Ti" => binary(4),
            "Pi" => binary(5),
            "Ei" => binary(6),
            _ => {
                let exponent = suffix.strip_prefix(['e', 'E'])?;
                let unsigned = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
                if unsigned.is_empty() || !unsigned.bytes().all(|b| b.is_ascii_digit()) {
                    return None;
                }
                // Beyond 10^±60 every amount is the cap or one nano, regardless of the digits.
                let size = unsigned.parse::<i64>().unwrap_or(i64::MAX).min(60);
                decimal(if exponent.starts_with('-') {
                    -size
                } else {
                    size
                })
            }
        }
    }
}

fn multiply_by_1024(digits: &mut Vec<u32>) {
    let mut carry = 0;
    for digit in digits.iter_mut() {
        let product = *digit * 1024 + carry;
        *digit = product % 10;
        carry = product / 10;
    }
    while carry > 0 {
        digits.push(carry % 10);
        carry /= 10;
    }
}

/// The digits times 10^shift, rounded up and capped.
fn nanos(digits: &[u32], shift: i64) -> u128 {
    let dropped = usize::try_from(-shift).unwrap_or(0);
    let mut value: u128 = 0;
    for digit in digits.iter().skip(dropped).rev() {
        value = value.saturating_mul(10).saturating_add(u128::from(*digit));
    }
    if digits.iter().take(dropped).any(|digit| *digit != 0) {
        value = value.saturating_add(1);
    }
    for _ in 0..shift.max(0) {
        value = value.saturating_mul(10);
    }
    value.min(CAP_NANOS)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn amount(text: &str) -> Amount {
        Amount::parse(text).unwrap_or_else(|| panic!("{text} is a quantity"))
    }

    #[test]
    fn spellings_of_one_amount_are_equal() {
        for (left, right) in [
            ("1", "1000m"),
            ("1k", "1000"),
            ("1Ki", "1024"),
            ("0.5", "500m"),
            ("1.5Gi", "1536Mi"),
            ("1e3", "1k"),
            ("12E2", "1200"),
            ("1E", "1000P"),
            ("1e-3", "1m"),
            (".5", "500m"),
            ("5.", "5"),
        ] {
            assert!(same(left, right), "{left} = {right}");
        }
    }

    #[test]
    fn order_is_exact_across_suffixes() {
        assert!(amount("1G") < amount("1Gi"));
        assert!(amount("1023Mi") < amount("1Gi"));
        assert!(amount("999m") < amount("1"));
        assert!(amount("1.000000001") > amount("1"));
    }

    #[test]
    fn less_than_a_nano_is_rounded_up_and_large_amounts_are_capped() {
        assert_eq!(amount("0.1n"), amount("1n"));
        assert_eq!(amount("1e999999999999"), amount("9223372036854775807"));
        assert_eq!(amount("999Ei"), amount("9223372036854775807"));
        assert!(amount("0e99").is_zero());
    }

    #[test]
    fn other_text_is_refused() {
        for text in ["", ".", "-1", "1.2.3", "1Zi", "1e", "1e+", "x", "1 ", "1K"] {
            assert_eq!(Amount::parse(text), None, "{text:?}");
        }
        assert_eq!(Amount::parse(&"9".repeat(200)), None);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,40}") {
            let _ = Amount::parse(&text);
        }

        #[test]
        fn whole_numbers_keep_their_order(left in 0u64..=i64::MAX as u64, right in 0u64..=i64::MAX as u64) {
            prop_assert_eq!(
                amount(&left.to_string()).cmp(&amount(&right.to_string())),
                left.cmp(&right)
            );
        }
    }
}
