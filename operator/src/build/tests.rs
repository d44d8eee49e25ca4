//! What is built, as golden files: `UPDATE_GOLDEN=1` writes them anew. And what must hold for all of them.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use k8s_openapi::api::core::v1::PodSpec;
use serde_json::json;
use tallyman_counter::backend::cassandra::schema::datasets::requested;
use tallyman_counter::backend::cassandra::schema::plan::{Found, plan as schema_plan};
use tallyman_counter::configuration::Counting;
use tallyman_counter::model::Timestamp;
use tallyman_crds::manifest::read_counter_namespaces;

use super::*;
use crate::capacity::{memcached_memory_within, plan_in_dataset};
use crate::names;

const NAME_40: &str = "a123456789b123456789c123456789d123456789";
const PASSWORD: &str = "pass-word-in-hex";
const KEYS: [&str; 3] = ["authority-key-pem", "server-key-pem", "client-key-pem"];

/// A case of a golden file.
struct Case {
    name: &'static str,
    namespace: CounterNamespace,
    siblings: Vec<CounterNamespace>,
    class: CounterClass,
    secrets: Secrets,
}

fn namespace(name: &str, second: u32, spec: &str) -> CounterNamespace {
    let text = format!(
        "apiVersion: tallyman.dev/v1alpha1\nkind: CounterNamespace\n\
         metadata: {{name: {name}, namespace: team-video, uid: uid-of-{name}, creationTimestamp: \"2025-01-31T12:00:{second:02}Z\"}}\n\
         spec: {spec}\n"
    );
    read_counter_namespaces(&text, name).unwrap().remove(0)
}

fn class(more: &str) -> CounterClass {
    let mut class: CounterClass = serde_json::from_value(json!({
        "apiVersion": "tallyman.dev/v1alpha1", "kind": "CounterClass", "metadata": {"name": "main"},
        "spec": {"cassandra": {
            "contactPoints": ["cassandra-0.cassandra:9042", "cassandra-1.cassandra:9042"],
            "localDatacenter": "dc1", "replication": {"dc1": 3}}}}))
    .unwrap();
    let more: serde_json::Map<String, Value> = serde_saphyr::from_str(more).unwrap();
    let mut spec = serde_json::to_value(&class.spec).unwrap();
    for (name, value) in more {
        match (spec[&name].as_object_mut(), value) {
            (Some(fields), Value::Object(more)) => fields.extend(more),
            (_, value) => spec[&name] = value,
        }
    }
    class.spec = serde_json::from_value(spec).unwrap();
    class
}

fn rollup_tls() -> RollupTls {
    let pair = |certificate: &str, key: &str| KeyPair { certificate: certificate.to_owned(), key: key.to_owned() };
    RollupTls {
        authority: pair("authority-certificate-pem", KEYS[0]),
        server: pair("server-certificate-pem", KEYS[1]),
        client: pair("client-certificate-pem", KEYS[2]),
    }
}

fn durable_secrets() -> Secrets {
    Secrets { rollup_tls: Some(rollup_tls()), ..Secrets::default() }
}

fn all_secrets() -> Secrets {
    Secrets {
        password: Some(PASSWORD.to_owned()),
        cassandra_ca: Some("cassandra-ca-pem".to_owned()),
        rollup_tls: Some(rollup_tls()),
    }
}

