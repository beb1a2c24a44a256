//! The network: which plug-in this probably is, and which deny Yellowjack has. Both are read from what
//! is installed; whether a policy takes effect only `--probe` shows.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DynamicObject, ListParams};
use kube::{Api, ResourceExt};

use super::Context;
use super::check::{Check, Verdict};
use crate::api::labels;
use crate::cli::people::{PeopleError, ask, list};
use crate::cluster::kind_of;
use crate::guardrails::drift::cluster_policy_matches;
use crate::guardrails::network::{
    CLUSTER_POLICY_API_VERSION, CLUSTER_POLICY_KIND, standing_deny_cluster_policy,
};

/// What becomes of a connection that stood before the deny.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It is cut.
    Cut,
    /// It goes on.
    Survives,
    /// It depends.
    Open,
    /// Policies are not enforced at all.
    NoPolicy,
}

/// One plug-in: how it is recognised, and what is known of it.
struct Plugin {
    name: &'static str,
    /// Part of a DaemonSet's name.
    daemon_set: &'static str,
    /// An API group of its CRDs; empty where it has none.
    group: &'static str,
    standing: Standing,
}

const fn plugin(
    name: &'static str,
    daemon_set: &'static str,
    group: &'static str,
    standing: Standing,
) -> Plugin {
    Plugin {
        name,
        daemon_set,
        group,
        standing,
    }
}

/// Read in the projects' sources and issues; see docs/cli.md. Special ones stand before general ones.
const PLUGINS: [Plugin; 13] = [
    plugin("GKE Dataplane V2", "anetd", "", Standing::Cut),
    plugin("Cilium", "cilium", "cilium.io", Standing::Cut),
    plugin(
        "Calico",
        "calico-node",
        "crd.projectcalico.org",
        Standing::Survives,
    ),
    plugin("Canal (Calico policies)", "canal", "", Standing::Survives),
    plugin(
        "Antrea",
        "antrea-agent",
        "crd.antrea.io",
        Standing::Survives,
    ),
    plugin("OVN-Kubernetes", "ovnkube", "k8s.ovn.org", Standing::Cut),
    plugin("Kube-OVN", "kube-ovn-cni", "kubeovn.io", Standing::Open),
    plugin("kube-router", "kube-router", "", Standing::Survives),
    plugin(
        "kube-network-policies",
        "kube-network-policies",
        "",
        Standing::Open,
    ),
    plugin(
        "AWS VPC CNI",
        "aws-node",
        "vpcresources.k8s.aws",
        Standing::Open,
    ),
    plugin(
        "Azure network policy manager",
        "azure-npm",
        "",
        Standing::Open,
    ),
    plugin("kindnet", "kindnet", "", Standing::Open),
    plugin("flannel", "flannel", "", Standing::NoPolicy),
];

/// What the guess rests on.
#[derive(Debug, Default)]
struct Facts {
    daemon_sets: Vec<String>,
    groups: BTreeSet<String>,
    /// Cilium says that it only audits.
    only_audits: bool,
    server: String,
}

pub(super) async fn checks(context: &Context<'_>, server: &str) -> Vec<Check> {
    let facts = facts(context, server).await;
    let groups = facts.as_ref().map(|facts| facts.groups.clone());
    let guess = match &facts {
        Ok(facts) => judge_plugin(facts),
        Err(error) => Check::cannot("network-plug-in", WANTED, error),
    };
    let lever = match lever(context).await {
        Ok(found) => judge_lever(found, &groups.unwrap_or_default()),
        Err(error) => Check::cannot("deny", WANTED_DENY, &error),
    };
    vec![guess, lever]
}

const WANTED: &str = "a network plug-in that enforces policies and cuts connections that stand";
const WANTED_DENY: &str = "a deny that no other policy can widen";

