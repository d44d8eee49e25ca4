//! Documents as the operator renders them.

/// Best-effort counters in the process's memory.
pub fn best_effort(namespace: &str) -> String {
    format!(
        r#"{{"namespace": "{namespace}", "region": "dc1", "persistence_configuration": [
            {{"id": "CACHE", "scope": "dal=counter", "physical_storage": {{"type": "MEMORY"}},
              "config": {{"counter_type": "BEST_EFFORT", "best_effort_counter_config": {{"ttl": "3600s"}}}}}}]}}"#
    )
}

/// A durable namespace with this storage.
pub fn durable(namespace: &str, counter_type: &str, storage: &str) -> String {
    format!(
        r#"{{"namespace": "{namespace}", "region": "dc1", "persistence_configuration": [
            {{"id": "COUNTER_ROLLUP", "scope": "dal=counter", "physical_storage": {storage},
              "counter_cardinality": "HIGH", "config": {{"counter_type": "{counter_type}"}}}},
            {{"id": "EVENT_STORAGE", "scope": "dal=ts", "physical_storage": {storage},
              "config": {{"accept_limit": "5s", "write_timeout": "2s", "max_clock_skew": "1s"}}}}]}}"#
    )
}
