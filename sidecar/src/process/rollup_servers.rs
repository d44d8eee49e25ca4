//! The rollup servers that the namespaces name: each is connected to once, however many namespaces name it, and let go of with
//! the last of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tallyman_counter::forward::{RollupEndpoint, Routes};
use tallyman_counter::namespace::Namespace;

/// Makes a connection to the rollup server at `host:port`, that need not be there yet.
pub type Connect = fn(&str) -> Arc<dyn RollupEndpoint>;

/// The rollup servers, by `host:port`.
pub struct RollupServers {
    connect: Connect,
    connected: Mutex<BTreeMap<String, Arc<dyn RollupEndpoint>>>,
}

impl RollupServers {
    /// None yet.
    pub fn new(connect: Connect) -> Self {
        Self { connect, connected: Mutex::default() }
    }

    /// Where the touched counters of these namespaces go. Servers that none of them names are let go of.
    pub fn routes(&self, namespaces: &[Namespace]) -> Routes {
        let named = || namespaces.iter().flat_map(addresses);
        let mut connected = self.connected();
        for address in named() {
            connected.entry(address.clone()).or_insert_with(|| (self.connect)(address));
        }
        let named: BTreeSet<_> = named().collect();
        connected.retain(|address, _| named.contains(address));
        let servers = |namespace| addresses(namespace).iter().filter_map(|address| connected.get(address)).cloned();
        let durable = namespaces.iter().filter(|namespace| namespace.durable().is_some());
        durable.map(|namespace| (namespace.name().clone(), servers(namespace).collect())).collect()
    }

    /// Whether a rollup server of this namespace takes touched counters now.
    pub fn is_any_ready(&self, namespace: &Namespace) -> bool {
        let connected = self.connected();
        addresses(namespace)
            .iter()
            .filter_map(|address| connected.get(address))
            .any(|server| server.is_ready(namespace.name()))
    }

    fn connected(&self) -> MutexGuard<'_, BTreeMap<String, Arc<dyn RollupEndpoint>>> {
        // Nothing panics while it is held half changed.
        self.connected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn addresses(namespace: &Namespace) -> &[String] {
    namespace.durable().map_or(&[], |durable| &durable.settings.rollup_endpoints)
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use tallyman_counter::clock::SystemClock;
    use tallyman_counter::configuration::{Counting, NamespaceConfiguration};
    use tallyman_counter::forward::Undelivered;
    use tallyman_counter::model::{CounterName, NamespaceName};
    use tallyman_counter::opening::Opener;

    use super::*;

    /// A server whose name is its address, and which is ready where that ends in 1.
    struct Named(String);

    #[async_trait]
    impl RollupEndpoint for Named {
        fn name(&self) -> &str {
            &self.0
        }

        fn is_ready(&self, _: &NamespaceName) -> bool {
            self.0.ends_with('1')
        }

        async fn send(&self, _: &NamespaceName, counters: &[CounterName]) -> Result<usize, Undelivered> {
            Ok(counters.len())
        }
    }

    async fn namespace(name: &str, endpoints: &[&str]) -> Namespace {
        let document = r#"{"namespace": "n", "region": "r", "persistence_configuration": [
            {"id": "COUNTER_ROLLUP", "scope": "dal=counter", "physical_storage": {"type": "MEMORY", "dataset": "d"},
             "counter_cardinality": "HIGH", "config": {"counter_type": "EVENTUAL"}},
            {"id": "EVENT_STORAGE", "scope": "dal=ts", "physical_storage": {"type": "MEMORY", "dataset": "d"},
             "config": {}}]}"#;
        let mut configuration = NamespaceConfiguration::from_json(document).unwrap();
        configuration.namespace = NamespaceName::new(name).unwrap();
        if let Counting::Durable(durable) = &mut configuration.counting {
            durable.rollup_endpoints = endpoints.iter().map(|endpoint| (*endpoint).to_owned()).collect();
        }
        Opener::new(Arc::new(SystemClock::new()), None).open(Arc::new(configuration)).await.unwrap()
    }

    fn names(routes: &Routes) -> Vec<(String, Vec<&str>)> {
        let mut names = Vec::new();
        for (namespace, servers) in routes {
            names.push((namespace.to_string(), servers.iter().map(|server| server.name()).collect()));
        }
        names
    }

    #[tokio::test]
    async fn a_server_is_connected_to_once_and_let_go_of_with_the_last_namespace_that_names_it() {
        let servers = RollupServers::new(|address| Arc::new(Named(address.to_owned())));
        let (a, b) = (namespace("a", &["h:1", "h:2"]).await, namespace("b", &["h:2", "h:3"]).await);
        let first = servers.routes(&[a.clone(), b.clone()]);
        assert_eq!(names(&first), [("a".to_owned(), vec!["h:1", "h:2"]), ("b".to_owned(), vec!["h:2", "h:3"])]);
        let (of_a, of_b) = (first.values().next().unwrap(), first.values().nth(1).unwrap());
        assert!(Arc::ptr_eq(&of_a[1], &of_b[0]));
        assert!(servers.is_any_ready(&a) && !servers.is_any_ready(&b));

        let second = servers.routes(std::slice::from_ref(&b));
        assert!(Arc::ptr_eq(&second.values().next().unwrap()[0], &of_b[0]), "it stays connected");
        let let_go = Arc::downgrade(&of_a[0]);
        drop(first);
        assert!(let_go.upgrade().is_none());
    }
}
