//! Pods that are being deleted while their traffic continues.

use super::*;

const SUSPENDED: [&str; 4] = [
    "isolate",
    "capture",
    "record Some(Bool(false))",
    "suspend p1",
];

/// A world in which the Job deletes its pods with this grace period when it is suspended.
fn with_grace(grace_s: i64) -> World {
    let mut world = World::new();
    world.grace_s = Some(grace_s);
    world
}

#[test]
fn a_pod_with_surviving_traffic_is_shortened_with_the_suspension_of_its_job() {
    let mut world = with_grace(30);
    world.survives();
    world.settle();
    assert_eq!(world.steps, SUSPENDED);
    assert_eq!(world.pods[0].grace_s, Some(1));
}

#[test]
fn a_pod_with_a_faster_controller_is_shortened_too() {
    let mut world = with_grace(30);
    world.is_outrun = true;
    world.survives();
    let plan = world.settle();
    assert_eq!(world.steps[..4], SUSPENDED);
    assert_eq!(world.steps[4..], ["shorten"]);
    check(&plan, Contained, Some(true), Reason::OwnerSuspended);
    check(&plan, Verified, Some(false), Reason::ConnectionsSurvive);
    let actions = &world.status().actions;
    assert_eq!(actions.last().unwrap().kind, ActionKind::Suspend);
    assert_eq!(actions.last().unwrap().target, pod_target("p1"));
}

#[test]
fn a_pod_with_traffic_that_another_policy_allows_is_shortened_too() {
    let mut world = with_grace(30);
    world.deny.widened_by = vec!["allow-all".to_owned()];
    world.settle();
    assert_eq!(world.steps, SUSPENDED);
    assert_eq!(world.pods[0].grace_s, Some(1));
}

#[test]
fn a_pod_that_ends_within_a_second_or_is_not_being_deleted_is_not_shortened() {
    for grace_s in [Some(0), Some(1), None] {
        let mut world = World::new();
        world.grace_s = grace_s;
        world.is_outrun = true;
        world.survives();
        world.settle();
        assert_eq!(world.steps, SUSPENDED, "{grace_s:?}");
    }
}

#[test]
fn pods_are_shortened_only_with_the_last_owner_and_only_the_incidents_own() {
    let mut world = with_grace(30);
    world.add_cron_job();
    world.bounds.scope = ResponseScope::Run;
    world.pods.push(pod("p2"));
    world.survives();
    world.settle();
    let suspensions = world
        .steps
        .iter()
        .filter(|step| step.starts_with("suspend"));
    assert_eq!(suspensions.collect::<Vec<_>>(), ["suspend", "suspend p1"]);
}

#[test]
fn a_pod_keeps_its_grace_period_when_its_traffic_has_stopped() {
    let mut world = with_grace(30);
    world.survives();
    world.settle();
    world.steps.clear();
    world.pods[0].grace_s = Some(30);
    world.traffic.as_mut().unwrap().log_time = EventTime::from_seconds(200, 0);
    check(&world.settle(), Verified, Some(true), Reason::Verified);
    assert!(world.steps.is_empty(), "{:?}", world.steps);
}

#[test]
fn max_action_isolate_shortens_no_grace_period() {
    let mut world = World::new();
    world.bounds.max_action = ResponseAction::Isolate;
    world.pods[0].grace_s = Some(30);
    world.survives();
    world.settle();
    assert_eq!(world.steps, ["isolate"]);
}

#[test]
fn a_pod_that_is_being_deleted_is_never_shortened_before_its_owner_is_suspended() {
    let mut world = World::new();
    world.pods[0].grace_s = Some(30);
    world.survives();
    world.settle();
    assert_eq!(world.steps, SUSPENDED);
}

#[test]
fn max_action_terminate_shortens_deleted_pods_and_deletes_the_others() {
    let mut world = with_grace(30);
    world.bounds.max_action = ResponseAction::Terminate;
    world.pods.push(pod("p2"));
    world.bounds.scope = ResponseScope::Run;
    world.is_outrun = true;
    world.survives();
    while world.steps.last().map(String::as_str) != Some("suspend p1") {
        let step = world.plan().step.unwrap();
        world.execute(&step);
    }
    world.pods[1].grace_s = None;
    world.settle();
    assert_eq!(
        world.steps[world.steps.len() - 2..],
        ["shorten", "terminate in 1 s"]
    );
}

#[test]
fn a_terminated_pod_keeps_its_grace_period_unless_its_traffic_continues() {
    let ends = |survives: bool| {
        let mut world = World::new();
        world.human_decides(Verdict::Terminate);
        if survives {
            world.survives();
        }
        world.settle();
        world.steps.last().unwrap().clone()
    };
    assert_eq!(ends(false), "terminate");
    assert_eq!(ends(true), "suspend p1");
}

#[test]
fn a_terminated_incident_is_closed_when_its_pod_is_gone() {
    let mut world = with_grace(30);
    world.pods[0].grace_s = Some(30);
    world.human_decides(Verdict::Terminate);
    let plan = world.settle();
    assert!(!plan.close);
    check(&plan, Closed, Some(false), Reason::Terminated);
    assert_eq!(world.steps.last().unwrap(), "suspend");
    world.pods.clear();
    check(&world.settle(), Closed, Some(true), Reason::Terminated);
}
