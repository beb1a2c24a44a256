//! Determines which run covers a pod: none, one, or several.
//!
//! Called by the controller to label pods and to compute the status, and by attribution. A label alone never makes a pod a
//! member of a `template` or `ref` run, because any user may set a label on a pod: the chain of owners decides.

use std::collections::BTreeMap;

use crate::api::{GROUP, Target};

use super::{object_name, selector};

/// The pods that a run claims. Only claims of the same namespace are compared.
#[derive(Clone, Debug)]
pub(crate) struct Claim<'a> {
    /// Name of the AgentRun.
    pub name: &'a str,
    /// Its UID.
    pub uid: &'a str,
    /// The target of the run.
    pub target: &'a Target,
}

/// One owner of a pod, direct or indirect.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct OwnerLink {
    /// API version of the owner.
    pub api_version: String,
    /// Kind of the owner.
    pub kind: String,
    /// Name of the owner.
    pub name: String,
    /// UID of the owner.
    pub uid: String,
}

/// Whether the claim covers the pod with these labels and owners, nearest first.
#[must_use]
pub(crate) fn covers(
    claim: &Claim<'_>,
    labels: &BTreeMap<String, String>,
    owners: &[OwnerLink],
) -> bool {
    let target = claim.target;
    if let Some(chosen) = &target.selector {
        // The schema refuses an empty selector. One that was stored without the schema claims nothing.
        let empty = chosen.match_labels.as_ref().is_none_or(BTreeMap::is_empty)
            && chosen.match_expressions.as_ref().is_none_or(Vec::is_empty);
        return !empty && selector::matches(chosen, labels);
    }
    if let Some(wanted) = &target.reference {
        return owners.iter().any(|owner| {
            owner.name == wanted.name
                && owner.kind == wanted.kind
                && group(&owner.api_version) == group(&wanted.api_version)
        });
    }
    // The pods of a template have our Job as their owner, and it has the run. A pod that names the run itself is not one of
    // them, and neither is one of another Job that names it.
    let [job, run, ..] = owners else { return false };
    target.template.is_some()
        && (job.kind.as_str(), group(&job.api_version)) == ("Job", "batch")
        && job.name == object_name(claim.name)
        && (run.kind.as_str(), group(&run.api_version)) == ("AgentRun", GROUP)
        && run.uid == claim.uid
}

