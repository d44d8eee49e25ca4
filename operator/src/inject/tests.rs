//! Pods in, patched pods out: `golden/*.json` holds a pod each, and what becomes of it. `UPDATE_GOLDEN=1` writes them anew.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn settings() -> Settings {
    Settings::new("registry.example.com/tallyman-sidecar:1.2.3")
}

/// What becomes of a pod, for the golden files.
fn told(pod: &Value) -> Value {
    match inject(pod, &settings()) {
        Outcome::Injected(injected) => {
            json!({"outcome": "injected", "warnings": injected.warnings, "patch": injected.patch, "pod": injected.pod})
        }
        Outcome::AlreadyCurrent => json!({"outcome": "already current"}),
        Outcome::NotAsked => json!({"outcome": "not asked"}),
        Outcome::Skipped(reason) => json!({"outcome": "skipped", "reason": reason.to_string()}),
        Outcome::Refused(refusal) => json!({"outcome": "refused", "message": refusal.to_string()}),
    }
}

fn golden() -> Vec<(PathBuf, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/inject/golden");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        (path, serde_json::from_str(&text).unwrap())
    };
    files.into_iter().map(read).collect()
}

#[test]
fn what_becomes_of_each_pod_is_as_written_down() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let golden = golden();
    assert!(golden.len() >= 12);
    for (path, case) in golden {
        let now = told(&case["given"]);
        if update {
            let case = json!({"why": case["why"], "given": case["given"], "becomes": now});
            std::fs::write(&path, format!("{}\n", serde_json::to_string_pretty(&case).unwrap())).unwrap();
        } else {
            assert_eq!(now, case["becomes"], "{}: {}", path.display(), case["why"]);
        }
    }
}

#[test]
fn what_was_injected_reads_as_a_pod_and_keeps_all_that_was_there() {
    for (path, case) in golden() {
        let Outcome::Injected(injected) = inject(&case["given"], &settings()) else { continue };
        let pod: Pod = serde_json::from_value(injected.pod.clone()).unwrap();
        assert_eq!(state_of(&pod, &settings()), State::Current, "{}", path.display());
        let strip = |pod: &Value| {
            let mut pod = pod.clone();
            for (list, names) in [("initContainers", &[names::SIDECAR_CONTAINER][..]), ("volumes", &sidecar::VOLUMES)] {
                let ours = |item: &Value| item["name"].as_str().is_some_and(|name| names.contains(&name));
                let items = pod["spec"][list].as_array().cloned().unwrap_or_default();
                pod["spec"][list] = items.into_iter().filter(|item| !ours(item)).collect();
            }
            if let Some(annotations) = pod["metadata"]["annotations"].as_object_mut() {
                annotations.remove(names::INJECTED);
            }
            pod
        };
        assert_eq!(strip(&injected.pod), strip(&case["given"]), "{}", path.display());
        assert_eq!(injected.pod["spec"]["initContainers"][0]["name"], names::SIDECAR_CONTAINER);
    }
}

fn pod() -> Value {
    json!({
        "metadata": {
            "name": "web", "labels": {names::INJECT: "true"}, "annotations": {names::COUNTER_NAMESPACES: "likes"}
        },
        "spec": {"containers": [{"name": "web", "image": "web:1"}]}
    })
}

fn injected(pod: &Value, settings: &Settings) -> Value {
    match inject(pod, settings) {
        Outcome::Injected(injected) => injected.pod,
        other => panic!("{other:?}"),
    }
}

fn state(pod: &Value, settings: &Settings) -> State {
    state_of(&serde_json::from_value(pod.clone()).unwrap(), settings)
}

#[test]
fn another_release_replaces_what_was_injected_and_leaves_nothing_of_it() {
    let (old, new) = (Settings::new("sidecar:1"), Settings::new("sidecar:2"));
    let before = injected(&pod(), &old);
    assert_eq!(state(&before, &new), State::Old { image: "sidecar:1".to_owned() });
    assert_eq!(injected(&before, &new), injected(&pod(), &new));
}

