//! Sample files: JSON lines of `time`, `pod`, `cpu` and `gpu`, as node metrics write them down.
//!
//! Called by `replay` for `--samples`. A few lines a minute, so it reads into a value and is
//! liberal: times as numbers or dates, numbers as text, activities as shares or percents, short
//! names or those of DCGM. What cannot be read is absent, which is no evidence.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::field::Scalar;
use super::{Decoded, Malformed, NoSignal, SkipReason, parse, text_of};
use crate::limits;
use crate::model::{ComputeSample, GpuSample, Signal, clip};

/// DCGM marks a blank with a number near 2^63; no figure that is read here comes near this.
const BLANK_MIN: f64 = 1e15;

/// Decodes one line of a sample file.
#[must_use]
pub fn decode_sample(line: &[u8]) -> Decoded<'_> {
    match read(line) {
        Ok(sample) => Decoded::Signal(Signal::Sample(sample)),
        Err(NoSignal::Skipped(reason)) => Decoded::Skipped(reason),
        Err(NoSignal::Unknown) => Decoded::Unknown,
        Err(NoSignal::Malformed(malformed)) => Decoded::Malformed(malformed),
    }
}

fn read(line: &[u8]) -> Result<ComputeSample<'_>, NoSignal> {
    let text = text_of(line)?;
    if text.is_empty() {
        return Err(SkipReason::Blank.into());
    }
    let Value::Object(fields) = parse::<Value>(text)? else {
        return Err(NoSignal::Unknown);
    };
    let time = first(&fields, &["time", "timestamp", "ts"]).ok_or(NoSignal::Unknown)?;
    let time = scalar(time).time()?.ok_or(Malformed::BadTime)?;
    let pod = first(&fields, &["pod"])
        .and_then(Value::as_str)
        .unwrap_or_default();
    if pod.is_empty() {
        return Err(Malformed::MissingField.into());
    }
    Ok(ComputeSample {
        time,
        pod: Cow::Owned(clip(pod, limits::NAME_BYTES_MAX).to_owned()),
        cpu: first(&fields, &["cpu"]).and_then(number),
        gpu: fields.get("gpu").and_then(gpu),
    })
}

fn gpu(value: &Value) -> Option<GpuSample> {
    let fields = match value {
        Value::Object(fields) => fields,
        // Several accelerators: the first stands for all, as a job uses them alike.
        Value::Array(list) => return list.iter().take(1).find_map(gpu),
        other => {
            return number(other).map(|share| GpuSample {
                utilization: Some(as_share(share)),
                ..GpuSample::default()
            });
        }
    };
    let share = |names: &[&str]| first(fields, names).and_then(number).map(as_share);
    let plain = |names: &[&str]| first(fields, names).and_then(number);
    let links = [
        "DCGM_FI_PROF_PCIE_TX_BYTES",
        "DCGM_FI_PROF_PCIE_RX_BYTES",
        "DCGM_FI_PROF_NVLINK_TX_BYTES",
        "DCGM_FI_PROF_NVLINK_RX_BYTES",
        "pcie_tx_bytes",
        "pcie_rx_bytes",
        "nvlink_tx_bytes",
        "nvlink_rx_bytes",
        "link_bytes_per_second",
    ];
    let links: Vec<_> = links.iter().filter_map(|name| plain(&[name])).collect();
    Some(GpuSample {
        utilization: share(&[
            "DCGM_FI_DEV_GPU_UTIL",
            "DCGM_FI_PROF_GR_ENGINE_ACTIVE",
            "utilization",
            "util",
        ]),
        sm_active: share(&["DCGM_FI_PROF_SM_ACTIVE", "sm_active", "sm"]),
        tensor_active: share(&["DCGM_FI_PROF_PIPE_TENSOR_ACTIVE", "tensor_active", "tensor"]),
        dram_active: share(&["DCGM_FI_PROF_DRAM_ACTIVE", "dram_active", "dram"]),
        int_active: share(&["DCGM_FI_PROF_PIPE_INT_ACTIVE", "int_active"]),
        fp64_active: share(&["DCGM_FI_PROF_PIPE_FP64_ACTIVE", "fp64_active"]),
        power_watts: plain(&["DCGM_FI_DEV_POWER_USAGE", "power_watts", "power"]),
        memory_used_mib: plain(&["DCGM_FI_DEV_FB_USED", "memory_used_mib", "fb_used"]),
        link_bytes_per_second: (!links.is_empty()).then(|| links.iter().sum()),
    })
}

