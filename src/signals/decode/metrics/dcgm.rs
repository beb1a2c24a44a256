//! A DCGM exporter's text: what each accelerator did, and which pod has it.
//!
//! Called by `metrics`. The text has no times, so that a sample is of the moment of the fetch. Three
//! traps, each of which would blame the wrong pod:
//! - *Shared accelerators.* With time-slicing the exporter copies one device's figures to every pod
//!   on it. Such a device says nothing about any of them; it is left out and counted.
//! - *Relabelled text.* What comes by way of Prometheus carries the exporter's own pod in `pod` and
//!   the user's in `exported_pod`. It is told by `job` and `instance` on every line, since a pod
//!   whose labels are exported could put them on its own lines.
//! - *Blanks.* Old exporters write 9223372036854775794 for a figure that the device does not have.

use std::collections::BTreeMap;

use super::exposition::Series;
use super::{Found, PodSample, count, is_name};
use crate::limits;
use crate::model::{ComputeSample, EventTime, GpuSample};

/// No figure that is read here comes near this; blanks lie beyond.
const BLANK_MIN: f64 = 1e15;

/// DCGM measures every 30 s unless told otherwise: the figures may be of that long ago, and the pod
/// must have been there.
const COLLECT_US: i64 = 30_000_000;

const PREFIX: &str = "DCGM_FI_";

/// A device, or a part of one that MIG cut off.
type Device = (String, String);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Owner {
    namespace: String,
    name: String,
    uid: Option<String>,
}

/// A pod's share of the text.
type Devices = BTreeMap<Device, BTreeMap<Owner, GpuSample>>;

pub(super) fn read(text: &str, now: EventTime) -> Found {
    let mut found = Found::default();
    let mut all = Vec::new();
    for line in text.lines() {
        match Series::read(line, |name| name.starts_with(PREFIX)) {
            Ok(Some(series)) if all.len() < limits::COUNTERS_MAX => all.push(series),
            Ok(Some(_)) => found.read.beyond_bound += 1,
            Ok(None) => {}
            Err(_) => found.read.malformed += 1,
        }
    }
    if !all.is_empty() {
        found.saw(now);
    }
    let is_target = |series: &Series<'_>| series.has_label("job") && series.has_label("instance");
    let is_relabelled = all.iter().all(is_target);
    let mut devices = Devices::new();
    for series in &all {
        let Some(owner) = owner_of(series, is_relabelled) else {
            continue;
        };
        let id = series.label("UUID").or_else(|| series.label("gpu"));
        let Some(id) = id else {
            found.read.malformed += 1;
            continue;
        };
        let part = series.label("GPU_I_ID").unwrap_or_default();
        let owners = devices.entry((id.to_owned(), part.to_owned())).or_default();
        put(owners.entry(owner).or_default(), series);
    }
    let all = devices.len();
    devices.retain(|_, owners| owners.len() == 1);
    found.read.shared_gpus = count(all - devices.len());
    found.read.samples = samples(devices, now);
    found
}

/// The pod that a line is about, if any.
fn owner_of(series: &Series<'_>, is_relabelled: bool) -> Option<Owner> {
    let names = if is_relabelled {
        [("exported_pod", "exported_namespace"); 2]
    } else {
        [("pod", "namespace"), ("pod_name", "pod_namespace")]
    };
    names.into_iter().find_map(|(pod, namespace)| {
        let (name, namespace) = (series.label(pod)?, series.label(namespace)?);
        let uid = series.label("pod_uid").filter(|uid| is_name(uid));
        (is_name(name) && is_name(namespace)).then(|| Owner {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: uid.map(str::to_owned),
        })
    })
}

fn put(sample: &mut GpuSample, series: &Series<'_>) {
    let value = series.value;
    if !(0.0..BLANK_MIN).contains(&value) {
        return;
    }
    let share = Some(value.min(1.0));
    match series.name {
        "DCGM_FI_DEV_GPU_UTIL" => sample.utilization = Some((value / 100.0).min(1.0)),
        // Where MIG cut the device up, there is no GPU_UTIL.
        "DCGM_FI_PROF_GR_ENGINE_ACTIVE" => sample.utilization = sample.utilization.or(share),
        "DCGM_FI_PROF_SM_ACTIVE" => sample.sm_active = share,
        "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE" => sample.tensor_active = share,
        "DCGM_FI_PROF_DRAM_ACTIVE" => sample.dram_active = share,
        "DCGM_FI_PROF_PIPE_INT_ACTIVE" => sample.int_active = share,
        "DCGM_FI_PROF_PIPE_FP64_ACTIVE" => sample.fp64_active = share,
        "DCGM_FI_DEV_POWER_USAGE" => sample.power_watts = Some(value),
        "DCGM_FI_DEV_FB_USED" => sample.memory_used_mib = Some(value),
        "DCGM_FI_PROF_PCIE_TX_BYTES"
        | "DCGM_FI_PROF_PCIE_RX_BYTES"
        | "DCGM_FI_PROF_NVLINK_TX_BYTES"
        | "DCGM_FI_PROF_NVLINK_RX_BYTES" => {
            let before = sample.link_bytes_per_second.unwrap_or_default();
            sample.link_bytes_per_second = Some(before + value);
        }
        _ => {}
    }
}

/// One sample per pod. Of several devices the one that looks most like hashing speaks: a miner may
/// leave the others to honest work. In steps of 5 %, and by name among equals, so that the same
/// device speaks again next time.
fn samples(devices: Devices, now: EventTime) -> Vec<PodSample> {
    let mut chosen: BTreeMap<Owner, (u8, GpuSample)> = BTreeMap::new();
    for (owner, sample) in devices.into_values().flatten() {
        let rank = rank(&sample);
        let best = chosen.entry(owner).or_insert((rank, sample));
        if rank > best.0 {
            *best = (rank, sample);
        }
    }
    let sample = |(owner, (_, gpu)): (Owner, (u8, GpuSample))| PodSample {
        from: now.plus_micros(-COLLECT_US),
        sample: ComputeSample {
            time: now,
            pod: format!("{}/{}", owner.namespace, owner.name).into(),
            cpu: None,
            gpu: Some(gpu),
        },
        namespace: owner.namespace,
        name: owner.name,
        uid: owner.uid,
    };
    chosen.into_iter().map(sample).collect()
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // from 0 to 20
fn rank(sample: &GpuSample) -> u8 {
    let busy = sample.sm_active.or(sample.utilization).unwrap_or_default();
    let hashing = busy - sample.tensor_active.unwrap_or_default();
    (hashing.clamp(0.0, 1.0) * 20.0).round() as u8
}