fn cases() -> Vec<Case> {
    let case = |name, namespace, class, secrets| Case { name, namespace, siblings: Vec::new(), class, secrets };
    let oldest = namespace(
        "plays",
        1,
        "{counterType: Eventual, dataset: shared, workload: {writesPerSecond: 40000, counters: 100}}",
    );
    let younger = namespace(
        "likes",
        2,
        "{counterType: Accurate, dataset: shared, workload: {writesPerSecond: 10, counters: 10}}",
    );
    let full = "{counterType: Accurate, cardinality: Low, className: main, dataset: shared_plays, \
        workload: {writesPerSecond: 2000, readsPerSecond: 500, counters: 100000}, \
        eventStore: {acceptLimit: 4s, writeTimeout: 1500ms, maxClockSkew: 500ms, bucketsPerId: 8, bucketWidth: 5m, sliceWidth: 12h, \
          retention: {closeAfter: 24h, deleteAfter: 48h}}, \
        rollup: {replicas: 3, numQueues: 16, coalesce: 5s, queueCapacity: 32Mi, batchCount: 64, \
          resources: {requests: {cpu: \"0.5\", memory: 1024Mi}, limits: {memory: 1024Mi}}}, \
        cache: {replicas: 3, shards: 2, memory: 512Mi, resources: {requests: {cpu: 1000m}, limits: {memory: 1Gi}}}, \
        deletionPolicy: Delete, paused: false}";
    let credentials = "{region: eu, cassandra: {tls: {caSecretName: cassandra-ca}, adminCredentialsSecretName: cassandra-admin}, \
        images: {rollup: \"registry.example/rollup:1\"}, \
        defaults: {rollupResources: {requests: {cpu: 250m}}, cacheResources: {limits: {memory: 128Mi}}}}";
    vec![
        case(
            "minimal_eventual",
            namespace("video-plays", 1, "{counterType: Eventual}"),
            class("{}"),
            durable_secrets(),
        ),
        case("full_accurate", namespace("video-plays", 1, full), class("{}"), durable_secrets()),
        case(
            "best_effort",
            namespace(
                "page-views",
                1,
                "{counterType: BestEffort, ttl: 2h, workload: {writesPerSecond: 20000, counters: 1000000}}",
            ),
            class("{}"),
            Secrets::default(),
        ),
        case(
            "shared_memcached",
            namespace("video-plays", 1, "{counterType: Eventual}"),
            class(
                "{memcached: {replicas: [{shards: [\"m-0:11211\", \"m-1:11211\"]}, {shards: [\"m-2:11211\", \"m-3:11211\"]}]}}",
            ),
            durable_secrets(),
        ),
        case(
            "tls_and_credentials",
            namespace("video-plays", 1, "{counterType: Eventual}"),
            class(credentials),
            all_secrets(),
        ),
        case(
            "longest_name",
            namespace(NAME_40, 1, "{counterType: Eventual, rollup: {replicas: 1}}"),
            class("{}"),
            durable_secrets(),
        ),
        Case {
            name: "oldest_of_a_dataset",
            namespace: oldest.clone(),
            siblings: vec![younger.clone()],
            class: class(credentials),
            secrets: all_secrets(),
        },
        Case {
            name: "youngest_of_a_dataset",
            namespace: younger,
            siblings: vec![oldest],
            class: class(credentials),
            secrets: all_secrets(),
        },
    ]
}

fn images(class: &CounterClass) -> Images {
    let fixed = |name: &str| format!("ghcr.io/tallyman/{name}:1.2.3");
    let set = class.spec.images.clone().unwrap_or_default();
    Images {
        sidecar: set.sidecar.unwrap_or(fixed("tallyman-sidecar")),
        rollup: set.rollup.unwrap_or(fixed("tallyman-rollup")),
        memcached: set.memcached.unwrap_or("memcached:1.6.39-alpine".to_owned()),
    }
}

impl Case {
    fn plan(&self) -> Plan {
        let oldest = dataset_of(&self.namespace, &self.siblings);
        plan_in_dataset(&self.namespace.spec, oldest.map(|oldest| &oldest.spec))
    }

    fn try_build(&self) -> Result<Built, Error> {
        build(&Inputs {
            namespace: &self.namespace,
            class: &self.class,
            plan: &self.plan(),
            siblings: &self.siblings,
            images: &images(&self.class),
            secrets: &self.secrets,
        })
    }

    fn build(&self) -> Built {
        self.try_build().unwrap()
    }
}

