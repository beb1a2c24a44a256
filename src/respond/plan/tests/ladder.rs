//! From a finding to a contained pod, its release, and what a crash between two steps leaves.

use super::*;

#[test]
fn an_actionable_finding_isolates_the_pod_and_nothing_more() {
    let mut world = World::new();
    let plan = world.settle();
    assert_eq!(world.steps, ["isolate"]);
    check(&plan, Contained, Some(true), Reason::Isolated);
    check(&plan, Verified, None, Reason::AwaitingProof);
    check(&plan, Closed, Some(false), Reason::AwaitingHuman);
}

#[test]
fn contained_is_false_before_the_deny_is_stored() {
    let mut world = World::new();
    world.deny.is_stored = false;
    let plan = world.settle();
    check(&plan, Contained, Some(false), Reason::ActionFailed);
}

#[test]
fn an_alert_or_a_run_in_observe_mode_leads_to_no_action() {
    let mut world = World::new();
    world.incident = incident("Alert", false);
    check(&world.settle(), Contained, Some(false), Reason::AlertOnly);
    world.incident = incident("Quarantine", true);
    check(&world.settle(), Contained, Some(false), Reason::ObserveOnly);
    assert!(world.steps.is_empty());
}

#[test]
fn evidence_about_a_pod_of_another_node_leads_to_no_action() {
    for (named, expected) in [("node-b", None), ("node-a", Some(Reason::NodeMismatch))] {
        let mut world = World::new();
        world.pods[0].node = Some("node-b".to_owned());
        world.incident.spec.subject.node = Some(named.to_owned());
        let plan = world.settle();
        if let Some(reason) = expected {
            check(&plan, Contained, Some(false), reason);
        }
        assert_eq!(world.steps.is_empty(), expected.is_some(), "{named}");
    }
}

#[test]
fn a_limit_below_throttle_or_a_protected_pod_leads_to_no_action() {
    let mut world = World::new();
    world.bounds.max_action = ResponseAction::Alert;
    check(
        &world.settle(),
        Contained,
        Some(false),
        Reason::ActionLimited,
    );
    world.bounds.max_action = ResponseAction::Terminate;
    world.protected = Some("namespace kube-system is protected".to_owned());
    check(&world.settle(), Contained, Some(false), Reason::Protected);
    assert!(world.steps.is_empty());
}

#[test]
fn an_alert_about_a_pod_that_is_gone_is_closed_after_its_time_and_no_other_incident_is() {
    let alert = || {
        let mut world = World::new();
        world.incident = incident("Alert", false);
        world.incident.metadata.creation_timestamp = Some(Time(at(NOW_S - 60)));
        world
    };
    let mut gone = alert();
    gone.pods.clear();
    let settled = gone.settle();
    check(&settled, Contained, Some(false), Reason::AlertOnly);
    check(&settled, Closed, Some(false), Reason::AwaitingHuman);
    gone.pass_time(1_000);
    check(&gone.settle(), Closed, Some(true), Reason::PodGone);
    assert!(gone.steps.is_empty());

    let mut running = alert();
    running.pass_time(10_000);
    check(
        &running.settle(),
        Closed,
        Some(false),
        Reason::AwaitingHuman,
    );
    let mut isolated = World::new();
    isolated.incident.metadata.creation_timestamp = Some(Time(at(NOW_S - 60)));
    isolated.settle();
    isolated.pods.clear();
    isolated.labelled.clear();
    isolated.pass_time(10_000);
    check(
        &isolated.settle(),
        Closed,
        Some(false),
        Reason::AwaitingHuman,
    );
}

#[test]
fn the_cap_on_quarantines_prevents_the_next_isolation() {
    let mut world = World::new();
    world.quarantines.elsewhere = 10;
    check(&world.settle(), Contained, Some(false), Reason::CapReached);
    world.quarantines.elsewhere = 9;
    world.quarantines.elsewhere_in_namespace = 8;
    check(&world.settle(), Contained, Some(false), Reason::CapReached);
    world.quarantines.elsewhere_in_namespace = 7;
    check(&world.settle(), Contained, Some(true), Reason::Isolated);
}

#[test]
fn an_open_breaker_prevents_isolation_and_drops_stale_findings_when_it_resets() {
    let mut world = World::new();
    world.breaker.crossings = 6;
    check(&world.settle(), Contained, Some(false), Reason::BreakerOpen);
    world.breaker.crossings = 5;
    world.pass_time(301);
    check(&world.settle(), Contained, Some(false), Reason::BreakerOpen);
    assert!(world.steps.is_empty());
    world.incident.spec.evidence[0].last_seen = Time(at(world.now.as_second() - 5));
    check(&world.settle(), Contained, Some(true), Reason::Isolated);
}

