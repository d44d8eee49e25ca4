//! What every long-running process of Tallyman has: its options, a configuration file, logs and traces, admin pages, and an
//! orderly end. Knows neither the API nor the engine.
//!
//! - [`arguments`] and [`config_file`]: the options that all share, and options from a file;
//! - [`telemetry`]: the log, and spans for an OpenTelemetry collector;
//! - [`process`]: from the command line to the exit code, for binaries that are nothing but a server;
//! - [`connections`]: listeners, connections, and their end when the process stops;
//! - [`tls_files`]: certificates and keys in files that are renewed;
//! - [`readiness`], [`admin`] and [`health`]: what the process tells of itself, to people, Kubernetes, Prometheus and gRPC.

pub mod admin;
pub mod arguments;
pub mod config_file;
pub mod connections;
pub mod health;
pub mod process;
pub mod readiness;
pub mod telemetry;
pub mod tls_files;

/// Version and commit: `0.1.0 (commit 0123456789ab)`.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (commit ", env!("TALLYMAN_COMMIT"), ")");