#[test]
fn a_pod_is_current_whatever_another_webhook_made_of_the_sidecar() {
    let mut pod = injected(&pod(), &settings());
    pod["spec"]["initContainers"][0]["image"] = json!("mirror.example.com/tallyman-sidecar:1.2.3");
    assert_eq!(inject(&pod, &settings()), Outcome::AlreadyCurrent);
    assert_eq!(state(&pod, &settings()), State::Current);
}

#[test]
fn a_note_of_an_injection_without_a_sidecar_does_not_stop_one() {
    let mut copied = injected(&pod(), &settings());
    copied["spec"]["initContainers"] = json!([]);
    assert_eq!(state(&copied, &settings()), State::Missing { reason: None });
    assert_eq!(injected(&copied, &settings()), injected(&pod(), &settings()));
}

#[test]
fn state_says_why_a_sidecar_is_missing() {
    assert_eq!(state(&pod(), &settings()), State::Missing { reason: None });
    let mut on_host = pod();
    on_host["spec"]["hostNetwork"] = json!(true);
    assert_eq!(state(&on_host, &settings()), State::Missing { reason: Some(SkipReason::HostNetwork.to_string()) });
    let mut wrong = pod();
    wrong["metadata"]["annotations"][names::COUNTER_NAMESPACES] = json!("Likes");
    assert!(matches!(state(&wrong, &settings()), State::Missing { reason: Some(reason) } if reason.contains("Likes")));
    let mut opted_out = pod();
    opted_out["metadata"]["labels"][names::INJECT] = json!("false");
    assert_eq!(state(&opted_out, &settings()), State::NotAsked);
}

#[test]
fn what_is_no_pod_is_refused_in_words() {
    for value in [json!(null), json!([]), json!({"spec": {"containers": "none"}}), json!({"metadata": {"labels": 1}})] {
        assert!(matches!(inject(&value, &settings()), Outcome::Refused(Refusal::NotAPod { .. })), "{value}");
    }
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{1,6}",
        Just(names::SIDECAR_CONTAINER.to_owned()),
        Just("tallyman-secrets".to_owned()),
        Just("tallyman-namespaces".to_owned())
    ]
}

prop_compose! {
    fn containers()(containers in prop::collection::vec((name(), prop_oneof![Just(80), Just(7777), Just(8080)], 0..12), 0..4))
        -> Value {
        let container = |(name, port, odd): (String, i32, i32)| match odd {
            0 => json!({"name": name, "ports": [{"containerPort": port}], "ofALaterKubernetes": {"kept": true}}),
            _ => json!({"name": name}),
        };
        containers.into_iter().map(container).collect()
    }
}

prop_compose! {
    fn any_pod()(
        namespaces in "[a-z]{1,5}(,[a-z]{6,9}){0,2}",
        label in prop_oneof![9 => Just("true"), 1 => Just("false")],
        image in prop::option::of("[a-z]{1,8}:[0-9]"),
        cpu in prop::option::of("[1-9][0-9]{0,3}m"),
        limit in prop::option::of("[1-9][0-9]{0,3}m"),
        stamp in prop::option::of("[a-z]{1,8}:[0-9] [0-9a-f]{16}"),
        containers in containers(),
        init_containers in prop::option::of(containers()),
        volumes in prop::option::of(prop::collection::vec(name(), 0..3)),
        null in any::<bool>(),
    ) -> Value {
        let mut pod = json!({
            "metadata": {"labels": {names::INJECT: label}, "annotations": {names::COUNTER_NAMESPACES: namespaces}},
            "spec": {"containers": containers}
        });
        let annotations = &mut pod["metadata"]["annotations"];
        let about = [("tallyman.dev/sidecar-image", image), ("tallyman.dev/sidecar-cpu", cpu),
            ("tallyman.dev/sidecar-cpu-limit", limit), (names::INJECTED, stamp)];
        for (name, value) in about {
            if let Some(value) = value {
                annotations[name] = json!(value);
            }
        }
        match init_containers {
            Some(containers) => pod["spec"]["initContainers"] = containers,
            None if null => pod["spec"]["initContainers"] = Value::Null,
            None => {}
        }
        if let Some(volumes) = volumes {
            pod["spec"]["volumes"] = volumes.into_iter().map(|name| json!({"name": name})).collect();
        }
        pod
    }
}

