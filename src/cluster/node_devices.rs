//! Whether pods share the accelerators of a node, from the labels and resources that device plugins set.
//!
//! Used by the controller for all nodes, and by a node agent for its own. Pure.

use k8s_openapi::api::core::v1::Node;

/// Labels with a sharing strategy as their value: NVIDIA's GPU feature discovery, GKE.
const STRATEGY_LABELS: [&str; 2] = [
    "nvidia.com/gpu.sharing-strategy",
    "cloud.google.com/gke-gpu-sharing-strategy",
];

/// Labels with the number of pods per device: GPU feature discovery, GKE, Intel's device plugin.
const COUNT_LABELS: [&str; 3] = [
    "nvidia.com/gpu.replicas",
    "cloud.google.com/gke-max-shared-clients-per-gpu",
    "gpu.intel.com/shared-dev-num",
];

/// Whether the node declares that pods share its accelerators.
#[must_use]
pub(crate) fn shares_devices(node: &Node) -> bool {
    let labels = node.metadata.labels.as_ref();
    let label = |name: &str| {
        labels
            .and_then(|labels| labels.get(name))
            .map(String::as_str)
    };
    let names_strategy =
        |name: &&str| label(name).is_some_and(|value| !matches!(value, "" | "none" | "exclusive"));
    let counts_several = |name: &&str| {
        label(name).is_some_and(|value| value.parse::<u32>().is_ok_and(|count| count > 1))
    };
    let is_product_shared =
        label("nvidia.com/gpu.product").is_some_and(|product| product.ends_with("-SHARED"));
    // `renameByDefault` of NVIDIA's device plugin.
    let has_shared_resource = node.status.iter().any(|status| {
        let names = status.capacity.iter().flatten();
        names
            .filter(|(_, quantity)| quantity.0 != "0")
            .any(|(name, _)| name.contains('/') && name.ends_with(".shared"))
    });
    STRATEGY_LABELS.iter().any(names_strategy)
        || COUNT_LABELS.iter().any(counts_several)
        || is_product_shared
        || has_shared_resource
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn labels_and_resources_of_device_plugins_show_shared_devices() {
        for (labels, capacity, expected) in [
            (json!({}), json!({ "nvidia.com/gpu": "8" }), false),
            (json!({}), json!({ "nvidia.com/gpu.shared": "16" }), true),
            (json!({}), json!({ "nvidia.com/gpu.shared": "0" }), false),
            (
                json!({ "nvidia.com/gpu.sharing-strategy": "time-slicing" }),
                json!({}),
                true,
            ),
            (
                json!({ "nvidia.com/gpu.sharing-strategy": "mps" }),
                json!({}),
                true,
            ),
            (
                json!({ "nvidia.com/gpu.sharing-strategy": "none" }),
                json!({}),
                false,
            ),
            (json!({ "nvidia.com/gpu.replicas": "4" }), json!({}), true),
            (json!({ "nvidia.com/gpu.replicas": "1" }), json!({}), false),
            (
                json!({ "nvidia.com/gpu.product": "Tesla-T4-SHARED" }),
                json!({}),
                true,
            ),
            (
                json!({ "cloud.google.com/gke-gpu-sharing-strategy": "time-sharing" }),
                json!({}),
                true,
            ),
        ] {
            let node: Node = serde_json::from_value(json!({
                "metadata": { "name": "n", "labels": labels },
                "status": { "capacity": capacity },
            }))
            .unwrap();
            assert_eq!(shares_devices(&node), expected, "{labels} {capacity}");
        }
    }
}
