//! Samples: how busy a pod's processors were at a time.
//!
//! Made by the decoder of sample files and by readers of node metrics; read by the engine. A
//! figure that a source does not have is `None`, which is no evidence for or against anything.

use std::borrow::Cow;

use super::EventTime;

/// One sample of one pod.
#[derive(Clone, Debug, PartialEq)]
pub struct ComputeSample<'a> {
    /// When, or the end of the span that it averages.
    pub time: EventTime,
    /// The pod, as its source names it.
    pub pod: Cow<'a, str>,
    /// Processor use in any unit that stays the same for this pod: share of the limit, cores,
    /// percent. Only its shape over time is judged.
    pub cpu: Option<f64>,
    /// The accelerator, where the pod has one.
    pub gpu: Option<GpuSample>,
}

/// Who uses an accelerator, as far as its source shows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceUse {
    /// The sample does not say which device it is about, so the device may be shared.
    #[default]
    Unknown,
    /// No other pod was seen on the device within [`crate::limits::DEVICE_OWNER_KEPT_US`].
    Exclusive,
    /// Several pods use the device, so its figures are about none of them in particular.
    Shared,
}

/// How busy a pod's accelerator was. Activities are shares of the time, 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct GpuSample {
    /// A hash of the device's identity and of the part of it that the pod has.
    pub device: Option<u64>,
    /// Who uses that device. Only exclusive use makes its figures evidence.
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
