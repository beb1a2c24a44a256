//! On Cilium: what is denied before the label is set and until Cilium has taken it, and how long the response waits for that.

use super::*;
use crate::api::CiliumEnforcement;
use crate::guardrails::cilium::IdentityLabels;
use crate::respond::plan::cilium::{is_denied, texts};

const OWN: &str = "k8s:app=train";
const LABEL: &str = "k8s:yellowjack.dev/quarantine=i1";

fn identity(labels: &[&str]) -> IdentityLabels {
    let endpoint = json!({ "status": { "identity": { "labels": labels } } });
    IdentityLabels::of_endpoint(&endpoint).unwrap()
}

impl World {
    fn with_identity(labels: &[&str], others: usize) -> Self {
        let mut world = Self::new();
        world.set_identity(labels, others);
        world
    }

    fn set_identity(&mut self, labels: &[&str], others: usize) {
        self.identities = Identities::Known(vec![PodIdentity {
            labels: identity(labels),
            others,
            others_max: 0,
        }]);
    }

    /// What the steps on Cilium leave in the status.
    fn denied(&mut self, labels: &[&str]) {
        let now = MicroTime(self.now);
        self.status().cilium = Some(CiliumEnforcement {
            interim_identities: texts(&[identity(labels)].into()),
            denied_since: Some(now),
            label_in_force_since: None,
        });
    }

    fn label_is_set(&mut self) {
        let step = Step::Isolate(self.pods.clone());
        self.execute(&step);
    }

    fn label_is_in_force(&mut self) {
        let now = MicroTime(self.now);
        self.status()
            .cilium
            .get_or_insert_default()
            .label_in_force_since = Some(now);
    }

    fn reason(&mut self, condition: IncidentCondition) -> Reason {
        let plan = self.plan();
        assert_eq!(plan.step, None);
        let found = plan.conditions.iter().find(|c| c.condition == condition);
        found.unwrap().reason
    }
}

#[test]
fn the_identity_is_denied_first_then_cilium_gets_a_moment_and_then_the_label_is_set() {
    let mut world = World::new();
    world.identities = Identities::Unread;
    assert_eq!(
        world.plan().step,
        Some(Step::ReadIdentities(vec![pod("p1")]))
    );
    world.set_identity(&[OWN], 0);
    let wanted = [identity(&[OWN])].into();
    assert_eq!(world.plan().step, Some(Step::DenyIdentities(wanted)));
    world.denied(&[OWN]);
    assert_eq!(world.reason(IncidentCondition::Contained), Reason::Isolated);
    world.pass_time(4);
    assert_eq!(world.plan().step, None);
    world.pass_time(1);
    assert_eq!(world.plan().step, Some(Step::Isolate(vec![pod("p1")])));
    world.label_is_set();
    assert_eq!(world.reason(IncidentCondition::Contained), Reason::Isolated);
}

#[test]
fn an_identity_that_other_pods_have_is_not_denied_and_no_owner_is_suspended_while_the_new_one_is_awaited()
 {
    let mut world = World::with_identity(&[OWN], 2);
    assert_eq!(world.plan().step, Some(Step::Isolate(vec![pod("p1")])));
    world.label_is_set();
    world.survives();
    assert_eq!(
        world.reason(IncidentCondition::Contained),
        Reason::EnforcementPending
    );
    world.pass_time(59);
    assert_eq!(
        world.reason(IncidentCondition::Contained),
        Reason::EnforcementPending
    );
    // Cilium takes 36 s at most: after a minute the response continues.
    world.pass_time(2);
    assert!(matches!(world.plan().step, Some(Step::Capture(_))));
}

#[test]
fn the_policy_goes_a_few_seconds_after_the_identity_has_the_label() {
    let mut world = World::with_identity(&[OWN], 0);
    world.denied(&[OWN]);
    world.pass_time(5);
    world.label_is_set();
    world.set_identity(&[OWN, LABEL], 0);
    assert_eq!(world.plan().step, Some(Step::RecordLabelInForce));
    world.label_is_in_force();
    assert_eq!(world.plan().step, None);
    world.pass_time(5);
    assert_eq!(world.plan().step, Some(Step::LiftInterimDeny));
    let known = world.status().cilium.as_mut().unwrap();
    known.interim_identities.clear();
    // Nothing is read any more.
    world.identities = Identities::Unread;
    assert_eq!(world.reason(IncidentCondition::Contained), Reason::Isolated);
}

