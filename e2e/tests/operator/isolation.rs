//! What sidecars and rollup servers may do in Cassandra: with the credentials that they are given, tried by another driver.

use serde_json::json;
use tallyman_e2e::control_plane::Corner;
use tallyman_e2e::tables::Keyspace;

/// The user name and the password that pods of a namespace are given.
fn credentials(corner: &Corner, name: &str, dataset: &str) -> (String, String) {
    let template = format!("{{{{index .data \"{dataset}.credentials\" | base64decode}}}}");
    let secret = format!("tallyman-{name}");
    let text =
        corner.kubectl(&["-n", &corner.name, "get", "secret", &secret, "-o", &format!("go-template={template}")]);
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).unwrap().to_owned();
    (value("username="), value("password="))
}

#[test]
#[ignore = "starts Kubernetes and Cassandra: cargo xtask test"]
fn a_datasets_role_reads_and_writes_its_own_tables_and_is_refused_elsewhere() {
    let corner = Corner::new("isolation").with_class();
    let mut operator = corner.operator("a");
    operator.start();
    let names = ["plays", "likes"];
    for name in names {
        corner.apply(&corner.counter_namespace(name, json!({"rollup": {"replicas": 1}, "cache": {"replicas": 1}})));
    }
    for name in names {
        corner.wait_until_ready(name);
    }
    let datasets = names.map(|name| format!("isolation_{name}"));
    for (index, name) in names.into_iter().enumerate() {
        let (own, other) = (&datasets[index], &datasets[1 - index]);
        let (user, password) = credentials(&corner, name, own);
        assert_eq!(user, format!("tallyman_{own}"));
        let keyspace = Keyspace { contact_points: corner.plane.cassandra.contact_points(), name: own.clone() };
        let insert = |into: &str| {
            format!("INSERT INTO {into}.rollup (namespace, counter_name, region) VALUES ('{name}', 'a', 'dc1')")
        };
        let done = [
            format!("SELECT * FROM {own}.rollup"),
            insert(own),
            format!("DELETE FROM {own}.rollup WHERE namespace = '{name}' AND counter_name = 'a'"),
            format!("SELECT * FROM {own}.slices"),
        ];
        let refused = [
            format!("SELECT * FROM {other}.rollup"),
            format!("SELECT * FROM {other}.slices"),
            insert(other),
            format!("TRUNCATE {other}.rollup"),
            format!("CREATE TABLE {own}.mine (id int PRIMARY KEY)"),
            format!("ALTER TABLE {own}.rollup ADD mine int"),
            format!("DROP TABLE {own}.rollup"),
            format!("DROP KEYSPACE {own}"),
            format!("DROP KEYSPACE {other}"),
            "CREATE KEYSPACE mine WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}".to_owned(),
            "CREATE ROLE mine".to_owned(),
            "ALTER ROLE cassandra WITH PASSWORD = 'mine'".to_owned(),
            format!("GRANT ALL ON KEYSPACE {other} TO {user}"),
            "SELECT * FROM system_auth.roles".to_owned(),
            "SELECT * FROM system_auth.role_permissions".to_owned(),
            "INSERT INTO system_auth.roles (role) VALUES ('mine')".to_owned(),
        ];
        let try_all = |statements: &[String], login: (&str, &str)| {
            let statements: Vec<_> = statements.iter().map(String::as_str).collect();
            statements.iter().map(|cql| (*cql).to_owned()).zip(keyspace.tried(login, &statements)).collect::<Vec<_>>()
        };
        let is = |statements: &[String], end: &str| {
            statements.iter().map(|cql| (cql.clone(), end.to_owned())).collect::<Vec<_>>()
        };
        assert_eq!(try_all(&done, (&user, &password)), is(&done, "done"));
        assert_eq!(try_all(&refused, (&user, &password)), is(&refused, "Unauthorized"));
    }
    let (_, of_plays) = credentials(&corner, "plays", &datasets[0]);
    let (_, of_likes) = credentials(&corner, "likes", &datasets[1]);
    assert_ne!(of_plays, of_likes);
}
