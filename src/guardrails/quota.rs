//! ResourceQuota and LimitRange of a run, and whether the quota counts the run's pods.
//!
//! The controller applies the objects and reports the result in `QuotaBound`. Kubernetes quotas have no label selector, and
//! a quota with the scope of a PriorityClass that no pod has looks healthy with nothing used. Therefore the check considers
//! the pods and not only the object.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    LimitRange, LimitRangeItem, LimitRangeSpec, ResourceQuota, ResourceQuotaSpec, ScopeSelector,
    ScopedResourceSelectorRequirement,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::api::{Reason, ResourceDefaults};

use super::RunOwner;
use super::ceiling::Quota;
use super::quantity::Amount;

/// Resources that every pod uses: if a live pod exists and none is used, the quota does not count the pod.
const USED_BY_EVERY_POD: &[&str] = &["pods", "count/pods"];

/// The quota of a run.
#[must_use]
pub(crate) fn resource_quota(owner: &RunOwner, quota: &Quota) -> ResourceQuota {
    let of_class = quota
        .priority_class
        .iter()
        .map(|class| ScopedResourceSelectorRequirement {
            scope_name: "PriorityClass".to_owned(),
            operator: "In".to_owned(),
            values: Some(vec![class.clone()]),
        });
    ResourceQuota {
        metadata: owner.metadata(),
        spec: Some(ResourceQuotaSpec {
            hard: Some(quantities(&quota.hard)),
            // Written even if empty: an added scope would make the quota count nothing, and server-side apply only
            // reverts fields that are applied.
            scope_selector: Some(ScopeSelector {
                match_expressions: Some(of_class.collect()),
            }),
            scopes: None,
        }),
        status: None,
    }
}

/// Default requests and limits of containers, so that the quota does not refuse pods without them.
#[must_use]
pub(crate) fn limit_range(owner: &RunOwner, defaults: &ResourceDefaults) -> LimitRange {
    let limits = quantities(&defaults.limits);
    // The API server sets a missing default request to the default limit. With explicit requests the stored object
    // equals this one.
    let mut requests = limits.clone();
    requests.extend(quantities(&defaults.requests));
    LimitRange {
        metadata: owner.metadata(),
        spec: Some(LimitRangeSpec {
            limits: vec![LimitRangeItem {
                type_: "Container".to_owned(),
                default: (!limits.is_empty()).then_some(limits),
                default_request: (!requests.is_empty()).then_some(requests),
                ..LimitRangeItem::default()
            }],
        }),
    }
}

/// The properties of a live pod that the quota depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QuotaPod<'a> {
    /// The pod's PriorityClass.
    pub priority_class: Option<&'a str>,
}

/// The condition `QuotaBound`: status, reason, message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct QuotaBound {
    /// True, false or unknown.
    pub status: Option<bool>,
    /// Reason.
    pub reason: Reason,
    /// Message.
    pub message: String,
}

/// Whether the quota counts the run's pods, from the stored object and the live pods.
#[must_use]
pub(crate) fn bound(
    quota: Option<&Quota>,
    observed: Option<&ResourceQuota>,
    pods: &[QuotaPod<'_>],
) -> QuotaBound {
    let result = |status, reason, message: String| QuotaBound {
        status,
        reason,
        message,
    };
    let Some(quota) = quota else {
        let message = "neither the run nor its policy names a quota".to_owned();
        return result(Some(false), Reason::NoQuotaRequested, message);
    };
    let missed = missed_by_scope(quota, pods);
    if let Some(class) = &quota.priority_class
        && missed > 0
    {
        let message = format!(
            "{missed} of {} pods do not carry the PriorityClass {class} that the quota counts",
            pods.len()
        );
        return result(Some(false), Reason::ScopeMatchesNoPods, message);
    }
    let Some(used) = observed
        .and_then(|object| object.status.as_ref())
        .and_then(|status| status.used.as_ref())
    else {
        let message = "the quota is not stored, or Kubernetes has not counted yet".to_owned();
        return result(None, Reason::QuotaNotCounted, message);
    };
    let uncounted = USED_BY_EVERY_POD.iter().find(|resource| {
        used.get(**resource)
            .and_then(|amount| Amount::parse(&amount.0))
            .is_some_and(Amount::is_zero)
    });
    if let Some(resource) = uncounted
        && !pods.is_empty()
    {
        let message = format!(
            "the quota counts 0 {resource} beside {} pods of the run",
            pods.len()
        );
        return result(None, Reason::QuotaNotCounted, message);
    }
    result(Some(true), Reason::QuotaEnforced, headroom(quota))
}

fn missed_by_scope(quota: &Quota, pods: &[QuotaPod<'_>]) -> usize {
    quota.priority_class.as_deref().map_or(0, |class| {
        pods.iter()
            .filter(|pod| pod.priority_class != Some(class))
            .count()
    })
}

/// The limits, and not the usage: the usage changes with every pod, and each change would cause a write of the status.
fn headroom(quota: &Quota) -> String {
    let amounts: Vec<String> = quota
        .hard
        .iter()
        .map(|(resource, amount)| format!("{resource} {amount}"))
        .collect();
    let counted = quota.priority_class.as_ref().map_or_else(
        || "the whole namespace".to_owned(),
        |class| format!("the pods of PriorityClass {class}"),
    );
    format!("the quota counts {counted}: {}", amounts.join(", "))
}

fn quantities(amounts: &BTreeMap<String, String>) -> BTreeMap<String, Quantity> {
    amounts
        .iter()
        .map(|(resource, amount)| (resource.clone(), Quantity(amount.clone())))
        .collect()
}
