//! Durations in texts for people, in one unit: seconds up to two minutes, minutes up to two hours, hours up to two days.
//!
//! Used by findings, reports and commands, so that the same duration reads the same everywhere.

const MICROS_PER_SECOND: i64 = 1_000_000;

/// Rounded down, as `90 s` or `3 h`; never less than `1 s`.
#[must_use]
pub(crate) fn rounded(micros: i64) -> String {
    let (count, unit) = in_one_unit((micros / MICROS_PER_SECOND).max(1));
    format!("{count} {unit}")
}

/// With tenths below ten seconds, where the difference between one and two seconds matters, and with a sign.
#[must_use]
pub(crate) fn precise(micros: i64) -> String {
    match micros / MICROS_PER_SECOND {
        ..0 => format!("-{}", precise(micros.saturating_neg())),
        seconds @ 0..10 => format!("{seconds}.{} s", (micros / 100_000) % 10),
        _ => rounded(micros),
    }
}

/// As kubectl prints an age: `90s`, `3h`.
#[must_use]
pub(crate) fn compact(seconds: i64) -> String {
    let (count, unit) = in_one_unit(seconds.max(0));
    format!("{count}{}", unit.get(..1).unwrap_or(unit))
}

const fn in_one_unit(seconds: i64) -> (i64, &'static str) {
    match seconds {
        ..120 => (seconds, "s"),
        120..7_200 => (seconds / 60, "min"),
        7_200..172_800 => (seconds / 3_600, "h"),
        _ => (seconds / 86_400, "d"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_in_the_largest_unit_of_which_it_has_two() {
        for (seconds, expected) in [
            (0, "1 s"),
            (119, "119 s"),
            (120, "2 min"),
            (7_199, "119 min"),
            (7_200, "2 h"),
            (172_799, "47 h"),
            (172_800, "2 d"),
        ] {
            assert_eq!(rounded(seconds * MICROS_PER_SECOND), expected);
        }
    }

    #[test]
    fn short_durations_have_tenths_and_earlier_ones_a_sign() {
        assert_eq!(precise(1_290_000), "1.2 s");
        assert_eq!(precise(10_900_000), "10 s");
        assert_eq!(precise(-1_200_000), "-1.2 s");
        assert_eq!(precise(200_000_000), "3 min");
    }

    #[test]
    fn an_age_is_short_and_never_negative() {
        for (seconds, expected) in [(-10, "0s"), (0, "0s"), (7_199, "119m"), (172_800, "2d")] {
            assert_eq!(compact(seconds), expected);
        }
    }
}
