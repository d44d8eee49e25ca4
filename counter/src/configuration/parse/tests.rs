use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};

use super::super::arbitrary::{BEST_EFFORT, EXAMPLE, configurations, example};
use super::super::{CacheStorage, Counting, InvalidDocument, NamespaceConfiguration};

const ROLLUP: &str = "/persistence_configuration/1";
const EVENTS: &str = "/persistence_configuration/2";

fn value(document: &str) -> Value {
    serde_json::from_str(document).unwrap()
}

/// Sets the field at a JSON pointer; `null` removes it.
fn set(document: &mut Value, pointer: &str, new: Value) {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    match document.pointer_mut(parent).unwrap_or_else(|| panic!("no {parent}")) {
        Value::Object(object) if new.is_null() => drop(object.remove(key)),
        Value::Object(object) => drop(object.insert(key.to_owned(), new)),
        Value::Array(array) => array[key.parse::<usize>().unwrap()] = new,
        other => panic!("{parent} is {other}"),
    }
}

fn read(document: &str, changes: &[(&str, Value)]) -> Result<NamespaceConfiguration, InvalidDocument> {
    let mut document = value(document);
    for (pointer, new) in changes {
        set(&mut document, pointer, new.clone());
    }
    NamespaceConfiguration::from_json(&document.to_string())
}

/// The example with `new` at `pointer` is refused at `path` with a reason that has all of `words`.
#[track_caller]
fn refused(document: &str, pointer: &str, new: Value, path: &str, words: &[&str]) {
    let shown = new.to_string();
    let invalid = read(document, &[(pointer, new)]).expect_err(&shown);
    assert_eq!(invalid.path, path, "{shown}: {invalid}");
    for word in words {
        assert!(invalid.reason.contains(word), "{shown}: no {word:?} in: {invalid}");
    }
}

/// As [`refused`], at the path that the pointer names.
#[track_caller]
fn refused_there(pointer: &str, new: Value, words: &[&str]) {
    let mut path = String::new();
    for segment in pointer.split('/').skip(1) {
        match segment.parse::<usize>() {
            Ok(index) => path.push_str(&format!("[{index}]")),
            Err(_) if path.is_empty() => path.push_str(segment),
            Err(_) => path.push_str(&format!(".{segment}")),
        }
    }
    refused(EXAMPLE, pointer, new, &path, words);
}

#[test]
fn the_example_says_what_it_says() {
    assert_eq!(NamespaceConfiguration::from_json(EXAMPLE), Ok(example()));
}

#[test]
fn a_best_effort_namespace_is_a_cache_alone() {
    let likes = NamespaceConfiguration::from_json(BEST_EFFORT).unwrap();
    let Counting::BestEffort(best_effort) = likes.counting else { panic!("{likes:?}") };
    assert_eq!((best_effort.storage, best_effort.ttl.as_secs()), (CacheStorage::Memory, 3600));
}

#[test]
fn what_is_left_out_is_what_the_example_writes_out() {
    let cassandra = read(
        EXAMPLE,
        &[
            (&format!("{ROLLUP}/config/eventual_counter_config"), Value::Null),
            (&format!("{ROLLUP}/scope"), Value::Null),
            (&format!("{EVENTS}/config"), Value::Null),
            (&format!("{EVENTS}/lifecycleConfigs"), Value::Null),
        ],
    );
    assert_eq!(cassandra, Ok(example()));
    let no_servers = read(EXAMPLE, &[(&format!("{ROLLUP}/config/rollup_endpoints"), Value::Null)]).unwrap();
    let Counting::Durable(durable) = no_servers.counting else { panic!() };
    assert_eq!(durable.rollup_endpoints, Vec::<String>::new());
}

#[test]
fn widths_are_numbers_or_strings() {
    let widths = format!("{EVENTS}/config/time_partition");
    let as_numbers = read(
        EXAMPLE,
        &[(&widths, json!({"buckets_per_id": "4", "seconds_per_bucket": 600, "seconds_per_slice": 86400}))],
    );
    assert_eq!(as_numbers, Ok(example()));
}