#[test]
fn an_open_breaker_never_blocks_a_release() {
    let mut world = World::new();
    world.settle();
    world.breaker.crossings = 100;
    world.quarantines.elsewhere = 100;
    world.human_decides(Verdict::Release);
    check(&world.settle(), Closed, Some(true), Reason::Released);
    assert_eq!(world.pods[0].quarantine, None);
}

#[test]
fn an_isolation_is_not_undone_because_a_limit_changed() {
    let mut world = World::new();
    world.settle();
    world.bounds.max_action = ResponseAction::Alert;
    world.protected = Some("now protected".to_owned());
    world.breaker.crossings = 100;
    check(&world.settle(), Contained, Some(true), Reason::Isolated);
    assert_eq!(world.pods[0].quarantine.as_deref(), Some("i1"));
}

#[test]
fn a_removed_label_is_set_again_without_a_release() {
    let mut world = World::new();
    world.settle();
    world.pods[0].quarantine = None;
    world.settle();
    assert_eq!(world.pods[0].quarantine.as_deref(), Some("i1"));
}

#[test]
fn a_wide_union_of_policies_suspends_the_owner_after_a_capture() {
    let mut world = World::new();
    world.deny.widened_by = vec!["allow-all".to_owned()];
    let plan = world.settle();
    assert_eq!(
        world.steps,
        [
            "isolate",
            "capture",
            "record Some(Bool(false))",
            "suspend p1"
        ]
    );
    check(&plan, Contained, Some(false), Reason::UnionWidened);
    world.pods.clear();
    check(&world.settle(), Contained, Some(true), Reason::PodGone);
}

#[test]
fn connections_that_survive_suspend_the_owner() {
    let mut world = World::new();
    world.survives();
    let plan = world.settle();
    assert_eq!(world.steps.last().unwrap(), "suspend p1");
    check(&plan, Contained, Some(true), Reason::OwnerSuspended);
    check(&plan, Verified, Some(false), Reason::ConnectionsSurvive);
}

#[test]
fn the_escalation_ends_at_max_action() {
    let mut world = World::new();
    world.bounds.max_action = ResponseAction::Isolate;
    world.survives();
    check(
        &world.settle(),
        Verified,
        Some(false),
        Reason::ConnectionsSurvive,
    );
    assert_eq!(world.steps, ["isolate"]);
}

#[test]
fn a_pod_without_an_owner_is_deleted_only_where_terminate_is_allowed() {
    let mut world = World::new();
    world.simulation.owner = OwnerControl::NoOwner;
    world.survives();
    world.settle();
    assert_eq!(world.steps, ["isolate", "capture", "skip Suspend"]);
    world.bounds.max_action = ResponseAction::Terminate;
    check(&world.settle(), Contained, Some(true), Reason::PodGone);
    assert_eq!(world.steps.last().unwrap(), "terminate in 1 s");
}

#[test]
fn a_pod_with_a_job_is_never_deleted_before_the_job_is_suspended() {
    let mut world = World::new();
    world.bounds.max_action = ResponseAction::Terminate;
    world.survives();
    world.settle();
    let ends = ["capture", "record Some(Bool(false))", "suspend p1"];
    assert!(
        world.steps.ends_with(&ends.map(ToOwned::to_owned)),
        "{:?}",
        world.steps
    );
}

#[test]
fn a_release_restores_exactly_what_was_before() {
    for before in [None, Some(false)] {
        let mut world = World::new();
        world.set_suspended(before);
        world.survives();
        world.settle();
        world.human_decides(Verdict::Release);
        let plan = world.settle();
        assert!(plan.close);
        assert_eq!(world.suspended(), before);
        check(&plan, Contained, Some(false), Reason::Released);
    }
}

#[test]
fn a_second_incident_takes_over_the_original_value_from_the_first() {
    let mut world = World::new();
    world.other_suspended_it("i0", Some(json!(false)));
    world.set_suspended(Some(true));
    world.survives();
    world.settle();
    assert!(
        world.steps.contains(&"record Some(Bool(false))".to_owned()),
        "{:?}",
        world.steps
    );
    world.human_decides(Verdict::Release);
    world.settle();
    assert_eq!(
        world.steps.last().unwrap(),
        r#"restore Some(Bool(false)) needed by Some("i0")"#
    );
    assert_eq!(
        world.suspended(),
        Some(true),
        "the first Incident still needs it"
    );
}

#[test]
fn an_owner_that_someone_else_suspended_is_not_resumed() {
    let mut world = World::new();
    world.set_suspended(Some(true));
    world.survives();
    world.settle();
    world.human_decides(Verdict::Release);
    world.settle();
    assert_eq!(world.suspended(), Some(true));
    assert!(world.steps.contains(&"skip Suspend".to_owned()));
}

#[test]
fn a_release_passes_the_pod_on_to_another_open_incident() {
    let mut world = World::new();
    world.settle();
    world.others.push(other("i2", "uid-p1"));
    world.human_decides(Verdict::Release);
    world.settle();
    assert_eq!(world.pods[0].quarantine.as_deref(), Some("i2"));
}

