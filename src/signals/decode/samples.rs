//! Sample files: JSON lines with `time`, `pod`, `cpu` and `gpu`, as recorded from node metrics.
//!
//! Called by `replay` for `--samples`. There are only a few lines a minute, so the reader parses into a generic value
//! and is lenient: times as numbers or dates, numbers as text, activities as shares or percentages, short
//! names or those of DCGM. Unreadable values are treated as absent, which is no evidence. A figure that is impossible
//! for any machine is left out and counted; the other figures of its line are kept.

use std::borrow::Cow;
use std::cell::Cell;

use serde_json::{Map, Value};

use super::field::Scalar;
use super::metrics::device_key;
use super::metrics::plausible::{Checked, Figure, USE_MAX, check};
use super::{Decoded, Malformed, NoSignal, SkipReason, parse, text_of};
use crate::limits;
use crate::model::{ComputeSample, DeviceUse, GpuSample, Signal, clip};

/// The content of a line of a sample file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SampleLine<'a> {
    /// The sample. The use of its accelerator is unknown, or shared if the line declares it.
    pub decoded: Decoded<'a>,
    /// Number of figures that are impossible for any machine.
    pub impossible_count: u64,
}

/// Decodes one line of a sample file.
#[must_use]
pub fn decode_sample(line: &[u8]) -> Decoded<'_> {
    read_sample(line).decoded
}

/// Like [`decode_sample`], with the number of figures that were left out.
#[must_use]
pub(crate) fn read_sample(line: &[u8]) -> SampleLine<'_> {
    let figures = Figures::default();
    let decoded = match read(line, &figures) {
        Ok(sample) => Decoded::Signal(Signal::Sample(sample)),
        Err(NoSignal::Skipped(reason)) => Decoded::Skipped(reason),
        Err(NoSignal::Unknown) => Decoded::Unknown,
        Err(NoSignal::Malformed(malformed)) => Decoded::Malformed(malformed),
    };
    SampleLine {
        decoded,
        impossible_count: figures.impossible_count.get(),
    }
}

/// Reads figures and counts impossible ones.
#[derive(Default)]
struct Figures {
    impossible_count: Cell<u64>,
}

fn read<'a>(line: &'a [u8], figures: &Figures) -> Result<ComputeSample<'a>, NoSignal> {
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
        cpu: first(&fields, &["cpu"]).and_then(|value| figures.processor_use(value)),
        gpu: fields.get("gpu").and_then(|value| figures.gpu(value)),
    })
}

impl Figures {
    fn gpu(&self, value: &Value) -> Option<GpuSample> {
        let fields = match value {
            Value::Object(fields) => fields,
            // Several accelerators: the first represents all, because a job uses them in the same way.
            Value::Array(list) => return list.iter().take(1).find_map(|value| self.gpu(value)),
            other => {
                return self.share(other).map(|share| GpuSample {
                    utilization: Some(share),
                    ..GpuSample::default()
                });
            }
        };
        let share = |names: &[&str]| first(fields, names).and_then(|value| self.share(value));
        let plain = |names: &[&str], figure| {
            first(fields, names).and_then(|value| self.plausible(figure, number(value)?))
        };
        let is_part = first(fields, &PART_FIELDS).is_some();
        let whole = |names: &[&str], figure| plain(names, figure).filter(|_| !is_part);
        let links = LINK_FIELDS.iter().map(|name| whole(&[name], Figure::Link));
        let links: Vec<_> = links.flatten().collect();
        Some(GpuSample {
            device: device(fields),
            device_use: if is_declared_shared(fields) {
                DeviceUse::Shared
            } else {
                DeviceUse::Unknown
            },
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
            power_watts: whole(
                &["DCGM_FI_DEV_POWER_USAGE", "power_watts", "power"],
                Figure::Power,
            ),
            memory_used_mib: plain(
                &["DCGM_FI_DEV_FB_USED", "memory_used_mib", "fb_used"],
                Figure::Memory,
            ),
            link_bytes_per_second: (!links.is_empty()).then(|| links.iter().sum()),
        })
    }

    /// CPU usage in the unit of the file.
    fn processor_use(&self, value: &Value) -> Option<f64> {
        let value = number(value)?;
        if (0.0..=USE_MAX).contains(&value) {
            return Some(value);
        }
        self.count();
        None
    }

    /// An activity as a share: DCGM writes 0 to 1, NVML 0 to 100.
    fn share(&self, value: &Value) -> Option<f64> {
        let value = number(value)?;
        let figure = if value > 1.0 {
            Figure::Percent
        } else {
            Figure::Share
        };
        self.plausible(figure, value)
    }

