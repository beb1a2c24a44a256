//! The names that each exporter of accelerator metrics uses: NVIDIA's DCGM exporter, AMD's device metrics
//! exporter, Intel's XPU Manager.
//!
//! Called by `accelerators` with one series at a time. A series with a name that is not listed here is not read.
//! Intel's exporter has no figure for its matrix engines, and AMD's has one only if its profiler
//! fields are enabled. Without it training and hashing cannot be distinguished, so such an accelerator is
//! not evidence, here as in the text of DCGM.

use super::exposition::Series;
use super::plausible::{Checked, Figure, check};
use crate::model::GpuSample;

/// The vendor of the exporter that wrote a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Vendor {
    Nvidia,
    Amd,
    Intel,
}

/// The device that a series is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Device {
    pub(super) identity: String,
    /// The partition, if the device is partitioned.
    pub(super) part: String,
}

/// How a device is used, according to the labels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Traits {
    /// The series is about a partition. Power and links are then figures of the whole device.
    pub(super) is_part: bool,
    /// The node assigns the device to several pods.
    pub(super) is_shared: bool,
}

/// A field of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Utilization,
    /// Utilization that is used only if there is no better figure.
    UtilizationElse,
    MultiprocessorsActive,
    TensorActive,
    MemoryActive,
    IntegerActive,
    Fp64Active,
    Power,
    MemoryUsed,
    /// A link. A device has several, which are added up.
    Link,
}

/// The vendor of a series of this name, if the series is read.
pub(super) fn vendor_of(name: &str) -> Option<Vendor> {
    if name.starts_with("DCGM_FI_") {
        Some(Vendor::Nvidia)
    } else if name.starts_with("xpum_") {
        Some(Vendor::Intel)
    } else {
        amd_field(name).map(|_| Vendor::Amd)
    }
}

impl Vendor {
    /// The labels of pod and namespace; `is_relabelled` if Prometheus has put its own target there.
    pub(super) const fn owner_labels(
        self,
        is_relabelled: bool,
    ) -> &'static [(&'static str, &'static str)] {
        match (self, is_relabelled) {
            (Self::Intel, _) => &[("kube_pod", "kube_namespace")],
            (_, true) => &[("exported_pod", "exported_namespace")],
            (_, false) => &[("pod", "namespace"), ("pod_name", "pod_namespace")],
        }
    }

    /// The device of a series; `None` if it names none.
    pub(super) fn device(self, series: &Series<'_>) -> Option<Device> {
        let label = |name: &str| series.label(name).unwrap_or_default();
        let (global, local, part) = match self {
            Self::Nvidia => ("UUID", "gpu", label("GPU_I_ID")),
            Self::Amd => ("gpu_uuid", "gpu_id", label("gpu_partition_id")),
            Self::Intel => ("uuid", "pci_bdf", ""),
        };
        let identity = if let Some(global) = series.label(global) {
            global.to_owned()
        } else {
            // Numbered from zero on each node.
            let node = ["Hostname", "hostname", "node"]
                .iter()
                .find_map(|name| series.label(name));
            format!("{} {}", node.unwrap_or_default(), series.label(local)?)
        };
        Some(Device {
            // A replica of a shared device has the identity of the device and a number.
            identity: without_replica(&identity).to_owned(),
            part: part.to_owned(),
        })
    }

    /// How the device is used according to the labels.
    pub(super) fn traits(self, series: &Series<'_>) -> Traits {
        let has = |name: &str| series.label(name).is_some();
        match self {
            Self::Nvidia => Traits {
                is_part: has("GPU_I_ID")
                    || has("GPU_I_PROFILE")
                    || series
                        .label("UUID")
                        .is_some_and(|id| id.starts_with("MIG-")),
                is_shared: has("vgpu")
                    || series
                        .label("UUID")
                        .is_some_and(|id| without_replica(id) != id),
            },
            Self::Amd => Traits {
                is_part: series
                    .label("gpu_compute_partition_type")
                    .is_some_and(|kind| !kind.eq_ignore_ascii_case("spx")),
                is_shared: false,
            },
            Self::Intel => Traits::default(),
        }
    }

    /// Whether a series is about a whole device or the partition of it that a pod can use. XPU Manager
    /// also has series for each tile and card, which repeat the same figures.
    pub(super) fn is_of_device(self, series: &Series<'_>) -> bool {
        self != Self::Intel || (!series.has_label("sub_dev") && !series.has_label("card"))
    }

    /// Stores the value of a series in a sample. Returns whether the value was impossible.
    pub(super) fn put(self, sample: &mut GpuSample, series: &Series<'_>) -> bool {
        let Some((field, figure, scale)) = self.field(series.name) else {
            return false;
        };
        match check(figure, series.value * scale) {
            Checked::Plausible(value) => {
                set(sample, field, value);
                false
            }
            Checked::Blank => false,
            Checked::Impossible => true,
        }
    }

    fn field(self, name: &str) -> Option<(Field, Figure, f64)> {
        match self {
            Self::Nvidia => nvidia_field(name),
            Self::Amd => amd_field(name),
            Self::Intel => intel_field(name),
        }
    }
}

