//! `tallyman plan`: what it shows without a cluster, and that it asks none unless told to.

use std::fs;
use std::io::Write;
use std::process::Stdio;

use serde_json::Value;

use crate::process::{run, tallyman};

const NAMESPACE: &str = "apiVersion: tallyman.dev/v1alpha1\nkind: CounterNamespace\nmetadata: {name: plays}\n\
    spec: {counterType: Eventual, workload: {writesPerSecond: 2000, counters: 1}}\n";
const CLASS: &str = "apiVersion: tallyman.dev/v1alpha1\nkind: CounterClass\nmetadata: {name: main}\nspec:\n  \
    cassandra: {contactPoints: [\"127.0.0.1:1\"], localDatacenter: dc7, replication: {dc7: 2}, adminCredentialsSecretName: admin}\n";

fn planned(text: &str, more: &[&str]) -> crate::process::Ended {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("plays.yaml");
    fs::write(&file, text).unwrap();
    run(&[&["plan", "-f", file.to_str().unwrap()], more].concat())
}

#[test]
fn settings_objects_and_statements_are_shown_without_a_cluster() {
    let text = planned(&format!("{NAMESPACE}---\n{CLASS}"), &[]).succeeded().stdout;
    for expected in [
        "# CounterNamespace default/plays, Eventual; CounterClass main\n",
        "2000 writes/s ÷ 1.0 (the hottest of 1 counters, by Zipf's law)",
        "kind: StatefulSet",
        "plays-rollup-1.plays-rollup.default.svc:7787",
        "#   CREATE KEYSPACE IF NOT EXISTS plays\n#   WITH replication = {'class': 'NetworkTopologyStrategy', 'dc7': '2'};",
        "#   CREATE ROLE IF NOT EXISTS tallyman_plays WITH PASSWORD = '********' AND LOGIN = true;",
        "plays.credentials: (made in the cluster)",
    ] {
        assert!(text.contains(expected), "{expected}\nis not in\n{text}");
    }
}

#[test]
fn a_class_that_is_made_up_is_said_to_be() {
    let text = planned(NAMESPACE, &["-n", "team-video"]).succeeded().stdout;
    assert!(text.starts_with("# CounterNamespace team-video/plays, Eventual; CounterClass example, which is made up"));
}

#[test]
fn programs_get_one_object_for_each_namespace_and_each_dataset_once() {
    let second = NAMESPACE.replace("name: plays", "name: likes").replace("counters: 1", "counters: 9");
    let shared = |text: &str| text.replace("Eventual,", "Eventual, dataset: shared,");
    let text = format!("{}---\n{}", shared(NAMESPACE), shared(&second));
    let json = planned(&text, &["-o", "json"]).succeeded();
    let lines: Vec<Value> = json.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [plays, likes] = &lines[..] else { panic!("{json:?}") };
    assert_eq!((&plays["name"], &likes["name"]), (&"plays".into(), &"likes".into()));
    let buckets = |line: &Value| line["settings"][0]["value"].clone();
    assert_eq!(buckets(plays), buckets(likes), "slices are the dataset's");
    assert_eq!((plays["schema"]["dataset"].as_str(), likes.get("schema")), (Some("shared"), None));
    assert!(plays.get("differences").is_none(), "nothing was compared");
    let yaml = planned(NAMESPACE, &["-o", "yaml"]).succeeded().stdout;
    assert!(yaml.starts_with("---\nname: plays\n"), "{yaml}");
}

#[test]
fn the_standard_input_is_a_file_too() {
    let mut child = tallyman()
        .args(["plan", "-f", "-", "-o", "json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(NAMESPACE.as_bytes()).unwrap();
    let ended = child.wait_with_output().unwrap();
    assert!(ended.status.success());
    assert_eq!(serde_json::from_slice::<Value>(&ended.stdout).unwrap()["name"], "plays");
}

#[test]
fn what_cannot_be_planned_is_said_with_file_and_field() {
    let wrong = planned(&NAMESPACE.replace("Eventual", "Sometimes"), &[]);
    assert_eq!(wrong.code, Some(1));
    assert!(wrong.stderr.contains("spec.counterType") && wrong.stderr.contains("plays.yaml"), "{wrong:?}");
    let none = planned(CLASS, &[]);
    assert!(none.stderr.contains("hold no CounterNamespace"), "{none:?}");
    let other = planned(&format!("{}---\n{CLASS}", NAMESPACE.replace("spec: {", "spec: {className: other, ")), &[]);
    assert!(other.stderr.contains("there is no CounterClass other"), "{other:?}");
    let same = planned(&format!("{CLASS}---\n{NAMESPACE}"), &["--exit-code"]);
    assert_eq!(same.code, Some(2), "there is nothing to compare with: {same:?}");
}

#[test]
fn a_cluster_that_is_not_there_is_named_with_the_way_to_do_without() {
    let ended = planned(NAMESPACE, &["--kubeconfig", "/nowhere/kubeconfig"]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("/nowhere/kubeconfig") && ended.stderr.contains("leave out --cluster"), "{ended:?}");
}
