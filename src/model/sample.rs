//! Samples: utilization of a pod's processors at a time.
//!
//! Created by the decoder of sample files and by readers of node metrics; read by the engine. A value that a source does not
//! have is `None`, which is not evidence for or against anything.

use std::borrow::Cow;

use super::EventTime;

/// One sample of one pod.
#[derive(Clone, Debug, PartialEq)]
pub struct ComputeSample<'a> {
    /// Time, or the end of the interval of the average.
    pub time: EventTime,
    /// Name of the pod in the source.
    pub pod: Cow<'a, str>,
    /// Processor use in any unit that stays the same for this pod: share of the limit, cores,
    /// percent. Only its change over time is evaluated.
    pub cpu: Option<f64>,
    /// The accelerator, if the pod has one.
    pub gpu: Option<GpuSample>,
}

/// Use of an accelerator by pods, as far as its source shows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceUse {
    /// The sample does not identify the device, so the device may be shared.
    #[default]
    Unknown,
    /// The source showed no other pod on the device within [`crate::limits::DEVICE_OWNER_KEPT_US`].
    Exclusive,
    /// Several pods use the device, so its values belong to none of them in particular.
    Shared,
}

/// Utilization of a pod's accelerator. Activities are fractions of the time, 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct GpuSample {
    /// A hash of the device's identity and of the partition that the pod has.
    pub device: Option<u64>,
    /// Use of the device by pods. The values are evidence only if the use is exclusive.
    pub device_use: DeviceUse,
    /// Share of the time in which some kernel was resident (`DCGM_FI_DEV_GPU_UTIL`).
    pub utilization: Option<f64>,
    /// `DCGM_FI_PROF_SM_ACTIVE`.
    pub sm_active: Option<f64>,
    /// `DCGM_FI_PROF_PIPE_TENSOR_ACTIVE`.
    pub tensor_active: Option<f64>,
    /// `DCGM_FI_PROF_DRAM_ACTIVE`.
    pub dram_active: Option<f64>,
    /// `DCGM_FI_PROF_PIPE_INT_ACTIVE`.
    pub int_active: Option<f64>,
    /// `DCGM_FI_PROF_PIPE_FP64_ACTIVE`.
    pub fp64_active: Option<f64>,
    /// `DCGM_FI_DEV_POWER_USAGE`, in watts.
    pub power_watts: Option<f64>,
    /// `DCGM_FI_DEV_FB_USED`, in MiB.
    pub memory_used_mib: Option<f64>,
    /// PCIe and NVLink traffic, both ways, in bytes per second.
    pub link_bytes_per_second: Option<f64>,
}