    fn plausible(&self, figure: Figure, value: f64) -> Option<f64> {
        match check(figure, value) {
            Checked::Plausible(value) => Some(value),
            Checked::Blank => None,
            Checked::Impossible => {
                self.count();
                None
            }
        }
    }

    fn count(&self) {
        self.impossible_count.set(self.impossible_count.get() + 1);
    }
}

/// Fields that identify a device. Only with one of them can a second pod on it be noticed.
const DEVICE_FIELDS: [&str; 7] = [
    "UUID",
    "uuid",
    "gpu_uuid",
    "device_uuid",
    "device",
    "serial_number",
    "pci_bdf",
];

/// Fields that identify a partition of a device.
const PART_FIELDS: [&str; 5] = [
    "GPU_I_ID",
    "gpu_i_id",
    "GPU_I_PROFILE",
    "gpu_i_profile",
    "mig",
];

const LINK_FIELDS: [&str; 9] = [
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

fn device(fields: &Map<String, Value>) -> Option<u64> {
    let identity = plain_text(first(fields, &DEVICE_FIELDS)?)?;
    let node = first(fields, &["Hostname", "hostname", "node"]).and_then(plain_text);
    let part = first(fields, &PART_FIELDS).and_then(plain_text);
    let identity = format!("{} {identity}", node.unwrap_or_default());
    Some(device_key(&identity, &part.unwrap_or_default()))
}

/// A name, or a number used as one.
fn plain_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn is_declared_shared(fields: &Map<String, Value>) -> bool {
    let is_true = |value: &Value| match value {
        Value::Bool(is_shared) => *is_shared,
        Value::String(text) => !text.is_empty() && text != "false" && text != "none",
        Value::Number(_) => true,
        _ => false,
    };
    first(fields, &["shared", "vgpu", "sharing"]).is_some_and(is_true)
}

fn first<'v>(fields: &'v Map<String, Value>, names: &[&str]) -> Option<&'v Value> {
    names
        .iter()
        .filter_map(|name| fields.get(*name))
        .find(|value| !value.is_null())
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

fn scalar(value: &Value) -> Scalar<'_> {
    match value {
        Value::Number(number) => match (number.as_u64(), number.as_f64()) {
            (Some(number), _) => Scalar::Unsigned(number),
            (None, Some(number)) => Scalar::Float(number),
            (None, None) => Scalar::Other,
        },
        // A number as text, which some writers produce.
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
    fn figures_that_no_machine_can_have_are_left_out_and_counted() {
        for (fields, count) in [
            (r#""cpu":18446744074"#, 1),
            (r#""cpu":-0.5"#, 1),
            (r#""cpu":"NaN""#, 1),
            (r#""cpu":"inf","gpu":{"sm_active":150,"power":-3}"#, 3),
            (
                r#""cpu":0.5,"gpu":{"sm_active":0.5,"power":9223372036854775794}"#,
                0,
            ),
        ] {
            let line = format!(r#"{{"time":1,"pod":"p",{fields}}}"#);
            let read = read_sample(line.as_bytes());
            assert_eq!(read.impossible_count, count, "{line}");
            assert!(matches!(read.decoded, Decoded::Signal(_)), "{line}");
        }
        let rest = sample(r#"{"time":1,"pod":"p","cpu":-1,"gpu":{"sm_active":0.5,"power":-3}}"#);
        assert_eq!(rest.gpu.unwrap().sm_active, Some(0.5));
    }

    #[test]
    fn a_device_is_recognised_by_its_identity_and_its_part() {
        let device = |fields: &str| {
            let line = format!(r#"{{"time":1,"pod":"p","gpu":{{"sm":0.5{fields}}}}}"#);
            sample(&line).gpu.unwrap().device
        };
        assert_eq!(device(""), None);
        let whole = device(r#","UUID":"GPU-1""#);
        assert!(whole.is_some());
        assert_eq!(whole, device(r#","device":"GPU-1""#));
        assert_ne!(whole, device(r#","UUID":"GPU-2""#));
        assert_ne!(whole, device(r#","UUID":"GPU-1","GPU_I_ID":7"#));
        assert_ne!(whole, device(r#","UUID":"GPU-1","Hostname":"n2""#));
    }

    #[test]
    fn a_part_has_no_power_and_no_links_of_its_own() {
        let line = r#"{"time":1,"pod":"p","gpu":{"GPU_I_PROFILE":"1g.10gb","sm":0.5,"power":250,"pcie_tx_bytes":9}}"#;
        let gpu = sample(line).gpu.unwrap();
        assert_eq!((gpu.power_watts, gpu.link_bytes_per_second), (None, None));
        assert_eq!(gpu.sm_active, Some(0.5));
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
