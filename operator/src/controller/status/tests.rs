//! Statuses as kstatus and people read them.

use super::*;
use crate::cassandra::Trouble;

const NOW: i64 = 1_800_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn complete(wanted: i32) -> Rollout {
    Rollout { wanted, replicas: wanted, ready: wanted, updated: wanted, is_observed: true }
}

fn ready() -> Observed {
    Observed {
        generation: Some(3),
        class_name: Some("default".to_owned()),
        provisioned: Some(Provisioned {
            plan: PlanStatus::default(),
            schema: Some(SchemaState::Ready(Slices::default())),
            rollup: Some(complete(2)),
            cache: vec![complete(1), complete(1)],
            endpoints: EndpointsStatus::default(),
            images: ImagesStatus::default(),
            updates: Vec::new(),
            selector: "a=b".to_owned(),
        }),
        ..Observed::default()
    }
}

fn changed(change: impl FnOnce(&mut Provisioned)) -> Observed {
    let mut observed = ready();
    change(observed.provisioned.as_mut().unwrap());
    observed
}

fn of(observed: &Observed) -> CounterNamespaceStatus {
    status(observed, &CounterNamespaceStatus::default(), at(NOW))
}

/// Status and reason of a condition.
fn told<'a>(status: &'a CounterNamespaceStatus, kind: &str) -> Option<(&'a str, &'a str)> {
    let condition = status.conditions.iter().find(|condition| condition.type_ == kind)?;
    Some((&condition.status, &condition.reason))
}

#[test]
fn what_is_all_there_is_ready_and_nothing_else() {
    let status = of(&ready());
    assert_eq!(told(&status, "Ready"), Some(("True", "Ready")));
    assert_eq!(told(&status, "Progressing").unwrap().0, "False");
    assert_eq!(told(&status, "Degraded").unwrap().0, "False");
    assert_eq!((told(&status, "Reconciling"), told(&status, "Stalled")), (None, None));
    assert!(status.conditions.iter().all(|condition| condition.observed_generation == Some(3)));
    assert_eq!(status.observed_generation, Some(3));
}

#[test]
fn it_is_ready_only_when_every_part_is() {
    let parts: [(&str, Observed); 6] = [
        ("SchemaReady", changed(|p| p.schema = Some(SchemaState::Pending))),
        ("RollupReady", changed(|p| p.rollup = Some(Rollout { ready: 1, ..complete(2) }))),
        ("RollupReady", changed(|p| p.rollup = Some(Rollout { updated: 1, ..complete(2) }))),
        ("RollupReady", changed(|p| p.rollup = Some(Rollout { is_observed: false, ..complete(2) }))),
        ("RollupReady", changed(|p| p.rollup = Some(Rollout::default()))),
        ("CacheReady", changed(|p| p.cache[1].ready = 0)),
    ];
    for (part, observed) in parts {
        let status = of(&observed);
        assert_eq!(told(&status, part).unwrap().0, "False", "{part}");
        assert_eq!(told(&status, "Ready").unwrap().0, "False", "{part}");
        assert_eq!(told(&status, "Reconciling").unwrap().0, "True", "{part}");
        assert_eq!(told(&status, "Degraded").unwrap().0, "False", "{part}");
    }
}

#[test]
fn trouble_that_waiting_mends_goes_on_and_other_trouble_stalls() {
    for (waiting_helps, on, off) in [(true, "Reconciling", "Stalled"), (false, "Stalled", "Reconciling")] {
        let refused = Refused { reason: "Because", message: "of that".to_owned(), waiting_helps };
        let trouble = Trouble { message: "of that".to_owned(), waiting_helps, of: None };
        let refused = Observed { refused: Some(refused), provisioned: None, ..ready() };
        for observed in [refused, changed(|p| p.schema = Some(SchemaState::Failed(trouble)))] {
            let status = of(&observed);
            assert_eq!(told(&status, "Ready").unwrap().0, "False");
            assert_eq!(told(&status, "Degraded").unwrap().0, "True");
            assert_eq!((told(&status, on).unwrap().0, told(&status, off)), ("True", None));
        }
    }
}

#[test]
fn the_same_state_gives_the_same_status_and_a_change_its_time() {
    let first = of(&ready());
    assert_eq!(status(&ready(), &first, at(NOW + 100)), first);
    let broken = status(&changed(|p| p.cache[0].ready = 0), &first, at(NOW + 100));
    let time = |status: &CounterNamespaceStatus, kind: &str| {
        status.conditions.iter().find(|condition| condition.type_ == kind).unwrap().last_transition_time.0
    };
    assert_eq!(time(&broken, "Ready"), at(NOW + 100));
    assert_eq!(time(&broken, "SchemaReady"), at(NOW));
}

#[test]
fn a_dataset_that_is_looked_at_again_is_not_said_to_be_missing_unless_something_else_was_asked() {
    let looking = changed(|p| p.schema = Some(SchemaState::Pending));
    let before = of(&ready());
    assert_eq!(status(&looking, &before, at(NOW + 9)).conditions, before.conditions);
    let asked_anew = Observed { generation: Some(4), ..looking };
    assert_eq!(told(&status(&asked_anew, &before, at(NOW + 9)), "SchemaReady").unwrap().0, "False");
}

#[test]
fn what_was_provisioned_is_still_told_when_it_is_refused_later() {
    let mut observed = ready();
    observed.provisioned.as_mut().unwrap().images.rollup = Some("rollup:1".to_owned());
    let before = of(&observed);
    let refused = Refused { reason: "ClassMissing", message: String::new(), waiting_helps: true };
    let after =
        status(&Observed { refused: Some(refused), provisioned: None, class_name: None, ..ready() }, &before, at(NOW));
    assert_eq!((&after.images, &after.rollup, &after.slices), (&before.images, &before.rollup, &before.slices));
    assert_eq!(after.class_name.as_deref(), Some("default"));
}

#[test]
fn paused_with_nothing_to_change_is_ready_and_with_something_is_not() {
    let paused = Observed { paused: true, ..ready() };
    assert_eq!(told(&of(&paused), "Ready").unwrap().0, "True");
    assert_eq!(told(&of(&paused), "Paused"), Some(("True", "Paused")));
    let held_back = Observed { held_back: vec!["StatefulSet plays-rollup".to_owned()], ..paused };
    let status = of(&held_back);
    assert_eq!(told(&status, "Ready"), Some(("False", "Paused")));
    assert!(status.conditions[0].message.contains("plays-rollup"));
}

#[test]
fn pods_without_a_sidecar_and_images_that_would_change_are_told_and_harm_nothing() {
    let mut observed = changed(|p| p.updates = vec!["rollup b instead of a".to_owned()]);
    observed.sidecars = vec![Sidecar::Current, Sidecar::Missing, Sidecar::Old];
    let status = of(&observed);
    assert_eq!(told(&status, "SidecarsCurrent"), Some(("False", "SidecarsMissing")));
    assert_eq!(told(&status, "ImagesCurrent"), Some(("False", "UpdateAvailable")));
    assert_eq!(told(&status, "Ready").unwrap().0, "True");
}

#[test]
fn slices_are_told_without_the_epoch() {
    let micros = |second: i64| tallyman_counter::model::Timestamp::from_micros(second * 1_000_000);
    let slices =
        Slices { oldest_start: Some(micros(0)), newest_end: Some(micros(NOW)), open: 4, closed: 1, notes: Vec::new() };
    let told = slices_status(&slices);
    assert_eq!((told.oldest_start, told.newest_end), (None, Some(Time(at(NOW)))));
    assert_eq!((told.open, told.closed), (4, 1));
}
