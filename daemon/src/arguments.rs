//! The options that every long-running process has.

use std::path::PathBuf;

use clap::Args;

use crate::telemetry::Endpoint;

/// How the process tells of itself, and where it reads its options from; to be flattened into a process's own options.
#[derive(Debug, Clone, Args)]
pub struct Shared {
    /// How to write the log, on standard error.
    #[arg(long, value_enum, default_value_t, env = "TALLYMAN_LOG_FORMAT")]
    pub log_format: LogFormat,

    /// What to log: error, warn, info, debug or trace, also by module: info,tallyman_counter=debug.
    #[arg(long, value_name = "LEVEL", default_value = "info", env = "TALLYMAN_LOG_LEVEL")]
    pub log_level: String,

    /// Export a span per request to this OpenTelemetry collector, by OTLP over gRPC: http://127.0.0.1:4317. How many, the
    /// OpenTelemetry SDK's variables say, such as OTEL_TRACES_SAMPLER.
    #[arg(long, value_name = "URL", env = "TALLYMAN_OTLP_ENDPOINT")]
    pub otlp_endpoint: Option<Endpoint>,

    /// Read options from a YAML or JSON file whose keys are the long options without the dashes: `log-level: debug`.
    #[arg(long, value_name = "FILE", env = "TALLYMAN_CONFIG")]
    pub config: Option<PathBuf>,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For programs: one JSON object a line.
    Json,
}
