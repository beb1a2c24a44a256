//! A list of PodMetrics of `metrics.k8s.io`: averages over a window, 15 to 60 s old.
//!
//! Called by `metrics`. Contains only CPU and memory of containers. The API returns the same object
//! until the next one is available, so a time that occurred before is not new data.

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::super::time;
use super::plausible::CORES_MAX;
use super::rates::Rates;
use super::{ReadResult, cpu_sample, is_name, malformed};
use crate::limits;

/// A missing or unreadable window is treated as a long one.
const WINDOW_DEFAULT_US: i64 = 60_000_000;
const WINDOW_MAX_US: i64 = 300_000_000;

#[derive(Deserialize)]
struct List {
    /// `null` for an empty list of Go.
    items: Option<Vec<Entry>>,
}

/// An item, or anything else: an invalid one must not affect the others.
#[derive(Deserialize)]
#[serde(untagged)]
enum Entry {
    Item(Item),
    Odd(IgnoredAny),
}

#[derive(Deserialize)]
struct Item {
    metadata: Metadata,
    #[serde(default)]
    timestamp: Option<String>,
    #[serde(default)]
    window: Option<String>,
    #[serde(default)]
    containers: Option<Vec<Container>>,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    namespace: Option<String>,
}

#[derive(Deserialize)]
struct Container {
    #[serde(default)]
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Usage {
    #[serde(default)]
    cpu: Option<String>,
}

/// Why an item yields no sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bad {
    Malformed,
    Impossible,
}

pub(super) fn read(text: &str, rates: &mut Rates) -> ReadResult {
    let Ok(list) = serde_json::from_str::<List>(text) else {
        return malformed();
    };
    let mut found = ReadResult::default();
    for entry in list.items.unwrap_or_default() {
        let read = match entry {
            Entry::Item(item) => read_item(&item, rates, &mut found),
            Entry::Odd(_) => Err(Bad::Malformed),
        };
        match read {
            Ok(()) => {}
            Err(Bad::Malformed) => found.read.malformed += 1,
            Err(Bad::Impossible) => found.read.impossible += 1,
        }
    }
    found
}

fn read_item(item: &Item, rates: &mut Rates, found: &mut ReadResult) -> Result<(), Bad> {
    let namespace = item.metadata.namespace.as_deref().unwrap_or_default();
    let name = item.metadata.name.as_deref().unwrap_or_default();
    let timestamp = item.timestamp.as_deref().ok_or(Bad::Malformed)?;
    let time = time::parse(timestamp).ok_or(Bad::Malformed)?;
    if !is_name(namespace) || !is_name(name) {
        return Err(Bad::Malformed);
    }
    found.record_time(time);
    if !rates.is_new([namespace, name, ""], time) {
        return Ok(());
    }
    let cores = cores_of(item.containers.as_deref().unwrap_or_default())?;
    let window = item.window.as_deref().unwrap_or_default();
    let from = time.plus_micros(-window_us(window));
    let sample = cpu_sample(namespace, name, (from, time), cores);
    found.read.samples.push(sample);
    Ok(())
}

/// Usage of all containers; unknown if that of one is unknown, or if there are none.
fn cores_of(containers: &[Container]) -> Result<f64, Bad> {
    if containers.is_empty() {
        return Err(Bad::Malformed);
    }
    let mut sum = 0.0;
    for container in containers {
        let cpu = container
            .usage
            .as_ref()
            .and_then(|usage| usage.cpu.as_deref());
        sum += quantity(cpu.ok_or(Bad::Malformed)?)?;
    }
    if sum <= CORES_MAX {
        Ok(sum)
    } else {
        Err(Bad::Impossible)
    }
}

fn window_us(text: &str) -> i64 {
    let micros = text
        .parse::<jiff::SignedDuration>()
        .ok()
        .and_then(|window| i64::try_from(window.as_micros()).ok());
    micros.map_or(WINDOW_DEFAULT_US, |us| us.clamp(0, WINDOW_MAX_US))
}

/// An amount of CPU as the API writes it: `337160596n`, `250m`, `2`, `1e3`.
fn quantity(text: &str) -> Result<f64, Bad> {
    if text.len() > limits::QUANTITY_BYTES_MAX {
        return Err(Bad::Malformed);
    }
    // Text that is not a number at all may end in letters too.
    let is_infinite = |amount: &f64| !amount.is_finite();
    if text.parse().is_ok_and(|amount| is_infinite(&amount)) {
        return Err(Bad::Impossible);
    }
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let scale = match text.get(digits.len()..).unwrap_or_default() {
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "" => 1.0,
        "k" => 1e3,
        _ => return Err(Bad::Malformed),
    };
    let amount: f64 = digits.parse().map_err(|_| Bad::Malformed)?;
    let cores = amount * scale;
    if (0.0..=CORES_MAX).contains(&cores) {
        Ok(cores)
    } else {
        Err(Bad::Impossible)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_the_api_writes_them() {
        for (text, cores) in [
            ("337160596n", Ok(0.337_160_596)),
            ("15u", Ok(0.000_015)),
            ("1m", Ok(0.001)),
            ("250m", Ok(0.25)),
            ("0", Ok(0.0)),
            ("2", Ok(2.0)),
            ("1.5", Ok(1.5)),
            ("1e1", Ok(10.0)),
            ("1k", Ok(1_000.0)),
            ("-1", Err(Bad::Impossible)),
            ("NaN", Err(Bad::Impossible)),
            ("inf", Err(Bad::Impossible)),
            ("18446744074", Err(Bad::Impossible)),
            ("18446744073709551615n", Err(Bad::Impossible)),
            ("m", Err(Bad::Malformed)),
            ("", Err(Bad::Malformed)),
            ("1Ki", Err(Bad::Malformed)),
        ] {
            let read = quantity(text);
            let is_same = match (read, cores) {
                (Ok(read), Ok(cores)) => (read - cores).abs() < 1e-12,
                (read, cores) => read == cores,
            };
            assert!(is_same, "{text}: {read:?}");
        }
    }

    #[test]
    fn a_window_is_a_go_duration() {
        assert_eq!(window_us("30s"), 30_000_000);
        assert_eq!(window_us("10.016s"), 10_016_000);
        assert_eq!(window_us("1m0.729s"), 60_729_000);
        assert_eq!(window_us("1m0s"), 60_000_000);
        for odd in ["", "soon", "-"] {
            assert_eq!(window_us(odd), WINDOW_DEFAULT_US);
        }
        assert_eq!((window_us("-5s"), window_us("9h")), (0, WINDOW_MAX_US));
    }
}
