//! The text of a node's files and the options of its JVM.

use std::fmt::Write as _;
use std::path::Path;

use super::{NATIVE_PORT, PLAIN_PORT, STORAGE_PORT, Settings};
use crate::cassandra::certificates;
use crate::options::CommitlogSync;

/// `--add-exports` and `--add-opens` are those of Cassandra's own jvm17-server.options.
#[rustfmt::skip]
pub(crate) const JVM_OPTIONS: &[&str] = &[
    "-ea",
    "-Dcassandra-foreground=yes",
    // A ring of empty nodes settles quickly, and the superuser need not wait for it.
    "-Dcassandra.ring_delay_ms=2000",
    "-Dcassandra.skip_wait_for_gossip_to_settle=0",
    "-Dcassandra.superuser_setup_delay_ms=0",
    "-Djdk.attach.allowAttachSelf=true",
    "-Djava.net.preferIPv4Stack=true",
    "-XX:+ExitOnOutOfMemoryError",
    // As in Cassandra's own options: a JVM that shares its figures by a file stands still while the disk does (CASSANDRA-9242).
    "-XX:+PerfDisableSharedMem",
    "--add-exports", "java.base/jdk.internal.misc=ALL-UNNAMED",
    "--add-exports", "java.base/jdk.internal.ref=ALL-UNNAMED",
    "--add-exports", "java.base/sun.nio.ch=ALL-UNNAMED",
    "--add-exports", "java.management.rmi/com.sun.jmx.remote.internal.rmi=ALL-UNNAMED",
    "--add-exports", "java.rmi/sun.rmi.registry=ALL-UNNAMED",
    "--add-exports", "java.rmi/sun.rmi.server=ALL-UNNAMED",
    "--add-exports", "java.sql/java.sql=ALL-UNNAMED",
    "--add-exports", "java.base/java.lang.ref=ALL-UNNAMED",
    "--add-exports", "jdk.unsupported/sun.misc=ALL-UNNAMED",
    "--add-opens", "java.base/java.lang.module=ALL-UNNAMED",
    "--add-opens", "java.base/jdk.internal.loader=ALL-UNNAMED",
    "--add-opens", "java.base/jdk.internal.ref=ALL-UNNAMED",
    "--add-opens", "java.base/jdk.internal.reflect=ALL-UNNAMED",
    "--add-opens", "java.base/jdk.internal.math=ALL-UNNAMED",
    "--add-opens", "java.base/jdk.internal.module=ALL-UNNAMED",
    "--add-opens", "java.base/jdk.internal.util.jar=ALL-UNNAMED",
    "--add-opens", "jdk.management/com.sun.management.internal=ALL-UNNAMED",
    "--add-opens", "java.base/sun.nio.ch=ALL-UNNAMED",
    "--add-opens", "java.base/java.io=ALL-UNNAMED",
    "--add-opens", "java.base/java.nio=ALL-UNNAMED",
    "--add-opens", "java.base/java.lang=ALL-UNNAMED",
    "--add-opens", "java.base/java.util=ALL-UNNAMED",
    "--add-opens", "java.base/java.util.concurrent=ALL-UNNAMED",
    "--add-opens", "java.base/java.util.concurrent.atomic=ALL-UNNAMED",
];

pub(crate) const LOGBACK: &str = r#"<configuration>
  <appender name="LOG" class="ch.qos.logback.core.ConsoleAppender">
    <encoder><pattern>%-5level %date{ISO8601} %logger{0} - %msg%n</pattern></encoder>
  </appender>
  <root level="INFO"><appender-ref ref="LOG"/></root>
</configuration>
"#;

pub(super) fn rackdc(datacenter: &str) -> String {
    format!("dc={datacenter}\nrack=r1\n")
}