#[test]
fn a_pod_in_quarantine_for_another_incident_keeps_that_label() {
    let mut world = World::new();
    world.pods[0].quarantine = Some("i0".to_owned());
    check(&world.settle(), Contained, Some(true), Reason::Isolated);
    assert!(world.steps.is_empty());
}

#[test]
fn scope_run_isolates_every_pod_and_those_that_come_later() {
    let mut world = World::new();
    world.bounds.scope = ResponseScope::Run;
    world.pods.push(pod("p2"));
    world.settle();
    world.pods.push(pod("p3"));
    world.settle();
    assert!(
        world
            .pods
            .iter()
            .all(|pod| pod.quarantine.as_deref() == Some("i1"))
    );
}

#[test]
fn a_human_can_terminate_whatever_the_limits_are() {
    let mut world = World::new();
    world.bounds.max_action = ResponseAction::Alert;
    world.human_decides(Verdict::Terminate);
    let plan = world.settle();
    assert_eq!(
        world.steps,
        [
            "capture",
            "record Some(Bool(false))",
            "suspend",
            "terminate"
        ]
    );
    check(&plan, Closed, Some(true), Reason::Terminated);
}

#[test]
fn a_closed_incident_expires_after_its_time() {
    let mut world = World::new();
    world.human_decides(Verdict::Release);
    world.settle();
    world.status().closed_at = Some(MicroTime(at(NOW_S)));
    assert_eq!(world.plan().step, None);
    world.pass_time(100);
    assert_eq!(world.plan().step, Some(Step::Expire));
}

#[test]
fn after_a_crash_between_any_two_steps_one_step_is_repeated() {
    let mut straight = World::new();
    straight.survives();
    straight.grace_s = Some(30);
    straight.is_outrun = true;
    straight.settle();
    assert_eq!(straight.steps.last().unwrap(), "shorten");
    for lost in 0..straight.steps.len() {
        let mut world = World::new();
        world.survives();
        world.grace_s = Some(30);
        world.is_outrun = true;
        for _ in 0..lost {
            let step = world.plan().step.unwrap();
            world.execute(&step);
        }
        // The step happens, and the process dies before anything is written down about it.
        let status = world.incident.status.clone();
        let step = world.plan().step.unwrap();
        let writes_status_only = matches!(step, Step::RecordRestore(_) | Step::Skip(..));
        world.execute(&step);
        if !writes_status_only {
            world.incident.status = status;
        }
        world.settle();
        assert_eq!(
            world.pods[0].quarantine.as_deref(),
            Some("i1"),
            "lost after step {lost}"
        );
        assert_eq!(world.suspended(), Some(true), "lost after step {lost}");
        assert_eq!(
            world.status().restore,
            [entry(Some(json!(false)))],
            "lost after step {lost}"
        );
        assert_eq!(world.pods[0].grace_s, Some(1), "lost after step {lost}");
    }
}

#[test]
fn a_label_that_was_not_recorded_before_a_crash_is_recorded() {
    let mut world = World::new();
    world.pods[0].quarantine = Some("i1".to_owned());
    world.settle();
    assert_eq!(world.steps, ["isolate"]);
}

#[test]
fn a_label_removal_that_was_not_recorded_before_a_crash_is_recorded() {
    let mut world = World::new();
    world.settle();
    world.human_decides(Verdict::Release);
    world.pods[0].quarantine = None;
    world.settle();
    assert_eq!(world.steps, ["isolate", "unlabel p1 for None"]);
}

#[test]
fn a_suspension_with_a_lost_response_is_recorded_as_succeeded() {
    let mut world = World::new();
    world.survives();
    world.settle();
    let mut actions = world.status().actions.iter_mut();
    let is_of_job =
        |action: &&mut ActionRecord| action.kind == ActionKind::Suspend && action.target == job();
    let of_job = actions.find(is_of_job).unwrap();
    of_job.result = ActionResult::Failed;
    world.steps.clear();
    world.settle();
    assert_eq!(world.steps, ["suspend"]);
}

#[test]
fn traffic_in_spite_of_a_cluster_network_policy_names_the_policies_that_it_should_override() {
    let mut world = World::new();
    world.bounds.max_action = ResponseAction::Isolate;
    world.deny.overridden = vec!["wide".to_owned()];
    let plan = world.settle();
    let verified = |plan: &Plan| {
        let mut all = plan.conditions.iter();
        let found = all.find(|update| update.condition == IncidentCondition::Verified);
        found.unwrap().message.clone()
    };
    assert!(!verified(&plan).contains("wide"), "{}", verified(&plan));
    world.survives();
    let plan = world.settle();
    assert!(verified(&plan).contains("wide"), "{}", verified(&plan));
}