fn values(built: &Built) -> Vec<Value> {
    built.objects.iter().map(Object::to_value).collect()
}

/// The plan, the objects and the statements.
fn shown(case: &Case) -> String {
    let built = case.build();
    let mut documents: Vec<String> = vec![case.plan().lines().iter().map(|line| format!("# {line}\n")).collect()];
    documents.extend(values(&built).iter().map(|value| serde_saphyr::to_string(value).unwrap()));
    if let Some(wanted) = &built.schema {
        // Noon of some day.
        let noon = Timestamp::EPOCH.plus(Duration::from_secs(86_400 * 20_000 + 43_200));
        let plan = schema_plan(wanted, &Found::nothing(), noon).unwrap();
        let first_of_kind = |index: usize| {
            let name = |index: usize| plan.steps().nth(index).map(|step| step.action.name());
            (0..index).filter(|earlier| name(*earlier) == name(index)).count() < 5
        };
        let steps = plan.steps().enumerate().filter(|(index, _)| first_of_kind(*index));
        let cql: String = steps.map(|(_, step)| format!("{};\n", step.cql)).collect();
        documents.push(cql.lines().map(|line| format!("# {line}\n")).collect());
    }
    documents.join("---\n")
}

#[track_caller]
fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/build/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(expected == text, "{} is out of date; it should read:\n{text}", path.display());
}

#[test]
fn what_is_built_is_as_in_the_golden_files() {
    for case in cases() {
        golden(&format!("{}.yaml", case.name), &shown(&case));
    }
}

#[test]
fn the_same_inputs_build_the_same_to_the_byte() {
    for (first, second) in cases().iter().zip(&cases()) {
        assert_eq!(shown(first), shown(second));
    }
}

#[test]
fn the_document_reads_back_as_the_configuration() {
    for case in cases() {
        let built = case.build();
        let Object::ConfigMap(map) = &built.objects[0] else { panic!("the ConfigMap comes first") };
        let name = case.namespace.metadata.name.as_deref().unwrap();
        let document = &map.data.as_ref().unwrap()[&names::document_key(name)];
        assert_eq!(NamespaceConfiguration::from_json(document), Ok(built.configuration.clone()));
    }
}

#[test]
fn names_fit_with_what_kubernetes_appends() {
    for case in cases() {
        for object in case.build().objects {
            let name = object.name().to_owned();
            assert!(name.len() <= 63, "{name}");
            if let Object::StatefulSet(set) = &object {
                // Labels of pods: controller-revision-hash, and the name with the greatest ordinal.
                assert!(format!("{name}-0123456789").len() <= 63, "{name}");
                assert!(format!("{name}-255").len() <= 63, "{name}");
                assert_eq!(set.spec.as_ref().unwrap().service_name.as_deref(), Some(name.as_str()));
            }
            for (key, value) in object.metadata().labels.clone().unwrap() {
                assert!(value.len() <= 63, "{key}: {value}");
            }
        }
    }
}

#[test]
fn every_object_is_labelled_owned_and_named_once() {
    for case in cases() {
        let mut seen = BTreeSet::new();
        for object in case.build().objects {
            assert!(
                seen.insert((object.kind(), object.name().to_owned())),
                "{} {} twice",
                object.kind(),
                object.name()
            );
            let metadata = object.metadata();
            let labels = metadata.labels.as_ref().unwrap();
            assert_eq!(Some(&labels[names::COUNTER_NAMESPACE]), case.namespace.metadata.name.as_ref());
            assert_eq!(labels["app.kubernetes.io/managed-by"], names::MANAGED_BY);
            assert_eq!(metadata.namespace, case.namespace.metadata.namespace);
            let [owner] = &metadata.owner_references.as_ref().unwrap()[..] else { panic!("one owner") };
            assert_eq!((owner.kind.as_str(), owner.controller), ("CounterNamespace", Some(true)));
            assert_eq!(
                (Some(&owner.uid), owner.block_owner_deletion),
                (case.namespace.metadata.uid.as_ref(), Some(true))
            );
            assert!(object.to_value().get("status").is_none());
        }
    }
}

