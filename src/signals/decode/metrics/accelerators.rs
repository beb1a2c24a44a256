//! The text of an exporter of accelerator metrics: the activity of each device, and the pod that uses it.
//!
//! Called by `metrics`; `vendors` knows the names. The text of an exporter contains no times, so a sample has the
//! time of the fetch; text from Prometheus (`/federate`) contains times, which are used. Four problems would each
//! attribute figures to the wrong pod:
//! - *Shared devices.* With time-slicing and MPS the exporter copies the figures of one device to every pod
//!   on it, or names a different one of them each time. The figures of such a device belong to no single pod; it is
//!   left out and counted, and its earlier samples are withdrawn.
//! - *Partitions.* Power and links of a partition of a device are those of the whole device.
//! - *Relabelled text.* Text from Prometheus contains the exporter's own pod in `pod` and
//!   the user's pod in `exported_pod`. It is recognised by `job` and `instance` on every line, because a pod
//!   with exported labels could put them on its own lines.
//! - *Blank and impossible figures*, see `plausible`.

use std::collections::BTreeMap;

use super::exposition::Series;
use super::owners::{DeviceOwners, Ownership, device_key};
use super::vendors::{Device, Traits, Vendor, vendor_of};
use super::{PodSample, ReadResult, is_name};
use crate::limits;
use crate::model::{ComputeSample, DeviceUse, EventTime, GpuSample};

/// By default DCGM measures every 30 s. The figures may be that old, and the pod
/// must have existed at that time.
const COLLECT_US: i64 = 30_000_000;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Owner {
    namespace: String,
    name: String,
    uid: Option<String>,
}

/// The figures of a device in the text.
#[derive(Clone, Debug, Default)]
struct Share {
    owners: BTreeMap<Owner, GpuSample>,
    traits: Traits,
    /// The latest time in its lines, if they contain times.
    time: Option<EventTime>,
}

type Shares = BTreeMap<Device, Share>;

pub(super) fn read(text: &str, now: EventTime, memory: &mut DeviceOwners) -> ReadResult {
    let mut found = ReadResult::default();
    let mut all = Vec::new();
    for line in text.lines() {
        match Series::read(line, |name| vendor_of(name).is_some()) {
            Ok(Some(series)) if all.len() < limits::COUNTERS_MAX => all.push(series),
            Ok(Some(_)) => found.read.beyond_bound += 1,
            Ok(None) => {}
            Err(_) => found.read.malformed += 1,
        }
    }
    if !all.is_empty() {
        let newest = all.iter().filter_map(|series| series.time).max();
        found.record_time(newest.unwrap_or(now));
    }
    let shares = shares(&all, &mut found);
    let exclusive = withdraw_shared(shares, now, memory, &mut found);
    found.read.samples.extend(samples(exclusive));
    found
}

/// The figures by device and owner.
fn shares(all: &[Series<'_>], found: &mut ReadResult) -> Shares {
    let is_target = |series: &Series<'_>| series.has_label("job") && series.has_label("instance");
    let is_relabelled = all.iter().all(is_target);
    let mut shares = Shares::new();
    for series in all {
        let Some(vendor) = vendor_of(series.name).filter(|vendor| vendor.is_of_device(series))
        else {
            continue;
        };
        let Some(owner) = owner_of(vendor, series, is_relabelled) else {
            continue;
        };
        let Some(device) = vendor.device(series) else {
            found.read.malformed += 1;
            continue;
        };
        let traits = vendor.traits(series);
        let share = shares.entry(device).or_default();
        share.traits.is_part |= traits.is_part;
        share.traits.is_shared |= traits.is_shared;
        share.time = share.time.max(series.time);
        let is_impossible = vendor.put(share.owners.entry(owner).or_default(), series);
        found.read.impossible += u64::from(is_impossible);
    }
    shares
}

/// The pod in a line, if any.
fn owner_of(vendor: Vendor, series: &Series<'_>, is_relabelled: bool) -> Option<Owner> {
    let names = vendor.owner_labels(is_relabelled);
    names.iter().find_map(|(pod, namespace)| {
        let (name, namespace) = (series.label(pod)?, series.label(namespace)?);
        let uid = series.label("pod_uid").filter(|uid| is_name(uid));
        (is_name(name) && is_name(namespace)).then(|| Owner {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: uid.map(str::to_owned),
        })
    })
}

/// Keeps the samples of devices that are used by one pod alone. The others are counted, and withdrawn from all
/// pods to which they were ever attributed.
fn withdraw_shared(
    shares: Shares,
    now: EventTime,
    memory: &mut DeviceOwners,
    found: &mut ReadResult,
) -> Vec<(Owner, GpuSample, EventTime)> {
    let mut exclusive = Vec::new();
    for (device, share) in shares {
        let time = share.time.unwrap_or(now);
        let key = device_key(&device.identity, &device.part);
        let mut is_shared = share.traits.is_shared || share.owners.len() > 1;
        let mut before = Vec::new();
        for owner in share.owners.keys() {
            let name = format!("{}/{}", owner.namespace, owner.name);
            if let Ownership::Shared { before: other } = memory.observe(key, &name, time) {
                is_shared = true;
                before.extend(other);
            }
        }
        if is_shared {
            found.read.shared_gpus += 1;
            let others = before.iter().filter_map(|name| owner_named(name));
            let owners = share.owners.into_keys().chain(others);
            let withdrawn = GpuSample {
                device: Some(key),
                device_use: DeviceUse::Shared,
                ..GpuSample::default()
            };
            let samples = owners.map(|owner| sample_of(owner, withdrawn, time));
            found.read.withdrawn.extend(samples);
            continue;
        }
        for (owner, mut sample) in share.owners {
            sample.device = Some(key);
            sample.device_use = DeviceUse::Exclusive;
            if share.traits.is_part {
                sample.power_watts = None;
                sample.link_bytes_per_second = None;
            }
            exclusive.push((owner, sample, time));
        }
    }
    exclusive
}

fn owner_named(name: &str) -> Option<Owner> {
    let (namespace, name) = name.split_once('/')?;
    Some(Owner {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        uid: None,
    })
}

/// One sample per pod. Of several devices, the one that most resembles hashing is used, because a miner may
/// leave the others to legitimate work. Compared in steps of 5 %, and by name between equals, so that the same
/// device is used the next time.
fn samples(exclusive: Vec<(Owner, GpuSample, EventTime)>) -> Vec<PodSample> {
    let mut chosen: BTreeMap<Owner, (u8, GpuSample, EventTime)> = BTreeMap::new();
    for (owner, sample, time) in exclusive {
        let rank = rank(&sample);
        let best = chosen.entry(owner).or_insert((rank, sample, time));
        if rank > best.0 {
            *best = (rank, sample, time);
        }
    }
    let samples = chosen.into_iter();
    samples
        .map(|(owner, (_, gpu, time))| sample_of(owner, gpu, time))
        .collect()
}

fn sample_of(owner: Owner, gpu: GpuSample, time: EventTime) -> PodSample {
    PodSample {
        from: time.plus_micros(-COLLECT_US),
        sample: ComputeSample {
            time,
            pod: format!("{}/{}", owner.namespace, owner.name).into(),
            cpu: None,
            gpu: Some(gpu),
        },
        namespace: owner.namespace,
        name: owner.name,
        uid: owner.uid,
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // from 0 to 20
fn rank(sample: &GpuSample) -> u8 {
    let busy = sample.sm_active.or(sample.utilization).unwrap_or_default();
    let hashing = busy - sample.tensor_active.unwrap_or_default();
    (hashing.clamp(0.0, 1.0) * 20.0).round() as u8
}