#[test]
fn fields_of_another_shape_are_refused_with_their_path() {
    refused_there("/namespace", json!("Video.Plays"), &["Video.Plays", "lowercase"]);
    refused_there("/namespace", Value::Null, &["missing"]);
    refused_there("/region", json!(""), &["1 to 255"]);
    refused_there("/region", json!(7), &["7", "string"]);
    refused_there("/persistence_configuration", Value::Null, &["missing"]);
    refused_there("/persistence_configuration", json!("x"), &["sequence"]);
    refused_there(&format!("{ROLLUP}/id"), json!("ROLLUP"), &["ROLLUP", "CACHE", "COUNTER_ROLLUP", "EVENT_STORAGE"]);
    refused_there(&format!("{ROLLUP}/id"), json!("CACHE"), &["second time"]);
    refused_there(&format!("{ROLLUP}/id"), Value::Null, &["missing", "CACHE, COUNTER_ROLLUP or EVENT_STORAGE"]);
    refused_there(&format!("{ROLLUP}/scope"), json!("dal=ts"), &["dal=ts", "dal=counter"]);
    refused_there(&format!("{ROLLUP}/counter_cardinality"), json!("MANY"), &["MANY", "LOW", "HIGH"]);
    refused_there(&format!("{ROLLUP}/counter_cardinality"), Value::Null, &["missing", "LOW or HIGH"]);
    refused_there(&format!("{ROLLUP}/config"), Value::Null, &["missing"]);
    refused_there(&format!("{ROLLUP}/config/counter_type"), json!("STRICT"), &["STRICT", "BEST_EFFORT", "ACCURATE"]);
    refused_there(&format!("{ROLLUP}/config/counter_type"), Value::Null, &["missing", "EVENTUAL or ACCURATE"]);
    refused_there(&format!("{ROLLUP}/config/counter_type"), json!("BEST_EFFORT"), &["BEST_EFFORT", "CACHE"]);
    refused_there(&format!("{EVENTS}/lifecycleConfigs/lifecycleConfig/0/type"), json!("archive"), &["retention"]);
    refused_there(&format!("{EVENTS}/lifecycleConfigs/lifecycleConfig/0/type"), Value::Null, &["missing"]);
    refused_there(&format!("{EVENTS}/lifecycleConfigs/lifecycleConfig"), json!([]), &["exactly one"]);
    refused_there(&format!("{EVENTS}/lifecycleConfigs/lifecycleConfig"), Value::Null, &["missing"]);
}

#[test]
fn unknown_fields_are_refused_at_every_level() {
    let objects = [
        "",
        ROLLUP,
        &format!("{ROLLUP}/physical_storage"),
        &format!("{ROLLUP}/physical_storage/tls"),
        &format!("{ROLLUP}/config"),
        &format!("{ROLLUP}/config/rollup_tls"),
        &format!("{ROLLUP}/config/eventual_counter_config"),
        &format!("{ROLLUP}/config/eventual_counter_config/internal_config"),
        &format!("{ROLLUP}/config/eventual_counter_config/internal_config/queue_config"),
        &format!("{EVENTS}/config/time_partition"),
        &format!("{EVENTS}/lifecycleConfigs"),
        &format!("{EVENTS}/lifecycleConfigs/lifecycleConfig/0"),
        &format!("{EVENTS}/lifecycleConfigs/lifecycleConfig/0/config"),
    ];
    for object in objects {
        refused_there(&format!("{object}/ttl_of"), json!(1), &["unknown field `ttl_of`", "expected"]);
    }
    refused(
        BEST_EFFORT,
        "/persistence_configuration/0/config/best_effort_counter_config/tll",
        json!("1s"),
        "persistence_configuration[0].config.best_effort_counter_config.tll",
        &["expected `ttl`"],
    );
}