/// The node's `cassandra.yaml`.
pub(super) fn yaml(settings: &Settings) -> String {
    let Settings { folder, address, seed, auth, commitlog_sync, certificates, .. } = settings;
    let (authenticator, authorizer) = match auth {
        true => ("PasswordAuthenticator", "CassandraAuthorizer"),
        false => ("AllowAllAuthenticator", "AllowAllAuthorizer"),
    };
    let sync = match commitlog_sync {
        CommitlogSync::Batch => "commitlog_sync: batch",
        CommitlogSync::Group => "commitlog_sync: group\ncommitlog_sync_group_window: 15ms",
        CommitlogSync::Periodic => "commitlog_sync: periodic\ncommitlog_sync_period: 10000ms",
    };
    let path = |name: &str| quoted(&folder.join(name));
    let mut yaml = format!(
        "\
cluster_name: tallyman
num_tokens: 16
partitioner: org.apache.cassandra.dht.Murmur3Partitioner
{sync}
endpoint_snitch: GossipingPropertyFileSnitch
seed_provider:
  - class_name: org.apache.cassandra.locator.SimpleSeedProvider
    parameters:
      - seeds: \"{seed}\"
listen_address: {address}
storage_port: {STORAGE_PORT}
rpc_address: {address}
start_native_transport: true
authenticator: {authenticator}
authorizer: {authorizer}
auto_snapshot: false
data_file_directories:
  - {}
commitlog_directory: {}
saved_caches_directory: {}
hints_directory: {}
cdc_raw_directory: {}
",
        path("data"),
        path("commitlog"),
        path("saved_caches"),
        path("hints"),
        path("cdc"),
    );
    // Writing into a string cannot fail.
    let _ = match certificates {
        None => writeln!(yaml, "native_transport_port: {NATIVE_PORT}"),
        Some(certificates) => writeln!(
            yaml,
            "\
native_transport_port: {PLAIN_PORT}
native_transport_port_ssl: {NATIVE_PORT}
client_encryption_options:
  enabled: true
  optional: false
  keystore: {}
  keystore_password: {}
  store_type: PKCS12",
            quoted(&certificates.keystore()),
            certificates::PASSWORD,
        ),
    };
    yaml
}

/// A path as a YAML string: double-quoted as in JSON.
fn quoted(path: &Path) -> String {
    serde_json::Value::from(path.to_string_lossy()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cassandra::Certificates;

    fn settings(auth: bool, commitlog_sync: CommitlogSync, certificates: Option<Certificates>) -> Settings {
        Settings {
            folder: "/cache/a \"b\"/node-2".into(),
            address: "127.0.0.2".parse().unwrap(),
            seed: "127.0.0.1".parse().unwrap(),
            datacenter: "dc1".to_owned(),
            auth,
            commitlog_sync,
            certificates,
        }
    }

    #[test]
    fn a_nodes_yaml_holds_all_that_differs_between_nodes() {
        let yaml = yaml(&settings(false, CommitlogSync::Batch, None));
        let expected = r#"cluster_name: tallyman
num_tokens: 16
partitioner: org.apache.cassandra.dht.Murmur3Partitioner
commitlog_sync: batch
endpoint_snitch: GossipingPropertyFileSnitch
seed_provider:
  - class_name: org.apache.cassandra.locator.SimpleSeedProvider
    parameters:
      - seeds: "127.0.0.1"
listen_address: 127.0.0.2
storage_port: 7000
rpc_address: 127.0.0.2
start_native_transport: true
authenticator: AllowAllAuthenticator
authorizer: AllowAllAuthorizer
auto_snapshot: false
data_file_directories:
  - "/cache/a \"b\"/node-2/data"
commitlog_directory: "/cache/a \"b\"/node-2/commitlog"
saved_caches_directory: "/cache/a \"b\"/node-2/saved_caches"
hints_directory: "/cache/a \"b\"/node-2/hints"
cdc_raw_directory: "/cache/a \"b\"/node-2/cdc"
native_transport_port: 9042
"#;
        assert_eq!(yaml, expected);
    }

    #[test]
    fn passwords_tls_and_the_sync_of_the_commit_log_are_chosen() {
        let certificates = Certificates::in_folder("/cache/certificates".as_ref());
        let yaml = yaml(&settings(true, CommitlogSync::Group, Some(certificates)));
        for line in [
            "authenticator: PasswordAuthenticator",
            "authorizer: CassandraAuthorizer",
            "commitlog_sync: group",
            "native_transport_port_ssl: 9042",
            "  keystore: \"/cache/certificates/node.p12\"",
        ] {
            assert!(yaml.lines().any(|one| one == line), "{line} in {yaml}");
        }
        assert!(super::yaml(&settings(false, CommitlogSync::Periodic, None)).contains("\ncommitlog_sync: periodic\n"));
    }
}
