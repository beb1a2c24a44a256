//! Checks of the network: which plug-in it probably has, and which deny Yellowjack can use. Both are derived
//! from what is installed; only `--probe` shows whether a policy takes effect.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DynamicObject, ListParams};
use kube::{Api, ResourceExt};
use serde_json::Value;

use super::check::{Check, Verdict};
use super::cilium;
use super::context::Context;
use crate::api::labels;
use crate::cli::error::CommandError;
use crate::cli::read::{list, read};
use crate::cluster::kind_of;
use crate::guardrails::cilium::standing_deny_cilium_policy;
use crate::guardrails::drift::cluster_policy_matches;
use crate::guardrails::network::standing_deny_cluster_policy;

/// What a plug-in does with established connections when a deny is added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Established {
    /// They are cut.
    Cut,
    /// They continue.
    Survives,
    /// It depends on version and settings.
    Open,
    /// Policies are not enforced at all.
    NoPolicy,
}

/// A plug-in: how it is recognised, and what it does.
struct Plugin {
    name: &'static str,
    /// Part of a DaemonSet's name.
    daemon_set: &'static str,
    /// An API group of its CRDs; empty where it has none.
    group: &'static str,
    established: Established,
}

const fn plugin(
    name: &'static str,
    daemon_set: &'static str,
    group: &'static str,
    established: Established,
) -> Plugin {
    Plugin {
        name,
        daemon_set,
        group,
        established,
    }
}

/// Taken from the projects' sources and issues; see docs/cli.md. Specific plug-ins come before general ones.
const PLUGINS: [Plugin; 13] = [
    plugin("GKE Dataplane V2", "anetd", "", Established::Cut),
    plugin("Cilium", "cilium", "cilium.io", Established::Cut),
    plugin(
        "Calico",
        "calico-node",
        "crd.projectcalico.org",
        Established::Survives,
    ),
    plugin(
        "Canal (Calico policies)",
        "canal",
        "",
        Established::Survives,
    ),
    plugin(
        "Antrea",
        "antrea-agent",
        "crd.antrea.io",
        Established::Survives,
    ),
    plugin("OVN-Kubernetes", "ovnkube", "k8s.ovn.org", Established::Cut),
    plugin("Kube-OVN", "kube-ovn-cni", "kubeovn.io", Established::Open),
    plugin("kube-router", "kube-router", "", Established::Survives),
    plugin(
        "kube-network-policies",
        "kube-network-policies",
        "",
        Established::Open,
    ),
    plugin(
        "AWS VPC CNI",
        "aws-node",
        "vpcresources.k8s.aws",
        Established::Open,
    ),
    plugin(
        "Azure network policy manager",
        "azure-npm",
        "",
        Established::Open,
    ),
    plugin("kindnet", "kindnet", "", Established::Open),
    plugin("flannel", "flannel", "", Established::NoPolicy),
];

/// What the guess is based on.
#[derive(Debug, Default)]
struct Facts {
    daemon_sets: Vec<String>,
    groups: BTreeSet<String>,
    /// Whether Cilium is configured to audit only.
    only_audits: bool,
    /// Cilium's settings, if they can be read.
    cilium: Option<cilium::Settings>,
    server: String,
}

pub(super) async fn checks(context: &Context<'_>, server: &str) -> Vec<Check> {
    let facts = facts(context, server).await;
    let groups = facts.as_ref().map(|facts| facts.groups.clone());
    let guess = match &facts {
        Ok(facts) => judge_plugin(facts),
        Err(error) => Check::cannot("network-plug-in", WANTED, error),
    };
    let deny = match winning_deny(context).await {
        Ok((found, kind)) => judge_deny(found, &kind, &groups.unwrap_or_default()),
        Err(error) => Check::cannot("deny", WANTED_DENY, &error),
    };
    let settings = facts.ok().and_then(|facts| facts.cilium);
    let of_cilium = settings.iter().flat_map(cilium::checks);
    [guess, deny].into_iter().chain(of_cilium).collect()
}

const WANTED: &str = "a network plug-in that enforces policies and cuts established connections";
const WANTED_DENY: &str = "a deny that no other policy can override";