#[test]
fn a_field_twice_is_refused() {
    let twice = EXAMPLE.replace("\"rollup_batch_count\": 32", "\"rollup_batch_count\": 32, \"rollup_batch_count\": 33");
    let invalid = NamespaceConfiguration::from_json(&twice).unwrap_err();
    assert!(invalid.to_string().contains("duplicate field `rollup_batch_count`"), "{invalid}");
}

#[test]
fn what_is_no_json_is_refused_with_its_position() {
    for text in ["", "{", "[", "{\"namespace\": }", &format!("{BEST_EFFORT} x")] {
        let invalid = NamespaceConfiguration::from_json(text).unwrap_err();
        assert_eq!(invalid.path, ".", "{text}");
        assert!(invalid.to_string().starts_with("not a JSON document: "), "{text}: {invalid}");
        assert!(invalid.reason.contains(" at line "), "{text}: {invalid}");
    }
    let deep = NamespaceConfiguration::from_json(&"[".repeat(100_000)).unwrap_err();
    assert!(deep.reason.contains("expected a string"), "{deep}");
    let list = NamespaceConfiguration::from_json("7").unwrap_err();
    assert_eq!(list.to_string(), "invalid type: integer `7`, expected an object");
}

#[test]
fn entries_are_required_and_forbidden_by_type() {
    let missing = |document: &str, remove: &[usize], word: &str| {
        let mut document = value(document);
        let entries = document["persistence_configuration"].as_array_mut().unwrap();
        for index in remove.iter().rev() {
            entries.remove(*index);
        }
        let invalid = NamespaceConfiguration::from_json(&document.to_string()).unwrap_err();
        assert!(invalid.reason.contains(word), "{invalid}");
        invalid.path
    };
    assert_eq!(missing(BEST_EFFORT, &[0], "CACHE is missing"), "persistence_configuration");
    assert_eq!(missing(EXAMPLE, &[0, 1], "COUNTER_ROLLUP is missing"), "persistence_configuration");
    assert_eq!(missing(EXAMPLE, &[2], "EVENT_STORAGE is missing"), "persistence_configuration");
    assert_eq!(missing(EXAMPLE, &[1, 2], "CACHE is the only entry"), "persistence_configuration[0].config");
    for counter_type in ["EVENTUAL", "ACCURATE"] {
        let pointer = "/persistence_configuration/0/config/counter_type";
        let (path, word) = ("persistence_configuration", "COUNTER_ROLLUP is missing");
        refused(BEST_EFFORT, pointer, json!(counter_type), path, &[word]);
    }

    let mut without_cache = value(EXAMPLE);
    without_cache["persistence_configuration"].as_array_mut().unwrap().remove(0);
    let without_cache = NamespaceConfiguration::from_json(&without_cache.to_string()).unwrap();
    let Counting::Durable(durable) = without_cache.counting else { panic!() };
    assert_eq!(durable.cache, None);
}

#[test]
fn fields_of_other_entries_are_refused() {
    let cache = "/persistence_configuration/0";
    refused_there(&format!("{cache}/config"), json!({"counter_type": "BEST_EFFORT"}), &["COUNTER_ROLLUP"]);
    for (entry, field, new) in [
        (cache, "counter_cardinality", json!("LOW")),
        (EVENTS, "counter_cardinality", json!("LOW")),
        (cache, "lifecycleConfigs", json!({})),
        (ROLLUP, "lifecycleConfigs", json!({})),
        (ROLLUP, "config/best_effort_counter_config", json!({"ttl": "1s"})),
        (ROLLUP, "config/time_partition", json!({})),
        (ROLLUP, "config/accept_limit", json!("5s")),
        (ROLLUP, "config/write_timeout", json!("5s")),
        (ROLLUP, "config/max_clock_skew", json!("5s")),
        (EVENTS, "config/counter_type", json!("EVENTUAL")),
        (EVENTS, "config/rollup_endpoints", json!([])),
        (EVENTS, "config/rollup_tls", json!({})),
        (EVENTS, "config/eventual_counter_config", json!({})),
    ] {
        refused_there(&format!("{entry}/{field}"), new, &["not allowed here"]);
    }
    let entry = "persistence_configuration[0]";
    let pointer = |field: &str| format!("{cache}/{field}");
    for (field, new) in [("counter_cardinality", json!("LOW")), ("lifecycleConfigs", json!({}))] {
        refused(BEST_EFFORT, &pointer(field), new, &format!("{entry}.{field}"), &["not allowed here"]);
    }
    let (field, path) = ("config/rollup_endpoints", format!("{entry}.config.rollup_endpoints"));
    refused(BEST_EFFORT, &pointer(field), json!([]), &path, &["not allowed here"]);
    let (field, path) = ("config/best_effort_counter_config", format!("{entry}.config.best_effort_counter_config"));
    refused(BEST_EFFORT, &pointer(field), Value::Null, &path, &["missing"]);
}

