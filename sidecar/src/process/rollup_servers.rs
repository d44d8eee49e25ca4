//! The rollup servers that the namespaces name: each is connected to once, however many namespaces name it, and let go of with
//! the last of them. Namespaces that reach it with different certificates, or one of them with none, have connections of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tallyman_counter::configuration::RollupTls;
use tallyman_counter::forward::{RollupEndpoint, Routes};
use tallyman_counter::namespace::Namespace;
use tallyman_daemon::tls_files::TlsFiles;

/// Makes a connection to the rollup server at `host:port`, that need not be there yet; with files by mutual TLS.
pub type Connect = fn(&str, Option<TlsFiles>) -> Arc<dyn RollupEndpoint>;

/// How a rollup server is reached: its `host:port`, and what with.
type Way = (String, Option<RollupTls>);

/// The rollup servers, by the way to them.
pub struct RollupServers {
    connect: Connect,
    connected: Mutex<BTreeMap<Way, Arc<dyn RollupEndpoint>>>,
}

impl RollupServers {
    /// None yet.
    pub fn new(connect: Connect) -> Self {
        Self { connect, connected: Mutex::default() }
    }

    /// Where the touched counters of these namespaces go. Servers that none of them names are let go of.
    pub fn routes(&self, namespaces: &[Namespace]) -> Routes {
        let named: BTreeSet<_> = namespaces.iter().flat_map(ways).collect();
        let mut connected = self.connected();
        for way in &named {
            let (address, tls) = way;
            connected.entry(way.clone()).or_insert_with(|| (self.connect)(address, tls.as_ref().map(files)));
        }
        connected.retain(|way, _| named.contains(way));
        let servers = |namespace| ways(namespace).filter_map(|way| connected.get(&way)).cloned();
        let durable = namespaces.iter().filter(|namespace| namespace.durable().is_some());
        durable.map(|namespace| (namespace.name().clone(), servers(namespace).collect())).collect()
    }

    /// Whether a rollup server of this namespace takes touched counters now.
    pub fn is_any_ready(&self, namespace: &Namespace) -> bool {
        let connected = self.connected();
        ways(namespace).filter_map(|way| connected.get(&way)).any(|server| server.is_ready(namespace.name()))
    }

    fn connected(&self) -> MutexGuard<'_, BTreeMap<Way, Arc<dyn RollupEndpoint>>> {
        // Nothing panics while it is held half changed.
        self.connected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ways(namespace: &Namespace) -> impl Iterator<Item = Way> {
    namespace.durable().into_iter().flat_map(|durable| {
        let tls = &durable.settings.rollup_tls;
        durable.settings.rollup_endpoints.iter().map(|address| (address.clone(), tls.clone()))
    })
}

fn files(RollupTls { ca_file, cert_file, key_file }: &RollupTls) -> TlsFiles {
    TlsFiles { ca_file: ca_file.clone(), cert_file: cert_file.clone(), key_file: key_file.clone() }
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
        namespace_with(name, endpoints, None).await
    }

    async fn namespace_with(name: &str, endpoints: &[&str], tls: Option<RollupTls>) -> Namespace {
        let document = r#"{"namespace": "n", "region": "r", "persistence_configuration": [
            {"id": "COUNTER_ROLLUP", "scope": "dal=counter", "physical_storage": {"type": "MEMORY", "dataset": "d"},
             "counter_cardinality": "HIGH", "config": {"counter_type": "EVENTUAL"}},
            {"id": "EVENT_STORAGE", "scope": "dal=ts", "physical_storage": {"type": "MEMORY", "dataset": "d"},
             "config": {}}]}"#;
        let mut configuration = NamespaceConfiguration::from_json(document).unwrap();
        configuration.namespace = NamespaceName::new(name).unwrap();
        if let Counting::Durable(durable) = &mut configuration.counting {
            durable.rollup_endpoints = endpoints.iter().map(|endpoint| (*endpoint).to_owned()).collect();
            durable.rollup_tls = tls;
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
        let servers = RollupServers::new(|address, _| Arc::new(Named(address.to_owned())));
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

    #[tokio::test]
    async fn a_server_is_connected_to_anew_when_its_tls_is_turned_on_or_off() {
        let servers = RollupServers::new(|address, tls| {
            let by = tls.map_or("plain text".to_owned(), |files| files.cert_file.display().to_string());
            Arc::new(Named(format!("{address} by {by}")))
        });
        let [ca_file, cert_file, key_file] = ["ca", "cert", "key"].map(std::path::PathBuf::from);
        let tls = RollupTls { ca_file, cert_file, key_file };
        let (plain, encrypted) = (namespace("a", &["h:1"]).await, namespace_with("a", &["h:1"], Some(tls)).await);
        for (namespace, name) in
            [(&plain, "h:1 by plain text"), (&encrypted, "h:1 by cert"), (&plain, "h:1 by plain text")]
        {
            assert_eq!(names(&servers.routes(std::slice::from_ref(namespace))), [("a".to_owned(), vec![name])]);
        }
    }
}
