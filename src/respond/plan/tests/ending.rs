//! Pods that are on their way out while their traffic goes on.

use super::*;

const SUSPENDED: [&str; 4] = ["isolate", "capture", "save Some(Bool(false))", "suspend p1"];

/// A world whose Job, once it is suspended, gives its pods this much time.
fn with_grace(grace_s: i64) -> World {
    let mut world = World::new();
    world.grace_s = Some(grace_s);
    world
}

#[test]
fn a_pod_that_survives_is_hastened_with_the_suspension_of_its_job_after_the_capture() {
    let mut world = with_grace(30);
    world.survives();
    world.settle();
    assert_eq!(world.steps, SUSPENDED);
    assert_eq!(world.pods[0].grace_s, Some(1));
}

#[test]
fn a_pod_whose_controller_was_faster_is_hastened_all_the_same() {
    let mut world = with_grace(30);
    world.is_outrun = true;
    world.survives();
    let plan = world.settle();
    assert_eq!(world.steps[..4], SUSPENDED);
    assert_eq!(world.steps[4..], ["hasten"]);
    check(&plan, Contained, Some(true), Reason::OwnerSuspended);
    check(&plan, Verified, Some(false), Reason::ConnectionsSurvive);
    let actions = &world.status().actions;
    assert_eq!(actions.last().unwrap().kind, ActionKind::Suspend);
    assert_eq!(actions.last().unwrap().target, pod_target("p1"));
}

#[test]
fn a_pod_that_another_policy_lets_out_is_hastened_too() {
    let mut world = with_grace(30);
    world.deny.widened_by = vec!["allow-all".to_owned()];
    world.settle();
    assert_eq!(world.steps, SUSPENDED);
    assert_eq!(world.pods[0].grace_s, Some(1));
}

#[test]
fn a_pod_that_ends_within_a_second_or_is_not_being_deleted_is_not_hastened() {
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
fn no_pod_is_deleted_with_an_owner_below_one_that_is_not_held_yet_or_of_another_owner() {
    let mut world = with_grace(30);
    let cron_job = ObjectTarget {
        kind: "CronJob".to_owned(),
        uid: "uid-nightly".to_owned(),
        ..job()
    };
    world.above = vec![hold(cron_job, None)];
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
fn a_pod_whose_traffic_has_stopped_keeps_its_grace_period() {
    let mut world = with_grace(30);
    world.survives();
    world.settle();
    world.steps.clear();
    world.pods[0].grace_s = Some(30);
    world.witnessed.as_mut().unwrap().log_time = EventTime::from_seconds(200, 0);
    check(&world.settle(), Verified, Some(true), Reason::Verified);
    assert!(world.steps.is_empty(), "{:?}", world.steps);
}

#[test]
fn max_action_isolate_hastens_nothing() {
    let mut world = World::new();
    world.bounds.max_action = ResponseAction::Isolate;
    world.pods[0].grace_s = Some(30);
    world.survives();
    world.settle();
    assert_eq!(world.steps, ["isolate"]);
}

#[test]
fn a_pod_that_is_being_deleted_is_never_hastened_before_its_owner_is_held() {
    let mut world = World::new();
    world.pods[0].grace_s = Some(30);
    world.survives();
    world.settle();
    assert_eq!(world.steps, SUSPENDED);
}

#[test]
fn max_action_terminate_hastens_what_the_owner_deletes_and_deletes_what_it_leaves() {
    let mut world = with_grace(30);
    world.bounds.max_action = ResponseAction::Terminate;
    world.pods.push(pod("p2"));
    world.bounds.scope = ResponseScope::Run;
    world.is_outrun = true;
    world.survives();
    while world.steps.last().map(String::as_str) != Some("suspend p1") {
        let step = world.plan().step.unwrap();
        world.carry_out(step);
    }
    world.pods[1].grace_s = None;
    world.settle();
    assert_eq!(
        world.steps[world.steps.len() - 2..],
        ["hasten", "terminate in 1 s"]
    );
}

#[test]
fn what_a_human_ends_has_its_own_grace_period_unless_its_traffic_goes_on() {
    let ends = |survives: bool| {
        let mut world = World::new();
        world.human_says(Verdict::Terminate);
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
fn what_a_human_ended_is_closed_once_it_is_gone_and_not_before() {
    let mut world = with_grace(30);
    world.pods[0].grace_s = Some(30);
    world.human_says(Verdict::Terminate);
    let plan = world.settle();
    assert!(!plan.close);
    check(&plan, Closed, Some(false), Reason::Terminated);
    assert_eq!(world.steps.last().unwrap(), "suspend");
    world.pods.clear();
    check(&world.settle(), Closed, Some(true), Reason::Terminated);
}