#[test]
fn selectors_select_the_pods_of_their_set_and_no_others() {
    for case in cases() {
        let built = case.build();
        let sets: Vec<_> = built
            .objects
            .iter()
            .filter_map(|object| match object {
                Object::StatefulSet(set) => set.spec.clone(),
                _ => None,
            })
            .collect();
        for set in &sets {
            let selected = |labels: &std::collections::BTreeMap<String, String>| {
                set.selector.match_labels.as_ref().unwrap().iter().all(|(key, value)| labels.get(key) == Some(value))
            };
            let matching = sets
                .iter()
                .filter(|other| selected(other.template.metadata.as_ref().unwrap().labels.as_ref().unwrap()));
            assert_eq!(matching.count(), 1);
        }
    }
}

#[test]
fn secrets_are_in_secrets_and_nowhere_else() {
    for case in cases() {
        for object in case.build().objects {
            let text = match &object {
                Object::Secret(secret) => {
                    assert!(object.metadata().annotations.is_none());
                    // Only the authority's own Secret has what signs.
                    let has_authority_key =
                        secret.data.iter().flatten().any(|(_, value)| value.0 == KEYS[0].as_bytes());
                    assert_eq!(has_authority_key, object.name().ends_with(".rollup-ca"), "{}", object.name());
                    serde_json::to_string(&object.metadata()).unwrap()
                }
                other => other.to_value().to_string(),
            };
            for secret in KEYS.into_iter().chain([PASSWORD]) {
                assert!(!text.contains(secret), "{} {}", object.kind(), object.name());
            }
        }
        let debug = format!("{:?}", case.build().schema);
        assert!(!debug.contains(PASSWORD));
    }
}

#[test]
fn no_pod_mounts_the_authority_and_every_file_of_the_document_is_in_a_secret() {
    for case in cases() {
        let built = case.build();
        let name = case.namespace.metadata.name.as_deref().unwrap();
        for value in values(&built) {
            assert!(value["kind"] == "Secret" || !value.to_string().contains(".rollup-ca"));
        }
        let Counting::Durable(durable) = &built.configuration.counting else { continue };
        let tallyman_counter::configuration::DatasetStorage::Cassandra(cassandra) = &durable.events else {
            panic!("in Cassandra")
        };
        for secret in [names::sidecar_secret(name), names::rollup_secret(name)] {
            let data = built.objects.iter().find_map(|object| match object {
                Object::Secret(there) if object.name() == secret => there.data.clone(),
                _ => None,
            });
            let keys: BTreeSet<String> = data.unwrap().keys().map(|key| names::secret_file(key)).collect();
            for file in [&cassandra.credentials_file, &cassandra.tls_ca_file].into_iter().flatten() {
                assert!(keys.contains(&file.display().to_string()), "{}", file.display());
            }
            for key in names::rollup_tls_keys(name) {
                assert!(keys.contains(&names::secret_file(&key)), "{key}");
            }
        }
    }
}