#[test]
fn storages_are_checked_by_entry_and_type() {
    let storage = |entry: usize, field: &str| format!("/persistence_configuration/{entry}/physical_storage{field}");
    refused_there(&storage(0, "/type"), json!("CASSANDRA"), &["CASSANDRA", "MEMCACHED or MEMORY for CACHE"]);
    refused_there(&storage(0, "/type"), json!("EMBEDDED"), &["EMBEDDED", "MEMCACHED or MEMORY for CACHE"]);
    for entry in [1, 2] {
        refused_there(&storage(entry, "/type"), json!("MEMCACHED"), &["CASSANDRA, EMBEDDED or MEMORY"]);
        refused_there(&storage(entry, "/type"), Value::Null, &["missing", "CASSANDRA, EMBEDDED or MEMORY"]);
        refused_there(&storage(entry, "/replicas"), json!([["a:1"]]), &["CASSANDRA has no such field"]);
        refused_there(&storage(entry, "/dataset"), json!("My-Data"), &["My-Data", "lowercase"]);
        refused_there(&storage(entry, "/dataset"), Value::Null, &["missing"]);
        refused_there(&storage(entry, "/dataset"), json!("system_auth"), &["system_auth", "Cassandra's own"]);
        refused_there(&storage(entry, "/dataset"), json!("index"), &["index", "CQL reserves"]);
        refused_there(&storage(entry, "/contact_points"), json!([]), &["at least one"]);
        refused_there(&storage(entry, "/contact_points"), Value::Null, &["missing"]);
        refused_there(&storage(entry, "/contact_points/0"), json!("localhost"), &["localhost", "host:port"]);
        refused_there(&storage(entry, "/local_datacenter"), Value::Null, &["missing"]);
        refused_there(&storage(entry, "/cluster"), Value::Null, &["missing"]);
        refused_there(&storage(entry, ""), Value::Null, &["missing"]);
    }
    refused_there(&storage(1, "/credentials_file"), json!(""), &["1 to 255"]);
    for file in ["ca_file", "cert_file", "key_file"] {
        let pointer = format!("{ROLLUP}/config/rollup_tls/{file}");
        refused_there(&pointer, Value::Null, &["missing"]);
        refused_there(&pointer, json!(""), &["1 to 255"]);
        refused_there(&pointer, json!(7), &["7", "string"]);
    }
    refused_there(&storage(1, "/tls/ca_file"), Value::Null, &["missing"]);
    refused_there(&storage(0, "/dataset"), json!("d"), &["MEMCACHED has no such field"]);
    refused_there(&storage(0, "/replicas"), json!([]), &["at least one replica"]);
    refused_there(&storage(0, "/replicas/1"), json!([]), &["at least one replica"]);
    refused_there(&storage(0, "/replicas"), Value::Null, &["missing"]);
    refused_there(&storage(0, "/replicas/1/0"), json!("cache-a-0:11211"), &["second time"]);
    refused_there(&storage(0, "/replicas/0/1"), json!("cache:0"), &["cache:0", "1 to 65535"]);
    let rollup_endpoint = format!("{ROLLUP}/config/rollup_endpoints/1");
    refused_there(&rollup_endpoint, json!("rollup-0.rollup:7787"), &["second time"]);
    refused_there(&rollup_endpoint, json!("http://rollup"), &["host:port"]);
    let path = "persistence_configuration[0].physical_storage.cluster";
    refused(BEST_EFFORT, &storage(0, "/cluster"), json!("c"), path, &["MEMORY has no such field"]);
}

