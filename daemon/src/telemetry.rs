//! What the process tells of itself as it runs: the log on standard error and, with `--otlp-endpoint`, a span per request for
//! an OpenTelemetry collector.
//!
//! Spans are handed to a thread of their own, in a queue that drops what does not fit: a collector that is slow or gone costs
//! spans, and never holds a request. Without a collector the spans of requests are off at their source.

use std::fmt;
use std::io::IsTerminal;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry::{KeyValue, global};
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use tracing_subscriber::filter::{FilterExt, LevelFilter, Targets, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use crate::arguments::{LogFormat, Shared};

/// The target of the spans of requests, which are exported; their level is DEBUG. Whoever begins spans gives them this target.
pub const REQUESTS: &str = "tallyman::request";

/// What the stores' own libraries say of their files and connections is for those who ask for it by name (why a cluster cannot be
/// reached, our own log tells); so are the spans of requests, which are costly even if nothing is logged within them.
const QUIET: &str = "fjall=warn,lsm_tree=warn,scylla=off,tallyman::request=off";

/// The instrumentation scope of the spans.
const SCOPE: &str = "tallyman";

/// What the SDK says of a stop that takes too long; [`Telemetry::stop`] says it in the process's own words.
const SAID_BY_STOP: &str = "BatchSpanProcessor.Shutdown.Timeout";

/// How long the last spans may take to leave when the process stops; those that have not left then are lost.
const FLUSH: Duration = Duration::from_secs(2);

type BoxedLayer = Box<dyn Layer<Registry> + Send + Sync>;

/// Where an OpenTelemetry collector listens: OTLP over gRPC, without TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint(String);

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "must be such as http://127.0.0.1:4317: OTLP by gRPC, without TLS and without a path".to_owned();
        let uri: http::Uri = text.parse().map_err(|_| wrong())?;
        let is_whole = uri.scheme_str() == Some("http") && uri.host().is_some_and(|host| !host.is_empty());
        if is_whole && matches!(uri.path(), "" | "/") && uri.query().is_none() {
            Ok(Self(text.to_owned()))
        } else {
            Err(wrong())
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a process cannot tell of itself as it was asked to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The level is no filter.
    #[error("--log-level {level:?}: {reason}; it must be such as info, or info,tallyman_counter=debug")]
    Level {
        /// What was given.
        level: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The environment's `OTEL_…` variables forbid an exporter.
    #[error("--otlp-endpoint {endpoint}: {reason}")]
    Exporter {
        /// Where spans were to go.
        endpoint: String,
        /// Why not.
        reason: String,
    },
}

/// What is to be ended in order with the process.
pub struct Telemetry {
    spans: Option<Spans>,
}

/// What exports spans.
struct Spans {
    provider: SdkTracerProvider,
    /// See [`Reported`].
    is_failing: Arc<AtomicBool>,
}

impl Telemetry {
    /// Begins to log and, if there is an endpoint, to export as `service`; once per process, within its runtime.
    ///
    /// # Errors
    /// When the level is no filter, or the environment's `OTEL_…` variables forbid an exporter.
    pub fn start(service: &'static str, shared: &Shared) -> Result<Self, Error> {
        let mut layers = vec![log(shared.log_format, &shared.log_level)?];
        let spans = shared.otlp_endpoint.clone().map(|endpoint| spans(service, endpoint)).transpose()?;
        if let Some(Spans { provider, .. }) = &spans {
            global::set_text_map_propagator(TraceContextPropagator::new());
            layers.push(exported(provider));
        }
        tracing_subscriber::registry().with(layers).init();
        Ok(Self { spans })
    }

    /// Exports what is left.
    pub async fn stop(self) {
        let Some(Spans { provider, is_failing }) = self.spans else {
            return;
        };
        // It blocks its thread, until the spans are gone or the time is over.
        let flushed = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(FLUSH)).await;
        // What comes of the export that is cut off with the process is no news.
        if !matches!(flushed, Ok(Ok(()))) && !is_failing.swap(true, Ordering::Relaxed) {
            tracing::warn!("the collector did not take the last spans within {FLUSH:?}; they are lost");
        }
    }
}

/// An empty word parses as a level, and a number does, too: neither is one that anybody means.
fn is_no_level(part: &str) -> bool {
    !part.contains('=') && (!part.starts_with(char::is_alphabetic) || part.parse::<LevelFilter>().is_err())
}

fn log(format: LogFormat, level: &str) -> Result<BoxedLayer, Error> {
    let refused = |reason: String| Error::Level { level: level.to_owned(), reason };
    // The filter would take another word for a module's name, and say nothing from then on.
    if let Some(word) = level.split(',').find(|part| is_no_level(part)) {
        return Err(refused(format!("{word:?} is none of off, error, warn, info, debug, trace")));
    }
    let filter = EnvFilter::try_new(format!("{QUIET},{level}")).map_err(|error| refused(error.to_string()))?;
    let is_ours = filter_fn(|metadata| metadata.name() != SAID_BY_STOP).with_max_level_hint(LevelFilter::TRACE);
    let filter = filter.and(is_ours);
    let is_terminal = std::io::stderr().is_terminal();
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(is_terminal);
    Ok(match format {
        LogFormat::Text => layer.with_filter(filter).boxed(),
        LogFormat::Json => layer.json().with_filter(filter).boxed(),
    })
}

/// The spans of requests, and nothing else: neither the log, nor what the exporter's own connection does.
fn exported(provider: &SdkTracerProvider) -> BoxedLayer {
    tracing_opentelemetry::layer()
        .with_tracer(provider.tracer(SCOPE))
        .with_location(false)
        .with_target(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_filter(Targets::new().with_target(REQUESTS, LevelFilter::DEBUG))
        .boxed()
}

fn spans(service: &'static str, endpoint: Endpoint) -> Result<Spans, Error> {
    let exporter = opentelemetry_otlp::SpanExporter::builder().with_tonic().with_endpoint(endpoint.to_string()).build();
    let refused = |reason: String| Error::Exporter { endpoint: endpoint.to_string(), reason };
    let exporter = exporter.map_err(|error| refused(error.to_string()))?;
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let resource = Resource::builder().with_service_name(service).with_attribute(version).build();
    let is_failing = Arc::new(AtomicBool::new(false));
    let exporter = Reported { exporter, endpoint, is_failing: is_failing.clone() };
    let provider = SdkTracerProvider::builder().with_resource(resource).with_batch_exporter(exporter).build();
    Ok(Spans { provider, is_failing })
}

/// An exporter that logs when it begins to fail and when it works again, rather than each batch.
#[derive(Debug)]
struct Reported<E> {
    exporter: E,
    endpoint: Endpoint,
    /// Whether the last export failed, which is on the log already.
    is_failing: Arc<AtomicBool>,
}

impl<E: SpanExporter> SpanExporter for Reported<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let exported = self.exporter.export(batch).await;
        let was_failing = self.is_failing.swap(exported.is_err(), Ordering::Relaxed);
        match exported {
            Err(error) if !was_failing => {
                tracing::warn!(endpoint = %self.endpoint, %error, "spans cannot be exported and are lost, until further notice");
            }
            Ok(()) if was_failing => tracing::info!(endpoint = %self.endpoint, "spans are exported again"),
            _ => {}
        }
        // Whoever called would log the error once more, with every batch.
        Ok(())
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_sdk::error::OTelSdkError;
    use tracing::subscriber::with_default;

    use super::*;

    fn is_request_span_on(layers: Vec<BoxedLayer>) -> bool {
        with_default(
            tracing_subscriber::registry().with(layers),
            || tracing::enabled!(target: REQUESTS, tracing::Level::DEBUG),
        )
    }

    #[test]
    fn requests_have_spans_only_if_they_are_exported_whatever_is_logged() {
        for level in ["error", "info", "debug", "trace"] {
            let logged = || log(LogFormat::Text, level).unwrap();
            assert!(!is_request_span_on(vec![logged()]), "{level}");
            assert!(is_request_span_on(vec![logged(), exported(&SdkTracerProvider::default())]), "{level}");
        }
    }

    #[test]
    fn a_level_that_is_none_is_refused_rather_than_taken_for_a_module() {
        for level in ["warning", "verbose", "", "info,bogus", "info,tallyman=nope"] {
            assert!(log(LogFormat::Text, level).is_err(), "{level:?}");
        }
        assert!(log(LogFormat::Text, "info,tallyman_counter=debug").is_ok());
    }

    #[test]
    fn the_endpoint_is_an_address_by_http() {
        for text in ["http://127.0.0.1:4317", "http://collector", "http://[::1]:4317/"] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
        for text in
            ["", "127.0.0.1:4317", "https://collector:4317", "http://", "http://c/v1/traces", "http://c?x", "grpc://c"]
        {
            assert!(text.parse::<Endpoint>().is_err(), "{text}");
        }
    }

    #[derive(Debug)]
    struct Failing;

    impl SpanExporter for Failing {
        async fn export(&self, _: Vec<SpanData>) -> OTelSdkResult {
            Err(OTelSdkError::InternalFailure("gone".to_owned()))
        }
    }

    #[tokio::test]
    async fn a_failed_export_is_remembered_and_not_passed_on() {
        let endpoint = "http://c".parse().unwrap();
        let reported = Reported { exporter: Failing, endpoint, is_failing: Arc::default() };
        assert!(reported.export(Vec::new()).await.is_ok());
        assert!(reported.is_failing.load(Ordering::Relaxed));
    }
}