/// The rules of the restricted Pod Security Standard, as far as our pods touch on them.
fn restricted(pod: &PodSpec) -> Result<(), String> {
    let security = pod.security_context.as_ref().ok_or("no security context")?;
    let seccomp = security.seccomp_profile.as_ref().map(|profile| profile.type_.as_str());
    if security.run_as_non_root != Some(true) || security.run_as_user.is_none_or(|user| user == 0) {
        return Err("may run as root".to_owned());
    }
    if seccomp != Some("RuntimeDefault") {
        return Err(format!("seccomp {seccomp:?}"));
    }
    if [pod.host_network, pod.host_pid, pod.host_ipc].contains(&Some(true)) {
        return Err("is in the host's namespaces".to_owned());
    }
    for volume in pod.volumes.iter().flatten() {
        if volume.projected.is_none() && volume.empty_dir.is_none() {
            return Err(format!("volume {} is of another kind", volume.name));
        }
    }
    for container in pod.containers.iter().chain(pod.init_containers.iter().flatten()) {
        let security = container.security_context.as_ref().ok_or("no security context")?;
        let dropped = security.capabilities.as_ref().and_then(|capabilities| capabilities.drop.clone());
        let added = security.capabilities.as_ref().and_then(|capabilities| capabilities.add.clone());
        if dropped != Some(vec!["ALL".to_owned()]) || added.is_some() {
            return Err(format!("{} has capabilities", container.name));
        }
        if security.allow_privilege_escalation != Some(false) || security.privileged == Some(true) {
            return Err(format!("{} may get more privileges", container.name));
        }
        if container.ports.iter().flatten().any(|port| port.host_port.is_some()) {
            return Err(format!("{} has ports of the host", container.name));
        }
        // Beyond the standard, ours.
        if security.read_only_root_filesystem != Some(true) {
            return Err(format!("{} writes to its root", container.name));
        }
    }
    if pod.automount_service_account_token != Some(false) {
        return Err("gets a token of the API".to_owned());
    }
    Ok(())
}

fn pods(built: &Built) -> Vec<PodSpec> {
    let pods = built.objects.iter().filter_map(|object| match object {
        Object::StatefulSet(set) => set.spec.clone()?.template.spec,
        _ => None,
    });
    pods.collect()
}

#[test]
fn all_pods_keep_to_the_restricted_pod_security_standard() {
    for case in cases() {
        for pod in pods(&case.build()) {
            assert_eq!(restricted(&pod), Ok(()));
        }
    }
    let mut loose = pods(&cases()[0].build()).remove(0);
    loose.containers[0].security_context.as_mut().unwrap().capabilities = None;
    assert!(restricted(&loose).is_err(), "the check can fail");
}

#[test]
fn memcached_fits_its_container_whoever_set_the_limit() {
    let mut seen = 0;
    for case in cases() {
        for container in pods(&case.build()).into_iter().flat_map(|pod| pod.containers) {
            if container.name != "memcached" {
                continue;
            }
            seen += 1;
            let flag = container.args.unwrap()[0].clone();
            let memory_mib: u64 = flag.strip_prefix("--memory-limit=").unwrap().parse().unwrap();
            let limit = resources::memory_limit_bytes(&container.resources.unwrap()).unwrap();
            assert!(memory_mib <= memcached_memory_within(limit), "{}: {memory_mib} of {limit}", case.name);
            assert!((memory_mib + 64) << 20 <= limit);
        }
    }
    assert!(seen > 3);
}

#[test]
fn endpoints_are_the_pods_there_are() {
    for case in cases() {
        let built = case.build();
        let mut hosts = BTreeSet::new();
        for object in &built.objects {
            let Object::StatefulSet(set) = object else { continue };
            for ordinal in 0..set.spec.as_ref().unwrap().replicas.unwrap() {
                hosts.insert(format!("{0}-{ordinal}.{0}.team-video.svc", object.name()));
            }
        }
        let text = built.configuration.to_json();
        for host in hosts {
            assert!(text.contains(&host), "{host}");
        }
    }
}

#[test]
fn what_is_wanted_agrees_with_what_the_documents_of_the_dataset_ask_for() {
    let mut built: Vec<Built> = cases().iter().filter(|case| !case.siblings.is_empty()).map(Case::build).collect();
    let configurations: Vec<_> = built.iter().map(|built| built.configuration.clone()).collect();
    let requests = requested(&configurations);
    assert_eq!(requests.disagreements, []);
    let [dataset] = &requests.datasets[..] else { panic!("one dataset") };
    for built in &mut built {
        let wanted = built.schema.take().unwrap();
        assert_eq!(&wanted.dataset, dataset);
        assert_eq!(wanted.owner.as_deref(), Some("team-video"));
        assert!(wanted.role.unwrap().is_of("shared"));
    }
}