#[test]
fn events_are_in_the_dataset_of_the_rollups() {
    let storage = format!("{EVENTS}/physical_storage");
    refused_there(&format!("{storage}/dataset"), json!("other"), &["other", "my_dataset_1"]);
    refused_there(&format!("{storage}/cluster"), json!("other"), &["other", "main"]);
    refused_there(&format!("{storage}/local_datacenter"), json!("dc2"), &["dc2", "dc1"]);
    let (memory, path) = (json!({"type": "MEMORY", "dataset": "my_dataset_1"}), "persistence_configuration[2]");
    refused(EXAMPLE, &storage, memory.clone(), &format!("{path}.physical_storage.type"), &["MEMORY", "CASSANDRA"]);
    let rollups = format!("{ROLLUP}/physical_storage");
    let read = |events: Value| read(EXAMPLE, &[(&rollups, memory.clone()), (&storage, events)]);
    assert!(read(memory.clone()).is_ok());
    let other = read(json!({"type": "MEMORY", "dataset": "other"})).unwrap_err();
    assert_eq!(other.path, format!("{path}.physical_storage.dataset"));
}

#[test]
fn numbers_are_within_their_bounds() {
    let queue = format!("{ROLLUP}/config/eventual_counter_config/internal_config/queue_config");
    let partition = format!("{EVENTS}/config/time_partition");
    for (object, field, min, max) in [
        (queue.as_str(), "num_queues", 1, 1024),
        (&queue, "coalesce_ms", 1, 3_600_000),
        (&queue, "capacity_bytes", 65_536, 1 << 40),
        (queue.trim_end_matches("/queue_config"), "rollup_batch_count", 1, 10_000),
        (&partition, "buckets_per_id", 1, 1024),
    ] {
        let pointer = format!("{object}/{field}");
        for right in [min, max] {
            assert!(read(EXAMPLE, &[(&pointer, json!(right))]).is_ok(), "{field} {right}");
        }
        for wrong in [min - 1, max + 1, u64::MAX] {
            refused_there(&pointer, json!(wrong), &[&wrong.to_string(), &format!("{min} to {max}")]);
        }
        refused_there(&pointer, json!(-1), &["-1", "whole number"]);
        refused_there(&pointer, json!(1.5), &["1.5", "whole number"]);
        refused_there(&pointer, json!("many"), &["many", "whole number"]);
    }
    let (bucket, slice) = (format!("{partition}/seconds_per_bucket"), format!("{partition}/seconds_per_slice"));
    for wrong in [7, 86_401, 172_800] {
        refused_there(&bucket, json!(wrong), &[&wrong.to_string(), "divisor of seconds_per_slice, 86400"]);
    }
    refused_there(&bucket, json!("0"), &["1 to 31536000"]);
    refused_there(&slice, json!("0"), &["1 to 31536000"]);
    assert!(read(EXAMPLE, &[(&bucket, json!(86_400))]).is_ok());
}

