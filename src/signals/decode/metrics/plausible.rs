//! Which figures are possible. Used by every reader of node metrics and of sample files.
//!
//! Counters that wrapped, drivers that divide by zero and fields that a device does not support appear as
//! numbers. A figure that is impossible for any machine is left out and counted; the rest of the response is kept.

/// More processors than any machine has.
pub(in super::super) const CORES_MAX: f64 = 65_536.0;

/// CPU usage in a sample file may have any unit; thousandths of a core are the smallest that
/// is used in practice.
pub(in super::super) const USE_MAX: f64 = CORES_MAX * 1_000.0;

/// An accelerator board takes 2,000 W at most.
const POWER_WATTS_MAX: f64 = 20_000.0;

/// 16 TiB on one device.
const MEMORY_MIB_MAX: f64 = 16_777_216.0;

/// 100 TB/s over one device's links.
const LINK_BYTES_MAX: f64 = 1e14;

/// A share may be slightly above 1, because its numerator and denominator are measured separately.
const SHARE_MAX: f64 = 1.01;

/// What a figure measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Figure {
    /// A share of the time, from 0 to 1.
    Share,
    /// The same in percent.
    Percent,
    /// Watts.
    Power,
    /// MiB.
    Memory,
    /// Bytes per second.
    Link,
}

/// The result of the check of a figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in super::super) enum Checked {
    /// The figure is possible. Percentages have been converted to shares.
    Plausible(f64),
    /// A special number that means "not supported".
    Blank,
    /// The figure is impossible for any device.
    Impossible,
}

/// Checks a figure of an accelerator.
pub(in super::super) fn check(figure: Figure, value: f64) -> Checked {
    if is_blank(value) {
        return Checked::Blank;
    }
    let (value, max) = match figure {
        Figure::Share => (value, SHARE_MAX),
        Figure::Percent => (value / 100.0, SHARE_MAX),
        Figure::Power => (value, POWER_WATTS_MAX),
        Figure::Memory => (value, MEMORY_MIB_MAX),
        Figure::Link => (value, LINK_BYTES_MAX),
    };
    // Also false for NaN.
    if !(0.0..=max).contains(&value) {
        return Checked::Impossible;
    }
    Checked::Plausible(match figure {
        Figure::Share | Figure::Percent => value.min(1.0),
        _ => value,
    })
}

/// DCGM's blanks: the last 16 numbers of 32 and of 64 bits, and 2^47 and the numbers after it for figures
/// with a fraction. As a floating-point number, a 64-bit blank may be read as 2^63.
fn is_blank(value: f64) -> bool {
    const BLANK_32: f64 = 2_147_483_632.0;
    const BLANK_FRACTION: f64 = 140_737_488_355_328.0;
    const BLANK_64_MIN: f64 = 9.223_372_036_854_7e18;
    const BLANK_64_MAX: f64 = 9.223_372_036_854_776e18;
    (BLANK_32..BLANK_32 + 16.0).contains(&value)
        || (BLANK_FRACTION..BLANK_FRACTION + 16.0).contains(&value)
        || (BLANK_64_MIN..=BLANK_64_MAX).contains(&value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_percents_become_shares() {
        for (figure, value, expected) in [
            (Figure::Share, 0.97, 0.97),
            (Figure::Share, 1.000_1, 1.0),
            (Figure::Percent, 97.0, 0.97),
            (Figure::Power, 310.5, 310.5),
        ] {
            let Checked::Plausible(found) = check(figure, value) else {
                panic!("{figure:?} {value}");
            };
            assert!(
                (found - expected).abs() < 1e-9,
                "{figure:?} {value}: {found}"
            );
        }
    }

    #[test]
    fn blanks_are_absent_and_nonsense_is_impossible() {
        for blank in [
            9_223_372_036_854_775_794.0,
            140_737_488_355_328.0,
            2_147_483_632.0,
        ] {
            assert_eq!(check(Figure::Power, blank), Checked::Blank);
        }
        for (figure, value) in [
            (Figure::Share, 1.5),
            (Figure::Share, -0.1),
            (Figure::Percent, 150.0),
            (Figure::Percent, f64::NAN),
            (Figure::Power, f64::INFINITY),
            (Figure::Power, -1.0),
            (Figure::Power, 4_294_967.0),
            (Figure::Memory, 1.8e19),
            (Figure::Link, 1e18),
        ] {
            assert_eq!(
                check(figure, value),
                Checked::Impossible,
                "{figure:?} {value}"
            );
        }
    }
}
