//! Parsers of argument values that several commands share.

use std::time::Duration;

/// Parses a duration such as `60s` or `720h`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wanted = || format!("wants a duration such as 60s or 720h, got {text:?}");
    let signed: jiff::SignedDuration = text.parse().map_err(|_| wanted())?;
    Duration::try_from(signed).map_err(|_| wanted())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_a_unit_and_is_not_negative() {
        assert_eq!(duration("720h"), Ok(Duration::from_hours(720)));
        assert!(duration("soon").unwrap_err().contains("60s"));
        assert!(duration("-5s").is_err());
    }
}