#[test]
fn spans_are_within_their_bounds_and_in_order() {
    let config = format!("{EVENTS}/config");
    for (field, min) in [("accept_limit", "0.001s"), ("write_timeout", "0.001s"), ("max_clock_skew", "0.002s")] {
        let pointer = format!("{config}/{field}");
        for right in [min, "3600s", "0.5s"] {
            assert!(read(EXAMPLE, &[(&pointer, json!(right))]).is_ok(), "{field} {right}");
        }
        for wrong in ["0s", "0.0009s", "3600.001s", "1.0001s"] {
            refused_there(&pointer, json!(wrong), &[wrong, &format!("{min} to 3600s")]);
        }
        for wrong in [json!("5"), json!("5m"), json!(5), json!("-5s")] {
            refused_there(&pointer, wrong, &["seconds with an s"]);
        }
    }
    refused_there(&format!("{config}/max_clock_skew"), json!("0.001s"), &["0.002s to 3600s"]);

    let retention = format!("{EVENTS}/lifecycleConfigs/lifecycleConfig/0/config");
    let (close, delete) = (format!("{retention}/close_after"), format!("{retention}/delete_after"));
    refused_there(&close, json!("8s"), &["8s", "accept_limit + write_timeout + max_clock_skew"]);
    assert!(read(EXAMPLE, &[(&close, json!("9s"))]).is_ok());
    refused_there(&close, json!("9.5s"), &["9.5s", "whole seconds"]);
    refused_there(&delete, json!("518400s"), &["more than close_after, 518400s"]);
    assert!(read(EXAMPLE, &[(&delete, json!("518401s"))]).is_ok());
    refused_there(&delete, json!("99999999999s"), &["3153600000s"]);

    let ttl = "/persistence_configuration/0/config/best_effort_counter_config/ttl";
    let path = "persistence_configuration[0].config.best_effort_counter_config.ttl";
    for wrong in ["0s", "0.5s", "2592001s"] {
        refused(BEST_EFFORT, ttl, json!(wrong), path, &[wrong, "1s to 2592000s"]);
    }
    refused(BEST_EFFORT, ttl, Value::Null, path, &["missing"]);
}

/// JSON of any kind, near to what stands in documents.
fn scraps() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        "[0-9]{1,21}(\\.[0-9]{1,12})?s?".prop_map(Value::from),
        Just(json!([])),
        Just(json!({})),
        Just(json!([[], {}])),
    ]
}

/// All values of a document, by pointer.
fn pointers(value: &Value, at: &str, all: &mut Vec<String>) {
    let mut child = |key: &str, value: &Value| {
        all.push(format!("{at}/{key}"));
        pointers(value, &format!("{at}/{key}"), all);
    };
    match value {
        Value::Object(object) => object.iter().for_each(|(key, value)| child(key, value)),
        Value::Array(array) => array.iter().enumerate().for_each(|(index, value)| child(&index.to_string(), value)),
        _ => {}
    }
}

proptest! {
    #[test]
    fn any_value_anywhere_is_answered(
        configuration in configurations(),
        changes in proptest::collection::vec((any::<Index>(), scraps()), 1..4),
    ) {
        let mut document = value(&configuration.to_json());
        for (index, new) in changes {
            let mut all = Vec::new();
            pointers(&document, "", &mut all);
            if !all.is_empty() {
                set(&mut document, &all[index.index(all.len())], new);
            }
        }
        if let Ok(read) = NamespaceConfiguration::from_json(&document.to_string()) {
            prop_assert_eq!(NamespaceConfiguration::from_json(&read.to_json()), Ok(read));
        }
    }

    #[test]
    fn any_damage_to_the_text_is_answered(
        damage in proptest::collection::vec((any::<Index>(), any::<char>(), 0..3_u8), 1..6),
    ) {
        let mut text: Vec<char> = EXAMPLE.chars().collect();
        for (index, new, kind) in damage {
            let at = index.index(text.len());
            match kind {
                0 => text[at] = new,
                1 => text.insert(at, new),
                _ => drop(text.remove(at)),
            }
        }
        let text: String = text.into_iter().collect();
        if let Ok(read) = NamespaceConfiguration::from_json(&text) {
            prop_assert_eq!(NamespaceConfiguration::from_json(&read.to_json()), Ok(read));
        }
    }
}