fn first<'v>(fields: &'v Map<String, Value>, names: &[&str]) -> Option<&'v Value> {
    names
        .iter()
        .filter_map(|name| fields.get(*name))
        .find(|value| !value.is_null())
}

fn number(value: &Value) -> Option<f64> {
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }?;
    (number.is_finite() && (0.0..BLANK_MIN).contains(&number)).then_some(number)
}

/// An activity as a share: DCGM writes 0 to 1, NVML 0 to 100.
fn as_share(activity: f64) -> f64 {
    if activity > 1.0 {
        (activity / 100.0).min(1.0)
    } else {
        activity
    }
}

fn scalar(value: &Value) -> Scalar<'_> {
    match value {
        Value::Number(number) => match (number.as_u64(), number.as_f64()) {
            (Some(number), _) => Scalar::Unsigned(number),
            (None, Some(number)) => Scalar::Float(number),
            (None, None) => Scalar::Other,
        },
        // A number in text, as some writers have it.
        Value::String(text) => match text.parse::<f64>() {
            Ok(seconds) => Scalar::Float(seconds),
            Err(_) => Scalar::Text(Cow::Borrowed(text)),
        },
        _ => Scalar::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(line: &str) -> ComputeSample<'static> {
        match decode_sample(line.as_bytes()) {
            Decoded::Signal(Signal::Sample(sample)) => ComputeSample {
                pod: Cow::Owned(sample.pod.into_owned()),
                ..sample
            },
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn times_are_read_as_seconds_and_as_dates() {
        let seconds = sample(r#"{"time":1700000000.5,"pod":"10.0.0.1","cpu":0.5}"#);
        let date = sample(r#"{"time":"2023-11-14T22:13:20.5Z","pod":"10.0.0.1","cpu":"0.5"}"#);
        assert_eq!(seconds, date);
        assert_eq!((seconds.cpu, seconds.gpu), (Some(0.5), None));
    }

    #[test]
    fn an_accelerator_is_read_by_either_name_and_in_either_unit() {
        let long = sample(
            r#"{"time":1,"pod":"a/b","gpu":{"DCGM_FI_PROF_SM_ACTIVE":0.95,"DCGM_FI_PROF_PIPE_TENSOR_ACTIVE":0.0,"DCGM_FI_DEV_POWER_USAGE":300,"DCGM_FI_PROF_PCIE_TX_BYTES":1000,"DCGM_FI_PROF_PCIE_RX_BYTES":500}}"#,
        );
        let short = sample(
            r#"{"time":1,"pod":"a/b","gpu":{"sm_active":95,"tensor_active":0,"power_watts":"300","link_bytes_per_second":1500}}"#,
        );
        assert_eq!(long, short);
        let number = sample(r#"{"time":1,"pod":"a/b","gpu":97}"#);
        assert_eq!(number.gpu.unwrap().utilization, Some(0.97));
    }

    #[test]
    fn blanks_and_nonsense_are_absent() {
        let blank = sample(
            r#"{"time":1,"pod":"p","cpu":-1,"gpu":{"power_watts":9223372036854775794,"sm_active":null}}"#,
        );
        assert_eq!((blank.cpu, blank.gpu), (None, Some(GpuSample::default())));
    }

    #[test]
    fn a_line_without_a_pod_or_a_time_is_no_sample() {
        for (line, expected) in [
            (
                r#"{"time":1,"cpu":1}"#,
                Decoded::Malformed(Malformed::MissingField),
            ),
            (
                r#"{"time":"soon","pod":"p"}"#,
                Decoded::Malformed(Malformed::BadTime),
            ),
            (r#"{"pod":"p"}"#, Decoded::Unknown),
            ("[]", Decoded::Unknown),
            ("{", Decoded::Malformed(Malformed::Truncated)),
            ("", Decoded::Skipped(SkipReason::Blank)),
        ] {
            assert_eq!(decode_sample(line.as_bytes()), expected, "{line}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_survived(line: Vec<u8>) {
            let _ = decode_sample(&line);
        }
    }
}
