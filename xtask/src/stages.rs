//! The stages of each chore, as data.

use tallyman_servers::debian::Package;
use tallyman_servers::{CommitlogSync, Shape};

use crate::deny::WhenMissing;
use crate::stage::{Action, Stage};

/// Seeds that a full run simulates.
pub const SIMULATION_SEEDS: &str = "3000";
/// Seeds that the tests of a development build simulate, which is slower.
const SIMULATION_SEEDS_FAST: &str = "20";

pub const SIMULATION: &[&str] = &["test", "--release", "-p", "tallyman-counter", "--test", "simulation"];
/// What is made from the resource types; the rest of `cargo xtask generate` needs no crate of the project.
pub const GENERATE: &[&str] = &["run", "--quiet", "-p", "tallyman-crds", "--example", "generate_crds"];
pub const GENERATE_CHECK: &[&str] =
    &["run", "--quiet", "-p", "tallyman-crds", "--example", "generate_crds", "--", "--check"];

/// Of the end-to-end tests.
const CONTROL_PLANE: &str = "tallyman-e2e/control-plane";
const CLIPPY: &[&str] =
    &["clippy", "--workspace", "--all-targets", "--features", CONTROL_PLANE, "--", "-D", "warnings"];
const DOC: &[&str] = &["doc", "--workspace", "--no-deps"];
const TEST_WORKSPACE: &[&str] = &["test", "--workspace", "--no-fail-fast"];
/// All but those whose tests run in release.
#[rustfmt::skip]
const TEST_LIBRARIES: &[&str] = &[
    "test", "--workspace", "--exclude", "tallyman", "--exclude", "tallyman-e2e", "--exclude", "tallyman-cluster", "--no-fail-fast",
    "--", "--include-ignored",
];
// Stages below name packages whose tests they do not run: what packages have in common is compiled with the features of all that are
// named, and so once for stages that name the same. In dev, these programs make it nearly what the libraries' tests are compiled with.

/// Most of them start a cluster of their own.
#[rustfmt::skip]
const TEST_CLUSTER: &[&str] = &[
    "test", "-p", "tallyman", "-p", "tallyman-bench", "-p", "xtask", "-p", "tallyman-cluster", "-p", "tallyman-e2e",
    "--features", CONTROL_PLANE, "--no-fail-fast", "--lib",
    "--test", "judges", "--test", "node", "--test", "real", "--", "--include-ignored",
];
/// What must hold on one node and on three.
#[rustfmt::skip]
const TEST_CASSANDRA: &[&str] = &[
    "test", "--workspace", "--exclude", "tallyman", "--exclude", "tallyman-e2e", "--exclude", "tallyman-cluster", "--no-fail-fast",
    "--test", "cassandra_conformance", "--test", "cassandra_schema", "--", "--include-ignored",
];
/// Two at a time, as servers take the machine's memory; tests that hurt the same servers wait for each other.
#[rustfmt::skip]
const TEST_END_TO_END: &[&str] = &[
    "test", "--release", "-p", "tallyman-counter", "-p", "tallyman", "-p", "tallyman-e2e", "--no-fail-fast",
    "--test", "changes", "--test", "connection_trouble", "--test", "faults", "--test", "flights", "--test", "roles",
    "--", "--include-ignored", "--test-threads", "2",
];
/// What counts nothing by itself, and so need not be built for speed.
#[rustfmt::skip]
const TEST_CONTROL_PLANE: &[&str] = &[
    "test", "-p", "tallyman", "-p", "tallyman-bench", "-p", "xtask", "-p", "tallyman-cluster", "-p", "tallyman-e2e",
    "--features", CONTROL_PLANE, "--no-fail-fast",
    "--test", "operator", "--test", "cluster_wide", "--test", "charts", "--test", "documentation", "--test", "examples",
    "--test", "gitops", "--test", "images", "--", "--include-ignored", "--test-threads", "4", "--skip", "quiet::", "--skip", "scale::",
];
/// So many objects that nothing else is to run beside them.
#[rustfmt::skip]
const TEST_CONTROL_PLANE_AT_SCALE: &[&str] = &[
    "test", "-p", "tallyman", "-p", "tallyman-bench", "-p", "xtask", "-p", "tallyman-cluster", "-p", "tallyman-e2e",
    "--features", CONTROL_PLANE, "--no-fail-fast", "--test", "operator",
    "--", "--include-ignored", "--nocapture", "--test-threads", "1", "quiet::", "scale::",
];
/// Pods on a node.
#[rustfmt::skip]
const TEST_SITE: &[&str] = &[
    "test", "-p", "tallyman", "-p", "tallyman-bench", "-p", "xtask", "-p", "tallyman-cluster", "-p", "tallyman-e2e",
    "--features", CONTROL_PLANE, "--test", "site",
    "--", "--include-ignored", "--nocapture",
];
#[rustfmt::skip]
const TEST_BINARY: &[&str] = &[
    "test", "--release", "-p", "tallyman-counter", "-p", "tallyman", "-p", "tallyman-e2e", "--no-fail-fast",
    "--bin", "tallyman", "--test", "e2e", "--", "--include-ignored",
];
/// What takes its time: many seeds, and a million counters.
#[rustfmt::skip]
const TEST_AT_LENGTH: &[&str] = &[
    "test", "--release", "-p", "tallyman-counter", "-p", "tallyman", "-p", "tallyman-e2e", "--no-fail-fast",
    "--test", "simulation", "--test", "bounds", "--test", "attacks",
];

