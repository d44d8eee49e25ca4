//! Namespaces beside others.

use serde_json::{Value, json};
use tallyman_crds::counter_namespace::ImagesStatus;

use super::*;
use crate::controller::dereference::IssuedTls;

fn namespace(kubernetes_namespace: &str, name: &str, created: i64, spec: &Value) -> CounterNamespace {
    let created = jiff::Timestamp::from_second(created).unwrap().to_string();
    let mut object = json!({"apiVersion": "tallyman.dev/v1alpha1", "kind": "CounterNamespace",
        "metadata": {"name": name, "namespace": kubernetes_namespace, "uid": name, "creationTimestamp": created},
        "spec": {"counterType": "Eventual", "dataset": "shared"}});
    for (field, value) in spec.as_object().unwrap() {
        object["spec"][field] = value.clone();
    }
    serde_json::from_value(object).unwrap()
}

fn class() -> ClassFound {
    let class = json!({"apiVersion": "tallyman.dev/v1alpha1", "kind": "CounterClass", "metadata": {"name": "default"}, "spec": {
        "cassandra": {"contactPoints": ["c:9042"], "localDatacenter": "dc1", "replication": {"dc1": 3}}}});
    let access =
        Access { contact_points: vec!["c:9042".to_owned()], local_datacenter: "dc1".to_owned(), login: None, ca: None };
    ClassFound::Usable { class: Arc::new(serde_json::from_value(class).unwrap()), access }
}

fn found(class: ClassFound, siblings: Vec<CounterNamespace>) -> Dereferenced {
    Dereferenced {
        class,
        class_name: None,
        siblings: siblings.into_iter().map(Arc::new).collect(),
        rollup_tls: IssuedTls::default(),
        pinned: ImagesStatus::default(),
        sidecars: Vec::new(),
    }
}

fn refused(namespace: &CounterNamespace, found: &Dereferenced) -> Refused {
    validate(namespace, found).unwrap_err()
}

#[test]
fn a_class_that_is_missing_is_waited_for() {
    let plays = namespace("shop", "plays", 10, &json!({}));
    for class in [
        ClassFound::Missing("gold".to_owned()),
        ClassFound::NoDefault,
        ClassFound::SeveralDefaults(vec!["a".to_owned(), "b".to_owned()]),
        ClassFound::Unusable("spec.cassandra.adminCredentialsSecretName: …".to_owned()),
    ] {
        let refused = refused(&plays, &found(class, Vec::new()));
        assert!(refused.waiting_helps, "{refused:?}");
    }
}

#[test]
fn a_dataset_is_the_kubernetes_namespaces_that_came_first_and_got_it() {
    let (mine, mut theirs) = (namespace("shop", "plays", 10, &json!({})), namespace("bank", "plays", 9, &json!({})));
    // Whose it is, Cassandra's own record says: the older one may have been refused there.
    assert!(validate(&mine, &found(class(), vec![theirs.clone()])).is_ok());
    theirs.status = serde_json::from_value(json!({"slices": {"open": 1, "closed": 0}})).unwrap();
    let refused = refused(&mine, &found(class(), vec![theirs.clone()]));
    assert_eq!((refused.reason, refused.waiting_helps), ("DatasetTaken", false));
    assert!(refused.message.contains("spec.dataset") && refused.message.contains("bank"), "{refused:?}");
    assert!(validate(&theirs, &found(class(), vec![mine])).unwrap().siblings.is_empty());
}

#[test]
fn who_is_younger_must_agree_with_the_oldest_and_is_told_in_what() {
    let oldest = namespace("shop", "plays", 10, &json!({}));
    let differs = json!({"eventStore": {"acceptLimit": "9s"}});
    let younger = namespace("shop", "likes", 11, &differs);
    let refused = refused(&younger, &found(class(), vec![oldest.clone()]));
    assert_eq!((refused.reason, refused.waiting_helps), ("DatasetDisagreement", false));
    assert!(refused.message.starts_with("spec.eventStore.acceptLimit: 9s here and 5s in CounterNamespace plays"));
    // The oldest goes on, whatever the others ask for.
    assert!(validate(&oldest, &found(class(), vec![younger])).is_ok());
}

#[test]
fn workloads_may_differ_as_slices_are_laid_out_by_the_oldest() {
    let oldest = namespace("shop", "plays", 10, &json!({}));
    let busy = namespace("shop", "likes", 11, &json!({"workload": {"writesPerSecond": 50_000, "counters": 10}}));
    let valid = validate(&busy, &found(class(), vec![oldest.clone()])).unwrap();
    let theirs = validate(&oldest, &found(class(), vec![busy])).unwrap();
    assert_eq!(
        valid.plan.events.map(|events| events.buckets_per_id.value),
        theirs.plan.events.map(|events| events.buckets_per_id.value)
    );
    assert_eq!(valid.siblings.len(), 1);
}

#[test]
fn best_effort_counters_have_no_dataset_to_share() {
    let mut views = namespace("shop", "views", 10, &json!({"counterType": "BestEffort"}));
    views.spec.dataset = None;
    let theirs = namespace("bank", "views", 9, &json!({}));
    assert!(validate(&views, &found(class(), vec![theirs])).is_ok());
}
