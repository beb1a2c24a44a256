//! Devices: whose accelerator a recorded sample is about.
//!
//! Called by `run` for each sample, with the memory of owners that readers of live metrics use too. A
//! sample that names no device cannot show that the pod has it alone, so its figures are no evidence;
//! `run` counts it, and the report says so.

use crate::model::{ComputeSample, DeviceUse, GpuSample};
use crate::signals::decode::{DeviceOwners, Ownership};

/// What is known of the accelerator of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// It has none.
    NoDevice,
    /// It does not say which one.
    Unnamed,
    /// It does.
    Named,
}

/// Says in a sample who uses its accelerator; `owner` is its pod as `run` calls it. Returns the sample
/// that withdraws what was said about the owner before, where there was one lately.
pub(super) fn attribute(
    owners: &mut DeviceOwners,
    sample: &mut ComputeSample<'_>,
    owner: &str,
) -> (Known, Option<ComputeSample<'static>>) {
    let time = sample.time;
    let Some(gpu) = &mut sample.gpu else {
        return (Known::NoDevice, None);
    };
    let Some(device) = gpu.device else {
        return (Known::Unnamed, None);
    };
    let ownership = owners.observe(device, owner, time);
    let is_declared = gpu.device_use == DeviceUse::Shared;
    let before = match ownership {
        Ownership::Exclusive if !is_declared => {
            gpu.device_use = DeviceUse::Exclusive;
            return (Known::Named, None);
        }
        Ownership::Exclusive => None,
        Ownership::Shared { before } => before,
    };
    gpu.device_use = DeviceUse::Shared;
    let withdrawn = before.map(|owner| ComputeSample {
        time,
        pod: owner.into_string().into(),
        cpu: None,
        gpu: Some(GpuSample {
            device: Some(device),
            device_use: DeviceUse::Shared,
            ..GpuSample::default()
        }),
    });
    (Known::Named, withdrawn)
}