/// Any JSON, with the names that are looked for.
fn any_json() -> impl Strategy<Value = Value> {
    let name = prop_oneof![
        "[a-z]{0,3}",
        Just("name".to_owned()),
        Just("ports".to_owned()),
        Just("containerPort".to_owned()),
        Just(names::SIDECAR_CONTAINER.to_owned())
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        name.clone().prop_map(Value::from)
    ];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(name.clone(), inner, 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    /// Whatever is sent as a pod: an answer, and one that holds.
    #[test]
    fn any_json_is_answered(value in any_json(), at in prop::sample::select(vec![
        "", "/metadata", "/metadata/labels", "/metadata/annotations", "/spec", "/spec/containers", "/spec/initContainers",
        "/spec/initContainers/0", "/spec/volumes", "/spec/volumes/0", "/spec/containers/0/ports"
    ])) {
        let mut pod = pod();
        pod["spec"]["initContainers"] = json!([{"name": "first"}]);
        pod["spec"]["volumes"] = json!([{"name": "data"}]);
        pod["spec"]["containers"][0]["ports"] = json!([]);
        *pod.pointer_mut(at).unwrap() = value;
        if let Outcome::Injected(injected) = inject(&pod, &settings()) {
            prop_assert_eq!(inject(&injected.pod, &settings()), Outcome::AlreadyCurrent);
        }
    }

    #[test]
    fn injecting_twice_is_injecting_once(pod in any_pod(), earlier in "[a-z]:[0-9]") {
        // The pod may come from an earlier release.
        let pod = match inject(&pod, &Settings::new(earlier)) {
            Outcome::Injected(injected) => injected.pod,
            _ => pod,
        };
        if let Outcome::Injected(once) = inject(&pod, &settings()) {
            prop_assert_eq!(inject(&once.pod, &settings()), Outcome::AlreadyCurrent);
        }
    }

    /// The API server sees the patch as text, and applies it to the pod as it has it.
    #[test]
    fn the_patch_as_the_api_server_gets_it_makes_the_injected_pod(pod in any_pod()) {
        if let Outcome::Injected(injected) = inject(&pod, &settings()) {
            let sent = serde_json::to_string(&injected.patch).unwrap();
            let mut patched = pod;
            json_patch::patch(&mut patched, &serde_json::from_str::<Patch>(&sent).unwrap()).unwrap();
            prop_assert_eq!(&patched, &injected.pod);
            let ours = |item: &&Value| item["name"] == names::SIDECAR_CONTAINER;
            prop_assert_eq!(patched["spec"]["initContainers"].as_array().unwrap().iter().filter(ours).count(), 1);
            let volumes = patched["spec"]["volumes"].as_array().unwrap().iter();
            let ours = volumes.filter(|item| sidecar::VOLUMES.iter().any(|name| item["name"] == *name));
            prop_assert_eq!(ours.count(), sidecar::VOLUMES.len());
        }
    }

    #[test]
    fn a_pod_reads_as_missing_or_old_exactly_if_a_new_one_would_be_given_a_sidecar(pod in any_pod()) {
        let outcome = inject(&pod, &settings());
        match state(&pod, &settings()) {
            State::NotAsked => prop_assert_eq!(outcome, Outcome::NotAsked),
            State::Missing { reason: None } => prop_assert!(matches!(outcome, Outcome::Injected(_))),
            State::Missing { reason: Some(_) } => prop_assert!(matches!(outcome, Outcome::Skipped(_) | Outcome::Refused(_))),
            State::Old { .. } => prop_assert!(!matches!(outcome, Outcome::AlreadyCurrent | Outcome::NotAsked)),
            State::Current => prop_assert!(matches!(outcome, Outcome::AlreadyCurrent | Outcome::Skipped(_))),
        }
    }
}