#[test]
fn a_dataset_that_one_of_its_namespaces_had_is_not_made_anew_unless_one_asks_for_it() {
    let mut older = namespace("plays", 1, "{counterType: Eventual, dataset: shared}");
    let mut younger = namespace("likes", 2, "{counterType: Eventual, dataset: shared}");
    let must_exist = |namespace: &CounterNamespace, sibling: &CounterNamespace| {
        let (namespace, siblings, secrets) = (namespace.clone(), vec![sibling.clone()], durable_secrets());
        Case { name: "", namespace, siblings, class: class("{}"), secrets }.build().schema.unwrap().must_exist
    };
    assert!(!must_exist(&younger, &older));
    older.status = serde_json::from_value(serde_json::json!({"slices": {"open": 1, "closed": 0}})).unwrap();
    assert!(must_exist(&younger, &older) && must_exist(&older, &younger));
    younger.metadata.annotations = Some([(names::RECREATE_DATASET.to_owned(), "true".to_owned())].into());
    assert!(!must_exist(&younger, &older) && !must_exist(&older, &younger));
}

#[test]
fn a_younger_namespace_that_disagrees_is_refused_and_the_older_one_is_not() {
    let older = namespace("plays", 1, "{counterType: Eventual, dataset: shared}");
    let younger = namespace("likes", 2, "{counterType: Eventual, dataset: shared, eventStore: {bucketsPerId: 9}}");
    let case = |namespace: &CounterNamespace, sibling: &CounterNamespace| Case {
        name: "",
        namespace: namespace.clone(),
        siblings: vec![sibling.clone()],
        class: class("{}"),
        secrets: durable_secrets(),
    };
    let refused = case(&younger, &older).try_build().unwrap_err().to_string();
    assert!(
        refused.contains("plays and likes share dataset shared and differ in time_partition.buckets_per_id"),
        "{refused}"
    );
    let namespaces = case(&older, &younger).build().schema.unwrap().dataset.namespaces;
    assert_eq!(namespaces.iter().map(|name| name.as_str()).collect::<Vec<_>>(), ["plays"]);
}

#[test]
fn a_secret_that_is_not_there_yet_is_named() {
    let tls_and_credentials = || cases().remove(4);
    for (change, expected) in [
        ((|secrets: &mut Secrets| secrets.password = None) as fn(&mut Secrets), "the password of the dataset's role"),
        (|secrets| secrets.cassandra_ca = None, "caSecretName"),
        (|secrets| secrets.rollup_tls = None, "the authority for rollup streams"),
    ] {
        let mut case = tls_and_credentials();
        change(&mut case.secrets);
        let error = case.try_build().unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn what_is_asked_of_pods_changes_with_what_users_write_and_not_with_the_number_of_servers() {
    let asked = |spec: &str, class: CounterClass| {
        let case = Case {
            name: "",
            namespace: namespace("plays", 1, spec),
            siblings: Vec::new(),
            class,
            secrets: durable_secrets(),
        };
        let annotation = |object: &Object| match object {
            Object::StatefulSet(_) => object.metadata().annotations.as_ref().map(|all| all[names::ASKED].clone()),
            _ => None,
        };
        case.build().objects.iter().find_map(annotation).unwrap()
    };
    let base = asked("{counterType: Eventual}", class("{}"));
    assert_eq!(base, asked("{counterType: Eventual, rollup: {replicas: 9}}", class("{}")));
    assert_ne!(base, asked("{counterType: Eventual, rollup: {batchCount: 9}}", class("{}")));
    assert_ne!(base, asked("{counterType: Eventual, workload: {writesPerSecond: 9}}", class("{}")));
    assert_ne!(base, asked("{counterType: Eventual}", class("{images: {rollup: other}}")));
    assert_ne!(base, asked("{counterType: Eventual}", class("{defaults: {rollupResources: {requests: {cpu: 1}}}}")));
}