async fn facts(context: &Context<'_>, server: &str) -> Result<Facts, CommandError> {
    let client = &context.cluster.client;
    let api: Api<DaemonSet> = Api::all(client.clone());
    let daemon_sets = list("daemonsets", &api, ListParams::default()).await?;
    let groups = read("API groups", client.list_api_groups()).await?;
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-system");
    // Without access to it, the guess is based on the other facts.
    let cilium = read("configmaps", api.get_opt("cilium-config"))
        .await
        .ok()
        .flatten();
    let setting = |name: &str| {
        let data = cilium.as_ref().and_then(|map| map.data.as_ref())?;
        data.get(name).cloned()
    };
    Ok(Facts {
        daemon_sets: daemon_sets
            .items
            .iter()
            .map(ResourceExt::name_any)
            .collect(),
        groups: groups.groups.into_iter().map(|group| group.name).collect(),
        only_audits: setting("policy-audit-mode").as_deref() == Some("true")
            || setting("enable-policy").as_deref() == Some("never"),
        cilium: cilium.and_then(|map| map.data),
        server: server.to_owned(),
    })
}

fn judge_plugin(facts: &Facts) -> Check {
    let check = |verdict, found: String, todo: &str| {
        Check::new("network-plug-in", verdict, WANTED, found, todo)
    };
    let is_there = |one: &&Plugin| {
        let runs = |name: &String| name.contains(one.daemon_set);
        facts.daemon_sets.iter().any(runs)
            || (!one.group.is_empty() && facts.groups.contains(one.group))
    };
    let probe = "yellowjack doctor --probe shows whether a deny takes effect";
    let mut found: Vec<&Plugin> = PLUGINS.iter().filter(is_there).collect();
    // flannel carries packets for several others, which enforce.
    if found.len() > 1 {
        found.retain(|one| one.established != Established::NoPolicy);
    }
    let Some(first) = found.first() else {
        if facts.server.contains("+k3s") {
            let found = "a guess from the version: k3s, with kube-router's policies inside; \
                         established connections survive a deny";
            return check(Verdict::Warn, found.to_owned(), probe);
        }
        let found = format!(
            "no known plug-in among {} DaemonSets",
            facts.daemon_sets.len()
        );
        return check(Verdict::Unknown, found, probe);
    };
    let names: Vec<&str> = found.iter().map(|one| one.name).collect();
    let guess = format!("a guess from names: {}", names.join(", "));
    if facts.only_audits {
        let found = format!("{guess}; according to its ConfigMap it enforces nothing");
        return check(
            Verdict::Fail,
            found,
            "disable policy-audit-mode and set enable-policy to default",
        );
    }
    match first.established {
        Established::Cut => check(Verdict::Ok, guess, ""),
        Established::Survives => check(
            Verdict::Warn,
            format!("{guess}; it is known to let established connections survive a deny"),
            "set maxAction to Suspend: where traffic continues, the owner is suspended",
        ),
        Established::Open => check(
            Verdict::Warn,
            format!("{guess}; its behaviour depends on version and settings"),
            probe,
        ),
        Established::NoPolicy => check(
            Verdict::Fail,
            format!("{guess}, which enforces no network policy"),
            "add a plug-in that enforces policies; until then only Suspend and Terminate stop a pod",
        ),
    }
}

/// The state of the ClusterNetworkPolicy of the controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClusterDeny {
    NotServed,
    Missing,
    Differs,
    InForce,
}

/// The state of the deny that wins: on Cilium its own policy, elsewhere the ClusterNetworkPolicy.
async fn winning_deny(context: &Context<'_>) -> Result<(ClusterDeny, String), CommandError> {
    let on_cilium = standing_deny_cilium_policy();
    let found = cluster_deny(context, &on_cilium).await?;
    let (found, policy) = if found == ClusterDeny::NotServed {
        let policy = standing_deny_cluster_policy();
        (cluster_deny(context, &policy).await?, policy)
    } else {
        (found, on_cilium)
    };
    let kind = policy.get("kind").and_then(Value::as_str);
    Ok((found, kind.unwrap_or_default().to_owned()))
}

async fn cluster_deny(context: &Context<'_>, wanted: &Value) -> Result<ClusterDeny, CommandError> {
    let client = &context.cluster.client;
    let text = |field: &str| {
        wanted
            .get(field)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let kind = kind_of(text("apiVersion"), text("kind"));
    let served = read("API resources", async {
        match kube::discovery::pinned_kind(client, &kind).await {
            Ok((resource, _)) => Ok(Some(resource)),
            Err(kube::Error::Discovery(_)) => Ok(None),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            Err(error) => Err(error),
        }
    });
    let Some(resource) = served.await? else {
        return Ok(ClusterDeny::NotServed);
    };
    let api = Api::<DynamicObject>::all_with(client.clone(), &resource);
    let stored = read(&resource.plural, api.get_opt(labels::STANDING_DENY)).await?;
    let Some(stored) = stored else {
        return Ok(ClusterDeny::Missing);
    };
    let stored = serde_json::to_value(&stored).unwrap_or_default();
    let is_in_force = cluster_policy_matches(wanted, &stored);
    Ok(if is_in_force {
        ClusterDeny::InForce
    } else {
        ClusterDeny::Differs
    })
}

/// What a stored policy of this kind rests on: a cluster may serve a kind that its network plug-in does not enforce.
fn enforced_by(kind: &str) -> &'static str {
    if kind == "ClusterNetworkPolicy" {
        "; that it takes precedence rests on the plug-in: kube-router does not enforce this kind, and others only where it is \
         switched on"
    } else {
        ", and its deny takes precedence"
    }
}