/// The identity of a device without the number of a replica, which device plugins append.
fn without_replica(identity: &str) -> &str {
    let plain = identity.split_once("::").map_or(identity, |(id, _)| id);
    plain.split_once("/vgpu").map_or(plain, |(id, _)| id)
}

fn nvidia_field(name: &str) -> Option<(Field, Figure, f64)> {
    let (field, figure) = match name.strip_prefix("DCGM_FI_")? {
        "DEV_GPU_UTIL" => (Field::Utilization, Figure::Percent),
        // If MIG partitions the device, there is no GPU_UTIL.
        "PROF_GR_ENGINE_ACTIVE" => (Field::UtilizationElse, Figure::Share),
        "PROF_SM_ACTIVE" => (Field::MultiprocessorsActive, Figure::Share),
        "PROF_PIPE_TENSOR_ACTIVE" => (Field::TensorActive, Figure::Share),
        "PROF_DRAM_ACTIVE" => (Field::MemoryActive, Figure::Share),
        "PROF_PIPE_INT_ACTIVE" => (Field::IntegerActive, Figure::Share),
        "PROF_PIPE_FP64_ACTIVE" => (Field::Fp64Active, Figure::Share),
        "DEV_POWER_USAGE" => (Field::Power, Figure::Power),
        "DEV_FB_USED" => (Field::MemoryUsed, Figure::Memory),
        "PROF_PCIE_TX_BYTES"
        | "PROF_PCIE_RX_BYTES"
        | "PROF_NVLINK_TX_BYTES"
        | "PROF_NVLINK_RX_BYTES" => (Field::Link, Figure::Link),
        _ => return None,
    };
    Some((field, figure, 1.0))
}

/// AMD's exporter, which can be configured to put a prefix before its names.
fn amd_field(name: &str) -> Option<(Field, Figure, f64)> {
    let (field, figure) = match name.strip_prefix("amd_").unwrap_or(name) {
        "gpu_gfx_activity" => (Field::Utilization, Figure::Percent),
        "gpu_umc_activity" => (Field::MemoryActive, Figure::Percent),
        "gpu_prof_sm_active" => (Field::MultiprocessorsActive, Figure::Percent),
        "gpu_prof_tensor_active_percent" => (Field::TensorActive, Figure::Percent),
        "gpu_package_power" | "gpu_average_package_power" | "gpu_power_usage" => {
            (Field::Power, Figure::Power)
        }
        "gpu_used_vram" => (Field::MemoryUsed, Figure::Memory),
        _ => return None,
    };
    Some((field, figure, 1.0))
}

fn intel_field(name: &str) -> Option<(Field, Figure, f64)> {
    const MIB_PER_BYTE: f64 = 1.0 / 1_048_576.0;
    Some(match name {
        "xpum_engine_ratio" => (Field::Utilization, Figure::Share, 1.0),
        "xpum_eu_active_ratio" => (Field::MultiprocessorsActive, Figure::Share, 1.0),
        "xpum_memory_bandwidth_ratio" => (Field::MemoryActive, Figure::Share, 1.0),
        "xpum_power_watts" => (Field::Power, Figure::Power, 1.0),
        "xpum_memory_used_bytes" => (Field::MemoryUsed, Figure::Memory, MIB_PER_BYTE),
        _ => return None,
    })
}

fn set(sample: &mut GpuSample, field: Field, value: f64) {
    let slot = match field {
        Field::Utilization => &mut sample.utilization,
        Field::UtilizationElse => {
            sample.utilization = sample.utilization.or(Some(value));
            return;
        }
        Field::MultiprocessorsActive => &mut sample.sm_active,
        Field::TensorActive => &mut sample.tensor_active,
        Field::MemoryActive => &mut sample.dram_active,
        Field::IntegerActive => &mut sample.int_active,
        Field::Fp64Active => &mut sample.fp64_active,
        Field::Power => &mut sample.power_watts,
        Field::MemoryUsed => &mut sample.memory_used_mib,
        Field::Link => {
            let before = sample.link_bytes_per_second.unwrap_or_default();
            sample.link_bytes_per_second = Some(before + value);
            return;
        }
    };
    *slot = Some(value);
}