/// The programs of images.
#[rustfmt::skip]
const BUILD_PROGRAMS: &[&str] = &[
    "build", "--release", "--bins", "-p", "tallyman-operator", "-p", "tallyman-sidecar", "-p", "tallyman-rollup", "-p", "tallyman",
];
/// What is built in release, in the order in which it is needed.
const RELEASE_BUILDS: &[&[&str]] = &[TEST_AT_LENGTH, TEST_BINARY, BUILD_PROGRAMS, TEST_END_TO_END];

/// What the tests start themselves.
const PACKAGES: &[Package] = &[
    Package { name: "redis-server", sign: "redis-server" },
    Package { name: "memcached", sign: "memcached" },
    Package { name: "faketime", sign: "faketime" },
    Package { name: "iproute2", sign: "ip" },
];

/// Cassandra nodes that keep what they acknowledge.
const fn nodes(nodes: u16) -> Shape {
    let commitlog_sync = CommitlogSync::Batch;
    Shape { nodes, datacenters: 1, auth: false, tls: false, commitlog_sync, memcached: 0 }
}

const fn cargo(name: &'static str, arguments: &'static [&'static str]) -> Stage {
    cargo_with(name, arguments, &[])
}

const fn cargo_with(
    name: &'static str,
    arguments: &'static [&'static str],
    variables: &'static [(&'static str, &'static str)],
) -> Stage {
    Stage { name, action: Action::Cargo { arguments, variables }, servers: None }
}

/// The same, while these servers run.
const fn on(servers: Shape, stage: Stage) -> Stage {
    Stage { servers: Some(servers), ..stage }
}

const FORMAT_STAGE: Stage = cargo("format", &["fmt", "--all", "--check"]);
const TIDY_STAGE: Stage = Stage { name: "tidy", action: Action::Tidy, servers: None };
const CLIPPY_STAGE: Stage = cargo("clippy", CLIPPY);
const DOC_STAGE: Stage = cargo_with("documentation", DOC, &[("RUSTDOCFLAGS", "-D warnings")]);
const GENERATE_STAGE: Stage = cargo("generated from types", GENERATE_CHECK);
const PACKAGING_STAGE: Stage = Stage { name: "generated packaging", action: Action::Generated, servers: None };
const DENY_STAGE: Stage = Stage { name: "dependencies", action: Action::Deny(WhenMissing::Install), servers: None };

/// `cargo xtask lint`.
pub const LINT: &[Stage] =
    &[FORMAT_STAGE, TIDY_STAGE, GENERATE_STAGE, PACKAGING_STAGE, CLIPPY_STAGE, DOC_STAGE, DENY_STAGE];

/// `cargo xtask test --fast`.
pub const FAST: &[Stage] = &[
    FORMAT_STAGE,
    TIDY_STAGE,
    GENERATE_STAGE,
    PACKAGING_STAGE,
    CLIPPY_STAGE,
    Stage { name: "dependencies", action: Action::Deny(WhenMissing::Skip), servers: None },
    cargo_with("tests", TEST_WORKSPACE, &[("SIM_SEEDS", SIMULATION_SEEDS_FAST)]),
];

/// `cargo xtask test`.
pub const FULL: &[Stage] = &[
    FORMAT_STAGE,
    TIDY_STAGE,
    GENERATE_STAGE,
    PACKAGING_STAGE,
    CLIPPY_STAGE,
    DOC_STAGE,
    DENY_STAGE,
    Stage { name: "servers", action: Action::Install(PACKAGES), servers: None },
    Stage { name: "Kubernetes, begun", action: Action::BeginKubernetes, servers: None },
    Stage { name: "release, begun", action: Action::BeginBuilds(RELEASE_BUILDS), servers: None },
    on(nodes(1), cargo_with("tests", TEST_LIBRARIES, &[("SIM_SEEDS", SIMULATION_SEEDS_FAST)])),
    on(nodes(3), cargo("three Cassandra nodes", TEST_CASSANDRA)),
    cargo_with("simulation", TEST_AT_LENGTH, &[("SIM_SEEDS", SIMULATION_SEEDS), ("ATTACK_SEEDS", "0..40")]),
    on(nodes(1), cargo("end to end, binary", TEST_BINARY)),
    cargo("end to end, servers", TEST_END_TO_END),
    Stage { name: "Kubernetes, built", action: Action::InstallKubernetes, servers: None },
    cargo("cluster", TEST_CLUSTER),
    cargo("control plane", TEST_CONTROL_PLANE),
    cargo("control plane, at scale", TEST_CONTROL_PLANE_AT_SCALE),
    // The other Kubernetes: what may differ between them shows here, too.
    cargo_with("whole site, 1.36", TEST_SITE, &[("TALLYMAN_KUBERNETES", "1.36")]),
];