fn judge_deny(found: ClusterDeny, kind: &str, groups: &BTreeSet<String>) -> Check {
    let check =
        |verdict, found: String, todo: &str| Check::new("deny", verdict, WANTED_DENY, found, todo);
    match found {
        ClusterDeny::InForce => check(
            Verdict::Ok,
            format!(
                "the {kind} yellowjack-quarantine is stored{}",
                enforced_by(kind)
            ),
            "",
        ),
        ClusterDeny::Missing => check(
            Verdict::Fail,
            format!("{kind} is served, but yellowjack-quarantine does not exist"),
            "the controller creates it within 30 s of its start: does it run, and is it allowed to?",
        ),
        ClusterDeny::Differs => check(
            Verdict::Fail,
            format!("the {kind} yellowjack-quarantine differs from Yellowjack's"),
            "find out who changed or created it, and delete it: the controller then creates its own",
        ),
        ClusterDeny::NotServed => {
            let vendors: Vec<&str> = [
                "crd.projectcalico.org",
                "projectcalico.org",
                "crd.antrea.io",
            ]
            .into_iter()
            .filter(|group| groups.contains(*group))
            .collect();
            let mut found =
                "only plain NetworkPolicies: they are additive, so that another one that selects the \
                             pod can allow its traffic"
                    .to_owned();
            if !vendors.is_empty() {
                found.push_str("; Yellowjack creates no policy of ");
                found.push_str(&vendors.join(" or "));
            }
            let todo = "serve policy.networking.k8s.io/v1alpha2, or set maxAction to Suspend; \
                        Incidents name the policies that allow traffic";
            Check::new("deny", Verdict::Warn, WANTED_DENY, found, todo)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(daemon_sets: &[&str], groups: &[&str]) -> Facts {
        Facts {
            daemon_sets: daemon_sets.iter().map(|name| (*name).to_owned()).collect(),
            groups: groups.iter().map(|name| (*name).to_owned()).collect(),
            ..Facts::default()
        }
    }

    fn check(facts: &Facts, verdict: Verdict, words: &str) {
        let found = judge_plugin(facts);
        assert_eq!(found.verdict, verdict, "{}", found.found);
        assert!(found.found.contains(words), "{}", found.found);
    }

    #[test]
    fn a_plug_in_is_guessed_from_names_and_called_a_guess() {
        check(
            &facts(&["cilium"], &["cilium.io"]),
            Verdict::Ok,
            "a guess from names: Cilium",
        );
        check(
            &facts(&["calico-node"], &[]),
            Verdict::Warn,
            "survive a deny",
        );
        check(
            &facts(&["kube-flannel-ds"], &[]),
            Verdict::Fail,
            "enforces no network policy",
        );
        check(
            &facts(&["kube-flannel-ds", "kube-router"], &[]),
            Verdict::Warn,
            "kube-router",
        );
        check(
            &facts(&["kube-proxy"], &[]),
            Verdict::Unknown,
            "no known plug-in",
        );
        let k3s = Facts {
            server: "v1.35.0+k3s1".to_owned(),
            ..Facts::default()
        };
        check(&k3s, Verdict::Warn, "k3s");
    }

    #[test]
    fn a_plug_in_that_only_audits_enforces_nothing() {
        let audits = Facts {
            only_audits: true,
            ..facts(&["cilium"], &[])
        };
        check(&audits, Verdict::Fail, "enforces nothing");
    }

    #[test]
    fn a_plain_network_policy_is_no_deny_and_the_vendors_are_named() {
        let judge = |found, groups| judge_deny(found, "Kind", &facts(&[], groups).groups);
        assert_eq!(judge(ClusterDeny::NotServed, &[]).verdict, Verdict::Warn);
        let antrea = judge(ClusterDeny::NotServed, &["crd.antrea.io"]);
        assert!(
            antrea.found.contains("no policy of crd.antrea.io"),
            "{}",
            antrea.found
        );
        assert_eq!(judge(ClusterDeny::Differs, &[]).verdict, Verdict::Fail);
        let stored = judge(ClusterDeny::InForce, &[]);
        assert_eq!(stored.verdict, Verdict::Ok);
        assert!(stored.found.contains("the Kind "), "{}", stored.found);
    }
}