async fn facts(context: &Context<'_>, server: &str) -> Result<Facts, PeopleError> {
    let client = &context.cluster.client;
    let api: Api<DaemonSet> = Api::all(client.clone());
    let daemon_sets = list("daemonsets", &api, ListParams::default()).await?;
    let groups = ask("API groups", client.list_api_groups()).await?;
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-system");
    // Whoever may not read it is told what else there is.
    let cilium = ask("configmaps", api.get_opt("cilium-config"))
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
        found.retain(|one| one.standing != Standing::NoPolicy);
    }
    let Some(first) = found.first() else {
        if facts.server.contains("+k3s") {
            let found = "a guess from the version: k3s, with kube-router's policies inside; \
                         connections that stand survive a deny";
            return check(Verdict::Warn, found.to_owned(), probe);
        }
        let found = format!(
            "no plug-in that is known here among {} DaemonSets: nothing can be said",
            facts.daemon_sets.len()
        );
        return check(Verdict::Unknown, found, probe);
    };
    let names: Vec<&str> = found.iter().map(|one| one.name).collect();
    let guess = format!("a guess from names: {}", names.join(", "));
    if facts.only_audits {
        let found = format!("{guess}; its ConfigMap says that it enforces nothing");
        return check(
            Verdict::Fail,
            found,
            "switch policy-audit-mode off, enable-policy on",
        );
    }
    match first.standing {
        Standing::Cut => check(Verdict::Ok, guess, ""),
        Standing::Survives => check(
            Verdict::Warn,
            format!("{guess}; it is known to let connections that stand survive a deny"),
            "let maxAction reach Suspend: where traffic goes on, the owner is held",
        ),
        Standing::Open => check(
            Verdict::Warn,
            format!("{guess}; what it does depends on its version and settings"),
            probe,
        ),
        Standing::NoPolicy => check(
            Verdict::Fail,
            format!("{guess}, which enforces no network policy"),
            "add a plug-in that does; until then only Suspend and Terminate stop a pod",
        ),
    }
}

/// The standing ClusterNetworkPolicy, as found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lever {
    NotServed,
    Missing,
    Differs,
    Stands,
}

async fn lever(context: &Context<'_>) -> Result<Lever, PeopleError> {
    let client = &context.cluster.client;
    let kind = kind_of(CLUSTER_POLICY_API_VERSION, CLUSTER_POLICY_KIND);
    let served = ask("API resources", async {
        match kube::discovery::pinned_kind(client, &kind).await {
            Ok((resource, _)) => Ok(Some(resource)),
            Err(kube::Error::Discovery(_)) => Ok(None),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            Err(error) => Err(error),
        }
    });
    let Some(resource) = served.await? else {
        return Ok(Lever::NotServed);
    };
    let api = Api::<DynamicObject>::all_with(client.clone(), &resource);
    let stored = ask("clusternetworkpolicies", api.get_opt(labels::STANDING_DENY)).await?;
    let Some(stored) = stored else {
        return Ok(Lever::Missing);
    };
    let stored = serde_json::to_value(&stored).unwrap_or_default();
    let stands = cluster_policy_matches(&standing_deny_cluster_policy(), &stored);
    Ok(if stands {
        Lever::Stands
    } else {
        Lever::Differs
    })
}

fn judge_lever(found: Lever, groups: &BTreeSet<String>) -> Check {
    let check =
        |verdict, found: &str, todo: &str| Check::new("deny", verdict, WANTED_DENY, found, todo);
    match found {
        Lever::Stands => check(
            Verdict::Ok,
            "the ClusterNetworkPolicy yellowjack-quarantine stands in the Admin tier",
            "",
        ),
        Lever::Missing => check(
            Verdict::Fail,
            "ClusterNetworkPolicy is served, and yellowjack-quarantine is not there",
            "the controller makes it within 30 s of its start: does one run, and may it?",
        ),
        Lever::Differs => check(
            Verdict::Fail,
            "the ClusterNetworkPolicy yellowjack-quarantine says something else than Yellowjack's",
            "who changed it, or made it first? remove it, and the controller makes its own",
        ),
        Lever::NotServed => {
            let vendors: Vec<&str> = [
                "cilium.io",
                "crd.projectcalico.org",
                "projectcalico.org",
                "crd.antrea.io",
            ]
            .into_iter()
            .filter(|group| groups.contains(*group))
            .collect();
            let mut found =
                "only plain NetworkPolicies: they add up, and another one that selects the \
                             pod lets its traffic through"
                    .to_owned();
            if !vendors.is_empty() {
                found.push_str("; Yellowjack writes no policy of ");
                found.push_str(&vendors.join(" or "));
            }
            let todo = "serve policy.networking.k8s.io/v1alpha2, or let maxAction reach Suspend; \
                        Incidents name the policies that widen";
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
            "nothing can be said",
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
        let none = judge_lever(Lever::NotServed, &BTreeSet::new());
        assert_eq!(none.verdict, Verdict::Warn);
        let cilium = judge_lever(Lever::NotServed, &facts(&[], &["cilium.io"]).groups);
        assert!(
            cilium.found.contains("no policy of cilium.io"),
            "{}",
            cilium.found
        );
        assert_eq!(
            judge_lever(Lever::Differs, &BTreeSet::new()).verdict,
            Verdict::Fail
        );
        assert_eq!(
            judge_lever(Lever::Stands, &BTreeSet::new()).verdict,
            Verdict::Ok
        );
    }
}