#[test]
fn a_pod_that_changes_its_other_labels_is_followed() {
    let mut world = World::with_identity(&[OWN], 0);
    world.denied(&[OWN]);
    world.pass_time(5);
    world.label_is_set();
    let changed = ["k8s:app=other"];
    world.set_identity(&changed, 0);
    let wanted = [identity(&changed)].into();
    assert_eq!(world.plan().step, Some(Step::DenyIdentities(wanted)));
}

#[test]
fn a_pod_that_joins_leaves_the_deny_of_the_pods_before_it_in_place() {
    let mut world = World::with_identity(&[OWN], 0);
    world.bounds.scope = ResponseScope::Run;
    world.denied(&[OWN]);
    world.pass_time(5);
    world.label_is_set();
    world.pods.push(pod("p2"));
    let joined = "k8s:app=joined";
    let both = [OWN, joined].map(|label| PodIdentity {
        labels: identity(&[label]),
        others: 0,
        others_max: 0,
    });
    world.identities = Identities::Known(both.into());
    let wanted = [identity(&[OWN]), identity(&[joined])].into();
    assert_eq!(world.plan().step, Some(Step::DenyIdentities(wanted)));
}

#[test]
fn what_passed_before_the_deny_was_in_force_does_not_count_as_surviving_it() {
    let mut world = World::with_identity(&[OWN], 2);
    world.label_is_set();
    let isolated = world.now;
    world.pass_time(36);
    world.set_identity(&[OWN, LABEL], 0);
    let now = MicroTime(world.now);
    world.status().cilium = Some(CiliumEnforcement {
        denied_since: Some(now.clone()),
        label_in_force_since: Some(now),
        ..CiliumEnforcement::default()
    });
    let passed = |second: i64| TrafficObservation {
        since: EventTime::from(isolated),
        log_time: EventTime::from(isolated).plus_micros((second + 1) * 1_000_000),
        last_passed: Some(EventTime::from(isolated).plus_micros(second * 1_000_000)),
        source_is_fresh: true,
        shows_survivors: true,
    };
    world.traffic = Some(passed(35));
    assert_eq!(
        world.reason(IncidentCondition::Verified),
        Reason::AwaitingProof
    );
    world.traffic = Some(passed(41));
    assert_eq!(
        world.reason(IncidentCondition::Verified),
        Reason::AwaitingProof
    );
    world.traffic = Some(passed(42));
    assert!(matches!(world.plan().step, Some(Step::Capture(_))));
}

#[test]
fn a_policy_that_allows_widens_nothing_where_cilium_denies() {
    let mut world = World::with_identity(&[OWN, LABEL], 0);
    world.deny.widened_by = vec!["wide".to_owned()];
    world.label_is_set();
    world.denied(&[OWN]);
    world.label_is_in_force();
    assert!(is_denied(&world));
    assert_eq!(world.reason(IncidentCondition::Contained), Reason::Isolated);
}

#[test]
fn the_policy_is_taken_back_where_the_pod_is_not_isolated_after_all_and_before_a_release() {
    let mut world = World::with_identity(&[OWN], 0);
    world.denied(&[OWN]);
    world.bounds.max_action = ResponseAction::Alert;
    assert_eq!(world.plan().step, Some(Step::LiftInterimDeny));
    let mut world = World::with_identity(&[OWN], 0);
    world.denied(&[OWN]);
    world.label_is_set();
    world.human_decides(Verdict::Release);
    assert_eq!(world.plan().step, Some(Step::LiftInterimDeny));
    let mut world = World::with_identity(&[OWN], 0);
    world.denied(&[OWN]);
    world.label_is_set();
    world.pods.clear();
    assert_eq!(world.plan().step, Some(Step::LiftInterimDeny));
}

#[test]
fn a_deny_that_is_late_on_a_busy_node_suspends_no_owner_before_the_label_is_in_force() {
    let mut world = World::with_identity(&[OWN], 0);
    world.denied(&[OWN]);
    world.pass_time(5);
    world.label_is_set();
    world.survives();
    world.pass_time(30);
    assert_eq!(
        world.reason(IncidentCondition::Verified),
        Reason::AwaitingProof
    );
    world.pass_time(31);
    assert!(matches!(world.plan().step, Some(Step::Capture(_))));
}