/// The message about several runs that claim one pod.
#[must_use]
pub(crate) fn overlap_message(pod: &str, claims: &[Claim<'_>], holder: &str) -> String {
    let names: Vec<&str> = claims.iter().map(|claim| claim.name).collect();
    format!(
        "pod {pod} is claimed by the AgentRuns {}; it belongs to {holder} and is under its guard alone until one of them is deleted",
        names.join(" and ")
    )
}

/// The group of an API version. The version is ignored, because an object is served in several versions.
fn group(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

    use super::*;
    use crate::api::{OwnerReferenceTarget, PodTemplate, RunTemplate};

    fn by_label(value: &str) -> Target {
        Target {
            selector: Some(LabelSelector {
                match_labels: Some([("app".to_owned(), value.to_owned())].into()),
                match_expressions: None,
            }),
            ..Target::default()
        }
    }

    fn by_owner(api_version: &str, kind: &str, name: &str) -> Target {
        Target {
            reference: Some(OwnerReferenceTarget {
                api_version: api_version.into(),
                kind: kind.into(),
                name: name.into(),
            }),
            ..Target::default()
        }
    }

    fn by_template() -> Target {
        Target {
            template: Some(RunTemplate {
                parallelism: 1,
                completions: None,
                backoff_limit: 0,
                pod: PodTemplate {
                    labels: BTreeMap::new(),
                    annotations: BTreeMap::new(),
                    spec: serde_json::Map::new(),
                },
            }),
            ..Target::default()
        }
    }

    fn owner(api_version: &str, kind: &str, name: &str, uid: &str) -> OwnerLink {
        OwnerLink {
            api_version: api_version.into(),
            kind: kind.into(),
            name: name.into(),
            uid: uid.into(),
        }
    }

    fn claim<'a>(name: &'a str, target: &'a Target) -> Claim<'a> {
        Claim {
            name,
            uid: name,
            target,
        }
    }

    fn agent() -> BTreeMap<String, String> {
        [("app".to_owned(), "agent".to_owned())].into()
    }

    fn claims_on<'a, 'c>(
        claims: &'c [Claim<'a>],
        labels: &BTreeMap<String, String>,
        owners: &[OwnerLink],
    ) -> Vec<&'c Claim<'a>> {
        let covering = |claim: &&Claim<'_>| covers(claim, labels, owners);
        claims.iter().filter(covering).collect()
    }

    #[test]
    fn a_pod_that_names_the_run_or_a_foreign_job_as_its_owner_is_not_of_a_template() {
        let target = by_template();
        let claims = [Claim {
            name: "a",
            uid: "uid-a",
            target: &target,
        }];
        let run = || owner("yellowjack.dev/v1alpha1", "AgentRun", "a", "uid-a");
        let job = |name| owner("batch/v1", "Job", name, "1");
        let covers = |owners: &[OwnerLink]| !claims_on(&claims, &agent(), owners).is_empty();
        assert!(covers(&[job("yellowjack-run-a"), run()]));
        assert!(!covers(&[run()]));
        assert!(!covers(&[job("theirs"), run()]));
        assert!(!covers(&[job("yellowjack-run-a")]));
        let chain = [
            owner("v1", "ReplicationController", "x", "2"),
            job("yellowjack-run-a"),
            run(),
        ];
        assert!(!covers(&chain));
    }

    #[test]
    fn a_selector_covers_what_it_selects() {
        let target = by_label("agent");
        let other = by_label("other");
        let claims = [claim("a", &target), claim("b", &other)];
        assert_eq!(claims_on(&claims, &agent(), &[])[0].name, "a");
    }

    #[test]
    fn a_reference_covers_through_a_chain_and_across_versions_of_the_owner() {
        let target = by_owner("ray.io/v1", "RayJob", "train");
        let claims = [claim("a", &target)];
        let chain = [
            owner("ray.io/v1", "RayCluster", "train-x", "1"),
            owner("ray.io/v1alpha1", "RayJob", "train", "2"),
        ];
        assert!(claims_on(&claims, &agent(), &chain).len() == 1);
        let foreign = [owner("example.com/v1", "RayJob", "train", "2")];
        assert!(claims_on(&claims, &agent(), &foreign).is_empty());
    }

    #[test]
    fn a_template_covers_by_the_runs_uid_and_not_by_name_or_label() {
        let target = by_template();
        let claims = [Claim {
            name: "a",
            uid: "uid-a",
            target: &target,
        }];
        let ours = [
            owner("batch/v1", "Job", "yellowjack-run-a", "1"),
            owner("yellowjack.dev/v1alpha1", "AgentRun", "a", "uid-a"),
        ];
        let older = [owner("yellowjack.dev/v1alpha1", "AgentRun", "a", "uid-old")];
        assert!(claims_on(&claims, &BTreeMap::new(), &ours).len() == 1);
        assert!(claims_on(&claims, &BTreeMap::new(), &older).is_empty());
        let labelled = [(crate::api::labels::RUN.to_owned(), "a".to_owned())].into();
        assert!(claims_on(&claims, &labelled, &[]).is_empty());
    }

    #[test]
    fn two_claims_to_one_pod_are_an_overlap_that_names_both() {
        let (first, second) = (by_label("agent"), by_owner("batch/v1", "Job", "j"));
        let claims = [claim("zeta", &second), claim("alpha", &first)];
        let chain = [owner("batch/v1", "Job", "j", "1")];
        assert_eq!(claims_on(&claims, &agent(), &chain).len(), 2);
        let [zeta, alpha] = claims;
        assert!(overlap_message("p", &[alpha, zeta], "zeta").contains("alpha and zeta"));
    }

    #[test]
    fn an_empty_selector_claims_nothing() {
        let target = Target {
            selector: Some(LabelSelector::default()),
            ..Target::default()
        };
        assert!(claims_on(&[claim("a", &target)], &agent(), &[]).is_empty());
    }
}
