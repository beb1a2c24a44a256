//! A list of PodMetrics of `metrics.k8s.io`: averages over a window, 15 to 60 s old.
//!
//! Called by `metrics`. Holds processors and memory of containers only. The same object comes again
//! until the next one is there, so that a time that was seen is no news.

use serde::Deserialize;

use super::super::time;
use super::rates::Rates;
use super::{Found, cpu_sample, is_name, malformed};
use crate::limits;

/// A window that is not said, or not readable, is taken for a long one.
const WINDOW_DEFAULT_US: i64 = 60_000_000;
const WINDOW_MAX_US: i64 = 300_000_000;

#[derive(Deserialize)]
struct List {
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    metadata: Metadata,
    #[serde(default)]
    timestamp: String,
    #[serde(default)]
    window: String,
    #[serde(default)]
    containers: Vec<Container>,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(default)]
    name: String,
    #[serde(default)]
    namespace: String,
}

#[derive(Deserialize)]
struct Container {
    #[serde(default)]
    usage: Usage,
}

#[derive(Default, Deserialize)]
struct Usage {
    #[serde(default)]
    cpu: Option<String>,
}

pub(super) fn read(text: &str, rates: &mut Rates) -> Found {
    let Ok(list) = serde_json::from_str::<List>(text) else {
        return malformed();
    };
    let mut found = Found::default();
    for item in &list.items {
        let (namespace, name) = (
            item.metadata.namespace.as_str(),
            item.metadata.name.as_str(),
        );
        let Some(time) =
            time::parse(&item.timestamp).filter(|_| is_name(namespace) && is_name(name))
        else {
            found.read.malformed += 1;
            continue;
        };
        found.saw(time);
        if !rates.is_news([namespace, name, ""], time) {
            continue;
        }
        if let Some(cores) = cores_of(&item.containers) {
            let from = time.plus_micros(-window_us(&item.window));
            found
                .read
                .samples
                .push(cpu_sample(namespace, name, (from, time), cores));
        } else {
            found.read.malformed += 1;
        }
    }
    found
}

/// Use of all containers; unknown where that of one is, or where there is none.
fn cores_of(containers: &[Container]) -> Option<f64> {
    let cores = containers.iter().map(|c| quantity(c.usage.cpu.as_deref()?));
    let all: Option<Vec<f64>> = cores.collect();
    all.filter(|all| !all.is_empty())
        .map(|all| all.iter().sum())
}

fn window_us(text: &str) -> i64 {
    let micros = text
        .parse::<jiff::SignedDuration>()
        .ok()
        .and_then(|window| i64::try_from(window.as_micros()).ok());
    micros.map_or(WINDOW_DEFAULT_US, |us| us.clamp(0, WINDOW_MAX_US))
}

/// An amount of processors as the API writes it: `337160596n`, `250m`, `2`, `1e3`.
fn quantity(text: &str) -> Option<f64> {
    if text.len() > limits::QUANTITY_BYTES_MAX {
        return None;
    }
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let scale = match text.get(digits.len()..)? {
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "" => 1.0,
        "k" => 1e3,
        _ => return None,
    };
    let amount: f64 = digits.parse().ok()?;
    (amount.is_finite() && amount >= 0.0).then_some(amount * scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_the_api_writes_them() {
        for (text, cores) in [
            ("337160596n", Some(0.337_160_596)),
            ("15u", Some(0.000_015)),
            ("1m", Some(0.001)),
            ("250m", Some(0.25)),
            ("0", Some(0.0)),
            ("2", Some(2.0)),
            ("1.5", Some(1.5)),
            ("1e1", Some(10.0)),
            ("1k", Some(1_000.0)),
            ("-1", None),
            ("NaN", None),
            ("inf", None),
            ("m", None),
            ("", None),
            ("1Ki", None),
        ] {
            let read = quantity(text);
            let is_same = match (read, cores) {
                (Some(read), Some(cores)) => (read - cores).abs() < 1e-12,
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
